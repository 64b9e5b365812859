"""The command line: arguments in, exit code out. `chainbuild PLATFORM …` is `chainbuild build PLATFORM …`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from chainbuild.errors import ExitCode


def main() -> None:
    """Run the command. Every error is reported in one place and ends in its exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command with `arguments` and return the exit code."""
    try:
        from chainbuild.cli.app import COMMANDS, app, with_default_command
        from chainbuild.cli.completion import say_build

        say_build(os.environ, COMMANDS)
        result = app(args=with_default_command(arguments), prog_name="chainbuild", standalone_mode=False)
    except BaseException as error:  # noqa: BLE001  # the one place where errors become output
        return _report(error, as_json="--json" in arguments)
    return int(result or 0)


def _report(error: BaseException, *, as_json: bool) -> int:
    from typer import Abort, Exit

    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.WRONG_USE
    if isinstance(error, Exit):
        return error.exit_code
    from chainbuild.errors import WrongUseError
    from chainbuild.ui import show_error, stderr, stdout

    if isinstance(error, Abort):
        error = KeyboardInterrupt()
    # The class that typer raises for a wrong argument moved between its versions; its text is always in this method.
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "chainbuild"
        # typer calls the type of a ranged number "integer range".
        message = format_message().replace("is not a valid integer range", "is not a whole number")
        error = WrongUseError(message, hint=f"See {path} --help.")
    return int(show_error(error, out=stdout(), err=stderr(), as_json=as_json))


def _terminated(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
