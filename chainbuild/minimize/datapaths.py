"""Find data that programs open by an absolute path: paths in their constant data that the result lacks.

A path counts if it exists in the chain's image, is missing in the result, and is not noise: see `NOISE`. A folder
counts if it belongs to one source package, or to none; a folder that many packages share (`/usr/share/applications`)
says nothing about what a program needs in it, nor does a folder of the whole system.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from chainbuild.minimize.account import folder_owner
from chainbuild.minimize.ground import Ground
from chainbuild.minimize.packages import Ownership
from chainbuild.minimize.root import base, join, parent
from chainbuild.minimize.select import is_wide

NOISE = (
    (
        "the kernel and the container engine",
        r"/(?:proc|sys|dev|run)/.*",
        r"/var/(?:run|lock)(?:/.*)?",
        r"/etc/(?:hosts|hostname|resolv\.conf|mtab|fstab|machine-id)",
        r"/var/lib/dbus/machine-id",
    ),
    ("temporary files, caches, homes and mount points", r"/(?:tmp|var/tmp|var/cache|root|home|mnt|media|boot)(?:/.*)?"),
    ("accounts", r"/etc/(?:passwd|group|shadow|gshadow|shells|login\.defs|subuid|subgid)-?"),
    ("documentation", r"/usr/(?:local/)?share/(?:doc|doc-base|man|info|lintian|bug|help|gtk-doc)(?:/.*)?"),
    (
        "files that only builds use",
        r"/usr/(?:local/)?(?:include|src)(?:/.*)?",
        r"/usr/lib/(?:debug|gcc|gcc-cross|cmake)(?:/.*)?",
        r"/usr/(?:local/)?bin/(?:.*-)?(?:gcc|g\+\+|cc|c\+\+|cpp|ld|as|ar|nm|ranlib|strip|objcopy|objdump|make|gdb)(?:-[\d.]+)?",
        r".*/(?:pkgconfig|include)(?:/.*)?",
        r".*\.(?:h|hpp|c|cc|cpp|o|a|la|pc|cmake|debug|gcda)",
        r"/build/.*",
    ),
    (
        "package managers",
        r"/var/(?:lib|cache)/(?:dpkg|apt|debconf)(?:/.*)?",
        r"/etc/(?:apt|dpkg)(?:/.*)?",
        r"/usr/(?:bin|lib|share)/(?:apt|dpkg)[^/]*(?:/.*)?",
    ),
    (
        "shells, which an image may lack on purpose",
        r"(?:/usr)?/bin/(?:sh|bash|dash|ash|csh|tcsh|zsh|ksh|env|false|true|login|su)",
    ),
    ("translations", r"/usr/(?:local/)?share/locale(?:/.*)?"),
)
"""Paths that are not reported: a description, and regular expressions. In programs, paths of libraries are no data,
because their loader follows the names; in a script or in a configuration file they are.
"""

_IS_LIBRARY = re.compile(r".*\.so(?:\.\d+)*")
_IS_NOISE = re.compile("|".join(f"(?:{pattern})" for _, *patterns in NOISE for pattern in patterns))
_WRITTEN = ("/var/", "/srv/")
"""Folders that programs write to, so that empty ones are needed too."""
_MOST_ENTRIES = 50_000
_MOST_PATHS = 200_000
"""The most paths that are looked up, so that an image of hostile programs cannot take unlimited time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """A file or folder of the chain's image: its path without links, and its package's key or its folder's name."""

    path: str
    owner: str


@dataclass(kw_only=True, slots=True)
class _NamedPath:
    data: Data
    askers: list[str] = field(default_factory=list)


class DataPaths:
    """Collects the paths that programs name, and finally reports those that are missing."""

    def __init__(self, ground: Ground, ownership: Ownership) -> None:
        self.ground = ground
        self.ownership = ownership
        self._sorted = sorted(ownership.files)
        self._checked: dict[str, Data | None] = {}
        self._entries: dict[str, _NamedPath] = {}

    def add(self, asker: str, path: str, *, text: bool = False) -> None:
        """Record that `asker` has `path` in its data; `text` if the asker is a text file, not a program or library."""
        if not text and _IS_LIBRARY.fullmatch(path):
            return
        if path not in self._checked:
            if len(self._checked) >= _MOST_PATHS:
                return
            self._checked[path] = self._data(path)
        data = self._checked[path]
        if data is not None:
            entry = self._entries.setdefault(path, _NamedPath(data=data))
            if asker not in entry.askers:
                entry.askers.append(asker)

    def settle(self) -> bool:
        """Keep the requested data that is missing now; return whether anything is new."""
        arguments, more = self.ground.arguments, False
        for path, entry in sorted(self._missing()):
            if arguments.keep_all_data or self._is_requested(entry.data.owner):
                reason = f"data of {entry.data.owner} that {entry.askers[0]} names"
                if self.ground.keep(path, reason, entry.askers[0]):
                    self._note(path, entry, "kept")
                    more = True
        return more

    def note(self) -> None:
        """Note the data that is still missing at the end."""
        for path, entry in sorted(self._missing()):
            self._note(path, entry, "left", self._size(entry.data.path))

    def unknown(self) -> list[str]:
        """Return the requested packages that the chain's image does not have."""
        names = {package.name for package in self.ownership.packages.values()} | set(self.ownership.packages)
        return [name for name in self.ground.arguments.keep_data if name not in names]

    def _is_requested(self, owner: str) -> bool:
        package = self.ownership.packages.get(owner)
        arguments = self.ground.arguments.keep_data
        return owner in arguments or (package is not None and package.name in arguments)

    def _missing(self) -> Iterator[tuple[str, _NamedPath]]:
        """Yield what the result lacks; a path below another missing one is not repeated."""
        above_kept = self._above_kept()
        missing = {
            path: entry for path, entry in self._entries.items() if self._is_missing(path, entry.data.path, above_kept)
        }
        reals = {entry.data.path for entry in missing.values()}
        for path, entry in missing.items():
            above = entry.data.path
            while above != "/" and (above := above.rpartition("/")[0] or "/") not in reals:
                pass
            if above == "/":
                yield path, entry

    def _above_kept(self) -> set[str]:
        """Return the folders above everything that is kept."""
        above: set[str] = set()
        for path in self.ground.selection.kept:
            while (path := parent(path)) != "/" and path not in above:
                above.add(path)
        return above

    def _is_missing(self, path: str, real: str, above_kept: set[str]) -> bool:
        """Return whether the result lacks the file at `path`, or everything that the chain's image has in that folder."""
        ground = self.ground
        node = ground.chain.stat(path)
        if node is None or node.kind != "dir":
            return not ground.has(path)
        if (ground.chain.resolve(path) or real) in above_kept:
            return False
        target = ground.chain.resolve(path) or real
        names = ground.chain.names(target)
        place = ground.production.resolve(path)
        if not names or place is None or not ground.production.is_folder(place):
            return not ground.has(path)
        own = set(ground.production.names(place))
        return not any(name in own for name in names)

    def _data(self, path: str) -> Data | None:
        plain = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
        if _IS_NOISE.fullmatch(plain):
            return None
        chain = self.ground.chain
        real = chain.resolve(plain, follow=False)
        target = chain.resolve(plain)
        if real is None or target is None or _IS_NOISE.fullmatch(target):
            return None
        node = chain.entry(target)
        if node is None or node.kind not in ("file", "dir"):
            return None
        if node.kind == "file":
            return Data(path=real, owner=self.ownership.owner(target) or folder_owner(target))
        if is_wide(target) or is_wide(real) or not (target.startswith(_WRITTEN) or self._holds_files(target)):
            return None
        owners = self._owners(target)
        sources = {self.ownership.source(owner) for owner in owners}
        if len(sources) > 1:
            return None
        return Data(path=real, owner=owners[0] if owners else folder_owner(join(target, "x")))

    def _holds_files(self, folder: str) -> bool:
        walk = zip(range(_MOST_ENTRIES), self.ground.chain.walk(folder), strict=False)
        return any(node.kind in ("file", "link") for _, (_, node) in walk)

    def _owners(self, folder: str) -> list[str]:
        """Return the packages that own the folder or files in it, the one with most files first."""
        counts = dict.fromkeys(self.ownership.folders.get(folder, ()), 0)
        start = bisect_left(self._sorted, f"{folder}/")
        for path in self._sorted[start : start + _MOST_ENTRIES]:
            if not path.startswith(f"{folder}/"):
                break
            owner = self.ownership.files[path]
            counts[owner] = counts.get(owner, 0) + 1
        return sorted(counts, key=lambda owner: (-counts[owner], owner))

    def _size(self, path: str) -> int:
        top = self.ground.chain.resolve(path)
        walk = self.ground.chain.walk(top) if top is not None else iter(())
        return sum(node.size for _, (_, node) in zip(range(_MOST_ENTRIES), walk, strict=False) if node.kind == "file")

    def _note(self, path: str, entry: _NamedPath, state: str, size: int = 0) -> None:
        others = f" and {len(entry.askers) - 1} more" if len(entry.askers) > 1 else ""
        why = f"named in the data of {base(entry.askers[0])}{others}"
        self.ground.note(entry.askers[0], path, entry.data.path, "data", why, state, rule=entry.data.owner, size=size)
