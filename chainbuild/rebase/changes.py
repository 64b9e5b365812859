"""Compare the paths that a step wrote with those that differ between its bases: merge by rule, or report a conflict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from msgspec import Struct

from chainbuild.comparison.contents import Entry
from chainbuild.minimize.ldcache import LD_SO_CACHE
from chainbuild.minimize.root import base, join, parent, shown
from chainbuild.rebase.alpine import INSTALLED, broken_apk_relations
from chainbuild.rebase.bases import BasePair
from chainbuild.rebase.entries import MergeConflictError
from chainbuild.rebase.merging import Merge, merge_for, named_lines
from chainbuild.rebase.packages import broken_relations, read_database
from chainbuild.rebase.paths import (
    ACCOUNTS,
    STATUS,
    SUBORDINATE_IDS,
    is_documentation,
    is_passing,
    source_of_bytecode,
    sources_of,
)
from chainbuild.rebase.tree import ImageTree
from chainbuild.values import replace


class MergedFile(Struct, frozen=True, kw_only=True):
    """A file of the layer that a rebase adds: its path, its entry with `data`, and what it was made of.

    `entry` is None if the layer deletes the path.
    """

    path: str
    entry: Entry | None
    why: str


class PathChanges:
    """The changes of a step: `old` is the image that was built, `new` the same layers on the new base."""

    def __init__(self, bases: BasePair, old: ImageTree, new: ImageTree) -> None:
        self._bases = bases
        self._old = old
        self._new = new
        self.merged: list[MergedFile] = []
        self.conflicts: list[str] = []

    def judge(self) -> None:
        """Fill `merged` and `conflicts`."""
        if self._old.written.keys() != self._new.written.keys():
            moved = sorted(self._old.written.keys() ^ self._new.written.keys())
            self._conflict(moved[0], "a folder above it is a link in one of the bases only")
        for path in self._new.deleted.keys() - self._old.deleted.keys():
            if not is_passing(path):
                self._conflict(path, "the step's layers delete it, and the old base does not have it")
        for path, own in self._old.written.items():
            if not is_passing(path):
                self._written(path, own)
                self._derived(path, own)
        for path in self._old.deleted:
            self._deleted(path)
        self._versions()
        self._copied_folders()
        self._packages()

    def _conflict(self, path: str, why: str) -> None:
        self.conflicts.append(f"{shown(path)}: {why}")

    def _written(self, path: str, own: Entry) -> None:
        differences, folder = self._bases.differences, parent(path)
        if folder not in self._old.written and folder in differences and not _is_folder(differences[folder][1]):
            self._conflict(folder, "the step writes into this folder, which the new base lacks")
        if path not in differences or path == LD_SO_CACHE:
            return
        before, after = differences[path]
        if same(own, after):
            return
        merge = merge_for(path)
        if own.kind == "dir":
            self._folder(path, own, before, after)
        elif before is not None and after is not None and merge is not None and _are_files(before, after, own):
            self._merge(path, merge, before, after, own)
        else:
            self._conflict(path, _told(before, after))

    def _merge(self, path: str, merge: Merge, before: Entry, after: Entry, own: Entry) -> None:
        """Merge a file that the step and the base changed, with its mode, owner and extended attributes."""
        try:
            data = merge(before.data or b"", after.data or b"", own.data or b"")
        except MergeConflictError as conflict:
            for name in conflict.names:
                self._conflict(path, f"{name} was changed by the step and in the base")
            return
        for names in _double_ids(path, data):
            if not any(names <= before for text in (after, own) for before in _double_ids(path, text.data or b"")):
                self._conflict(path, f"the step and the base gave the same id to {' and '.join(sorted(names))}")
                return
        rights, old_rights, new_rights = ((entry.mode, entry.owner, entry.xattrs) for entry in (own, before, after))
        if len({rights, old_rights, new_rights}) == 3:
            self._conflict(path, "its mode, owner or attributes were changed by the step and in the base")
        elif data != own.data or new_rights != rights:
            mode, owner, xattrs = new_rights if rights == old_rights else rights
            entry = replace(own, mode=mode, owner=owner, xattrs=xattrs, size=len(data), content=b"", data=data)
            self.merged.append(MergedFile(path=path, entry=entry, why="the step's changes in the new base's file"))

    def _folder(self, path: str, own: Entry, before: Entry | None, after: Entry | None) -> None:
        if after is None:
            self._conflict(path, "the step writes into this folder, which the new base lacks")
        elif before is not None and same(own, before) and after.kind == "dir":
            why = "the mode, owner or attributes of this folder changed in the base, and the step writes into it"
            self._conflict(path, why)
        else:
            self._conflict(path, _told(before, after))

    def _derived(self, path: str, own: Entry) -> None:
        """Find content that was made from files of the base that differ now."""
        differences = self._bases.differences
        if own.kind == "link":
            self._link(path, own)
        if own.kind != "file" or merge_for(path) is not None or path == LD_SO_CACHE:
            return
        # Packages from one source have the same changelog, and many have the same maintainer scripts.
        source = self._bases.copied_from.get(own.content) if not is_documentation(path) else None
        if source is not None and source != path:
            self._conflict(path, f"it is a copy of {shown(source)}, which changed in the base")
        if (source := source_of_bytecode(path)) and source in differences and source not in self._old.written:
            # Python compares bytecode with its source only by time and size, and makes it anew if it is missing.
            why = f"bytecode of {source}, which changed in the base"
            self.merged.append(MergedFile(path=path, entry=None, why=why))
        for pattern in sources_of(path):
            if changed := next((name for name in differences if pattern.fullmatch(name)), None):
                self._conflict(path, f"it is made of files such as {shown(changed)}, which changed in the base")

    def _link(self, path: str, own: Entry) -> None:
        """Compare where a link of the step leads: a program or a folder of another name is another version."""
        before, after = self._old.resolve(path), self._new.resolve(path)
        if before is None or before == after:
            return
        if after is None:
            self._conflict(path, f"it links to {shown(own.target)}, which the new base lacks")
            return
        libraries = (self._old.elf(before), self._new.elf(after))
        sonames = {library.soname if library else "" for library in libraries}
        if len(sonames) > 1 or "" in sonames:
            self._conflict(path, f"it leads to {shown(after)} on the new base, and to {shown(before)} on the old one")

    def _versions(self) -> None:
        """Find files for a version that the new base no longer has: modules in `python3.11`, `perl/5.36.0`."""
        removed, reported = self._bases.removed_versions, set[str]()
        for path in self._old.written if removed else ():
            if is_passing(path) or is_documentation(path):
                continue
            for name in removed.intersection(parent(path).split("/")) - reported:
                reported.add(name)
                self._conflict(path, f"it is in a folder {shown(name)}, and the new base has no folder of that name")

    def _copied_folders(self) -> None:
        """Find copies of folders to which the new base has added something: they would have it, too."""
        for folder, added in self._bases.grown_folders.items():
            files = {
                (name, entry.content)
                for name in self._bases.old.names(folder)
                if (entry := self._bases.old.files[join(folder, name)]).kind == "file" and entry.size
            }
            copies = Counter(self._copies_of(files, folder))
            for copy in sorted(place for place, count in copies.items() if 2 * count >= len(files)):
                self._conflict(copy, f"it has copies of the files in {shown(folder)}, and the new base added {added}")

    def _copies_of(self, files: Collection[tuple[str, bytes]], folder: str) -> Iterator[str]:
        for named in files:
            yield from (place for place in self._places.get(named, ()) if place != folder)

    @cached_property
    def _places(self) -> Mapping[tuple[str, bytes], Sequence[str]]:
        """The folders in which the step wrote a file, by its name and content."""
        places: dict[tuple[str, bytes], list[str]] = {}
        for path, entry in self._old.written.items():
            if entry.kind == "file" and entry.size and not is_passing(path) and not is_documentation(path):
                places.setdefault((base(path), entry.content), []).append(parent(path))
        return places

    def _deleted(self, path: str) -> None:
        """A deletion does not depend on content, but what the base has added beside it, the step would have deleted, too."""
        folder = parent(path)
        if is_passing(path) or is_passing(join(folder, "x")) or base(path).endswith((".pyc", "__pycache__")):
            return
        if self._bases.old.names(folder) != self._bases.new.names(folder):
            self._conflict(path, "the step deletes from a folder whose list of files differs between the bases")

    def _packages(self) -> None:
        for path in (STATUS, *INSTALLED):
            merged = next((file.entry.data for file in self.merged if file.path == path and file.entry), None)
            data = merged or self._new.data(path)
            if path not in self._old.written or data is None:
                continue
            for relation in sorted(_broken(path, data) - _broken(path, self._old.data(path) or b"")):
                self._conflict(path, f"a package's relation no longer holds: {relation}")


def _broken(path: str, data: bytes) -> frozenset[str]:
    return broken_relations(read_database(data)) if path == STATUS else broken_apk_relations(data)


def same(first: Entry | None, second: Entry | None) -> bool:
    """Return whether two entries are the same for a container, whether or not their content was kept."""
    if first is None or second is None:
        return first is second
    return replace(first, data=None) == replace(second, data=None)


def script_conflicts(old: ImageTree, new: ImageTree, paths: Iterable[str], search_path: str) -> Iterator[str]:
    """Yield the scripts among paths whose interpreter the old image has and the new one lacks."""
    for path in paths:
        entry = old.files[path]
        if entry.kind != "file" or not entry.mode & 0o111:
            continue
        for name in old.scripts.get(entry.content, ()):
            before, after = _program(old, name, search_path), _program(new, name, search_path)
            if before and not after:
                yield f"{shown(path)}: its interpreter {shown(name)} is not in the new base"
            elif before and before != after:
                yield f"{shown(path)}: its interpreter {shown(name)} is {shown(after)} in the new base, not {shown(before)}"


def _program(tree: ImageTree, name: str, search_path: str) -> str:
    """Return the file that a program's path or name leads to; empty if there is none."""
    folders = [""] if name.startswith("/") else [folder for folder in search_path.split(":") if folder[:1] == "/"]
    places = (f"{folder.rstrip('/')}/{name}" if folder else name for folder in folders)
    return next((tree.resolve(place) or "" for place in places if tree.is_file(place)), "")


def _is_folder(entry: Entry | None) -> bool:
    return entry is not None and entry.kind == "dir"


def _are_files(*entries: Entry) -> bool:
    return all(entry.kind == "file" and entry.data is not None for entry in entries)


def _told(before: Entry | None, after: Entry | None) -> str:
    if before is None:
        return "the step and the new base both added it"
    return "the step changed it, and the base " + ("changed it" if after else "removed it")


def _double_ids(path: str, data: bytes) -> list[set[str]]:
    """Return the names with the same id: of users, of groups, or of what begins a range of subordinate ids."""
    at = 2 if path in ACCOUNTS else 1 if path in SUBORDINATE_IDS else 0
    owners: dict[bytes, set[str]] = {}
    for name, line in named_lines(data).items() if at else ():
        fields = line.split(b":")
        if len(fields) > at and fields[at]:
            owners.setdefault(fields[at], set()).add(name)
    return [names for names in owners.values() if len(names) > 1]
