"""Run the commands of `chainbuild types`, with the same views, logs and errors as every run."""

from __future__ import annotations

from chainbuild.cli.output import messages, open_quietly
from chainbuild.cli.runs.runner import run_build
from chainbuild.cli.show import Show
from chainbuild.errors import ExitCode
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.pipeline import PlannedRun, commands, plan_acceleration, plan_run
from chainbuild.execution.session import Session, environment
from chainbuild.layouts.image_types.graph import ImageTypesLayout
from chainbuild.operations.image_types import check_published, prepared, renewed, run_of, warnings
from chainbuild.requests.image_types import ImageTypesOverview, ImageTypesRequest
from chainbuild.step_id import StepId
from chainbuild.ui import stdout


def list_types(look: ImageTypesOverview, *, as_json: bool, verbosity: int) -> int:
    """List the image types."""
    from chainbuild.ui.image_types import show_types, types_as_json

    if as_json:
        stdout().write_raw(types_as_json(look) + "\n")
    else:
        show_types(look, stdout(), verbosity=verbosity)
        messages().warn(*(f"{problem.where}: {problem.message}. {problem.hint}" for problem in look.relations.loose))
    return 0


def create_types(request: ImageTypesRequest, show: Show) -> int:
    """Build images, or show what would be built."""
    messages(json=show.json).warn(*warnings(request))
    with prepared(request) as (layout, run):
        if not show.dry_run:
            return run_build(run, mode=show.mode, verbosity=show.verbosity)
        with open_quietly(run.settings, json=show.json) as session:
            planned = plan_run(run.graph, session, run.options)
            _show(planned, layout, session, show, run.options)
    return int(ExitCode.WOULD_BUILD if show.fail_if_build and planned.plan.builds else ExitCode.DONE)


def update_types(request: ImageTypesRequest, show: Show) -> int:
    """Pull the images that are published up to date, and build the rest."""
    printer = messages(json=show.json)
    printer.warn(*warnings(request))
    with prepared(request) as (whole, _):
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
        printer.info(*(f"{name} was never created: run chainbuild types create '{name}'" for name in update.never))
        if show.dry_run:
            return int(ExitCode.DONE)
        if not update.layout.graph.chains:
            printer.info("nothing to update")
            return int(ExitCode.DONE)
        return run_build(run_of(request, update.layout), mode=show.mode, verbosity=show.verbosity)


def publish_types(request: ImageTypesRequest, show: Show) -> int:
    """Push images exactly as they were created."""
    with prepared(request) as (layout, run):
        if not show.dry_run:
            return run_build(
                run, mode=show.mode, verbosity=show.verbosity, before=lambda session: _check(request, layout, session)
            )
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
    messages().info(f"builds on {new.below.id}; edit its Dockerfile, then run chainbuild types create {new.name}")
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

        stdout().write_raw(plan_as_json(planned.plan, invocations, native.texts) + "\n")
        return
    from chainbuild.ui.image_types import show_types_plan

    show_types_plan(planned.plan, layout, invocations, stdout(), verbosity=show.verbosity, pulls=pulls or {})
