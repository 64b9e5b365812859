"""The files of a build context that a step can read, as BuildKit's file sync sends them.

A `ContextTree` lists each folder once and serves many steps. A file's path, kind, permission bits, content, symbolic link
target and extended attributes (which BuildKit copies) count; its times and its owner do not.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild.context.dockerignore import IgnoreFile, Parents
from chainbuild.context.files import (
    UNREADABLE,
    ContentDigests,
    ContextFile,
    Kind,
    attributes_of,
    digest_of,
    special_kind,
)
from chainbuild.context.search import Finder, has_wildcards, literal
from chainbuild.dockerfile.results import LocalSources
from chainbuild.errors import Problem, WrongUseError

_NOTHING_IGNORED: Final = IgnoreFile()


class ContextSelection(Struct, frozen=True, kw_only=True):
    """The files that a step can read, sorted by path; their problems; and the sources that a builder will not find.

    These are required sources that do not exist, that are links without a target, or that are ignored.
    """

    files: tuple[ContextFile, ...] = ()
    problems: tuple[Problem, ...] = ()
    missing: tuple[str, ...] = ()


def context_files(root: Path, ignore: IgnoreFile, sources: LocalSources) -> tuple[ContextFile, ...]:
    """Return the files of one step. For several steps, use a `ContextTree`.

    Errors: `WrongUseError` with every file or folder that cannot be read.
    """
    selection = ContextTree(root).select(ignore, sources)
    if selection.problems:
        raise WrongUseError(selection.problems)
    return selection.files


class ContextTree:
    """The files below the root of a context. Folders and files are read when first needed, and only once.

    Make a new instance for each run.
    """

    def __init__(self, root: Path, digests: ContentDigests | None = None) -> None:
        self.root = Path(root)
        self._base = os.path.realpath(root)
        self._digests = digests or ContentDigests()
        self._listings: dict[str, dict[str, Kind]] = {}
        self._files: dict[str, ContextFile | None] = {}
        self._problems: dict[str, Problem] = {}
        self._views: dict[IgnoreFile, _View] = {}
        self._digest_of: dict[tuple[IgnoreFile, LocalSources], str] = {}

    def select(self, ignore: IgnoreFile, sources: LocalSources) -> ContextSelection:
        """Return the files that a step with these sources can read."""
        return self._view(_NOTHING_IGNORED if sources.past_ignore else ignore).select(sources)

    def missing(self, ignore: IgnoreFile, patterns: Iterable[str]) -> tuple[str, ...]:
        """Return the required sources that a builder will not find (see `ContextSelection`). No file is read."""
        view = self._view(ignore)
        return tuple(pattern for pattern in patterns if view.is_missing(pattern))

    def _view(self, ignore: IgnoreFile) -> _View:
        view = self._views.get(ignore)
        if view is None:
            view = self._views[ignore] = _View(tree=self, ignore=ignore)
        return view

    def digest(self, ignore: IgnoreFile, sources: LocalSources) -> str:
        """Return `digest_of` the files that `select` returns, computed once."""
        key = (ignore, sources)
        cached = self._digest_of.get(key)
        if cached is None:
            cached = self._digest_of[key] = digest_of(self.select(ignore, sources).files)
        return cached

    def listing(self, folder: str) -> dict[str, Kind]:
        """Return the names in a folder and their kinds, sorted; empty if it is missing or cannot be read."""
        cached = self._listings.get(folder)
        if cached is not None:
            return cached
        kinds: dict[str, Kind] = {}
        try:
            with os.scandir(self._absolute(folder)) as entries:
                kinds = {entry.name: _kind_of(entry) for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self._wrong(folder, error)
        self._listings[folder] = ordered = dict(sorted(kinds.items()))
        return ordered

    def file(self, path: str) -> ContextFile | None:
        """Return the entry at a path; None if it no longer exists."""
        if path not in self._files:
            self._files[path] = self._read(path)
        return self._files[path]

    def problem(self, path: str) -> Problem | None:
        """Return the problem of an entry that was read."""
        return self._problems.get(path)

    def link_target(self, path: str) -> str:
        """Return the target of a symbolic link; `""` if it no longer exists."""
        entry = self.file(path)
        return entry.target if entry and entry.kind == "symlink" else ""

    def _absolute(self, path: str) -> str:
        return f"{self._base}/{path}" if path else self._base

    def _wrong(self, path: str, error: OSError) -> None:
        self._problems[path] = Problem(
            path=str(self.root / path).encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            message=f"cannot be read: {error.strerror or error}",
            hint="Make it readable, or exclude it in .dockerignore.",
        )

    def _read(self, path: str) -> ContextFile | None:
        absolute = self._absolute(path)
        digest, target = "", ""
        try:
            status = os.lstat(absolute)
        except OSError as error:
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                self._wrong(path, error)
            return None  # the builder skips deleted files, too
        kind = _kind(status.st_mode)
        try:
            if kind == "file":
                digest = self._digests.of(absolute, status)
            elif kind == "symlink":
                target = os.readlink(absolute)  # noqa: PTH115 - the text itself, not a path
            elif kind == "special":
                target = special_kind(status)
            attributes = attributes_of(absolute)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._wrong(path, error)
            return ContextFile(path=path, kind=kind, mode=stat.S_IMODE(status.st_mode), digest=UNREADABLE)
        mode = 0o777 if kind == "symlink" else stat.S_IMODE(status.st_mode)
        return ContextFile(
            path=path,
            kind=kind,
            mode=mode,
            digest=digest,
            target=target,
            attributes=attributes,
            changed=status.st_ctime_ns,
        )


class _State(Struct, frozen=True):
    """What an ignore file means for a folder. `closed`: everything below it is ignored."""

    ignored: bool
    parents: Parents
    closed: bool


class _View(Struct):
    """A tree, filtered by one ignore file."""

    tree: ContextTree
    ignore: IgnoreFile
    states: dict[str, _State] = field(default_factory=lambda: {"": _State(ignored=False, parents=(), closed=False)})
    below: dict[str, tuple[str, ...]] = field(default_factory=dict)
    selections: dict[LocalSources, ContextSelection] = field(default_factory=dict)

    def select(self, sources: LocalSources) -> ContextSelection:
        cached = self.selections.get(sources)
        if cached is None:
            cached = self.selections[sources] = self._select(sources)
        return cached

    def _select(self, sources: LocalSources) -> ContextSelection:
        chosen: set[str] = set()
        for pattern in (".",) if sources.everything else sources.patterns:
            if pattern == ".":
                chosen.update(self.beneath(""))
                continue
            finder = Finder(self.tree)
            for path in finder.find(pattern):
                chosen.update(self.taken(path))
        missing = [pattern for pattern in sources.required if self.is_missing(pattern)]
        if sources.with_parents:
            chosen |= {parent for path in chosen for parent in _parents(path)}
        files = [entry for path in sorted(chosen) if (entry := self.tree.file(path))]
        looked_at = {"", *chosen} if sources.everything else chosen
        problems = tuple(problem for path in sorted(looked_at) if (problem := self.tree.problem(path)))
        return ContextSelection(files=tuple(files), problems=problems, missing=tuple(missing))

    def is_missing(self, pattern: str) -> bool:
        """Return whether a builder does not find a source.

        A pattern with wildcards may match nothing, but a link that it matches must have a target.
        """
        if not has_wildcards(pattern):
            return not self.leads_somewhere(pattern)
        if "\\" in pattern or "**" in pattern:
            return False  # too complex to decide: assume that it exists
        finder = Finder(self.tree)
        return any(not self.leads_somewhere(path) for path in finder.find(pattern) if self.is_direct(path, pattern))

    def is_direct(self, path: str, pattern: str) -> bool:
        """Return whether a matching path is a link that the last part of the pattern matches directly."""
        return path.count("/") == pattern.count("/") and self.kind(path) == "symlink" and not self.state(path).ignored

    def leads_somewhere(self, path: str) -> bool:
        """Return whether a path without wildcards, and the target that it leads to, exist and are not ignored."""
        if self.kind(path) == "symlink" and self.state(path).ignored:
            return False
        finder = Finder(self.tree)
        finder.find(literal(path))
        return any(not end or next(iter(self.taken(end)), None) is not None for end in finder.ends)

    def state(self, path: str) -> _State:
        """Return what the ignore file means for a path, which also depends on the folders above it."""
        cached = self.states.get(path)
        if cached is not None:
            return cached
        parts = path.split("/")
        state = self.states[""]
        for count in range(1, len(parts) + 1):
            current = "/".join(parts[:count])
            inner = self.states.get(current)
            if inner is None:
                inner = self.states[current] = self.inner(current, state)
            state = inner
        return state

    def inner(self, path: str, above: _State) -> _State:
        if above.closed or not self.ignore.patterns:
            return above
        ignored, parents = self.ignore.match(path, above.parents)
        return _State(ignored=ignored, parents=parents, closed=ignored and self.ignore.prunes(path))

    def taken(self, path: str) -> Iterator[str]:
        """Yield a path and, if it is a folder, everything below it that is not ignored."""
        if self.kind(path) == "dir":
            beneath = self.beneath(path)
            yield from beneath
            if path and (beneath or not self.state(path).ignored):
                yield path
        elif not self.state(path).ignored:
            yield path

    def kind(self, path: str) -> Kind | None:
        folder, _, name = path.rpartition("/")
        return self.tree.listing(folder).get(name) if path else "dir"

    def beneath(self, start: str) -> tuple[str, ...]:
        """Return every path below a folder that is not ignored, and the ignored folders that contain such a path."""
        cached = self.below.get(start)
        if cached is not None:
            return cached
        seen: dict[str, None] = {}
        waiting = [] if self.state(start).closed else [start]
        while waiting:
            folder = waiting.pop()
            state = self.state(folder)
            for name, kind in self.tree.listing(folder).items():
                path = f"{folder}/{name}" if folder else name
                inner = self.states[path] = self.inner(path, state)
                if not inner.ignored:
                    seen[path] = None
                    above = folder
                    while above and above != start and above not in seen:
                        seen[above] = None
                        above = posixpath.dirname(above)
                if kind == "dir" and not inner.closed:
                    waiting.append(path)
        self.below[start] = tuple(seen)
        return self.below[start]


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def _kind_of(entry: os.DirEntry[str]) -> Kind:
    if entry.is_symlink():
        return "symlink"
    if entry.is_dir(follow_symlinks=False):
        return "dir"
    return "file" if entry.is_file(follow_symlinks=False) else "special"


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "dir"
    return "symlink" if stat.S_ISLNK(mode) else "special"
