"""The part of a terminal that is redrawn: rich's Live around the laid-out lines. The only module that imports rich.

It is imported when work on the first step starts, so a run that builds nothing never loads it.
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
from chainbuild.ui.styles import RICH
from chainbuild.ui.terminal import plain_text

if TYPE_CHECKING:
    from typing import TextIO

    from chainbuild.ui.terminal import Line

REFRESHES_PER_SECOND: Final = 4

_STYLES: Final = {style: RichStyle.parse(words) for style, words in RICH.items()}

Draw = Callable[[int, int], list["Line"]]
"""Maps the current columns and rows to the lines to show."""


class Drawing:
    """The renderable that Live redraws, laid out for the current size of the terminal."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._drawn_for = 0
        self._drawn: list[int] = []

    def rows_added_by_wrapping(self, width: int) -> int:
        """Return the extra rows of the last frame after the terminal became narrower and wrapped its lines."""
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
    """A `Live` that accounts for lines that the terminal wraps when it becomes narrower."""

    def __init__(self, drawing: Drawing, console: Console) -> None:
        super().__init__(
            drawing,
            console=console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,  # stdout may be a file for the result
            vertical_overflow="crop",
        )
        self._drawing = drawing

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Erase also the rows that wrapping added; rich erases only as many rows as it drew."""
        added = self._drawing.rows_added_by_wrapping(self.console.width) if self.console.is_terminal else 0
        hooked = super().process_renderables(renderables)
        if not added:
            return hooked
        higher = Control(*((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * added)
        return [hooked[0], higher, *hooked[1:]]


class Screen:
    """A live part at the bottom of a terminal, with lines above it. Thread-safe."""

    def __init__(self, stream: TextIO, draw: Draw, *, console: Console | None = None) -> None:
        self._console = console or Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._live = _Live(Drawing(draw), self._console)

    def start(self) -> None:
        """Show the live part. The cursor is hidden until `stop`."""
        self._live.start()

    def above(self, lines: Iterable[Line]) -> None:
        """Print lines above the live part; long lines wrap as in the terminal."""
        segments: list[Segment] = []
        for line in lines:
            segments += [Segment(inert(span.text), _STYLES[span.style]) for span in line]
            segments.append(Segment.line())
        self._console.print(_Ready(segments), end="")

    def stop(self) -> None:
        """Remove the live part and show the cursor."""
        self._live.stop()


class _Ready:
    """Segments that are already laid out."""

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        yield from self._segments
