"""Regular expressions that are compiled at their first use, because a command uses only some of those that it imports."""

from __future__ import annotations

import re
from typing import Any, Final, overload

_METHODS: Final = ("findall", "finditer", "fullmatch", "match", "search", "split", "sub", "subn", "pattern", "flags")


class _Pattern:
    """A regular expression. The first use of a method compiles it, and later ones find the compiled method here."""

    def __init__(self, source: str | bytes, flags: int) -> None:
        self._source = source
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        if name not in _METHODS:
            raise AttributeError(name)
        compiled: Any = re.compile(self._source, self._flags)
        for method in _METHODS:
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


@overload
def regex(source: str, flags: int = 0) -> re.Pattern[str]: ...
@overload
def regex(source: bytes, flags: int = 0) -> re.Pattern[bytes]: ...
def regex(source: str | bytes, flags: int = 0) -> Any:
    """Return what `re.compile` returns, but compile it only when one of its methods is called.

    A wrong expression is thus an error at its first use. `re.sub` and the like do not take the result.
    """
    return _Pattern(source, flags)
