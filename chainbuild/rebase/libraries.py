"""Prove that ELF files find their libraries, symbol versions and symbols on a new base, as they did on the old one.

A file is checked by comparison: what it lacked before, it may lack. So a plugin whose program provides the symbols passes.
Symbols are compared only if a library that the file loads has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from chainbuild.minimize.abi import Abi, abi_of
from chainbuild.minimize.elf import Elf
from chainbuild.minimize.ldcache import (
    LD_SO_CACHE,
    CacheEntry,
    build_cache,
    built_in_folders,
    encode_cache,
    parse_cache,
)
from chainbuild.minimize.loader import Loader, Process, runs_or_loads
from chainbuild.minimize.root import shown
from chainbuild.minimize.search import Search, SearchSettings
from chainbuild.rebase.bases import BasePair
from chainbuild.rebase.symbols import Symbols, provided
from chainbuild.rebase.tree import ImageTree, TreeElfReader

ReadSymbols = Callable[[Collection[bytes]], Mapping[bytes, Symbols | None]]
"""Return the symbols of ELF files by digest of content; None if they cannot be read."""


class LibraryProof:
    """The proof for one step: `old` is the image that was built, `new` the same layers on the new base."""

    def __init__(
        self,
        bases: BasePair,
        old: ImageTree,
        new: ImageTree,
        symbols: ReadSymbols,
        *,
        library_paths: tuple[str, str] = ("", ""),
    ) -> None:
        """`library_paths` are the values of LD_LIBRARY_PATH in the old and the new image."""
        self._bases = bases
        self._trees = (old, new)
        self._symbols = symbols
        self._paths = library_paths
        self.checked = 0

    def conflicts(self) -> Iterator[str]:
        """Yield what ELF files lack in the new image only. `checked` is the number of files that were simulated."""
        old, new = self._trees
        # A path that only one of the images has is a conflict by itself.
        own = [
            path
            for path in old.written
            if (elf := old.elf(path)) is not None and runs_or_loads(elf) and new.elf(path) is not None
        ]
        if not own:
            return
        before, after = (_loader(tree, text) for tree, text in zip(self._trees, self._paths, strict=True))
        for path in own:
            self.checked += 1
            yield from self._differences(path, before, old, after, new)
        yield from self._lost_by_programs(own, after)
        names = {name for path in own for name in (path.rpartition("/")[2], _elf(old, path).soname)}
        if self._bases.needed_names.isdisjoint(name for name in names if name):
            return
        # A library of the step may come before one of the base, so the base's own files are checked, too.
        base = self._bases.new
        alone = _loader(base, self._paths[1])
        for path, entry in base.files.items():
            elf = base.elf(path)
            if elf is None or not runs_or_loads(elf) or new.files.get(path) is not entry:
                continue
            self.checked += 1
            yield from self._differences(path, alone, base, after, new)

    def _lost_by_programs(self, own: Iterable[str], after: Loader) -> Iterator[str]:
        """Yield the symbols that plugins of the step may take from a program of the base, which no longer has them.

        A plugin, such as a module of Python or Apache, has no SONAME, and is not linked with the program that loads it.
        """
        new = self._trees[1]
        plugins = [path for path in own if not _elf(new, path).soname and not _elf(new, path).interpreter]
        pairs = [
            pair
            for path, pair in self._bases.differences.items()
            if (elf := self._bases.old.elf(path)) is not None and elf.interpreter
        ]
        if not plugins or not pairs:
            return
        before, after_contents = ([entry.content for entry in entries if entry] for entries in zip(*pairs, strict=True))
        table = self._symbols({*before, *after_contents, *(new.files[path].content for path in plugins)})
        exports = [
            {name for symbols in _known(table, contents) for name in symbols.exports}
            for contents in (before, after_contents)
        ]
        lost = exports[0] - exports[1]
        for path in plugins:
            known = _known(table, (new.files[path].content,))
            doubtful = [symbol for symbol in (known[0].imports if known else ()) if symbol.name in lost]
            now = _contents(after.run(path, _elf(new, path)), new) if doubtful else {}
            everything = _known(self._symbols(now), now) if doubtful else []
            for symbol in sorted(symbol for symbol in doubtful if not provided(symbol, everything)):
                yield f"{shown(path)}: it needs the symbol {shown(str(symbol))}, which no program of the new base has"

    def _differences(self, path: str, before: Loader, old: ImageTree, after: Loader, new: ImageTree) -> Iterator[str]:
        elf = _elf(old, path)
        was, now = before.run(path, elf), after.run(path, elf)
        if was.interpreter_found and not now.interpreter_found:
            yield f"{shown(path)}: its loader {shown(now.interpreter)} is not in the new base"
            return
        known = {(missing.asker.file, missing.name) for missing in was.missing}
        for missing in now.missing:
            if (missing.asker.file, missing.name) not in known:
                needs = f"{shown(missing.asker.file)}: it needs {shown(missing.name)}"
                yield f"{needs}, which is not in the new base"
        known_versions = {(bad.asker.file, bad.name, bad.version) for bad in was.bad_versions}
        for bad in now.bad_versions:
            if (bad.asker.file, bad.name, bad.version) not in known_versions:
                needs = f"{shown(bad.asker.file)}: it needs {shown(bad.version)} of {shown(bad.name)}"
                yield f"{needs}, which {shown(bad.library.path)} of the new base does not define"
        yield from self._lost_symbols(path, _contents(was, old), _contents(now, new))

    def _lost_symbols(self, path: str, was: Mapping[bytes, str], now: Mapping[bytes, str]) -> Iterator[str]:
        """Yield the symbols that a file imports and only the old image has; `was` and `now` are the loaded files by content."""
        gone, added = was.keys() - now.keys(), now.keys() - was.keys()
        if not gone:
            return
        own = self._trees[1].files[path].content
        table = self._symbols((own, *gone, *added))
        for content in (own, *gone):
            if table[content] is None:
                yield f"{shown(was.get(content, path))}: its symbols cannot be read"
                return
        imported = _known(table, (own,))[0].imports
        before, after = _known(table, gone), _known(table, added)
        doubtful = [symbol for symbol in imported if provided(symbol, before) and not provided(symbol, after)]
        everything = _known(self._symbols(now), now) if doubtful else []
        for symbol in sorted(symbol for symbol in doubtful if not provided(symbol, everything)):
            library = next(was[content] for content in gone if provided(symbol, _known(table, (content,))))
            yield f"{shown(path)}: it needs the symbol {shown(str(symbol))}, which {shown(library)} no longer has"


def _known(table: Mapping[bytes, Symbols | None], contents: Iterable[bytes]) -> list[Symbols]:
    return [found for content in contents if (found := table.get(content)) is not None]


def _contents(process: Process, tree: ImageTree) -> Mapping[bytes, str]:
    return {tree.files[loaded.file].content: loaded.file for loaded in process.objects}


def _elf(tree: ImageTree, path: str) -> Elf:
    elf = tree.elf(path)
    if elf is None:
        raise ValueError(f"{path} is no ELF file")
    return elf


def _loader(tree: ImageTree, library_path: str) -> Loader:
    return Loader(Search(tree, TreeElfReader(tree), SearchSettings(library_path=library_path)))


# ---- /etc/ld.so.cache ------------------------------------------------------------------------------------------------


def renewed_cache(old: ImageTree, new: ImageTree) -> bytes | None:
    """Return the `ld.so.cache` that `ldconfig` would write in the new image; None if it has that already.

    Errors: `ValueError` if the old image's is not what `ldconfig` would write: then it was made in another way.
    """
    data = old.data(LD_SO_CACHE)
    entries = parse_cache(data) if data is not None else None
    abi, loader = _native_abi(new)
    if entries is None or abi is None:
        raise ValueError("it has an unknown format")

    def build(tree: ImageTree) -> tuple[CacheEntry, ...]:
        return build_cache(tree, TreeElfReader(tree), abi, built_in_folders(tree, loader, abi))

    renewed = build(new)
    if renewed == entries:
        return None
    if build(old) != entries:
        raise ValueError("it is not what ldconfig makes of the image that was built")
    return encode_cache(renewed, little=abi.little)


def _native_abi(tree: ImageTree) -> tuple[Abi | None, str]:
    """Return the interface of most programs of an image whose loader it has, and the path of that loader."""
    counts: dict[str, tuple[int, Abi]] = {}
    for elf in tree.elves.values():
        abi = abi_of(elf)
        counts[abi.name] = (counts.get(abi.name, (0, abi))[0] + 1, abi)
    for _, abi in sorted(counts.values(), key=lambda pair: -pair[0]):
        for loader in abi.loaders:
            if tree.is_file(loader):
                return abi, loader
    return None, ""
