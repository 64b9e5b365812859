"""Choose short patterns for `ADDITIONAL_FILES` that bring missing paths.

A pattern is the first of these that applies:

1. a link on the way of the path that the production image lacks: a kept link brings its target, unless that is a folder of
the whole system; then the path itself is a pattern as well;
2. a folder that the test listed;
3. the highest folder all of whose files belong to the same package (or to none), if at least `MANY` paths in it are missing;
4. the path itself.

A folder of the whole system is never a pattern: one of the file system hierarchy (`/usr/share`), of Debian
(`/usr/lib/x86_64-linux-gnu`) or of Python (`site-packages`), whichever packages have files in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chainbuild.minimize.packages import Ownership
from chainbuild.minimize.root import RootFileSystem, base, join, parent

MANY = 3
"""The number of missing paths from which a package's folder is kept instead of single files."""
_MIXED = "\0"
_LEFT = frozenset(("/proc", "/sys", "/dev"))

_TOP = "bin boot dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin srv sys tmp usr var"
_BELOW_USR = "bin etc games include lib lib32 lib64 libexec libx32 local man sbin share src"
_BELOW_SHARE = (
    "applications bash-completion common-licenses dbus-1 doc doc-base emacs fonts glib-2.0 i18n icons info java "
    "locale man menu metainfo mime misc perl perl5 pixmaps pkgconfig polkit-1 themes vim xml zsh"
)
_BELOW_LIB = "cmake debug firmware jvm modules pkgconfig python3 ruby systemd sysusers.d tmpfiles.d udev"
_BELOW_VAR = "backups cache lib local lock log mail opt run spool tmp"
_BELOW_ETC = (
    "alternatives cron.d cron.daily default init.d ld.so.conf.d opt pam.d profile.d security skel ssl systemd xdg"
)


def _any(words: str) -> str:
    return "(?:" + "|".join(re.escape(word) for word in words.split()) + ")"


_WIDE = re.compile(
    rf"/|/{_any(_TOP)}|/usr(?:/local)?/{_any(_BELOW_USR)}|(?:/usr(?:/local)?)?/share/{_any(_BELOW_SHARE)}"
    rf"|(?:/usr(?:/local)?)?/lib(?:32|64|x32)?/(?:{_any(_BELOW_LIB)}|[a-z0-9_]+-linux-[a-z0-9_]+(?:/{_any(_BELOW_LIB)})?)"
    rf"|/var/{_any(_BELOW_VAR)}|/etc/{_any(_BELOW_ETC)}|/(?:home|var/log|usr/share/fonts)/[^/]+"
    r"|.*/python3?(?:\.[0-9]+)?(?:/(?:site|dist)-packages|/lib-dynload)?|.*/(?:site|dist)-packages|.*/node_modules"
)


def is_wide(folder: str) -> bool:
    """Return whether a folder belongs to the whole system."""
    return _WIDE.fullmatch(folder) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class PatternWord:
    """A pattern for some of the missing paths: a path of the chain's image, and the package that owns it.

    `package` is a key of `packages.Ownership`; empty if the path belongs to no package, or to several.
    """

    path: str
    package: str
    brings: tuple[str, ...]


class TracedFolders:
    """The folders of the chain's image by the packages that have files in them."""

    def __init__(self, chain: RootFileSystem, production: RootFileSystem, ownership: Ownership) -> None:
        self._chain = chain
        self._production = production
        self._ownership = ownership
        self._owners: dict[str, str] | None = None

    def words(self, missing: Mapping[str, str]) -> tuple[PatternWord, ...]:
        """Return the sorted patterns for missing paths (with their kinds, see `missing.LostPath`); none contains another."""
        chosen: dict[str, tuple[str, ...]] = {}
        homes: dict[str, list[str]] = {}
        for path, kind in missing.items():
            links, single = self._links(path), self._place(path)
            if kind == "listed":
                chosen[path] = (*links, self._chain.resolve(path) or path)
            elif links and not self._leads_to_wide(links[-1]):
                chosen[path] = links
            else:
                chosen[path] = (*links, single)
                home = self.home(single)
                if home:
                    homes.setdefault(home, []).append(path)
        for home, paths in homes.items():
            if len(paths) >= MANY:
                chosen.update((path, (*chosen[path][:-1], home)) for path in paths)
        return tuple(
            PatternWord(path=word, package=self._package(word), brings=tuple(paths))
            for word, paths in _without_inner(chosen).items()
        )

    def home(self, path: str) -> str:
        """Return the highest folder above a file all of whose files belong to the file's package; empty if none."""
        owners = self._folder_owners()
        owner = self.owner(path)
        result, folder = "", parent(path)
        while not is_wide(folder) and owners.get(folder) == owner:
            result, folder = folder, parent(folder)
        return result

    def owner(self, path: str) -> str:
        """Return the key of the package that owns a path of the chain's image; empty if none."""
        real = self._place(path)
        key = self._ownership.owner(real) or self._ownership.owner(self._chain.resolve(path) or "")
        if key or not self._chain.is_folder(path):
            return key
        return self._package(real)

    def package_of(self, path: str) -> dict[str, str]:
        """Return the report's fields for the package of a path."""
        return self.package(self.owner(path))

    def package(self, key: str) -> dict[str, str]:
        """Return the report's fields for a package: kind, name and version, all empty if there is none."""
        package = self._ownership.packages.get(key)
        if package is None:
            return {"kind_of_package": "", "package": "", "version": ""}
        return {"kind_of_package": package.kind, "package": package.name, "version": package.version}

    def _package(self, path: str) -> str:
        folder = self._chain.resolve(path)
        if folder is None or not self._chain.is_folder(folder):
            return self.owner(path)
        owner = self._folder_owners().get(folder, "")
        return "" if owner == _MIXED else owner

    def _place(self, path: str) -> str:
        return self._chain.resolve(path, follow=False) or path

    def _leads_to_wide(self, link: str) -> bool:
        """Return whether a link leads to a folder of the whole system, which is not kept for it."""
        target = self._chain.resolve(link)
        return target is None or (self._chain.is_folder(target) and (is_wide(target) or target.count("/") < 2))

    def _links(self, path: str) -> tuple[str, ...]:
        """Return the links on a path that the production image lacks, up to the first that is not to a system folder."""
        links: list[str] = []
        current = ""
        for part in path.split("/")[1:]:
            current = join(current or "/", part)
            if part == "..":
                return ()
            place = self._place(current)
            node = self._chain.entry(place)
            if node is not None and node.kind == "link" and self._production.resolve(current) is None:
                links.append(place)
                if not self._leads_to_wide(place):
                    break
        return tuple(links)

    def _folder_owners(self) -> dict[str, str]:
        """Return the package of all files below each folder; `_MIXED` if there are several."""
        if self._owners is None:
            self._owners = {}
            for path, node in self._chain.walk("/", skip=_LEFT):
                if node.kind in ("file", "link") and base(parent(path)) != "__pycache__":
                    _enter(self._owners, parent(path), self._ownership.owner(path))
        return self._owners


def _enter(owners: dict[str, str], folder: str, owner: str) -> None:
    while owners.get(folder) not in (owner, _MIXED):
        owner = _MIXED if folder in owners else owner
        owners[folder] = owner
        if folder == "/":
            return
        folder = parent(folder)


def _without_inner(chosen: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Return the paths by pattern, without patterns that another one includes."""
    result: dict[str, list[str]] = {}
    every = {word for words in chosen.values() for word in words}
    for word in sorted(every):
        if not any(above in every for above in _above(word)):
            result[word] = []
    for path, words in sorted(chosen.items()):
        for word in words:
            outer = next(candidate for candidate in (word, *_above(word)) if candidate in result)
            if path not in result[outer]:
                result[outer].append(path)
    return result


def _above(path: str) -> Iterator[str]:
    while path != "/":
        path = parent(path)
        yield path


def pattern_of(path: str) -> str:
    """Return a shell pattern that matches exactly one path, as a line of UTF-8 text.

    Pattern characters are put in brackets; characters that a line cannot contain become `?`, which matches any
    character.
    """
    text = re.sub(r"[*?\[]", lambda match: f"[{match[0]}]", path)
    # A backslash would make the following separator part of the value.
    return "".join(character if character.isprintable() and character != "\\" else "?" for character in text)
