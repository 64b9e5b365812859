"""Turn errors into output: text on stderr for people, a JSON object on stdout for programs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from chainbuild import __version__
from chainbuild.errors import (
    BuildFailedError,
    ChainbuildError,
    DamagedContentError,
    ExitCode,
    InterruptedRunError,
    LoginNeededError,
    NotFoundInRegistryError,
    NotProvenError,
    NotReadyError,
    RegistryBusyError,
    RegistryError,
    UnreachableError,
    WrongUseError,
)
from chainbuild.text import escaped, plural
from chainbuild.ui.messages import hint_lines, message_lines
from chainbuild.ui.summary import failure_lines
from chainbuild.ui.terminal import Line, Span, Terminal

SCHEMA: Final = "chainbuild.error/1"
_FINDINGS_SHOWN: Final = 40
_WAYS_OUT: Final[tuple[tuple[type[ChainbuildError], str], ...]] = (
    (LoginNeededError, "Log in to the registry with docker login, and check that the account may use this repository."),
    (UnreachableError, "Check the network and the registry, then run the command again: finished steps are kept."),
    (RegistryBusyError, "Run the command again later: finished steps are kept."),
    (NotFoundInRegistryError, "Check the name, the tag and the platform."),
    (DamagedContentError, "Push the image again, or delete it: the next run builds what is missing."),
    (RegistryError, "Check the registry with chainbuild doctor."),
    (NotReadyError, "Check this machine with chainbuild doctor."),
)
"""What to do about errors that do not say it themselves, by their class; the first that fits."""


def show_error(
    error: BaseException,
    *,
    out: Terminal,
    err: Terminal,
    as_json: bool = False,
    shown_tails: frozenset[tuple[str, ...]] = frozenset(),
    log_folder: Path | None = None,
) -> ExitCode:
    """Print an error and return its exit code.

    `shown_tails` are the log tails that a view has already shown. The traceback of an unexpected exception goes to a file in
    `log_folder`, or in the folder for temporary files.
    """
    if isinstance(error, KeyboardInterrupt):
        error = InterruptedRunError("interrupted; finished steps are kept, and the next run continues from there")
    trace = None if isinstance(error, ChainbuildError) else _write_traceback(error, log_folder)
    code = error.exit_code if isinstance(error, ChainbuildError) else ExitCode.BUG
    if as_json:
        body = error_as_json(error, trace)
        out.write_raw(json.dumps(body, ensure_ascii=True, separators=(",", ":")) + "\n")
        return code
    match error:
        case WrongUseError():
            err.write(_wrong_use_lines(error))
        case ChainbuildError():
            err.write(_error_lines(error, err.width, shown_tails))
        case _:
            err.write(_bug_lines(error, trace))
    return code


def error_as_json(error: BaseException, trace: Path | None = None) -> dict[str, Any]:
    """Return an error as an object of schema `chainbuild.error/1`, which always has every field."""
    ours = error if isinstance(error, ChainbuildError) else None
    problems = error.problems if isinstance(error, WrongUseError) else ()
    build = error if isinstance(error, BuildFailedError) else None
    log_path = build.log_path if build else trace
    return {
        "schema": SCHEMA,
        "error": type(error).__name__,
        "message": ours.message if ours else f"{type(error).__name__}: {error}",
        "where": ours.where if ours else "",
        "hint": _way_out(ours) if ours else _report_hint(trace),
        "problems": [{"path": p.path, "line": p.line, "message": p.message, "hint": p.hint} for p in problems],
        "log_tail": list(build.log_tail) if build else [],
        "log_path": str(log_path) if log_path else None,
        "findings": list(error.findings) if isinstance(error, NotProvenError) else [],
        "exit_code": int(ours.exit_code if ours else ExitCode.BUG),
    }


def _wrong_use_lines(error: WrongUseError) -> list[Line]:
    lines: list[Line] = []
    for problem in error.problems:
        first, *rest = message_lines("error", problem.message)
        # Its place replaces the label.
        place = (Span(f"{escaped(problem.where)}: ", "bold"),) if problem.where else first[:1]
        lines += [(*place, *first[1:]), *rest, *hint_lines(problem.hint)]
    if len(error.problems) > 1:
        lines.append((Span(f"{plural(len(error.problems), 'problem')}; nothing was started", "bad"),))
    return lines


def _error_lines(error: ChainbuildError, width: int | None, shown_tails: frozenset[tuple[str, ...]]) -> list[Line]:
    lines = message_lines("error", error.message)
    if isinstance(error, BuildFailedError):
        tail = () if _was_shown(error.log_tail, shown_tails) else error.log_tail
        lines += failure_lines("", tail, error.log_path, width, where=error.where)
    elif error.where:
        lines.append((Span("  at ", "dim"), Span(escaped(error.where))))
    if isinstance(error, NotProvenError):
        lines += [(Span(f"  {escaped(finding)}"),) for finding in error.findings[:_FINDINGS_SHOWN]]
        if (more := len(error.findings) - _FINDINGS_SHOWN) > 0:
            lines.append((Span(f"  … and {more} more (--json shows all)", "dim"),))
    lines += hint_lines(_way_out(error))
    if isinstance(error, BuildFailedError) and error.debug:
        lines.append((Span("  debug: ", "dim"), Span(escaped(error.debug))))
    return lines


def _way_out(error: ChainbuildError) -> str:
    """Return the error's hint, or what helps against most errors of its class."""
    return error.hint or next((hint for kind, hint in _WAYS_OUT if isinstance(error, kind)), "")


def _was_shown(tail: tuple[str, ...], shown: frozenset[tuple[str, ...]]) -> bool:
    """Return True if the last lines of the tail are the end of a tail that was shown."""
    end = tail[-3:]
    return bool(end) and any(seen[-len(end) :] == end for seen in shown)


def _bug_lines(error: BaseException, trace: Path | None) -> list[Line]:
    text = escaped(f"{type(error).__name__}: {error}")
    hint = _report_hint(trace)
    return [(Span("this is a bug in chainbuild: ", "bad"), Span(text)), *hint_lines(hint)]


def _report_hint(trace: Path | None) -> str:
    saved = f"The traceback and versions are in {trace}." if trace else "The traceback could not be written to a file."
    return (
        f"{saved}\nPlease report it with this information and the command line. What was built is kept, and the next run"
        " continues from there."
    )


def _write_traceback(error: BaseException, folder: Path | None) -> Path | None:
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    head = f"chainbuild {__version__}, Python {sys.version.split()[0]}, {sys.platform}\n\n"
    for place in (folder, None):
        if place is not None and not place.is_dir():
            continue
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(prefix="chainbuild-bug-", suffix=".txt", dir=place)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(head + text)
            return Path(name)
    return None
