"""The layout of the live view."""

from __future__ import annotations

import io
import threading

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from chainbuild import events
from chainbuild.step_id import StepId
from chainbuild.text import cells
from chainbuild.ui.board import Board
from chainbuild.ui.layout import Frame, live_lines
from chainbuild.ui.screen import Drawing, Screen
from chainbuild.ui.terminal import Terminal, plain_text
from chainbuild.ui.views import LiveView

DIGEST = "sha256:" + "ab" * 32


def planned(step: str, action: str = "build", expected: float | None = None) -> events.PlannedStep:
    return events.PlannedStep(step=StepId.parse(step), action=action, reason="", image="x", expected_seconds=expected)


def two_platforms() -> Board:
    board = Board()
    for event in (
        events.RunStarted(
            at=1000.0,
            steps=(
                planned("amd64/stock/10-toolchain", "reuse"),
                planned("amd64/stock/20-openblas", expected=247),
                planned("amd64/stock/minimize", "minimize", 60),
                planned("aarch64/stock/10-toolchain", expected=600),
                planned("aarch64/stock/20-openblas", expected=2400),
                planned("aarch64/stock/minimize", "minimize", 60),
            ),
        ),
        events.StepReused(
            at=1000.0,
            step=StepId.parse("amd64/stock/10-toolchain"),
            image="x",
            digest=DIGEST,
            saved_seconds=190,
            size=98_000_000,
            added=60_000_000,
        ),
        events.StepStarted(at=1001.0, step=StepId.parse("amd64/stock/20-openblas"), activity="build"),
        events.StepProgress(
            at=1002.0,
            step=StepId.parse("amd64/stock/20-openblas"),
            doing="pushing layers",
            current=34_100_000,
            total=120_000_000,
        ),
        events.StepStarted(at=1001.0, step=StepId.parse("aarch64/stock/10-toolchain"), activity="build"),
        events.LogLine(
            at=1050.0,
            step=StepId.parse("aarch64/stock/10-toolchain"),
            vertex="RUN apt-get update",
            text="\x1b[32mGet:1\x1b[0m http://deb.example bookworm InRelease",
        ),
        events.StepFailed(
            at=1060.0, step=StepId.parse("aarch64/stock/10-toolchain"), seconds=59, message="RUN apt-get failed"
        ),
        events.StepSkipped(at=1060.0, step=StepId.parse("aarch64/stock/20-openblas"), reason="10-toolchain failed"),
    ):
        board.apply(event)
    return board


def text(board: Board, *, width: int = 80, height: int = 24, now: float = 1061.0, unicode: bool = True) -> str:
    frame = Frame(width=width, height=height, now=now, unicode=unicode)
    return "\n".join(plain_text(line).rstrip() for line in live_lines(board, frame)) + "\n"


GOLDEN = """\
amd64/stock                                                         1 of 3 done
  ↺ 10-toolchain  reused 98 MB (+60 MB)                             saved 3m10s
  ⠼ 20-openblas   pushing layers  34.1 MB of 120 MB             1m00s of ~4m07s
  · minimize                                                             ~1m00s
aarch64/stock                                               0 of 3 done, failed
  ✗ 10-toolchain  failed: RUN apt-get failed                                59s
  ⊘ 20-openblas   skipped: 10-toolchain failed
  · minimize                                                             ~1m00s
1m01s  1 of 6 steps done, 1 failed, about 4m07s left
"""


def test_live_view_of_two_platforms_fits_80_columns():
    assert text(two_platforms()) == GOLDEN


def test_live_view_in_ascii_has_same_shape():
    shown = text(two_platforms(), unicode=False)
    assert shown.isascii()
    expected = GOLDEN
    for mark, letter in {"↺": "=", "⠼": "|", "·": ".", "✗": "x", "⊘": "-"}.items():
        expected = expected.replace(mark, letter)
    assert shown == expected


def test_rich_screen_draws_same_lines():
    board = two_platforms()
    stream = io.StringIO()
    console = Console(file=stream, width=80, height=25, force_terminal=True, color_system=None, legacy_windows=False)
    frame = Frame(width=80, height=24, now=1061.0)
    console.print(Drawing(lambda width, height: live_lines(board, Frame(width=width, height=height, now=frame.now))))
    assert "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n" == GOLDEN


def test_running_step_shows_last_line_without_escapes():
    board = two_platforms()
    board.apply(events.StepStarted(at=1061.0, step=StepId.parse("aarch64/stock/minimize"), activity="minimize"))
    board.apply(
        events.LogLine(step=StepId.parse("aarch64/stock/minimize"), vertex="v", text="\x1b[2J 5%\r 90% of libfoo.so")
    )
    assert "  ⠼ minimize      minimizing" in text(board)
    assert "\n      90% of libfoo.so\n" in text(board)


def test_long_plan_collapses_finished_and_distant_steps():
    board = Board()
    steps = tuple(planned(f"amd64/stock/{number:02d}-part", expected=60) for number in range(60))
    board.apply(events.RunStarted(at=9000.0, steps=steps))
    for number in range(20):
        step = StepId("amd64", "stock", f"{number:02d}-part")
        board.apply(events.StepStarted(at=9000 + number * 60.0, step=step, activity="build"))
        board.apply(
            events.StepFinished(
                at=9060 + number * 60.0, step=step, activity="build", image="x", digest=DIGEST, seconds=60.0
            )
        )
    board.apply(events.StepStarted(at=10200.0, step=StepId.parse("amd64/stock/20-part"), activity="build"))
    board.apply(events.LogLine(at=10201.0, step=StepId.parse("amd64/stock/20-part"), vertex="v", text="compiling"))
    assert (
        text(board, height=10, now=10230.0)
        == """\
amd64/stock                                                       20 of 60 done
  ✓ 20 done: 00-part … 19-part
  ⠋ 20-part  building                                             30s of ~1m00s
      compiling
  · 21-part                                                              ~1m00s
  · 22-part                                                              ~1m00s
  · 23-part                                                              ~1m00s
  · 24-part                                                              ~1m00s
  · 35 to come: 25-part … 59-part
20m30s  20 of 60 steps done, about 39m30s left
"""
    )


@settings(deadline=None)
@given(
    platforms=st.integers(1, 6),
    steps=st.integers(1, 30),
    started=st.integers(0, 20),
    width=st.integers(20, 200),
    height=st.integers(3, 60),
    unicode=st.booleans(),
)
def test_live_view_always_fits(platforms: int, steps: int, started: int, width: int, height: int, unicode: bool):
    board = Board()
    names = [
        f"p{p}/an-option-with-a-long-name/{s:02d}-日本語-descriptor" for p in range(platforms) for s in range(steps)
    ]
    board.apply(events.RunStarted(at=0.0, steps=tuple(planned(name, expected=5000.0) for name in names)))
    for name in map(StepId.parse, names[:: max(1, len(names) // (started + 1))]):
        board.apply(events.StepStarted(at=0.0, step=name, activity="build"))
        board.apply(events.StepProgress(at=0.0, step=name, doing="RUN " + "make " * 40, current=10**9, total=10**10))
        board.apply(events.LogLine(at=0.0, step=name, vertex="v", text="語" * 200))
    lines = live_lines(board, Frame(width=width, height=height, now=4000.0, unicode=unicode))
    assert len(lines) <= height
    if width >= 60:
        assert max(cells(plain_text(line)) for line in lines) < width


def test_running_steps_stay_visible_in_few_rows():
    board = Board()
    steps = tuple(planned(f"p{p}/o/{s}-part") for p in range(5) for s in range(5))
    board.apply(events.RunStarted(at=0.0, steps=steps))
    board.apply(events.StepStarted(at=0.0, step=StepId.parse("p3/o/2-part"), activity="build"))
    assert "2-part  building" in text(board, height=4, now=1.0)


def test_narrowed_terminal_counts_wrapped_rows():
    drawing = Drawing(lambda _width, _height: live_lines(two_platforms(), Frame(width=80, height=24, now=1061.0)))
    Console(file=io.StringIO(), width=80, height=24).print(drawing)
    assert drawing.rows_added_by_wrapping(80) == 0
    assert drawing.rows_added_by_wrapping(120) == 0
    assert drawing.rows_added_by_wrapping(60) == 7  # all rows but two are as long as the terminal was wide before


def test_lines_are_printed_above_live_part():
    stream = io.StringIO()
    console = Console(file=stream, width=60, height=20, force_terminal=True, color_system=None, legacy_windows=False)
    screen = Screen(stream, lambda _width, _height: [], console=console)
    screen.start()
    screen.above([(events_line := live_lines(two_platforms(), Frame(width=60, height=20, now=0.0))[0])])
    screen.stop()
    assert plain_text(events_line) in stream.getvalue()
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


class TerminalStream(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_live_view_takes_events_from_several_threads(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    out, err = io.StringIO(), TerminalStream()
    view = LiveView(Terminal(stream=out), Terminal(stream=err, is_terminal=True, fixed_width=80), clock=lambda: 2000.0)

    def work(platform: str) -> None:
        for number in range(10):
            step = StepId(platform, "stock", f"{number}-x")
            view.emit(events.StepStarted(at=1000.0, step=step, activity="build"))
            for line in range(50):
                view.emit(events.LogLine(at=1000.0, step=step, vertex="v", text=f"line {line}"))
            view.emit(events.Message(at=1000.0, level="warning", text=f"warned by {step}"))
            view.emit(
                events.StepFinished(at=1010.0, step=step, activity="build", image="x", digest=DIGEST, seconds=10.0)
            )

    with view:
        view.emit(events.RunStarted(at=1000.0, steps=()))
        threads = [threading.Thread(target=work, args=(platform,)) for platform in ("amd64", "aarch64", "arm")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        result = events.ImageResult(name="n", platform="amd64", registry_name="r/x:1", local_name="x:1", digest=DIGEST)
        view.emit(events.RunFinished(at=1100.0, seconds=100.0, succeeded=True, results=(result,)))
    shown = err.getvalue()
    assert shown.count("warning: ") == 30
    assert "done in 1m40s: 30 built" in shown
    assert shown.endswith("\n")
    assert out.getvalue() == "x:1\n  registry  r/x:1\n  digest    sha256:abababababab\n"


def test_run_without_builds_opens_no_screen():
    out, err = io.StringIO(), TerminalStream()
    view = LiveView(Terminal(stream=out), Terminal(stream=err, is_terminal=True, fixed_width=80), clock=lambda: 1.0)
    with view:
        view.emit(events.RunStarted(at=0.5, steps=(planned("amd64/stock/10-a", "reuse"),)))
        view.emit(
            events.StepReused(at=0.6, step=StepId.parse("amd64/stock/10-a"), image="x", digest=DIGEST, saved_seconds=61)
        )
        view.emit(events.RunFinished(at=0.7, seconds=0.2, succeeded=True))
    assert "\x1b[?25l" not in err.getvalue()
    assert (
        err.getvalue()
        == """
step    action  note
amd64/stock
  10-a  reused  saved 1m01s

done in 0.2s: 1 reused (1m01s saved)
"""
    )
