"""Start a debug session on the user's terminal: ask for secrets, show what happens, and write the patch."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chainbuild.cli.output import messages, print_lines, write_result
from chainbuild.errors import ExitCode, WrongUseError
from chainbuild.execution.session import Session, open_session

if TYPE_CHECKING:
    from chainbuild.builder.build_spec import BuildSpec
    from chainbuild.cli.show import Show
    from chainbuild.model import Secret
    from chainbuild.operations.debug.run import SessionRequest, SessionResult
    from chainbuild.operations.debug.subject import Subject
    from chainbuild.ui import Printer


def is_terminal() -> bool:
    """Return whether a shell can be started: both streams are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def check_terminal(show: Show) -> None:
    """Check that a run with `--debug` can start a shell. Errors: `WrongUseError`."""
    if show.json or not is_terminal():
        raise WrongUseError(
            "--debug needs a terminal",
            hint="Omit it, and run chainbuild debug STEP -- COMMAND after a failure, which needs no terminal.",
        )


def session_request(
    command: tuple[str, ...] = (), *, split: bool = False, mounts: tuple[str, ...] = ()
) -> SessionRequest:
    """Return what a session does, with this process's environment and terminal."""
    from chainbuild.operations.debug.run import SessionRequest

    return SessionRequest(
        command=command,
        split=split,
        terminal=is_terminal(),
        mounts=mounts,
        environ=dict(os.environ),
        ask=_ask if sys.stdin.isatty() else None,
    )


def _ask(name: str) -> str:
    return getpass.getpass(f"secret {name}: ")


def debug_last_run(root: Path) -> None:
    """Start a shell at the first instruction that failed in the run that just ended."""
    from chainbuild.execution.failed_builds import load_failed_run
    from chainbuild.operations.debug.subject import failed_subject

    run = load_failed_run(root)
    if run is not None and run.builds:
        with open_session(run.settings(root), messages().emit) as session:
            start(failed_subject(run.builds[0], None), session, session_request())


def start(
    subject: Subject,
    session: Session,
    request: SessionRequest,
    *,
    secrets: tuple[Secret, ...] = (),
    diff: Path | None = None,
) -> int:
    """Run a session, and return the exit code of what ran; 0 after a shell. `secrets` replace those of the run.

    The patch of what was typed goes into `diff`, if given.
    """
    from chainbuild.operations.debug.run import run_session
    from chainbuild.values import replace

    printer = messages()
    if secrets:
        *below, spec = (_with_secrets(spec, secrets) for spec in (*subject.below, subject.spec))
        subject = replace(subject, spec=spec, below=tuple(below))
    printer.info(f"building the state before {subject.where} …")
    result = run_session(subject, session, request, printer.info)
    if diff is not None:
        _write_patch(result, subject, session.settings.root, diff, printer)
    return result.code if request.command or not request.terminal else int(ExitCode.DONE)


def _with_secrets(spec: BuildSpec, secrets: tuple[Secret, ...]) -> BuildSpec:
    """Return a build with these secrets instead of those with the same ids."""
    from chainbuild.values import replace

    named = {secret.id: secret for secret in (*spec.secrets, *secrets)}
    return replace(spec, secrets=tuple(named.values()))


def _write_patch(result: SessionResult, subject: Subject, root: Path, target: Path, printer: Printer) -> None:
    from chainbuild.operations.debug.run import patch_of

    text = patch_of(result, subject, root)
    if not text:
        printer.note("no patch: nothing was typed that succeeded and changes something; only bash records commands")
    elif str(target) == "-":
        print_lines(*text.splitlines())
    else:
        write_result(target, text.encode("utf-8", "surrogateescape"))
        printer.info(f"patch: {target}")
