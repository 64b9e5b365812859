"""Run a build or a plan for a command, with views, logs, interrupts and the error that ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chainbuild.cli.output import messages
from chainbuild.cli.show import NO_REPORTS, ReportFiles
from chainbuild.errors import ExitCode
from chainbuild.execution.pipeline import build_run, commands, plan_acceleration, plan_run
from chainbuild.execution.session import Session, open_session
from chainbuild.parsing.stage_args import stage_arguments
from chainbuild.requests.build import BuildRequest

if TYPE_CHECKING:
    from chainbuild.cli.runs.frame import Ended
    from chainbuild.execution.logs import LogFiles
    from chainbuild.execution.outcome import RunOutcome
    from chainbuild.ui import Mode


def run_build(
    request: BuildRequest,
    *,
    mode: Mode,
    verbosity: int,
    reports: ReportFiles = NO_REPORTS,
    before: Callable[[Session], None] = lambda _: None,
    after: Callable[[Session, RunOutcome], None] = lambda _session, _outcome: None,
) -> int:
    """Build, and return the exit code of the first failure. Failures are shown after the views have ended.

    `before` and `after` are called around the run, while the chain registry is available.
    """
    from chainbuild.cli.runs.frame import Ended, run_in_frame

    def work(session: Session, files: LogFiles) -> Ended:
        before(session)
        outcome = build_run(request.graph, session, request.options, log_folder=files.folder, log_path=files.path_of)
        after(session, outcome)
        if not outcome.left:
            return Ended(failures=outcome.failures.values())
        left = ", ".join(map(str, outcome.left))
        return Ended(
            failures=outcome.failures.values(),
            code=ExitCode.DEADLINE,
            notice=f"stopped before the deadline; the next run continues with: {left}",
        )

    return run_in_frame(request.settings, work, mode=mode, verbosity=verbosity, building=True, reports=reports)


def run_plan(request: BuildRequest, *, as_json: bool, verbosity: int, fail_if_build: bool) -> int:
    """Show what would be done, and return the exit code."""
    from chainbuild.ui import PlanRow, show_plan, stdout

    printer = messages(json=as_json)
    with open_session(request.settings, printer.emit) as session:
        planned = plan_run(request.graph, session, request.options)
        native = plan_acceleration(planned, session, request.options)
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
