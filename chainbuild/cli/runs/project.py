"""Plan or build what a command asks for: six arguments, one layer, or a whole project."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from chainbuild.cli.show import Show
from chainbuild.errors import WrongUseError
from chainbuild.project.location import FILE_NAME, find_project
from chainbuild.requests.build import BuildRequest, read_build_request
from chainbuild.requests.options import RunArguments, RunOptions, check_arguments
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.execution.session import Session
    from chainbuild.project.model import Project
    from chainbuild.requests.layer import LayerOptions, LayerRun


def build_or_plan(arguments: RunArguments, overrides: RunArguments, options: RunOptions, show: Show) -> int:
    """Build or plan what the six arguments describe, or the project if there are none. Return the exit code.

    `overrides` are the flags of a project that have the names of the arguments.
    """
    if all(value is None for value in arguments):
        return _run_project(options.with_arguments(overrides), show)
    check_arguments(arguments, overrides)
    return _run_arguments(options.with_arguments(arguments), show)


def _run_arguments(options: RunOptions, show: Show) -> int:
    from chainbuild.requests.last_run import save_last_run

    request = read_build_request(options)
    if not show.dry_run:
        save_last_run(request.settings.root, options)
    return _run(request, show)


def _run_project(options: RunOptions, show: Show) -> int:
    """Build or plan the project of the folder: its layers and options, then its science layers."""
    from chainbuild.errors import ExitCode
    from chainbuild.project.schema import put_schema
    from chainbuild.requests.last_run import save_last_run
    from chainbuild.requests.project_runs import read_run
    from chainbuild.requests.science import read_project_science

    project = load_project(options.root)
    if project is None:
        raise WrongUseError(
            "Missing arguments: PLATFORM REPO TAG BASE OPTION PRODUCTION",
            hint=f"Give all six arguments, or describe the project in a {FILE_NAME}: chainbuild init writes one.",
        )
    # Read everything before starting anything.
    run = read_run(project, options) if project.options or project.layers else None
    science = read_project_science(project, options)
    if not show.dry_run:
        put_schema(project.root)
        if project.options and not project.layers:
            save_last_run(project.root, options.merged(project))
    code = _run_layers(run, show) if run else int(ExitCode.DONE)
    if science is None or code not in {ExitCode.DONE, ExitCode.WOULD_BUILD}:
        return code
    from chainbuild.cli.runs.science import build_science

    return code or build_science(science, show.of_science() if run else show)


def build_layer(options: LayerOptions, show: Show) -> int:
    """Build or plan one layer: a folder if the image has a name, else a layer of the project. Return the exit code."""
    from chainbuild.requests.layer import read_layer
    from chainbuild.requests.project_runs import read_layer_of_project

    if options.image is not None:
        return _run_layers(read_layer(options), show)
    project = load_project(options.root)
    if project is None:
        raise WrongUseError(
            f"{options.folder}: no image name given",
            hint=f"Name the image with --image NAME:TAG, or describe the layer in a {FILE_NAME}.",
        )
    return _run_layers(read_layer_of_project(project, options), show)


def load_project(folder: Path) -> Project | None:
    """Return the project that contains a folder, or None. Errors: `WrongUseError` with every problem of its file."""
    from chainbuild.execution.session import environment
    from chainbuild.project.reader import read_project

    if not folder.is_dir():
        raise WrongUseError(f"--root: no such folder: {str(folder)!r}", hint="Pass the folder of the project.")
    path = find_project(folder)
    return read_project(path, environment()) if path else None


def unsaid_run(options: RunOptions) -> BuildRequest:
    """Return the run that a command without arguments means: the last one here, or the project's if it has layers.

    The registry of `options` replaces that of the last run, if it is given.
    Errors: `WrongUseError` if nothing was run here and there is no project.
    """
    from chainbuild.requests.last_run import load_last_run
    from chainbuild.requests.project_runs import read_run

    project = load_project(options.root)
    if project is not None and project.layers:
        # Runs of layers are not saved as the last run, so a saved run would be an older one.
        return read_run(project, options).request
    try:
        last = load_last_run(options.root)
        if options.registry or options.port:
            last = replace(last, registry=options.registry, port=options.port)
        return read_build_request(last)
    except WrongUseError:
        if project is None or not project.options:
            raise
        return read_run(project, options).request


def _run_layers(run: LayerRun, show: Show) -> int:
    """Build or plan a run of layers, and report what they build on first."""
    return _run(run.request, show, run)


def _run(request: BuildRequest, show: Show, layers: LayerRun | None = None) -> int:
    from chainbuild.cli.output import messages, open_quietly
    from chainbuild.cli.runs import runner as running

    layer_bases = layers.layer_bases if layers else ()
    if not show.dry_run:

        def before(session: Session) -> None:
            if layer_bases:
                from chainbuild.requests.layer import report_bases

                report_bases(session, layer_bases, request.graph, session.emit)

        return running.run_build(request, show, before=before)
    # Stays open around the plan's own session, so that the managed registry starts only once.
    with open_quietly(request.settings, json=show.json) if layer_bases else nullcontext() as session:
        if session:
            from chainbuild.requests.layer import report_bases

            report_bases(session, layer_bases, request.graph, messages(json=show.json).emit)
        return running.run_plan(request, as_json=show.json, verbosity=show.verbosity, fail_if_build=show.fail_if_build)
