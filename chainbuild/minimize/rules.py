"""What a rule says about files that programs and libraries open by themselves, and how a trigger is recognised.

The tables are :mod:`.plugins` (what a library loads as plugins) and :mod:`.surroundings` (what it reads). A rule is a
fact about one upstream project; it names the document or the source file that the fact is from.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

from chainbuild.minimize.lists import literal
from chainbuild.minimize.root import base, parent

BIG = 32 << 20
"""Bytes up to which a rule with `limited` brings its files; more than that is left to the user.

All of glibc's character sets are 8 MB on amd64, and 17 MB on aarch64, whose libraries are padded to pages of 64 kB.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One entry of a table: `name` is its own, `what` it is about, `of` which software, `source` where that is written.

    It is triggered by a library whose SONAME matches `libraries`, by a file whose path matches `programs`, or by a program
    or library that calls one of the functions `imports` or has one of the paths `mentions` in its data; any is enough.

    Patterns are shell patterns of paths in the chain's image. `{lib}` in them is the folder of the trigger, `{triplet}` the
    multiarch name of its machine, `{read}` what `reads` found, and `{NAME}` a named group of `programs`. `brings` are files
    and folders that are kept where they are; `opens` are libraries that are loaded by their bare names; `manifests` are files
    that name libraries, which are kept, too. `named` matches absolute paths in the trigger's constant data; those are kept.
    `reads` is searched in the bytes of the trigger, and its first group is `{read}`.

    What matches `without`, a name or a path, stays out. If `requires` is not empty, one of its patterns must match something.
    With `limited` nothing is brought that would be more than `BIG` bytes in sum. If nothing in the result matches `tells`, a
    warning names `tells_what`. With `any_origin` the rule holds for a library of the production image, too; with `same_libc`
    only if the C library of the result is that of the chain's image.
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
        """Whether `path`, which stands in the data of the trigger, is one that the rule brings."""
        return bool(self.named) and re.fullmatch(self.named, path.rstrip("/")) is not None

    def leaves_out(self, path: str) -> bool:
        """Whether `path`, which the rule would bring, is not brought."""
        return any(fnmatch.fnmatchcase(path if "/" in one else base(path), one) for one in self.without)


class Rules:
    """A table, prepared for look-ups."""

    def __init__(self, *tables: Iterable[Rule]) -> None:
        self.all = tuple(rule for table in tables for rule in table)
        self._libraries = [(re.compile(rule.libraries), rule) for rule in self.all if rule.libraries]
        self._programs = [(re.compile(rule.programs), rule) for rule in self.all if rule.programs]
        lasts = [rule.programs.rpartition("/")[2] for rule in self.all if rule.programs]
        self._last = re.compile("|".join(f"(?:{last})" for last in lasts) or r"(?!)")
        self.imports = {name: rule for rule in self.all for name in rule.imports}
        self.mentions = {path: rule for rule in self.all for path in rule.mentions}

    def of_library(self, name: str) -> list[Rule]:
        """The rules of a library, by its SONAME."""
        return [rule for pattern, rule in self._libraries if pattern.fullmatch(name)]

    def of_program(self, path: str) -> list[tuple[Rule, dict[str, str]]]:
        """The rules of a file, by its path, each with the groups that its patterns may use."""
        if self._last.fullmatch(base(path)) is None:
            return []
        matches = ((rule, pattern.fullmatch(path)) for pattern, rule in self._programs)
        return [(rule, match.groupdict("")) for rule, match in matches if match is not None]


def filled(pattern: str, path: str, groups: dict[str, str]) -> str:
    """A pattern of a rule with its places filled for the trigger at `path`; values are no patterns themselves."""
    values = {"lib": parent(path), **groups}
    return re.sub(r"\{(\w+)\}", lambda found: literal(values.get(found[1], "")), pattern)
