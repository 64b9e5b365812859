"""The look of each style: its color and weight, as ANSI codes and in rich's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Style = Literal["", "bold", "dim", "good", "bad", "warn", "busy"]

RICH: Final[Mapping[Style, str]] = {
    "": "none",
    "bold": "bold",
    "dim": "dim",
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
    "busy": "cyan",
}
"""Style definitions as `rich.style.Style.parse` reads them. Names of colors are ANSI's eight."""
_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
"""SGR parameters (ECMA-48, 8.3.117)."""


def ansi(style: Style) -> str:
    """Return the escape sequence that switches a style on; empty for the plain style."""
    codes = [_CODES[word] for word in RICH[style].split() if word in _CODES]
    return f"\x1b[{';'.join(codes)}m" if codes else ""
