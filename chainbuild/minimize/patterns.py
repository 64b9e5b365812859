"""Shell patterns of paths: their parts as `fnmatch` reads them, and paths as patterns of themselves alone."""

from __future__ import annotations

import re

_ESCAPED_CHARACTER = re.compile(r"\\(.)", re.DOTALL)


def literal(path: str) -> str:
    """The pattern that means this path and no other."""
    return "".join(f"\\{c}" if c in "*?[\\" else c for c in path)


def unescaped(part: str) -> tuple[str, bool]:
    """One part of a shell pattern as `fnmatch` reads it, and whether it has a wildcard; without one, the plain name."""
    if not any(sign in _ESCAPED_CHARACTER.sub("", part) for sign in "*?["):
        return _ESCAPED_CHARACTER.sub(r"\1", part), False
    return _ESCAPED_CHARACTER.sub(lambda found: f"[{found[1]}]" if found[1] in "*?[" else found[1], part), True
