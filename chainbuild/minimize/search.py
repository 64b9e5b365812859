"""Find the library that a dynamic loader loads for a name: glibc's rules (ld.so(8)) and musl's.

Nothing is loaded. The order for glibc is: RPATH of the object and of those that loaded it (if the object has no
RUNPATH), `LD_LIBRARY_PATH`, RUNPATH of the object itself, `ld.so.cache`, the folders built into the loader. For musl:
`LD_LIBRARY_PATH`, RPATH or RUNPATH of the object and of those that loaded it, its path file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from chainbuild.minimize.abi import Abi, loadable
from chainbuild.minimize.elf import DF_1_NODEFLIB, Elf, ElfProblem, ElfReader
from chainbuild.minimize.ldcache import (
    HWCAPS,
    CacheEntry,
    built_in_folders,
    configured_folders,
    ldconfig_built_in,
    musl_folders,
    read_cache,
)
from chainbuild.minimize.root import FileTree, base, join, parent

_LEGACY_HWCAPS = frozenset(
    (
        "tls",
        "haswell",
        "xeon_phi",
        "avx512_1",
        "x86_64",
        "i586",
        "i686",
        "sse2",
        "cmov",
        "atomics",
        "neon",
        "vfp",
        "v5l",
        "v6l",
        "v7l",
        "v8l",
        "power7",
        "power8",
        "power9",
        "altivec",
        "z900",
        "z13",
        "z14",
        "z15",
    )
)
"""Folders of processor features that glibc before 2.37 searches (later removed in favour of glibc-hwcaps)."""

_MUSL_OWN = re.compile(r"lib(?:c|pthread|rt|m|dl|util|xnet)\.so(?:\..*)?|lib(?:c|pthread|rt|m|dl|util|xnet)\.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asker:
    """The properties of an object that decide where its needs are searched: the folder it was opened in, and its paths."""

    folder: str
    rpath: str | None
    runpath: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Question:
    """A lookup; see `Search.find`."""

    name: str
    abi: Abi
    loader: str
    asker: Asker
    above: tuple[Asker, ...]
    flags_1: int
    secure: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A library: the path that the loader opens, its file, and the rule that found it.

    `variants` are paths of the same name in glibc-hwcaps folders, which newer processors use instead.
    """

    path: str
    file: str
    elf: Elf
    rule: str
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class NotFound:
    """No library: the searched folders, in order, and the file at which the loader gives up, if any."""

    searched: tuple[str, ...]
    stopped_at: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """How a tree is searched, apart from its content.

    `library_path` is the value of `LD_LIBRARY_PATH`. With `fresh` the configuration's folders are searched as if
    `ldconfig` had just been run: after an existing cache if `cache` is set, otherwise instead of it.
    """

    library_path: str = ""
    cache: bool = True
    fresh: bool = False


class Search:
    """Looks up libraries in a tree; caches its answers until `changed`."""

    def __init__(self, tree: FileTree, reader: ElfReader, settings: SearchSettings) -> None:
        self.tree = tree
        self.reader = reader
        self.settings = settings
        self._cache: dict[str, list[CacheEntry]] | None = None
        self._built_in: dict[tuple[str, str], tuple[str, ...]] = {}
        self._fresh: dict[str, tuple[str, ...]] = {}
        self._hwcaps: dict[str, tuple[str, ...]] = {}
        self._answers: dict[tuple[object, ...], Found | NotFound] = {}

    def changed(self) -> None:
        """Clear the cache: a file was added to the tree."""
        self._answers.clear()
        self._fresh.clear()
        self._hwcaps.clear()
        self._cache = None

    def built_in(self, loader: str, abi: Abi) -> tuple[str, ...]:
        """Return the folders built into glibc's loader at `loader`."""
        key = (loader, abi.name)
        if key not in self._built_in:
            self._built_in[key] = built_in_folders(self.tree, loader, abi)
        return self._built_in[key]

    def find(
        self,
        name: str,
        abi: Abi,
        loader: str,
        asker: Asker,
        above: tuple[Asker, ...] = (),
        *,
        flags_1: int = 0,
        secure: bool = False,
    ) -> Found | NotFound:
        """Find the library that a process run by `loader` opens for `name`.

        `asker` needs it, and `above` are the objects that loaded the asker, nearest first, the program last. `flags_1`
        are the asker's DT_FLAGS_1; `secure` is a set-uid program, for which the environment is ignored.
        """
        musl = is_musl(loader)
        inherited = tuple(
            loaded for loaded in above if loaded.rpath is not None or (musl and loaded.runpath is not None)
        )
        own = asker if asker.rpath is not None or asker.runpath is not None or "/" in name else None
        key = (name, abi.name, loader, own, inherited, flags_1 & DF_1_NODEFLIB, secure)
        answer = self._answers.get(key)
        if answer is None:
            places = self._musl_places if musl else self._glibc_places
            question = _Question(
                name=name, abi=abi, loader=loader, asker=asker, above=inherited, flags_1=flags_1, secure=secure
            )
            answer = self._first(name, abi, places(question), musl)
            self._answers[key] = answer
        return answer

    def _first(self, name: str, abi: Abi, places: Iterator[tuple[str, str]], musl: bool) -> Found | NotFound:
        """Return the first of `places` (rule, folder or path) that has a library which the process may load."""
        searched: list[str] = []
        for rule, where in places:
            exact = rule in ("path", "cache")
            variants = [] if exact or musl else self._variants(where, name, abi)
            if rule == "cache":
                variants = [entry.path for entry in self._cached(name, abi) if entry.hwcaps]
            else:
                searched.append(where)
            path = where if exact else join(where, name)
            answer = self._open(path, abi, rule, tuple(variants), musl)
            if answer is None and variants:
                answer = self._open(variants[0], abi, rule, tuple(variants[1:]), musl)
            if isinstance(answer, NotFound):
                return NotFound(searched=tuple(searched), stopped_at=answer.stopped_at)
            if answer is not None:
                return answer
        return NotFound(searched=tuple(searched))

    def _open(self, path: str, abi: Abi, rule: str, variants: tuple[str, ...], musl: bool) -> Found | NotFound | None:
        """Return None if the search continues: the file is missing, or for another machine, which glibc skips."""
        file = self.tree.resolve(path)
        node = None if file is None else self.tree.entry(file)
        if file is None or node is None or node.kind != "file":
            return None
        elf = self.reader.read_node(node)
        if elf is None or isinstance(elf, ElfProblem):
            return NotFound(searched=(), stopped_at=path)
        if not loadable(elf, abi):
            return NotFound(searched=(), stopped_at=path) if musl else None
        return Found(path=path, file=file, elf=elf, rule=rule, variants=variants)

    def _variants(self, folder: str, name: str, abi: Abi) -> list[str]:
        subfolders = self._hwcaps.get(folder)
        if subfolders is None:
            where = self.tree.resolve(folder)
            subfolders = ()
            if where is not None and self.tree.is_folder(where):
                levels = self.tree.names(join(where, HWCAPS)) if self.tree.is_folder(join(where, HWCAPS)) else []
                legacy = sorted(_LEGACY_HWCAPS.intersection(self.tree.names(where)))
                subfolders = (*(f"{HWCAPS}/{level}" for level in reversed(levels)), *legacy)
            self._hwcaps[folder] = subfolders
        variants = []
        for subfolder in subfolders:
            path = join(join(folder, subfolder), name)
            file = self.tree.resolve(path)
            elf = None if file is None else self.reader.read(self.tree, file)
            if isinstance(elf, Elf) and loadable(elf, abi):
                variants.append(path)
        return variants

    def _glibc_places(self, question: _Question) -> Iterator[tuple[str, str]]:
        name, abi, asker, above = question.name, question.abi, question.asker, question.above
        built_in = self.built_in(question.loader, abi)

        def expand(loaded: Asker, paths: str) -> Iterator[str]:
            return expand_paths(paths, loaded.folder, built_in, abi, trusted_only=question.secure)

        if "/" in name:
            yield from (("path", path) for path in expand(asker, name))
            return
        if asker.runpath is None:
            for loaded in (asker, *above):
                if loaded.rpath is not None and loaded.runpath is None:
                    yield from (("RPATH", folder) for folder in expand(loaded, loaded.rpath))
        if self.settings.library_path and not question.secure:
            for folder in expand(above[-1] if above else asker, self.settings.library_path.replace(";", ":")):
                yield "LD_LIBRARY_PATH", folder
        if asker.runpath is not None:
            yield from (("RUNPATH", folder) for folder in expand(asker, asker.runpath))
        without_system = bool(question.flags_1 & DF_1_NODEFLIB)
        if self.settings.cache:
            for entry in self._cached(name, abi):
                inside = without_system and entry.path.startswith(tuple(folder + "/" for folder in built_in))
                if not entry.hwcaps and not inside:
                    yield "cache", entry.path
                    break
        if self.settings.fresh:
            for folder in self._fresh_folders(built_in):
                if not (without_system and folder in built_in):
                    yield "ld.so.conf", folder
        if not without_system:
            yield from (("default", folder) for folder in built_in)

    def _musl_places(self, question: _Question) -> Iterator[tuple[str, str]]:
        name, abi, asker, above = question.name, question.abi, question.asker, question.above
        if "/" in name:
            yield "path", name
            return
        if self.settings.library_path and not question.secure:
            for folder in re.split("[:\n]", self.settings.library_path):
                if folder.startswith("/"):
                    yield "LD_LIBRARY_PATH", folder
        for loaded in (asker, *above):
            paths = loaded.rpath if loaded.runpath is None else loaded.runpath
            plain = (paths or "").replace("${ORIGIN}", loaded.folder).replace("$ORIGIN", loaded.folder)
            if "$" not in plain:
                yield from (("RPATH", _tidy(part)) for part in plain.split(":") if part.startswith("/"))
        yield from (("default", folder) for folder in musl_folders(self.tree, abi))

    def _cached(self, name: str, abi: Abi) -> list[CacheEntry]:
        if self._cache is None:
            self._cache = {}
            for entry in read_cache(self.tree) or ():
                self._cache.setdefault(entry.name, []).append(entry)
        return [entry for entry in self._cache.get(name, ()) if entry.flags in (abi.cache_flags, 0x0003)]

    def _fresh_folders(self, built_in: tuple[str, ...]) -> tuple[str, ...]:
        key = "\n".join(built_in)
        if key not in self._fresh:
            every = (*configured_folders(self.tree), *ldconfig_built_in(self.tree, built_in))
            self._fresh[key] = tuple(dict.fromkeys(_tidy(folder) for folder in every))
        return self._fresh[key]


def is_musl(loader: str) -> bool:
    """Return whether musl's loader runs programs with this interpreter."""
    return base(loader).startswith("ld-musl-")


def musl_itself(name: str) -> bool:
    """Return whether musl uses its own loader for this library name (`reserved` in ldso/dynlink.c)."""
    return _MUSL_OWN.match(name) is not None


def expand_paths(
    paths: str, origin: str, built_in: tuple[str, ...], abi: Abi, *, trusted_only: bool = False
) -> Iterator[str]:
    """Yield the folders of an RPATH, a RUNPATH or `LD_LIBRARY_PATH`, with tokens replaced (ld.so(8)).

    Relative folders are left out: they depend on where a process is started. With `trusted_only` a folder from
    `$ORIGIN` counts only if the loader trusts it.
    """
    library = "lib" if not built_in else "/".join(part for part in built_in[0].split("/") if part not in ("", "usr"))
    for part in paths.split(":"):
        text = part
        for token, value in (("ORIGIN", origin), ("LIB", library), ("PLATFORM", abi.platform)):
            text = text.replace("${" + token + "}", value)
            text = re.sub(rf"\${token}(?![A-Za-z0-9_])", lambda _, v=value: v, text)  # type: ignore[misc]
        if not text.startswith("/"):
            continue
        if trusted_only and "ORIGIN" in part and _tidy(text) not in built_in:
            continue
        yield _tidy(text)


def _tidy(path: str) -> str:
    """Return `path` without doubled slashes and dots; `..` stays, because it may follow a link."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def asker_of(path: str, elf: Elf) -> Asker:
    """Return the `Asker` of an object opened as `path`."""
    return Asker(folder=parent(path), rpath=elf.rpath, runpath=elf.runpath)
