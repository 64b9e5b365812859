"""Plan or build what a command asks for: six arguments, one layer, or a whole project."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from chainbuild.cli.flags import mode_of
from chainbuild.errors import WrongUseError
from chainbuild.project.location import FILE_NAME, find_project
from chainbuild.requests.build import BuildRequest, RunOptions, read_build_request
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.project.model import Project
    from chainbuild.requests.layer import LayerRun
    from chainbuild.requests.project_runs import Typed
    from chainbuild.requests.science import ScienceRequest
    from chainbuild.ui import Mode


class Show(Struct, frozen=True, kw_only=True):
    """How a run is shown, and whether it is only planned."""

    dry_run: bool = False
    json: bool = False
    plain: bool = False
    verbosity: int = 0
    fail_if_build: bool = False

    @property
    def mode(self) -> Mode:
        """The view of the run."""
        return mode_of(json=self.json, plain=self.plain)


_SHOWN = ("dry_run", "json", "plain", "fail_if_build")


def show_of(typed: Mapping[str, Any]) -> Show:
    """Return how a run is shown, from the parameters of a command by name."""
    return Show(verbosity=typed["verbose"], **{name: typed[name] for name in _SHOWN})


def run_words(words: RunOptions, show: Show, *, tests: bool) -> int:
    """Build or plan what the six arguments describe."""
    from chainbuild.requests.last_run import save_last_run
    from chainbuild.requests.project_runs import without_tests

    request = read_build_request(words)
    if not tests:
        request = replace(request, graph=without_tests(request.graph))
    if not show.dry_run:
        save_last_run(request.settings.root, words)
    return _run(request, show)


def run_project(folder: Path, typed: Typed, show: Show) -> int:
    """Build or plan the project that contains a folder: its layers and options, then its science layers."""
    from chainbuild.errors import ExitCode
    from chainbuild.project.schema import put_schema
    from chainbuild.requests.last_run import save_last_run
    from chainbuild.requests.project_runs import merged_words, read_run

    project = load_project(folder)
    if project is None:
        raise WrongUseError(
            "Missing arguments: PLATFORM REPO TAG BASE OPTION PRODUCTION",
            hint=f"Give all six arguments, or describe the project in a {FILE_NAME}: chainbuild init writes one.",
        )
    # Read everything before starting anything.
    run = read_run(project, typed) if project.options or project.layers else None
    science = _science(project, typed) if project.science else None
    if not show.dry_run:
        put_schema(project.root)
        if project.options and not project.layers:
            args = [f"{arg.name}={arg.value}" for arg in project.build_args]
            save_last_run(project.root, replace(merged_words(project, typed), build_args=(*args, *typed.build_args)))
    code = run_layers(run, show) if run else int(ExitCode.DONE)
    if science is None or code not in {ExitCode.DONE, ExitCode.WOULD_BUILD}:
        return code
    return code or _run_science(science, show)


def _science(project: Project, typed: Typed) -> ScienceRequest:
    from chainbuild.requests.project_runs import merged_words
    from chainbuild.requests.science import ScienceOptions, read_words

    if project.science is None:
        raise ValueError(f"{project.shown} has no science layers")
    words = merged_words(project, typed)
    return read_words(
        ScienceOptions(
            root=project.science.root,
            repo=project.science.repo or "",
            platform=words.platform,
            registry=words.registry,
            port=words.port,
            builders=words.builders,
            no_cache=words.no_cache,
            refresh=words.refresh,
            refresh_after=words.refresh_after,
            deadline=words.deadline,
            jobs=words.jobs,
            keep_going=words.keep_going,
            load=words.load,
            push=words.push,
            replace_index=words.replace_index,
            fail_if_stale_index=words.fail_if_stale_index,
        )
    )


def _run_science(request: ScienceRequest, show: Show) -> int:
    from chainbuild.cli.science import build_science, plan_science

    if show.dry_run:
        return plan_science(request, as_json=show.json, verbosity=show.verbosity, fail_if_build=show.fail_if_build)
    return build_science(request, mode=show.mode, verbosity=show.verbosity)


def load_project(folder: Path) -> Project | None:
    """Return the project that contains a folder, or None. Errors: `WrongUseError` with every problem of its file."""
    from chainbuild.execution.session import environment
    from chainbuild.project.reader import read_project

    if not folder.is_dir():
        raise WrongUseError(f"--root: no such folder: {str(folder)!r}", hint="Pass the folder of the project.")
    path = find_project(folder)
    return read_project(path, environment()) if path else None


def unsaid_run(folder: Path, typed: Typed) -> BuildRequest:
    """Return the run that a command without arguments means: the last one here, or the project's if it has layers.

    Errors: `WrongUseError` if nothing was run here and there is no project.
    """
    from chainbuild.requests.last_run import load_last_run
    from chainbuild.requests.project_runs import read_run

    project = load_project(folder)
    if project is not None and project.layers:
        # Runs of layers are not saved as the last run, so a saved run would be an older one.
        return read_run(project, typed).request
    try:
        return read_build_request(load_last_run(folder))
    except WrongUseError:
        if project is None or not project.options:
            raise
        return read_run(project, typed).request


def run_layers(run: LayerRun, show: Show) -> int:
    """Build or plan a run of layers, and report what they build on first."""
    return _run(run.request, show, run)


def _run(request: BuildRequest, show: Show, layers: LayerRun | None = None) -> int:
    from chainbuild.cli import runner as running
    from chainbuild.cli.output import messages, open_quietly
    from chainbuild.requests.layer import tell_standings

    standings = layers.standings if layers else ()
    if not show.dry_run:
        return running.run_build(
            request,
            mode=show.mode,
            verbosity=show.verbosity,
            before=lambda session: tell_standings(session, standings, request.graph, session.emit),
        )
    # Stays open around the plan's own session, so that the managed registry starts only once.
    with open_quietly(request.settings, json=show.json) if standings else nullcontext() as session:
        if session:
            tell_standings(session, standings, request.graph, messages(json=show.json).emit)
        return running.run_plan(request, as_json=show.json, verbosity=show.verbosity, fail_if_build=show.fail_if_build)
