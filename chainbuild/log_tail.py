"""The end of what an instruction printed, with what it complained of before that: a parallel make goes on after its error."""

from __future__ import annotations

from collections import deque
from typing import Final

TAIL_LINES: Final = 30
"""So many lines are shown at most."""
_COMPLAINTS: Final = 8


class LogTail:
    """Takes the lines of one instruction; holds the last ones, and the last that went to stderr."""

    def __init__(self) -> None:
        self._count = 0
        self._last: deque[str] = deque(maxlen=TAIL_LINES)
        self._complaints: deque[tuple[int, str]] = deque(maxlen=TAIL_LINES)

    def add(self, text: str, *, stderr: bool) -> None:
        """Take the next line."""
        if stderr:
            self._complaints.append((self._count, text))
        self._last.append(text)
        self._count += 1

    def lines(self) -> tuple[str, ...]:
        """The last lines; in front of them, where they would else be lost, what went to stderr earlier."""
        ending = TAIL_LINES - _COMPLAINTS - 1
        earlier = [one for one in self._complaints if one[0] < self._count - ending]
        if self._count <= TAIL_LINES or not earlier:
            return tuple(self._last)
        shown = earlier[-_COMPLAINTS:]
        left_out = self._count - ending - shown[-1][0] - 1
        gap = (f"… {left_out} lines …",) if left_out else ()
        return (*(text for _, text in shown), *gap, *tuple(self._last)[-ending:])
