"""Run a build or a plan for a command, with views, logs, interrupts and the error that ends it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from chainbuild.cli.output import say, say_nothing
from chainbuild.errors import ExitCode
from chainbuild.execution.logs import LogFiles
from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.pipeline import build_run, commands, plan_run
from chainbuild.execution.session import Session, open_session
from chainbuild.parsing.stage_args import stage_arguments
from chainbuild.requests.build import BuildRequest
from chainbuild.ui import Mode, PlanRow, make_view, show_error, show_plan, stderr, stdout, tell


def run_build(
    request: BuildRequest,
    *,
    mode: Mode,
    verbosity: int,
    before: Callable[[Session], None] = lambda _: None,
    after: Callable[[Session, RunOutcome], None] = lambda _session, _outcome: None,
) -> int:
    """Build, and return the exit code of the first failure. Failures are shown after the views have ended.

    `before` and `after` are called around the run, while the chain registry is available.
    """
    settings = request.settings
    folder = settings.root / ".chainbuild" / "logs" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    view, files = make_view(mode, verbosity=verbosity), LogFiles(folder)
    try:
        with files, view:
            emit = tell(view.emit, files.emit)
            with open_session(settings, emit, building=True) as session:
                before(session)
                outcome = build_run(request.graph, session, request.options, log_folder=folder, log_path=files.path_of)
                after(session, outcome)
    except BaseException as error:  # noqa: BLE001  # shown in the same way as a step's failure
        return int(
            show_error(
                error,
                out=stdout(),
                err=stderr(),
                as_json=mode == "json",
                shown_tails=view.shown_tails(),
                log_folder=folder if folder.is_dir() else None,
            )
        )
    if files.trouble:
        stderr().write([f"warning: the logs are incomplete: {files.trouble}"])
    return _show_end(outcome, mode, view.shown_tails())


def _show_end(outcome: RunOutcome, mode: Mode, shown: frozenset[tuple[str, ...]]) -> int:
    code = ExitCode.DONE
    for error in outcome.failures.values():
        error_code = show_error(error, out=stdout(), err=stderr(), as_json=mode == "json", shown_tails=shown)
        code = code or error_code
    if outcome.left and not code:
        left = ", ".join(outcome.left)
        stderr().write([f"stopped before the deadline; the next run continues with: {left}"])
        return int(ExitCode.DEADLINE)
    return int(code)


def run_plan(request: BuildRequest, *, as_json: bool, verbosity: int, fail_if_build: bool) -> int:
    """Show what would be done, and return the exit code."""
    with open_session(request.settings, say_nothing if as_json else say) as session:
        planned = plan_run(request.graph, session, request.options)
        invocations = commands(planned, session)
    if planned.plan.warnings and not as_json:
        stderr().write([f"warning: {text}" for text in planned.plan.warnings])
    arguments = stage_arguments(planned.plan.graph)
    rows = [
        PlanRow(
            step=decision.step.id,
            action=decision.action,
            reason=decision.reason,
            image=str(decision.step.reference),
            expected_seconds=decision.expected_seconds,
            command=invocations.get(decision.step.id),
            inherited=tuple(arg.told for arg in arguments.get(decision.step.id, ()) if arg.told),
            arguments=tuple(f"{arg.name}={arg.value}" for arg in arguments.get(decision.step.id, ())),
        )
        for decision in planned.plan.decisions
    ]
    if as_json:
        from chainbuild.planning.plan_json import plan_as_json

        stdout().write_raw(plan_as_json(planned.plan, invocations) + "\n")
    else:
        show_plan(rows, stdout(), verbosity=verbosity)
    return int(ExitCode.WOULD_BUILD if fail_if_build and planned.plan.builds else ExitCode.DONE)
