"""Messages look the same everywhere, because one module decides their labels, colors and stream."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import chainbuild
from chainbuild.errors import ChainbuildError
from chainbuild.events import Level, Message, StepWarnings
from chainbuild.step_id import StepId
from chainbuild.step_warnings import StepWarning
from chainbuild.ui import JsonView, LiveView, PlainView, Printer, Terminal, View, show_error
from chainbuild.ui.board import Board
from chainbuild.ui.event_lines import happening
from chainbuild.ui.messages import hint_lines, message_lines
from chainbuild.ui.terminal import plain_text

LABEL = re.compile(r"(?:^|\n|[^\w\s] ?)(?:warning|error): $")
"""A level as the end of a string or of a part of an f-string, at which its text follows."""
WRITERS = frozenset({"chainbuild/cli/__init__.py", "chainbuild/cli/runs/frame.py"})
"""The callers of `show_error`, which takes both streams."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    root = Path(chainbuild.__file__).parent
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root.parent).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def labels(tree: ast.AST) -> list[str]:
    """Return the strings that begin a message with a level by hand."""
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [text for text in texts if LABEL.search(text) or re.match(r"(?:warning|error): \w", text)]


@pytest.mark.parametrize("code", ["'warning: '", "f'warning: {x}'", "f'==== warning: {x}'", "'error: no such file'"])
def test_label_written_by_hand_is_recognized(code: str) -> None:
    assert labels(ast.parse(code))


def test_no_module_writes_a_label_by_hand() -> None:
    assert {place: found for place, tree in sources() if (found := labels(tree))} == {}


def test_commands_write_to_stderr_only_by_the_printer() -> None:
    callers = {
        place
        for place, tree in sources()
        if place.startswith("chainbuild/cli/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "stderr"
    }
    assert callers == WRITERS


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        ("info", ["first", "    second"]),
        ("note", ["note: first", "    second"]),
        ("warning", ["warning: first", "    second"]),
        ("error", ["error: first", "  second"]),
    ],
)
def test_message_lines_begin_with_level(level: Level, lines: list[str]) -> None:
    assert [plain_text(line) for line in message_lines(level, "first\nsecond")] == lines


@pytest.mark.parametrize(("level", "code"), [("warning", "\x1b[33m"), ("error", "\x1b[1;31m")])
def test_message_label_has_its_color(level: Level, code: str) -> None:
    painted = Terminal(stream=io.StringIO(), colour=True).paint(message_lines(level, "text")[0])
    assert painted == f"{code}{level}: \x1b[0mtext"


def test_hint_without_text_has_no_lines() -> None:
    assert hint_lines("") == []


def test_printer_writes_messages_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer()
    printer.info("one", "two")
    printer.note("three")
    printer.warn("four")
    printer.emit(Message(level="error", text="five"))
    printer.emit(StepWarnings(step=StepId.parse("s"), image="i", warnings=(StepWarning(text="w"),), total=1))
    assert capsys.readouterr() == ("", "one\ntwo\nnote: three\nwarning: four\nerror: five\n")


def test_printer_without_texts_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Printer().warn()
    assert capsys.readouterr() == ("", "")


def test_quiet_printer_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(quiet=True)
    printer.warn("one")
    printer.emit(Message(text="two"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("level", ["info", "note", "warning", "error"])
def test_run_and_command_print_the_same_message(level: Level) -> None:
    written = io.StringIO()
    Printer(err=Terminal(stream=written)).emit(Message(level=level, text="a\nb"))
    shown = happening(Message(level=level, text="a\nb"), Board())
    assert written.getvalue().splitlines() == [plain_text(line) for line in shown]


def test_error_and_its_message_look_the_same() -> None:
    out, err = io.StringIO(), io.StringIO()
    show_error(ChainbuildError("a\nb"), out=Terminal(stream=out), err=Terminal(stream=err))
    assert err.getvalue().splitlines() == [plain_text(line) for line in message_lines("error", "a\nb")]


@pytest.mark.parametrize("view_of", [PlainView, LiveView])
def test_message_after_the_end_of_a_view_is_printed(view_of: type[PlainView | LiveView]) -> None:
    out, err = io.StringIO(), io.StringIO()
    view: View = view_of(Terminal(stream=out), Terminal(stream=err))
    with view:
        pass
    view.emit(Message(level="warning", text="the logs in /x are incomplete: no space"))
    assert (out.getvalue(), err.getvalue()) == ("", "warning: the logs in /x are incomplete: no space\n")


def test_message_after_the_end_of_a_json_view_is_an_event() -> None:
    out = io.StringIO()
    with JsonView(Terminal(stream=out)) as view:
        pass
    view.emit(Message(at=1.0, level="warning", text="x"))
    assert out.getvalue().startswith('{"schema":"chainbuild.events/1","event":"message"')
