"""The part of a terminal that rewrites itself: rich's Live around the lines of the layout. Only this imports rich.

It is imported when the first step starts to be worked on; a run that builds nothing never pays for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment
from rich.style import Style as RichStyle

from chainbuild.text import cells, inert
from chainbuild.ui.terminal import plain_text

if TYPE_CHECKING:
    from typing import TextIO

    from chainbuild.ui.terminal import Line, Style

REFRESHES_PER_SECOND: Final = 4

_STYLES: Final[dict[Style, RichStyle]] = {
    "": RichStyle.null(),
    "bold": RichStyle(bold=True),
    "dim": RichStyle(dim=True),
    "good": RichStyle(color="green"),
    "bad": RichStyle(color="red", bold=True),
    "warn": RichStyle(color="yellow"),
    "busy": RichStyle(color="cyan"),
}

Draw = Callable[[int, int], list["Line"]]
"""Columns and rows that there are now -> the lines to show."""


class Drawing:
    """What Live asks for its picture, four times a second: laid out for the size that the terminal has now."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._drawn_for = 0
        self._drawn: list[int] = []

    def rows_added_by_wrapping(self, width: int) -> int:
        """How many rows more the last picture takes since the terminal became narrower and wrapped its lines."""
        if width >= self._drawn_for or width <= 0:
            return 0
        return sum(max(taken - 1, 0) // width for taken in self._drawn)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = self._draw(options.max_width, console.size.height - 1)
        self._drawn_for, self._drawn = options.max_width, [cells(plain_text(line)) for line in lines]
        for index, line in enumerate(lines):
            if index:
                yield Segment.line()
            for span in line:
                yield Segment(inert(span.text), _STYLES[span.style])


class _Live(Live):
    """Rich's, which forgets what a terminal does to long lines that are there when it is made narrower."""

    def __init__(self, drawing: Drawing, console: Console) -> None:
        super().__init__(
            drawing,
            console=console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,  # stdout may be a file that takes the result
            vertical_overflow="crop",
        )
        self._drawing = drawing

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Rich goes up over as many rows as it drew and erases them; go up over those that wrapping added as well."""
        added = self._drawing.rows_added_by_wrapping(self.console.width) if self.console.is_terminal else 0
        hooked = super().process_renderables(renderables)
        if not added:
            return hooked
        higher = Control(*((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * added)
        return [hooked[0], higher, *hooked[1:]]


class Screen:
    """A live part at the bottom of a terminal, and lines that go above it. Thread-safe."""

    def __init__(self, stream: TextIO, draw: Draw, *, console: Console | None = None) -> None:
        self._console = console or Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._live = _Live(Drawing(draw), self._console)

    def start(self) -> None:
        """Show the live part; the cursor is hidden until `stop`."""
        self._live.start()

    def above(self, lines: Iterable[Line]) -> None:
        """Print lines over the live part; long ones wrap as the terminal wraps."""
        segments: list[Segment] = []
        for line in lines:
            segments += [Segment(inert(span.text), _STYLES[span.style]) for span in line]
            segments.append(Segment.line())
        self._console.print(_Ready(segments), end="")

    def stop(self) -> None:
        """Take the live part away and give the cursor back."""
        self._live.stop()


class _Ready:
    """Segments that need no more laying out."""

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        yield from self._segments
