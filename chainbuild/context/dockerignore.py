r"""Ignore files of a build context: `.dockerignore` and `<Dockerfile>.dockerignore`, with moby/patternmatcher's rules.

They are not gitignore's: patterns are anchored at the context's root, `**` is any depth, later lines win, and a line
with `!` brings back what an earlier one took away, also below a folder that is ignored itself. Where the real matcher
turns a pattern into a regular expression that means something else than it says (`\d`, a star within brackets), the
pattern here ignores nothing and brings everything back: the context then holds too much rather than too little.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

from chainbuild.context.globs import Token, compile_glob
from chainbuild.dockerfile.expansion import SPACE
from chainbuild.errors import Problem

NAME: Final = ".dockerignore"
_WILDCARDS: Final = frozenset("*[]?^\\")
_MOST_LINKS: Final = 40

Parents = tuple[bool, ...]
"""Which patterns a folder matched, one flag each; empty for the root."""


class BadPatternError(ValueError):
    """A pattern that Go's `filepath.Match` refuses."""


class _UnclearError(ValueError):
    """A pattern that the real matcher understands otherwise than `filepath.Match`."""


@dataclass(frozen=True)
class Pattern:
    """One line: `text` is cleaned and without the `!`, `line` counts from 1."""

    text: str
    negated: bool
    line: int = field(default=0, compare=False)

    @cached_property
    def matches(self) -> Callable[[str], bool]:
        """Tells of a path (relative, `/` between its parts) whether this pattern alone matches it, whole."""
        try:
            return _compile(self.text)
        except (_UnclearError, BadPatternError):
            return _always if self.negated else _never

    @cached_property
    def reach(self) -> str | None:
        """For a pattern without wildcards (but `/*` or `/**` at its end): the folder it is about; else None."""
        bare = self.text.removesuffix("/**").removesuffix("/*")
        return None if _WILDCARDS & set(bare) else f"{bare}/"


@dataclass(frozen=True, kw_only=True)
class IgnoreFile:
    """An ignore file that was read. `path` is `""` where there is none; equal patterns make equal ignore files."""

    patterns: tuple[Pattern, ...] = ()
    path: str = field(default="", compare=False)
    raw: bytes = field(default=b"", compare=False)
    problems: tuple[Problem, ...] = field(default=(), compare=False)

    @cached_property
    def _exceptions(self) -> tuple[Pattern, ...]:
        return tuple(pattern for pattern in self.patterns if pattern.negated)

    def match(self, path: str, parents: Parents = ()) -> tuple[bool, Parents]:
        """Whether a path is ignored, given what its folder matched; and what it matched, for what lies below it."""
        ignored = False
        matched: list[bool] = []
        for position, pattern in enumerate(self.patterns):
            hit = parents[position] if parents else False
            if not hit and pattern.negated is ignored:
                hit = pattern.matches(path)
            matched.append(hit)
            if hit:
                ignored = not pattern.negated
        return ignored, tuple(matched)

    def ignores(self, path: str) -> bool:
        """Whether a path is ignored, from its name alone."""
        parents: Parents = ()
        ignored = False
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            ignored, parents = self.match("/".join(parts[:count]), parents)
        return ignored

    def prunes(self, folder: str) -> bool:
        """Whether nothing below an ignored folder can come back, so that nobody needs to look."""
        inside = f"{folder}/"
        return not any(pattern.reach is None or pattern.reach.startswith(inside) for pattern in self._exceptions)


@lru_cache(maxsize=256)
def parse_ignore(raw: bytes, path: str = NAME) -> IgnoreFile:
    """Read an ignore file's bytes. Never raises; a pattern that the builder refuses is a problem."""
    patterns: list[Pattern] = []
    problems: list[Problem] = []
    text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("#") or not (cleaned := line.strip(SPACE)):
            continue
        if cleaned.startswith("!"):
            cleaned = f"!{_clean(cleaned[1:].strip(SPACE))}"
        else:
            cleaned = _clean(cleaned)
        # Cleaned once more as a whole, by the matcher: `/!a` is an exception, too.
        cleaned = posixpath.normpath(stripped) if (stripped := cleaned.strip(SPACE)) else ""
        negated = cleaned.startswith("!")
        cleaned = cleaned.removeprefix("!")
        try:
            if negated and not cleaned:
                raise BadPatternError("'!' brings nothing back")
            if not cleaned:
                continue
            check_pattern(cleaned)
        except BadPatternError as error:
            problems.append(Problem(path=path, line=number, message=f"{line.strip(SPACE)!r} is no pattern: {error}"))
        else:
            patterns.append(Pattern(cleaned, negated, number))
    return IgnoreFile(patterns=tuple(patterns), path=path, raw=raw, problems=tuple(problems))


def find_ignore(root: Path, dockerfile: Path | None = None) -> IgnoreFile:
    """The ignore file that counts for a context.

    `<Dockerfile>.dockerignore` beside the Dockerfile wins, also where it is empty; then `.dockerignore` in `root`.
    Without a Dockerfile (a named context) only the latter counts. Symbolic links are followed within their folder.
    """
    places = [(str(root), NAME)]
    if dockerfile is not None:
        places.insert(0, (str(dockerfile.parent), f"{dockerfile.name}{NAME}"))
    for folder, name in places:
        shown = posixpath.join(folder, name)
        try:
            found = _within(folder, name)
            if found is not None:
                with open(found, "rb") as stream:  # noqa: PTH123 - one of these a step: plain texts are faster
                    return parse_ignore(stream.read(), shown)
        except OSError as error:
            problem = Problem(path=shown, message=f"cannot be read: {error.strerror}", hint="The builder needs it too.")
            return IgnoreFile(path=shown, problems=(problem,))
    return IgnoreFile()


def own_ignore(dockerfile: Path) -> bytes | None:
    """The content of the ignore file that belongs to a Dockerfile alone; None if it has none."""
    found = find_ignore(dockerfile.parent, dockerfile)
    own = posixpath.join(str(dockerfile.parent), f"{dockerfile.name}{NAME}")
    return found.raw if found.path == own and not found.problems else None


def _within(folder: str, name: str) -> str | None:
    """The regular file that `name` leads to without leaving `folder`, which is `/` for absolute links in it.

    Errors: `OSError` where it is there but cannot be looked at.
    """
    todo, done = [name], ""
    for _ in range(_MOST_LINKS * 8):
        if not todo:
            break
        part, *todo = todo
        if part == "..":
            done = posixpath.dirname(done)
        if part in {"", ".", ".."}:
            continue
        step = posixpath.join(done, part)
        try:
            mode = os.lstat(posixpath.join(folder, step)).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISLNK(mode):
            done = step
            if not todo and stat.S_ISREG(mode):
                return posixpath.join(folder, step)
            continue
        target = os.readlink(posixpath.join(folder, step))  # noqa: PTH115 - the text itself, not a path
        if target.startswith("/"):
            done = ""
        todo = [*target.split("/"), *todo]
    return None


def _clean(pattern: str) -> str:
    """As Go's `filepath.Clean`, then without the one leading slash that anchors at the root anyway."""
    if not pattern:
        return ""
    cleaned = posixpath.normpath(pattern)
    if cleaned.startswith("/"):
        cleaned = "/" + cleaned.lstrip("/")
    return cleaned[1:] if len(cleaned) > 1 and cleaned.startswith("/") else cleaned


def check_pattern(pattern: str) -> None:
    """Raise `BadPatternError` where Go's `filepath.Match` does."""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "\\":
            if at == len(pattern):
                raise BadPatternError("it ends with a backslash")
            at += 1
        elif char == "[":
            _, _, at = read_set(pattern, at)


def read_set(pattern: str, at: int) -> tuple[bool, list[tuple[str, str]], int]:
    """Read a bracket expression from behind its `[`: whether `^` negates it, its ranges, and where it ends."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    while True:
        if ranges and pattern.startswith("]", at):
            return negated, ranges, at + 1
        low, at = _set_char(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _set_char(pattern, at + 1)
        ranges.append((low, high))


def _set_char(pattern: str, at: int) -> tuple[str, int]:
    char = pattern[at : at + 1]
    if char == "\\":
        at += 1
        char = pattern[at : at + 1]
    elif char in {"-", "]"}:
        raise BadPatternError(f"a stray {char!r} between brackets")
    if not char or at + 1 >= len(pattern):
        raise BadPatternError("a '[' without its ']'")
    return char, at + 1


def set_regex(negated: bool, ranges: list[tuple[str, str]], also_not: str = "") -> str:
    """A bracket expression as a regular expression; a range that is upside down holds nothing."""
    inner = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    if not inner:
        return "." if negated and not also_not else f"[^{also_not}]" if negated else "(?!)"
    return f"[^{inner}{also_not}]" if negated else f"[{inner}]"


def _always(_: str) -> bool:
    return True


def _never(_: str) -> bool:
    return False


def _compile(pattern: str) -> Callable[[str], bool]:
    """The matcher of one pattern; which of its four kinds it is follows patternmatcher 0.6, letter by letter."""
    kind = "exact"
    tokens: list[Token] = []
    at = 0
    while at < len(pattern):
        first = at == 0
        char = pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 1
            if pattern.startswith("/", at):
                at += 1
            if at < len(pattern):
                tokens.append(Token("folders"))
                kind = "glob"
            elif kind == "exact":
                kind = "prefix"
            else:
                tokens.append(Token("many", "."))
                kind = "glob"
            if first:
                kind = "suffix"
        elif char in "*?":
            tokens.append(Token("many" if char == "*" else "one", "[^/]"))
            kind = "glob"
        elif char == "\\":
            tokens.append(_escaped(pattern, at))
            at += 1
            kind = "glob"
        elif char == "[":
            token, at = _set(pattern, at)
            tokens.append(token)
            kind = "glob"
        elif char == "]":
            tokens.append(Token("one", "\\]"))
            kind = "glob"
        else:
            # The real one leaves a ^ its meaning.
            tokens.append(Token("start") if char == "^" else Token("one", re.escape(char)))
    if kind == "exact":
        return pattern.__eq__
    if kind == "prefix":
        start = pattern[:-2]
        return lambda path: path.startswith(start)
    if kind == "suffix":
        end = pattern[2:]
        return lambda path: path.endswith(end) or (end.startswith("/") and path == end[1:])
    return compile_glob(tokens)


def _escaped(pattern: str, at: int) -> Token:
    char = pattern[at : at + 1]
    if char.isalnum():
        raise _UnclearError  # \d, \w, \b … are classes to a regular expression
    return Token("one", re.escape(char))


def _set(pattern: str, at: int) -> tuple[Token, int]:
    negated, ranges, end = read_set(pattern, at)
    inside = pattern[at:end]
    if set("*?") & set(inside) or "[:" in pattern[at - 1 : end] or re.search(r"\\\w", inside):
        raise _UnclearError
    if any(low > high for low, high in ranges):
        raise _UnclearError  # a regular expression refuses it
    return Token("one", set_regex(negated, ranges)), end
