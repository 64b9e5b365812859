"""Errors as text and as JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from chainbuild.errors import (
    BuildFailedError,
    ChainbuildError,
    DamagedContentError,
    ExitCode,
    LimitError,
    LoginNeededError,
    NotAnImageError,
    NotFoundInRegistryError,
    NotProvenError,
    NotReadyError,
    Problem,
    RegistryBusyError,
    RegistryError,
    UnreachableError,
    WrongUseError,
)
from chainbuild.ui import Terminal, show_error
from chainbuild.ui.failures import error_as_json

WRONG = WrongUseError(
    [
        Problem(
            path="stock/20-Dockerfile-b",
            line=3,
            message="FROM does not use BASE_IMAGE",
            hint="write FROM ${BASE_IMAGE}",
        ),
        Problem(path="stock/10-Dockerfile-a", message="there is no ARG BASE_IMAGE"),
        Problem(message="unknown platform amd46", hint="perhaps you meant amd64"),
    ]
)
FAILED = BuildFailedError(
    "RUN make failed with exit code 2",
    where="stock/20-Dockerfile-openblas:14",
    hint="the toolchain of 10-toolchain may be too old",
    log_tail=("cc -c a.c", "\x1b[31ma.c:1: error: no\x1b[0m", "make: *** [a.o] Error 1"),
    log_path=Path("logs/x.log"),
)


def told(error: BaseException, *, as_json: bool = False, **more: object) -> tuple[str, str, ExitCode]:
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(stream=err, fixed_width=60)
    code = show_error(error, out=Terminal(stream=out), err=terminal, as_json=as_json, **more)  # type: ignore[arg-type]
    return out.getvalue(), err.getvalue(), code


def test_problems_are_reported_together():
    assert told(WRONG) == (
        "",
        """\
error: unknown platform amd46
    perhaps you meant amd64
stock/10-Dockerfile-a: there is no ARG BASE_IMAGE
stock/20-Dockerfile-b:3: FROM does not use BASE_IMAGE
    write FROM ${BASE_IMAGE}
3 problems; nothing was started
""",
        ExitCode.WRONG_USE,
    )


def test_failed_build_shows_last_lines_and_place():
    rule = "─" * 56
    out, err, code = told(FAILED)
    assert (
        err
        == f"""\
error: RUN make failed with exit code 2
  at stock/20-Dockerfile-openblas:14
  ┌{rule}
  │ cc -c a.c
  ▸ a.c:1: error: no
  │ make: *** [a.o] Error 1
  └{rule}
  log: logs/x.log
    the toolchain of 10-toolchain may be too old
"""
    )
    assert (out, code) == ("", ExitCode.BUILD_FAILED)


def test_log_tail_already_shown_is_not_repeated():
    seen = ("earlier", *FAILED.log_tail)
    _, err, _ = told(FAILED, shown_tails=frozenset({seen}))
    assert "┌" not in err
    assert "log: logs/x.log" in err
    _, err, _ = told(FAILED, shown_tails=frozenset({("something else",), ()}))
    assert "┌" in err


def test_error_shows_place_hint_and_findings():
    assert told(NotReadyError("cannot reach a Docker Engine", where="unix:///x.sock", hint="start it:\n  dockerd &"))[
        1
    ] == ("error: cannot reach a Docker Engine\n  at unix:///x.sock\n    start it:\n      dockerd &\n")
    _, err, code = told(NotProvenError("1 library is missing", findings=("/usr/bin/x needs libfoo.so.1",)))
    assert err == "error: 1 library is missing\n  /usr/bin/x needs libfoo.so.1\n"
    assert code == ExitCode.NOT_PROVEN


def test_findings_are_truncated_only_in_text():
    error = NotProvenError("many", findings=tuple(f"finding {number}" for number in range(50)))
    assert told(error)[1].endswith("finding 39\n  … and 10 more (--json shows all)\n")
    assert len(json.loads(told(error, as_json=True)[0])["findings"]) == 50


@pytest.mark.parametrize("error", [WRONG, FAILED, ChainbuildError("x"), KeyboardInterrupt(), ValueError("\x1b[2J")])
def test_error_json_has_every_field(error: BaseException, tmp_path: Path):
    out, err, code = told(error, as_json=True, log_folder=tmp_path)
    assert err == ""
    assert out.count("\n") == 1
    assert "\x1b" not in out
    body = json.loads(out)
    assert list(body) == [
        "schema",
        "error",
        "message",
        "where",
        "hint",
        "problems",
        "log_tail",
        "log_path",
        "findings",
        "exit_code",
    ]
    assert body["schema"] == "chainbuild.error/1"
    assert body["exit_code"] == code


def test_problems_json_lists_every_problem():
    body = json.loads(told(WRONG, as_json=True)[0])
    assert body["error"] == "WrongUseError"
    assert body["problems"][2] == {
        "path": "stock/20-Dockerfile-b",
        "line": 3,
        "message": "FROM does not use BASE_IMAGE",
        "hint": "write FROM ${BASE_IMAGE}",
    }


def test_keyboard_interrupt_is_not_a_bug():
    _, err, code = told(KeyboardInterrupt())
    assert err.startswith("error: interrupted; finished steps are kept")
    assert code == ExitCode.INTERRUPTED


def test_bug_report_names_traceback_file(tmp_path: Path):
    try:
        raise ZeroDivisionError("mine")
    except ZeroDivisionError as error:
        _, err, code = told(error, log_folder=tmp_path)
    (file,) = tmp_path.iterdir()
    assert code == ExitCode.BUG
    assert err.startswith("this is a bug in chainbuild: ZeroDivisionError: mine\n")
    assert f"    The traceback and versions are in {file}.\n" in err
    assert "Traceback" not in err
    text = file.read_text()
    assert text.startswith("chainbuild ")
    assert 'raise ZeroDivisionError("mine")' in text


def test_bug_without_log_folder_writes_to_temporary_folder(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told(ValueError("x"), log_folder=tmp_path / "not-made")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "kind",
    [
        *(DamagedContentError, LimitError, LoginNeededError, NotAnImageError, NotFoundInRegistryError, NotReadyError),
        *(RegistryBusyError, RegistryError, UnreachableError),
    ],
)
def test_error_without_hint_shows_what_helps_against_its_kind(kind: type[ChainbuildError]) -> None:
    assert error_as_json(kind("broken"))["hint"].endswith(".")
    assert error_as_json(kind("broken", hint="Do this."))["hint"] == "Do this."
