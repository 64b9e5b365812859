r"""Ignore files of a build context, `.dockerignore` and `<Dockerfile>.dockerignore`, by the rules of moby/patternmatcher.

The rules differ from gitignore: patterns are anchored at the context's root, `**` matches any depth, later lines win, and
a line with `!` includes again what an earlier line excluded, even below an ignored folder. patternmatcher turns some
patterns into regular expressions that mean something else (`\d`, a star within brackets). Here, such a pattern excludes
nothing, or with `!` includes everything: the context then has too many files rather than too few.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

from chainbuild.context.globs import Token, compile_glob
from chainbuild.dockerfile.expansion import SPACE
from chainbuild.errors import Problem
from chainbuild.values import Compared

NAME: Final = ".dockerignore"
_WILDCARDS: Final = frozenset("*[]?^\\")
_MOST_LINKS: Final = 40

Parents = tuple[bool, ...]
"""The patterns that a folder matched, as one flag for each pattern; empty for the root."""


class BadPatternError(ValueError):
    """Raised for a pattern that Go's `filepath.Match` rejects."""


class _UnclearError(ValueError):
    """Raised for a pattern that patternmatcher reads differently than `filepath.Match`."""


class Pattern(Compared, frozen=True, dict=True):
    """A line of an ignore file: `text` is normalized and without the `!`, `line` counts from 1."""

    text: str
    negated: bool
    line: int = 0

    def compared(self) -> tuple[object, ...]:
        """Return what counts in a comparison: not the line."""
        return self.text, self.negated

    @cached_property
    def matches(self) -> Callable[[str], bool]:
        """The function that returns whether this pattern alone matches a whole path (relative, `/` between its parts)."""
        try:
            return _compile(self.text)
        except (_UnclearError, BadPatternError):
            return _always if self.negated else _never

    @cached_property
    def reach(self) -> str | None:
        """The folder that a pattern without wildcards (except `/*` or `/**` at its end) applies to; else None."""
        bare = self.text.removesuffix("/**").removesuffix("/*")
        return None if _WILDCARDS & set(bare) else f"{bare}/"


class IgnoreFile(Compared, frozen=True, kw_only=True, dict=True):
    """The content of an ignore file. `path` is `""` if there is no file; ignore files with equal patterns are equal."""

    patterns: tuple[Pattern, ...] = ()
    path: str = ""
    raw: bytes = b""
    problems: tuple[Problem, ...] = ()

    def compared(self) -> tuple[object, ...]:
        """Return what counts in a comparison."""
        return (self.patterns,)

    @cached_property
    def _exceptions(self) -> tuple[Pattern, ...]:
        return tuple(pattern for pattern in self.patterns if pattern.negated)

    def match(self, path: str, parents: Parents = ()) -> tuple[bool, Parents]:
        """Return whether a path is ignored, and the patterns that it matched, for the paths below it.

        `parents` has the patterns that the path's folder matched.
        """
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
        """Return whether a path is ignored, by its name alone."""
        parents: Parents = ()
        ignored = False
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            ignored, parents = self.match("/".join(parts[:count]), parents)
        return ignored

    def prunes(self, folder: str) -> bool:
        """Return whether no pattern can include anything below an ignored folder, so that the folder can be skipped."""
        inside = f"{folder}/"
        return not any(pattern.reach is None or pattern.reach.startswith(inside) for pattern in self._exceptions)


@lru_cache(maxsize=256)
def parse_ignore(raw: bytes, path: str = NAME) -> IgnoreFile:
    """Read the bytes of an ignore file. Never raises: a pattern that the builder rejects becomes a problem."""
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
        # The matcher normalizes the whole line once more: `/!a` is an exception, too.
        cleaned = posixpath.normpath(stripped) if (stripped := cleaned.strip(SPACE)) else ""
        negated = cleaned.startswith("!")
        cleaned = cleaned.removeprefix("!")
        try:
            if negated and not cleaned:
                raise BadPatternError("'!' without a pattern")
            if not cleaned:
                continue
            check_pattern(cleaned)
        except BadPatternError as error:
            problems.append(Problem(path=path, line=number, message=f"invalid pattern {line.strip(SPACE)!r}: {error}"))
        else:
            patterns.append(Pattern(cleaned, negated, number))
    return IgnoreFile(patterns=tuple(patterns), path=path, raw=raw, problems=tuple(problems))


def find_ignore(root: Path, dockerfile: Path | None = None) -> IgnoreFile:
    """Return the ignore file that applies to a context.

    `<Dockerfile>.dockerignore` next to the Dockerfile wins even if it is empty, then `.dockerignore` in `root`.
    Without a Dockerfile (a named context) only the latter applies. Symbolic links are followed within their folder.
    """
    places = [(str(root), NAME)]
    if dockerfile is not None:
        places.insert(0, (str(dockerfile.parent), f"{dockerfile.name}{NAME}"))
    for folder, name in places:
        shown = posixpath.join(folder, name)
        try:
            path = _within(folder, name)
            if path is not None:
                with open(path, "rb") as stream:  # noqa: PTH123 - called for each step: strings are faster
                    return parse_ignore(stream.read(), shown)
        except OSError as error:
            hint = "Make it readable: the builder reads it, too."
            problem = Problem(path=shown, message=f"cannot be read: {error.strerror}", hint=hint)
            return IgnoreFile(path=shown, problems=(problem,))
    return IgnoreFile()


def own_ignore(dockerfile: Path) -> bytes | None:
    """Return the content of the ignore file that applies to this Dockerfile only; None if it has none."""
    ignore = find_ignore(dockerfile.parent, dockerfile)
    own = posixpath.join(str(dockerfile.parent), f"{dockerfile.name}{NAME}")
    return ignore.raw if ignore.path == own and not ignore.problems else None


def _within(folder: str, name: str) -> str | None:
    """Return the regular file that `name` leads to within `folder`, which is the root of absolute links; None if missing.

    Errors: `OSError` if it exists but cannot be inspected.
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
    """Normalize as Go's `filepath.Clean`, and remove the leading slash, since patterns are anchored at the root anyway."""
    if not pattern:
        return ""
    cleaned = posixpath.normpath(pattern)
    if cleaned.startswith("/"):
        cleaned = "/" + cleaned.lstrip("/")
    return cleaned[1:] if len(cleaned) > 1 and cleaned.startswith("/") else cleaned


def check_pattern(pattern: str) -> None:
    """Raise `BadPatternError` for a pattern that Go's `filepath.Match` rejects."""
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
    """Read a bracket expression after its `[`: return whether `^` negates it, its ranges, and the position after it."""
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
        raise BadPatternError(f"unexpected {char!r} in brackets")
    if not char or at + 1 >= len(pattern):
        raise BadPatternError("'[' without ']'")
    return char, at + 1


def set_regex(negated: bool, ranges: list[tuple[str, str]], also_not: str = "") -> str:
    """Return a bracket expression as a regular expression; a range whose ends are swapped matches nothing."""
    inner = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    if not inner:
        return "." if negated and not also_not else f"[^{also_not}]" if negated else "(?!)"
    return f"[^{inner}{also_not}]" if negated else f"[{inner}]"


def _always(_: str) -> bool:
    return True


def _never(_: str) -> bool:
    return False


def _compile(pattern: str) -> Callable[[str], bool]:
    """Return the matcher of a pattern. How its kind is chosen follows patternmatcher 0.6 exactly."""
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
            # patternmatcher keeps the meaning of ^ in regular expressions.
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
        raise _UnclearError  # regular expressions reject such a range
    return Token("one", set_regex(negated, ranges)), end
