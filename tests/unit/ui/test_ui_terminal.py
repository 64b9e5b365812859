"""Streams and their abilities."""

from __future__ import annotations

import io
import os
import sys

import pytest

from chainbuild import ui
from chainbuild.events import Event, Message
from chainbuild.ui.terminal import Span, Terminal, can_be_live, look_at

UTF8 = {"LANG": "C.UTF-8", "TERM": "xterm-256color"}


class FakeTerminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_interactive_terminal_gets_live_view():
    assert isinstance(ui.make_view("auto", out=io.StringIO(), err=FakeTerminal(), environ=UTF8), ui.LiveView)


@pytest.mark.parametrize("more", [{"CI": "true"}, {"CI": "1"}, {"TERM": "dumb"}, {"TERM": ""}])
def test_ci_and_dumb_terminal_get_plain_view(more: dict[str, str]):
    view = ui.make_view("auto", out=io.StringIO(), err=FakeTerminal(), environ=UTF8 | more)
    assert isinstance(view, ui.PlainView)


def test_view_follows_pipe_and_mode():
    assert isinstance(ui.make_view("auto", out=io.StringIO(), err=io.StringIO(), environ=UTF8), ui.PlainView)
    assert isinstance(ui.make_view("plain", out=io.StringIO(), err=FakeTerminal(), environ=UTF8), ui.PlainView)
    assert isinstance(ui.make_view("json", out=io.StringIO(), err=FakeTerminal(), environ=UTF8), ui.JsonView)
    assert can_be_live(look_at(FakeTerminal(), UTF8), UTF8 | {"CI": "false"})


def test_colors_need_terminal_without_no_color():
    assert look_at(FakeTerminal(), UTF8).colour
    assert not look_at(FakeTerminal(), UTF8 | {"NO_COLOR": "1"}).colour
    assert look_at(FakeTerminal(), UTF8 | {"NO_COLOR": ""}).colour
    assert not look_at(io.StringIO(), UTF8).colour
    painted = look_at(FakeTerminal(), UTF8).paint((Span("x", "bad"), Span(" y")))
    assert painted == "\x1b[1;31mx\x1b[0m y"
    assert look_at(io.StringIO(), UTF8).paint((Span("x", "bad"), Span(" y"))) == "x y"


@pytest.mark.parametrize(
    ("environ", "marks"),
    [
        ({"LANG": "en_GB.UTF-8"}, "✓ a → b…"),
        ({"LANG": "C.utf8"}, "✓ a → b…"),
        ({"LC_ALL": "C", "LANG": "en_GB.UTF-8"}, "+ a -> b..."),
        ({"LANG": "de_DE.ISO-8859-1"}, "+ a -> b..."),
        ({}, "+ a -> b..."),
    ],
)
def test_locale_without_utf8_gets_ascii(environ: dict[str, str], marks: str):
    assert look_at(FakeTerminal(), environ).fit("✓ a → b…") == marks


def test_stream_with_other_encoding_does_not_fail():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1")
    terminal = look_at(stream, UTF8)
    terminal.write(["grün 日本 ✓"])
    assert raw.getvalue() == b"gr?n ?? +\n"


def test_closed_pipe_drops_output_without_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as stream:
        terminal = Terminal(stream=stream)
        terminal.write(["nobody reads this"])
        terminal.write(["nor this"])


def test_tell_calls_all_listeners_even_if_one_fails():
    heard: list[Event] = []

    def broken(_event: Event) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        ui.tell(broken, heard.append)(Message(text="x"))
    assert len(heard) == 1


def test_rich_is_imported_late():
    """Importing `chainbuild.ui` must not import rich."""
    heavy = {
        name
        for module in [m for n, m in sys.modules.items() if n.startswith("chainbuild.ui") and not n.endswith(".screen")]
        for name in vars(module).values()
        if (getattr(name, "__module__", None) or "").startswith("rich")
    }
    assert heavy == set()
