"""Durations as people type them: `4h30m`, `7d`, `90s`, `1.5h`."""

from __future__ import annotations

import re
from typing import Final

from chainbuild.errors import WrongUseError

_UNITS: Final = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"(?P<count>[0-9]+(?:\.[0-9]+)?)(?P<unit>[wdhms])")


def parse_duration(text: str) -> float:
    """The seconds. Errors: `WrongUseError`."""
    parts = list(_PART.finditer(text.strip().lower()))
    units = [part["unit"] for part in parts]
    whole = "".join(part[0] for part in parts) == text.strip().lower()
    falling = units == sorted(set(units), key="wdhms".index)
    if not parts or not whole or not falling:
        raise WrongUseError(f"{text!r} is not a duration", hint="As in 4h30m, 90m, 45s, 7d.")
    return sum(float(part["count"]) * _UNITS[part["unit"]] for part in parts)
