"""Find the paths that a COPY or ADD source matches in a context, through symbolic links."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from chainbuild.context.dockerignore import BadPatternError, check_pattern, read_set, set_regex
from chainbuild.context.files import Kind
from chainbuild.context.globs import Token, compile_glob

_MOST_STEPS: Final = 100_000


class FolderIndex(Protocol):
    """The methods of a tree that the search needs."""

    def listing(self, folder: str) -> Mapping[str, Kind]:
        """Return the names in a folder and their kinds."""

    def link_target(self, path: str) -> str:
        """Return the target of a symbolic link."""


class Finder:
    """Finds the paths that a source pattern matches, and the symbolic links on the way."""

    def __init__(self, tree: FolderIndex) -> None:
        self.tree = tree
        self.found: set[str] = set()
        self.ends: set[str] = set()
        """The paths that the pattern matches, without the links that lead to them."""
        self.seen: set[tuple[str, tuple[str, ...]]] = set()
        self.waiting: list[tuple[str, tuple[str, ...]]] = []

    def find(self, pattern: str) -> set[str]:
        """Return every path that the pattern matches and every link that it passes; the root is `""`."""
        self.go("", tuple(pattern.split("/")))
        while self.waiting:
            folder, rest = self.waiting.pop()
            if not rest:
                self.found.add(folder)
                self.ends.add(folder)
            else:
                self.step(folder, rest[0], rest[1:])
        return self.found

    def go(self, folder: str, rest: tuple[str, ...]) -> None:
        if (folder, rest) not in self.seen:
            self.seen.add((folder, rest))
            self.waiting.append((folder, rest))

    def step(self, folder: str, part: str, rest: tuple[str, ...]) -> None:
        if part in {"", "."}:
            self.go(folder, rest)
        elif part == "..":
            self.go(posixpath.dirname(folder), rest)
        elif part == "**":
            self.go(folder, rest)
            for name, kind in self.tree.listing(folder).items():
                path = f"{folder}/{name}" if folder else name
                if kind == "dir":
                    self.go(path, ("**", *rest))
                self.entry(path, kind, rest)
        else:
            listing = self.tree.listing(folder)
            names: Iterable[str] = (part,) if part in listing else ()
            if has_wildcards(part):
                fits = name_matcher(part)
                names = [name for name in listing if name == part or fits(name)]
            for name in names:
                self.entry(f"{folder}/{name}" if folder else name, listing[name], rest)

    def entry(self, path: str, kind: Kind, rest: tuple[str, ...]) -> None:
        if kind == "symlink":
            self.found.add(path)
            self.follow(path, rest)
        elif kind == "dir" or not rest:
            self.go(path, rest)

    def follow(self, path: str, rest: tuple[str, ...]) -> None:
        """Continue at a link's target; an absolute target starts at the context's root.

        BuildKit's client resolves `..` in it as text, its server by folders. Both results are followed.
        """
        target = self.tree.link_target(path)
        parts = tuple(literal(part) for part in target.split("/"))
        if len(self.seen) > _MOST_STEPS:  # links that multiply each other: include everything
            self.found.add("")
            self.ends.add("")
            return
        self.go("" if target.startswith("/") else posixpath.dirname(path), (*parts, *rest))
        joined = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/")
        self.go("", (*(literal(part) for part in joined.split("/")), *rest))


def has_wildcards(pattern: str) -> bool:
    """Return whether a source has wildcards or escapes."""
    return any(char in "*?[\\" for char in pattern)


def name_matcher(part: str) -> Callable[[str], bool]:
    """Return a matcher for one name by the rules of Go's `filepath.Match`; an invalid pattern matches every name."""
    try:
        check_pattern(part)
    except BadPatternError:
        return lambda _: True
    tokens: list[Token] = []
    at = 0
    while at < len(part):
        char = part[at]
        at += 1
        if char == "[":
            negated, ranges, at = read_set(part, at)
            tokens.append(Token("one", f"(?s:{set_regex(negated, ranges)})"))
        elif char == "\\":
            tokens.append(Token("one", re.escape(part[at])))
            at += 1
        elif char in "*?":
            tokens.append(Token("many" if char == "*" else "one", "(?s:.)"))
        else:
            tokens.append(Token("one", re.escape(char)))
    return compile_glob(tokens)


def literal(part: str) -> str:
    """Return a name or a path as a pattern that matches only itself."""
    return re.sub(r"([*?\[\\])", r"\\\1", part)
