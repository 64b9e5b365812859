"""Run the commands of `chainbuild science`, with the same views, logs and errors as every run."""

from __future__ import annotations

from chainbuild.cli.output import open_quietly
from chainbuild.cli.runs.runner import run_build
from chainbuild.cli.show import Show
from chainbuild.errors import ExitCode
from chainbuild.execution.commands import commands
from chainbuild.execution.run_plan import plan_run
from chainbuild.execution.tool_runs import plan_acceleration
from chainbuild.operations.science import check_releases, keep_releases, orphans, prepared
from chainbuild.requests.science import ScienceRequest
from chainbuild.ui import stdout


def build_science(request: ScienceRequest, show: Show) -> int:
    """Build and release images, or show what would be done."""
    if show.dry_run:
        return _plan_science(request, show)
    with prepared(request) as (layout, run):
        return run_build(
            run,
            show,
            before=lambda session: check_releases(request, session),
            after=lambda session, outcome: keep_releases(request, session, layout, outcome),
        )


def _plan_science(request: ScienceRequest, show: Show) -> int:
    with prepared(request) as (layout, run):
        with open_quietly(run.settings, json=show.json) as session:
            check_releases(request, session)
            planned = plan_run(run.graph, session, run.options)
            native = plan_acceleration(planned, session, request.options)
            invocations = commands(planned, session, native)
        if show.json:
            from chainbuild.planning.plan_json import plan_as_json

            stdout().write_raw(plan_as_json(planned.plan, invocations, native.texts) + "\n")
        else:
            from chainbuild.ui.science import show_science_plan

            show_science_plan(planned.plan, layout, request.state, invocations, stdout(), verbosity=show.verbosity)
    return int(ExitCode.WOULD_BUILD if show.fail_if_build and planned.plan.builds else ExitCode.DONE)


def list_orphans(request: ScienceRequest, *, as_json: bool) -> int:
    """List the released versions that get no more compat updates."""
    with open_quietly(request.settings, json=as_json) as session:
        orphaned = orphans(request, session)
    if as_json:
        listed = [
            {"image": str(item.place), "release": item.release, "heirs": list(item.heirs), "given_up": item.given_up}
            for item in orphaned
        ]
        stdout().write_json({"schema": "chainbuild.orphans/1", "orphans": listed})
    else:
        from chainbuild.ui.science import show_orphans

        show_orphans(orphaned, stdout())
    return 0
