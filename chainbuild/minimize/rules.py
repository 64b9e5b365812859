"""The rules about files that programs and libraries open at run time, and how their triggers are recognised.

The tables are `plugins` (what a library loads as plugins) and `surroundings` (what it reads). A rule is a fact about an
upstream project and names the document or source file that states it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

from chainbuild.minimize.lists import literal
from chainbuild.minimize.root import base, parent

BIG = 32 << 20
"""The most bytes that a rule with `limited` brings; larger data is left to the user.

All of glibc's character sets are 8 MB on amd64, and 17 MB on aarch64, whose libraries are padded to pages of 64 kB.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """An entry of a table: `name` is its unique name, `what` it brings, `of` which software, `source` of the fact.

    It is triggered by a library whose SONAME matches `libraries`, by a file whose path matches `programs`, or by a
    program or library that calls one of the functions `imports` or has one of the paths `mentions` in its data; any is
    enough.

    Patterns are shell patterns of paths in the chain's image. In them, `{lib}` is the folder of the trigger,
    `{triplet}` the multiarch name of its machine, `{read}` the value that `reads` extracts, and `{NAME}` a named group
    of `programs`. `brings` are files and folders that are kept where they are; `opens` are libraries that are loaded by
    their bare names; `manifests` are files that name libraries, which are kept too. `named` matches absolute paths in
    the trigger's constant data; those are kept. `reads` is searched in the bytes of the trigger, and its first group is
    `{read}`.

    Names and paths that match `without` are left out. If `requires` is not empty, one of its patterns must match
    something. With `limited`, nothing is brought if it has more than `BIG` bytes in total. If nothing in the result
    matches `tells`, a warning reports `tells_what`. With `any_origin` the rule also applies to a library of the
    production image; with `same_libc` only if the C library of the result is the chain's.
    """

    name: str
    what: str
    of: str
    source: str
    libraries: str = ""
    programs: str = ""
    imports: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    brings: tuple[str, ...] = ()
    opens: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    named: str = ""
    reads: bytes = b""
    without: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    limited: bool = False
    tells: tuple[str, ...] = ()
    tells_what: str = ""
    any_origin: bool = False
    same_libc: bool = False

    def names(self, path: str) -> bool:
        """Return whether the rule brings `path`, which is in the trigger's data."""
        return bool(self.named) and re.fullmatch(self.named, path.rstrip("/")) is not None

    def leaves_out(self, path: str) -> bool:
        """Return whether `without` excludes `path`, which the rule would bring."""
        return any(fnmatch.fnmatchcase(path if "/" in pattern else base(path), pattern) for pattern in self.without)


class Rules:
    """A table of rules, indexed for lookups."""

    def __init__(self, *tables: Iterable[Rule]) -> None:
        self.all = tuple(rule for table in tables for rule in table)
        self._libraries = [(re.compile(rule.libraries), rule) for rule in self.all if rule.libraries]
        self._programs = [(re.compile(rule.programs), rule) for rule in self.all if rule.programs]
        lasts = [rule.programs.rpartition("/")[2] for rule in self.all if rule.programs]
        self._last = re.compile("|".join(f"(?:{last})" for last in lasts) or r"(?!)")
        self.imports = {name: rule for rule in self.all for name in rule.imports}
        self.mentions = {path: rule for rule in self.all for path in rule.mentions}

    def of_library(self, name: str) -> list[Rule]:
        """Return the rules of a library, by its SONAME."""
        return [rule for pattern, rule in self._libraries if pattern.fullmatch(name)]

    def of_program(self, path: str) -> list[tuple[Rule, dict[str, str]]]:
        """Return the rules of a file by its path, each with the groups that its patterns may use."""
        if self._last.fullmatch(base(path)) is None:
            return []
        matches = ((rule, pattern.fullmatch(path)) for pattern, rule in self._programs)
        return [(rule, match.groupdict("")) for rule, match in matches if match is not None]


def filled(pattern: str, path: str, groups: dict[str, str]) -> str:
    """Return a pattern of a rule with its placeholders filled in for the trigger at `path`; values are escaped."""
    values = {"lib": parent(path), **groups}
    return re.sub(r"\{(\w+)\}", lambda match: literal(values.get(match[1], "")), pattern)
