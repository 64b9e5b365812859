"""Run a build or a plan for a command, with views, logs, interrupts and the error that ends it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from chainbuild.cli.output import messages
from chainbuild.errors import ExitCode, NotReadyError
from chainbuild.execution.pipeline import build_run
from chainbuild.execution.run_plan import plan_run
from chainbuild.execution.session import Session, open_session
from chainbuild.execution.tool_runs import plan_acceleration
from chainbuild.host.user_folders import tree_file
from chainbuild.parsing.stage_args import stage_arguments
from chainbuild.requests.build import BuildRequest

if TYPE_CHECKING:
    from chainbuild.cli.runs.frame import Ended
    from chainbuild.cli.show import Show
    from chainbuild.execution.logs import LogFiles
    from chainbuild.execution.outcome import RunOutcome


def run_build(
    request: BuildRequest,
    show: Show,
    *,
    before: Callable[[Session], None] = lambda _: None,
    after: Callable[[Session, RunOutcome], None] = lambda _session, _outcome: None,
) -> int:
    """Build, and return the exit code of the first failure. Failures are shown after the views have ended.

    With `--debug`, a shell is started at the first instruction that failed. `before` and `after` are called around the run,
    while the chain registry is available.
    """
    from chainbuild.cli.runs.frame import Ended, run_in_frame

    def work(session: Session, files: LogFiles) -> Ended:
        before(session)
        outcome = build_run(request.graph, session, request.options, log_folder=files.folder, log_path=files.path_of)
        after(session, outcome)
        _save_failed_builds(request, outcome)
        if not outcome.left:
            return Ended(failures=outcome.failures.values())
        left = ", ".join(map(str, outcome.left))
        return Ended(
            failures=outcome.failures.values(),
            code=ExitCode.DEADLINE,
            notice=f"stopped before the deadline; the next run continues with: {left}",
        )

    if show.debug:
        from chainbuild.cli.runs.debug_session import check_terminal

        check_terminal(show)
    code = run_in_frame(
        request.settings, work, mode=show.mode, verbosity=show.verbosity, building=True, reports=show.reports
    )
    if show.debug and code == ExitCode.BUILD_FAILED:
        from chainbuild.cli.runs.debug_session import debug_last_run

        debug_last_run(request.settings.root)
    return code


def _save_failed_builds(request: BuildRequest, outcome: RunOutcome) -> None:
    """Save the failed builds of a run for `chainbuild debug`, or remove those of the run before."""
    from chainbuild.execution.outcome import FAILED_BUILDS

    with suppress(NotReadyError):
        # Imported only if needed: most runs fail at nothing.
        if outcome.failed_builds or tree_file(FAILED_BUILDS, request.settings.root).exists():
            from chainbuild.execution.failed_builds import save_failed_builds

            save_failed_builds(request.settings, outcome)


def run_plan(request: BuildRequest, *, as_json: bool, verbosity: int, fail_if_build: bool) -> int:
    """Show what would be done, and return the exit code."""
    from chainbuild.ui import PlanRow, show_plan, stdout

    printer = messages(json=as_json)
    with open_session(request.settings, printer.emit) as session:
        planned = plan_run(request.graph, session, request.options)
        native = plan_acceleration(planned, session, request.options)
        from chainbuild.execution.commands import commands

        invocations = commands(planned, session, native)
    printer.warn(*planned.plan.warnings)
    arguments = stage_arguments(planned.plan.graph)
    rows = [
        PlanRow(
            step=decision.step.id,
            action=decision.action,
            reason=decision.reason,
            image=str(decision.step.reference),
            expected_seconds=decision.expected_seconds,
            native=native.texts.get(decision.step.id, ""),
            command=invocations.get(decision.step.id),
            inherited=tuple(arg.told for arg in arguments.get(decision.step.id, ()) if arg.told),
            arguments=tuple(f"{arg.name}={arg.value}" for arg in arguments.get(decision.step.id, ())),
        )
        for decision in planned.plan.decisions
    ]
    if as_json:
        from chainbuild.planning.plan_json import plan_as_json

        stdout().write_raw(plan_as_json(planned.plan, invocations, native.texts) + "\n")
    else:
        show_plan(rows, stdout(), verbosity=verbosity)
    return int(ExitCode.WOULD_BUILD if fail_if_build and planned.plan.builds else ExitCode.DONE)
