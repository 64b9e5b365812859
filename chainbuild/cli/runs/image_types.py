"""Run the commands of `chainbuild types`, with the same views, logs and errors as every run."""

from __future__ import annotations

from chainbuild.cli.output import messages, open_quietly
from chainbuild.cli.runs.runner import run_build
from chainbuild.cli.show import Show
from chainbuild.errors import ExitCode, WrongUseError
from chainbuild.execution.commands import commands
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.run_plan import PlannedRun, plan_run
from chainbuild.execution.session import Session, environment
from chainbuild.execution.tool_runs import plan_acceleration
from chainbuild.layouts.image_types.graph import ImageTypesLayout
from chainbuild.operations.image_types import check_published, prepared, renewed, run_of, warnings
from chainbuild.requests.image_types import ImageTypesOverview, ImageTypesRequest
from chainbuild.step_id import StepId
from chainbuild.text import plural
from chainbuild.ui import stdout


def list_types(look: ImageTypesOverview, *, as_json: bool, verbosity: int) -> int:
    """List the image types."""
    from chainbuild.ui.image_types import show_types, types_as_json

    if as_json:
        stdout().write_raw(types_as_json(look) + "\n")
    else:
        show_types(look, stdout(), verbosity=verbosity)
        notes = (*look.catalogue.notes, *look.relations.loose)
        messages().warn(*(f"{problem.where}: {problem.message}. {problem.hint}" for problem in notes))
        problems = (problem for name in look.chosen for problem in look.relations.problems[name])
        messages().warn(*map(str, dict.fromkeys(problems)))
    return 0


def create_types(request: ImageTypesRequest, show: Show) -> int:
    """Build images, or show what would be built."""
    with prepared(request) as (layout, run):
        _introduce(request, layout, show)
        if not show.dry_run:
            return _end(run_build(run, show), layout, show)
        with open_quietly(run.settings, json=show.json) as session:
            planned = plan_run(run.graph, session, run.options)
            _show(planned, layout, session, show, run.options)
    code = ExitCode.WOULD_BUILD if show.fail_if_build and planned.plan.builds else ExitCode.DONE
    return _end(int(code), layout, show)


def update_types(request: ImageTypesRequest, show: Show) -> int:
    """Pull the images that are published up to date, and build the rest."""
    printer = messages(json=show.json)
    with prepared(request) as (whole, _):
        _introduce(request, whole, show)
        with open_quietly(request.settings, json=show.json) as session:
            update = renewed(request, whole, session, pull=not show.dry_run)
            if show.dry_run:
                reasons = {step: f"published as {image.reference.name}" for step, image in update.published.items()}
                _show(update.planned, update.layout, session, show, request.options, pulls=reasons)
        if not show.dry_run:
            printer.info(
                *(
                    f"{update.layout.images[decision.step.id].id} for {decision.step.platform}: {decision.reason}"
                    for decision in update.planned.plan.builds
                )
            )
        printer.info(*(f"{name} was never built: run chainbuild types build '{name}'" for name in update.never))
        code = int(ExitCode.DONE)
        if not show.dry_run and not update.layout.graph.chains:
            printer.info("nothing to update")
        elif not show.dry_run:
            code = run_build(run_of(request, update.layout), show)
        return _end(code, whole, show)


def _introduce(request: ImageTypesRequest, layout: ImageTypesLayout, show: Show) -> None:
    """Print what to know before the run."""
    printer = messages(json=show.json)
    printer.note(*layout.mounted)
    printer.warn(*warnings(request, layout), *map(str, layout.problems))


def _end(code: int, layout: ImageTypesLayout, show: Show) -> int:
    """Report the images that were skipped, and return the exit code."""
    from chainbuild.cli.runs.frame import show_failures

    if not layout.stopped:
        return code
    if show.json and show.dry_run:
        return code or int(ExitCode.WRONG_USE)  # the document has them
    names = ", ".join(sorted(layout.stopped))
    message = f"{plural(len(layout.stopped), 'image')} skipped because of problems: {names}"
    short = WrongUseError(message, hint="The problems are in the warnings above.")
    error = WrongUseError(layout.problems) if show.json else short
    wrong = show_failures([error], show.mode, frozenset())
    return code or int(wrong)


def publish_types(request: ImageTypesRequest, show: Show) -> int:
    """Push images exactly as they were created."""
    with prepared(request) as (layout, run):
        if not show.dry_run:
            return run_build(run, show, before=lambda session: _check(request, layout, session))
        with open_quietly(run.settings, json=show.json) as session:
            check_published(request, layout, session)
        from chainbuild.ui.image_types import publication_as_json, show_publication

        if show.json:
            stdout().write_raw(publication_as_json(request, layout) + "\n")
        else:
            show_publication(request, layout, stdout())
    return int(ExitCode.DONE)


def make_new(look: ImageTypesOverview, name: str, below: str, system: str, *, dry_run: bool) -> int:
    """Write a new image type."""
    from chainbuild.layouts.image_types.roots import user_folder
    from chainbuild.layouts.image_types.template import new_type, write_new

    new = new_type(look.catalogue, user_folder(environment()), name, below, system)
    if dry_run:
        stdout().write_document(f"{new.manifest}\n{new.dockerfile}")
        return 0
    for path in write_new(new):
        stdout().write([str(path)])
    messages().info(f"builds on {new.below.id}; edit its Dockerfile, then run chainbuild types build {new.name}")
    return 0


def _check(request: ImageTypesRequest, layout: ImageTypesLayout, session: Session) -> None:
    check_published(request, layout, session)


def _show(
    planned: PlannedRun,
    layout: ImageTypesLayout,
    session: Session,
    show: Show,
    options: ExecutionOptions,
    *,
    pulls: dict[StepId, str] | None = None,
) -> None:
    native = plan_acceleration(planned, session, options)
    invocations = commands(planned, session, native)
    if show.json:
        from chainbuild.planning.plan_json import plan_as_json

        problems = {name: [str(problem) for problem in found] for name, found in layout.stopped.items()}
        stdout().write_raw(plan_as_json(planned.plan, invocations, native.texts, problems) + "\n")
        return
    from chainbuild.ui.image_types import show_types_plan

    show_types_plan(planned.plan, layout, invocations, stdout(), verbosity=show.verbosity, pulls=pulls or {})
