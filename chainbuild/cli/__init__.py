"""The command line: arguments in, exit code out. `chainbuild PLATFORM …` is `chainbuild build PLATFORM …`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Final, NoReturn

from chainbuild.errors import ExitCode

_OBJECTS_BEFORE_COLLECTION: Final = 100_000
"""Start collecting garbage only after so many new objects: the imports of a command make a tenth of that, and no garbage."""


def main() -> NoReturn:
    """Run the command. Every error is reported in one place and ends in its exit code."""
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION, *gc.get_threshold()[1:])
    signal.signal(signal.SIGTERM, _terminated)
    _end(run(sys.argv[1:]))


def _end(code: int) -> NoReturn:
    """End the process, without freeing every module and object first, which takes a tenth of a run that builds nothing."""
    import atexit
    import threading

    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        # Python waits for these.
        sys.exit(code)
    try:
        atexit._run_exitfuncs()  # noqa: SLF001
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError, AttributeError):
        # A closed stream: let Python report it.
        sys.exit(code)
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run the command with `arguments` and return the exit code."""
    try:
        from chainbuild.cli.app import ALIASES, COMMANDS, app, with_default_command
        from chainbuild.cli.completion import say_build
        from chainbuild.cli.old_spellings import current_spelling

        say_build(os.environ, COMMANDS | ALIASES)
        current, notes = current_spelling(with_default_command(arguments))
        if notes:
            _print_notes(notes, as_json="--json" in arguments)
        result = app(args=current, prog_name="chainbuild", standalone_mode=False)
        if not arguments and current == ["--help"]:
            _offer_init()
    except BaseException as error:  # noqa: BLE001  # the one place where errors become output
        return _report(error, as_json="--json" in arguments)
    return int(result or 0)


def _print_notes(notes: Iterable[str], *, as_json: bool) -> None:
    from chainbuild.cli.output import messages

    messages(json=as_json).note(*notes)


def _offer_init() -> None:
    """Print a note that names `chainbuild init` if the current folder has something to build."""
    from contextlib import suppress
    from pathlib import Path

    from chainbuild.cli.output import messages
    from chainbuild.operations.init import look

    with suppress(OSError):
        scan = look(Path.cwd())
        if not scan.is_empty:
            science = ["science"] if scan.tree.science else []
            names = ", ".join([*scan.options, *(layer.folder for layer in scan.layers), *science])
            messages().note(
                f"this folder can be built: {names}\nchainbuild init writes a chainbuild.yaml for it. Then chainbuild"
                " without arguments builds it."
            )


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
