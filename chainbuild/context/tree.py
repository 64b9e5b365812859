"""The files of a build context that a step can read, as BuildKit's file sync would send them.

A `ContextTree` looks at each folder once and answers for many steps. What counts of a file is its path, kind,
permission bits, content, the target of a symbolic link, and extended attributes (BuildKit copies those too); never its
times nor its owner.
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
    """What a step can read, sorted by path; what is wrong with it; and the sources that a builder will not find.

    Those are required sources that do not exist, that only lead to what does not, or that are ignored.
    """

    files: tuple[ContextFile, ...] = ()
    problems: tuple[Problem, ...] = ()
    missing: tuple[str, ...] = ()


def context_files(root: Path, ignore: IgnoreFile, sources: LocalSources) -> tuple[ContextFile, ...]:
    """The files of one step, for callers that need no other.

    Errors: `WrongUseError` with every file or folder that cannot be read.
    """
    selection = ContextTree(root).select(ignore, sources)
    if selection.problems:
        raise WrongUseError(selection.problems)
    return selection.files


class ContextTree:
    """One context's root. Folders are listed and files are read when first asked for, and once.

    It holds what it saw: make a new one for a new run.
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
        """What a step with these sources can read."""
        return self._view(_NOTHING_IGNORED if sources.past_ignore else ignore).select(sources)

    def missing(self, ignore: IgnoreFile, patterns: Iterable[str]) -> tuple[str, ...]:
        """Those of some required sources that a builder will not find (see `ContextSelection`). No file is read."""
        view = self._view(ignore)
        return tuple(pattern for pattern in patterns if view.is_missing(pattern))

    def _view(self, ignore: IgnoreFile) -> _View:
        view = self._views.get(ignore)
        if view is None:
            view = self._views[ignore] = _View(tree=self, ignore=ignore)
        return view

    def digest(self, ignore: IgnoreFile, sources: LocalSources) -> str:
        """`digest_of` the files that `select` gives, taken once."""
        key = (ignore, sources)
        known = self._digest_of.get(key)
        if known is None:
            known = self._digest_of[key] = digest_of(self.select(ignore, sources).files)
        return known

    def listing(self, folder: str) -> dict[str, Kind]:
        """The names in a folder with their kinds, sorted; empty where it is not there or cannot be read."""
        known = self._listings.get(folder)
        if known is not None:
            return known
        found: dict[str, Kind] = {}
        try:
            with os.scandir(self._absolute(folder)) as entries:
                found = {entry.name: _kind_of(entry) for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self._wrong(folder, error)
        self._listings[folder] = ordered = dict(sorted(found.items()))
        return ordered

    def file(self, path: str) -> ContextFile | None:
        """The entry at a path, None where it has vanished."""
        if path not in self._files:
            self._files[path] = self._read(path)
        return self._files[path]

    def problem(self, path: str) -> Problem | None:
        """What is wrong with an entry that was looked at."""
        return self._problems.get(path)

    def link_target(self, path: str) -> str:
        """The text of a symbolic link, `""` where it has vanished."""
        found = self.file(path)
        return found.target if found and found.kind == "symlink" else ""

    def _absolute(self, path: str) -> str:
        return f"{self._base}/{path}" if path else self._base

    def _wrong(self, path: str, error: OSError) -> None:
        self._problems[path] = Problem(
            path=str(self.root / path).encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            message=f"cannot be read: {error.strerror or error}",
            hint="A builder could not send it either; make it readable or name it in .dockerignore.",
        )

    def _read(self, path: str) -> ContextFile | None:
        absolute = self._absolute(path)
        digest, target = "", ""
        try:
            found = os.lstat(absolute)
        except OSError as error:
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                self._wrong(path, error)
            return None  # the builder leaves out what has vanished, too
        kind = _kind(found.st_mode)
        try:
            if kind == "file":
                digest = self._digests.of(absolute, found)
            elif kind == "symlink":
                target = os.readlink(absolute)  # noqa: PTH115 - the text itself, not a path
            elif kind == "special":
                target = special_kind(found)
            attributes = attributes_of(absolute)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._wrong(path, error)
            return ContextFile(path=path, kind=kind, mode=stat.S_IMODE(found.st_mode), digest=UNREADABLE)
        mode = 0o777 if kind == "symlink" else stat.S_IMODE(found.st_mode)
        return ContextFile(
            path=path,
            kind=kind,
            mode=mode,
            digest=digest,
            target=target,
            attributes=attributes,
            changed=found.st_ctime_ns,
        )


class _State(Struct, frozen=True):
    """What an ignore file says of a folder. `closed`: nothing below it can be seen."""

    ignored: bool
    parents: Parents
    closed: bool


class _View(Struct):
    """A tree through one ignore file."""

    tree: ContextTree
    ignore: IgnoreFile
    states: dict[str, _State] = field(default_factory=lambda: {"": _State(ignored=False, parents=(), closed=False)})
    below: dict[str, tuple[str, ...]] = field(default_factory=dict)
    selections: dict[LocalSources, ContextSelection] = field(default_factory=dict)

    def select(self, sources: LocalSources) -> ContextSelection:
        known = self.selections.get(sources)
        if known is None:
            known = self.selections[sources] = self._select(sources)
        return known

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
        """Whether a builder does not find a source.

        Wildcards may match nothing; a link that they match must lead somewhere all the same.
        """
        if not has_wildcards(pattern):
            return not self.leads_somewhere(pattern)
        if "\\" in pattern or "**" in pattern:
            return False  # in doubt it is there
        finder = Finder(self.tree)
        return any(not self.leads_somewhere(path) for path in finder.find(pattern) if self.is_direct(path, pattern))

    def is_direct(self, path: str, pattern: str) -> bool:
        """Whether a path that was found is a link that the last part of the pattern itself matches."""
        return path.count("/") == pattern.count("/") and self.kind(path) == "symlink" and not self.state(path).ignored

    def leads_somewhere(self, path: str) -> bool:
        """Whether a path without wildcards is there, and what it leads to, as far as it is not ignored."""
        if self.kind(path) == "symlink" and self.state(path).ignored:
            return False
        finder = Finder(self.tree)
        finder.find(literal(path))
        return any(not end or next(iter(self.taken(end)), None) is not None for end in finder.ends)

    def state(self, path: str) -> _State:
        """What the ignore file says of a path, which the states of the folders above decide, too."""
        known = self.states.get(path)
        if known is not None:
            return known
        parts = path.split("/")
        state = self.states[""]
        for count in range(1, len(parts) + 1):
            here = "/".join(parts[:count])
            inner = self.states.get(here)
            if inner is None:
                inner = self.states[here] = self.inner(here, state)
            state = inner
        return state

    def inner(self, path: str, above: _State) -> _State:
        if above.closed or not self.ignore.patterns:
            return above
        ignored, parents = self.ignore.match(path, above.parents)
        return _State(ignored=ignored, parents=parents, closed=ignored and self.ignore.prunes(path))

    def taken(self, path: str) -> Iterator[str]:
        """A path and, where it is a folder, all beneath it that is not ignored."""
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
        """Every path below a folder that is not ignored, with the ignored folders that hold one that is not."""
        known = self.below.get(start)
        if known is not None:
            return known
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
