"""The repositories of apk, as apk-repositories(5) of apk-tools 3 describes them: types, tags, components, and variables.

set mirror=https://dl-cdn.alpinelinux.org/alpine
${mirror}/v3.23 main community
v2 @edge ${mirror}/edge/testing
ndx https://example.com/repository/APKINDEX.tar.gz
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from chainbuild.patterns import regex

NDX: Final = "ndx"
V2: Final = "v2"
V3: Final = "v3"
_TYPES: Final = (NDX, V2, V3)
_KEY: Final = regex(r"(?!APK_)[A-Za-z][A-Za-z0-9_]*")
_VARIABLE: Final = regex(r"\$\{([^}:]*)(?::([0-9]*))?\}")
_LONGEST: Final = 4096
"""The longest line after its variables are replaced, in characters (PATH_MAX)."""


class Repository(Struct, frozen=True, kw_only=True):
    """A repository. `form`: `v2` or `v3` if `address` is that of a folder, `ndx` if it is that of the index itself.

    `tag`: packages are only taken from it if the world names the tag.
    """

    address: str
    form: str = V2
    tag: str = ""


class RepositoryReader:
    """Reads the files with repositories of one image, in apk's order: variables of a file hold in those after it."""

    def __init__(self, architecture: str) -> None:
        """`architecture`: that of the database, in apk's own spelling."""
        self._variables = {"APK_ARCH": architecture}
        self.repositories: list[Repository] = []
        self.problems: list[str] = []

    def read(self, text: str, path: str) -> None:
        """Add the repositories of a file. A line that apk would leave out is a problem."""
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                self.repositories += self._line(line)
            except ValueError as error:
                self.problems.append(f"{path}:{number}: {error}")

    def _line(self, line: str) -> Iterator[Repository]:
        words = line.split()
        form = ""
        if not words[0].startswith(("@", "$", "/")) and "://" not in words[0]:
            form = words.pop(0)
            if form == "set":
                self._set(line.split(maxsplit=1)[1] if words else "")
                return
            if form not in _TYPES:
                raise ValueError(f"not an address of a repository: {form}"[:200])
        tag = words.pop(0)[1:] if words and words[0].startswith("@") else ""
        if not words:
            raise ValueError("no address of a repository")
        form = form or (NDX if words[0].endswith((".adb", ".tar.gz")) else V2)
        address = self._replaced(words[0]).rstrip("/")
        if not address.startswith("/") and "://" not in address:
            raise ValueError(f"not an address of a repository: {address}"[:200])
        components = self._replaced(" ".join(words[1:])).split()
        for place in [f"{address}/{component}" for component in components] or [address]:
            yield Repository(address=place, form=form, tag=tag)

    def _set(self, text: str) -> None:
        default = False
        while text.startswith("-"):
            option, _, text = text.partition(" ")
            text = text.lstrip(string.whitespace)
            if option != "-default":
                raise ValueError(f"unknown option of set: {option}"[:200])
            default = True
        key, equals, value = text.partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise ValueError(f"not a definition of a variable: {text}"[:200])
        if not (default and key in self._variables):
            self._variables[key] = self._replaced(value)

    def _replaced(self, text: str) -> str:
        """Return text with its variables replaced, `${name:8}` by at most so many characters. Errors: `ValueError`."""
        parts: list[str] = []
        at = length = 0
        while (start := text.find("${", at)) >= 0:
            match = _VARIABLE.match(text, start)
            if match is None or match[2] == "":
                raise ValueError(f"not a variable: {text[start:]}"[:200])
            if match[1] not in self._variables:
                raise ValueError(f"undefined variable: {match[1]}"[:200])
            value = self._variables[match[1]]
            parts += [text[at:start], value[: int(match[2][:6])] if match[2] else value]
            at = match.end()
            length += len(value)
            if length > _LONGEST:
                break
        result = "".join((*parts, text[at:]))
        if len(result) > _LONGEST:
            raise ValueError("longer than apk allows")
        return result
