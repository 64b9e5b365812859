"""What differs between two versions of a base image, and which steps that concerns whatever their layers have."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Final

from chainbuild.comparison.contents import Entry
from chainbuild.minimize.root import base, parent
from chainbuild.patterns import regex
from chainbuild.rebase.merging import named_lines
from chainbuild.rebase.paths import ACCOUNTS, is_compiled_from, is_documentation, is_linked, is_passing, is_program
from chainbuild.rebase.tree import ImageTree

_RELEASE: Final = ("/usr/lib/os-release", "/etc/os-release")
_RELEASE_FIELDS: Final = ("ID", "VERSION_ID", "VERSION_CODENAME")
_VERSION: Final = regex(r"[A-Za-z_-]*\d+\.\d+[\w.+-]*")
Difference = tuple[Entry | None, Entry | None]
"""The entry of a path in the old and in the new base."""


class BasePair:
    """The old and the new version of what a step was built on: a base image, or the image of its parent step."""

    def __init__(self, old: ImageTree, new: ImageTree) -> None:
        self.old = old
        self.new = new

    @cached_property
    def differences(self) -> Mapping[str, Difference]:
        """The paths whose entries differ in kind, mode, owner, content or target; times do not count."""
        old, new = self.old.files, self.new.files
        changed: dict[str, Difference] = {}
        for path, before in old.items():
            after = new.get(path)
            if after is not before and after != before:
                changed[path] = (before, after)
        for path, after in new.items():
            if path not in old:
                changed[path] = (None, after)
        return {path: changed[path] for path in sorted(changed)}

    @cached_property
    def compiler_inputs(self) -> tuple[str, ...]:
        """The paths among the differences that a compiler may read."""
        return tuple(
            path
            for path in self.differences
            if not is_documentation(path) and (is_compiled_from(path) or self._is_linked_otherwise(path))
        )

    @cached_property
    def removed_names(self) -> frozenset[str]:
        """Names that content may refer to, and that the new base lacks: programs, SONAMEs, and paths of other files."""
        names: set[str] = set()
        programs = {base(path) for path in self.new.files if is_program(path)}
        files = {base(path) for path, entry in self.new.files.items() if entry.kind != "dir" and _is_read(path)}
        for path, (before, after) in self.differences.items():
            if after is not None or before is None or before.kind == "dir" or not _is_read(path):
                continue
            names |= {path, self._alias(path)}
            name = base(path)
            if name not in programs if is_program(path) else name.startswith("lib") and name not in files:
                names.add(name)
        sonames = _sonames(self.old) - _sonames(self.new)
        names |= sonames - files
        return frozenset(names - {""})

    @cached_property
    def removed_versions(self) -> frozenset[str]:
        """Names of folders with a version in them (`python3.11`, `5.36.0`) that the new base has nowhere."""
        names = {
            base(path)
            for path, (before, after) in self.differences.items()
            if before is not None and before.kind == "dir" and after is None and _is_read(path)
        }
        versions = {name for name in names if _VERSION.fullmatch(name)}
        return frozenset(versions - {base(path) for path in self.new.files}) if versions else frozenset()

    @cached_property
    def grown_folders(self) -> Mapping[str, str]:
        """By path, the folders of the old base in which the new one has something more, and its first path."""
        folders: dict[str, str] = {}
        for path, (before, _) in self.differences.items():
            if before is None and _is_read(path) and parent(path) in self.old.files:
                # A folder that is new in an old one counts for the old one.
                folders.setdefault(parent(path), path)
        return folders

    @cached_property
    def copied_from(self) -> Mapping[bytes, str]:
        """The path of each file of the old base that changed, by digest of content."""
        return {
            before.content: path
            for path, (before, after) in self.differences.items()
            if before is not None
            and before.kind == "file"
            and before.size
            and (after is None or after.content != before.content)
            and not is_passing(path)
        }

    @cached_property
    def needed_names(self) -> frozenset[str]:
        """The names of libraries that the new base's own files need."""
        return frozenset(name for elf in self.new.elves.values() for name in elf.needed)

    def conflicts(self) -> Iterable[str]:
        """Yield why no step can be rebased: another release, or names of users and groups with other ids."""
        before, after = (_release(tree) for tree in (self.old, self.new))
        for name in _RELEASE_FIELDS:
            if before.get(name, "") != after.get(name, ""):
                yield f"os-release: {name} changed from {before.get(name, '')!r} to {after.get(name, '')!r}"
        for path in ACCOUNTS:
            yield from _account_conflicts(path, self.old.data(path) or b"", self.new.data(path) or b"")

    def _alias(self, path: str) -> str:
        """Return the path of a file below `/usr` by the link that a merged `/usr` has for its folder; empty if none."""
        if not path.startswith("/usr/"):
            return ""
        short = path.removeprefix("/usr")
        top = self.old.files.get(f"/{short.split('/')[1]}")
        return short if top is not None and top.kind == "link" else ""

    def _is_linked_otherwise(self, path: str) -> bool:
        """Return whether a linker would take another library by this path, or reads it as a script."""
        if not path.endswith(".so"):
            return False
        sonames: set[str | None] = set()
        for tree in (self.old, self.new):
            target = tree.resolve(path)
            library = tree.elf(target) if target is not None else None
            if library is None and tree.is_file(path):
                return True
            sonames.add(library.soname if library else None)
        return is_linked(path) and len(sonames) > 1


def _sonames(tree: ImageTree) -> set[str]:
    return {elf.soname for path in tree.files if (elf := tree.elf(path)) is not None and elf.soname}


def _is_read(path: str) -> bool:
    """Return whether a program of an image, except the package manager, may read what is at a path."""
    return not is_passing(path) and not is_documentation(path)


def _release(tree: ImageTree) -> Mapping[str, str]:
    data = next((data for path in _RELEASE if (data := tree.data(path)) is not None), b"")
    values: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals:
            try:
                values[name] = "".join(shlex.split(value))
            except ValueError:
                values[name] = value
    if values.get("ID") == "alpine":
        # Alpine counts updates of a release in its last number: 3.20.3 and 3.20.4 have the same packages and interfaces.
        values["VERSION_ID"] = ".".join(values.get("VERSION_ID", "").split(".")[:2])
    return values


def _account_conflicts(path: str, old: bytes, new: bytes) -> Iterable[str]:
    after = {name: _ids(line) for name, line in named_lines(new).items()}
    for name, line in named_lines(old).items():
        if name not in after:
            yield f"{path}: {name} was removed from the base"
        elif after[name] != _ids(line):
            yield f"{path}: the ids of {name} changed in the base"


def _ids(line: bytes) -> tuple[bytes, ...]:
    """Return the uid and gid of a line of passwd(5), or the gid of one of group(5)."""
    fields = line.split(b":")
    return tuple(fields[2:4] if len(fields) >= 7 else fields[2:3])
