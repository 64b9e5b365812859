"""Simulate the dynamic loader: the libraries that an ELF file loads, and the closure of a set of files.

The closure has everything that a set of ELF files needs in a tree, and the chain of needs by which each file is in.

A process is what would be loaded before its first instruction. The walk is breadth-first and follows
`_dl_map_object_deps` of glibc: needs in order, level by level; a need is first looked up among the loaded objects (by
the name it was loaded as, by SONAME, by being the same file), then by `search`. Versions are checked as
`_dl_check_map_versions` does. musl does not check versions.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chainbuild.minimize.abi import Abi, abi_of
from chainbuild.minimize.elf import Elf, ElfProblem, ElfReader
from chainbuild.minimize.elf_file import ET_DYN, ET_EXEC
from chainbuild.minimize.root import FileTree, Node, base, parent
from chainbuild.minimize.search import Asker, Found, Search, asker_of, is_musl, musl_itself


@dataclass(frozen=True, kw_only=True, slots=True)
class Seed:
    """A file from which the closure starts, and the reason; `secure` is the result of `is_secure`."""

    path: str
    elf: Elf
    reason: str
    secure: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A need: `asker` needs `name`."""

    asker: str
    name: str


@dataclass(kw_only=True, slots=True)
class Closure:
    """The needed files (seeds only if something needs them) and how each was reached."""

    files: dict[str, Link] = field(default_factory=dict)
    missing: dict[tuple[str, str], MissingLibrary] = field(default_factory=dict)

    def add(self, process: Process) -> None:
        """Add the objects of a process. The first need that brought a file is the one that is kept."""
        for loaded in process.objects[1:]:
            if loaded.loader is not None and loaded.file not in self.files:
                self.files[loaded.file] = Link(asker=loaded.loader.file, name=loaded.name)
        for missing in process.missing:
            self.missing.setdefault((missing.asker.file, missing.name), missing)

    def chain(self, file: str) -> tuple[Link, ...]:
        """Return the needs from a seed down to `file`; empty if nothing needs it."""
        links: list[Link] = []
        seen: set[str] = set()
        while file in self.files and file not in seen:
            seen.add(file)
            links.append(self.files[file])
            file = links[-1].asker
        return tuple(reversed(links))


def elf_files(tree: FileTree, reader: ElfReader, paths: Iterable[str]) -> Iterator[tuple[str, Elf | ElfProblem]]:
    """Yield the ELF files among `paths` (free of links) and below them, each once."""
    seen: set[str] = set()
    for top in paths:
        for path, node in tree.walk(top):
            if node.kind == "file" and path not in seen:
                seen.add(path)
                elf = reader.read_node(node)
                if elf is not None:
                    yield path, elf


def runs_or_loads(elf: Elf) -> bool:
    """Return whether a dynamic loader ever handles the file: not objects, kernel modules, cores and static programs."""
    return elf.kind in (ET_EXEC, ET_DYN) and elf.dynamic


def close(loader: Loader, seeds: Iterable[Seed]) -> tuple[Closure, dict[str, Process]]:
    """Return the closure of `seeds`, and the process of each."""
    closure = Closure()
    processes: dict[str, Process] = {}
    for seed in seeds:
        if seed.path in processes or not runs_or_loads(seed.elf):
            continue
        process = loader.run(seed.path, seed.elf, secure=seed.secure)
        processes[seed.path] = process
        closure.add(process)
    return closure, processes


def top_folders(tree: FileTree, patterns: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the paths in `tree` that match shell patterns, with links followed, and the patterns that match nothing."""
    matches: dict[str, None] = {}
    empty: list[str] = []
    for pattern in patterns:
        names = [path for path in map(tree.resolve, tree.glob(pattern)) if path is not None]
        matches.update(dict.fromkeys(names))
        if not names:
            empty.append(pattern)
    inside = [path for path in matches if not any(folder != path and _below(path, folder) for folder in matches)]
    return inside, empty


def _below(path: str, folder: str) -> bool:
    while path != "/":
        path = parent(path)
        if path == folder:
            return True
    return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """An object of a process: its path as opened, its file, the name that loaded it, and its loader."""

    path: str
    file: str
    elf: Elf
    name: str = ""
    loader: Loaded | None = None
    rule: str = "program"
    variants: tuple[str, ...] = ()

    @property
    def askers_above(self) -> tuple[Asker, ...]:
        """Return the objects that loaded it, nearest first."""
        chain = []
        loaded = self.loader
        while loaded is not None:
            chain.append(asker_of(loaded.path, loaded.elf))
            loaded = loaded.loader
        return tuple(chain)


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingLibrary:
    """A need that no library meets."""

    asker: Loaded
    name: str
    searched: tuple[str, ...]
    stopped_at: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadVersion:
    """A version that `asker` needs of the library `name` and that `library` does not define."""

    asker: Loaded
    name: str
    version: str
    library: Loaded


@dataclass(kw_only=True, slots=True)
class Process:
    """A simulated process: the loaded objects, the names by which they are known, and the problems."""

    abi: Abi
    interpreter: str
    interpreter_found: bool
    objects: list[Loaded] = field(default_factory=list)
    names: dict[str, Loaded] = field(default_factory=dict)
    missing: list[MissingLibrary] = field(default_factory=list)
    bad_versions: list[BadVersion] = field(default_factory=list)
    unversioned: list[tuple[Loaded, Loaded]] = field(default_factory=list)


class Loader:
    """Simulates processes with a `Search`."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self._homes: dict[tuple[str, bool], str] = {}

    def interpreter_for(self, elf: Elf) -> str:
        """Return the loader that runs `elf`: its own PT_INTERP, or for a library the tree's loader for its machine."""
        if elf.interpreter is not None and elf.executable:
            return elf.interpreter
        abi = abi_of(elf)
        musl = any(name.startswith("libc.musl-") for name in elf.needed)
        key = (abi.name, musl)
        if key not in self._homes:
            usual = [*abi.loaders, abi.musl_loader] if abi.musl else list(abi.loaders)
            if musl:
                usual.reverse()
            existing = [path for path in usual if self.search.tree.is_file(path)]
            self._homes[key] = (existing or usual or [""])[0]
        return self._homes[key]

    def changed(self) -> None:
        """Clear the cache: a file was added to the tree."""
        self._homes.clear()
        self.search.changed()

    def run(self, path: str, elf: Elf, *, secure: bool = False) -> Process:
        """Simulate the process of the program at `path` (free of links), or of a library alone, as `ldd` does."""
        abi, interpreter = abi_of(elf), self.interpreter_for(elf)
        main = Loaded(path=path, file=path, elf=elf)
        process = Process(abi=abi, interpreter=interpreter, interpreter_found=False)
        files = {main.file: main}
        process.objects.append(main)
        _register(process, main, base(path) if not elf.executable else "")
        if elf.interpreter is not None or elf.needed:
            self._add_interpreter(process, files, main)
        index = 0
        while index < len(process.objects):
            asker = process.objects[index]
            index += 1
            if asker.rule != "interpreter":
                self._needs(process, files, asker, secure)
        if not is_musl(interpreter):
            _check_versions(process)
        return process

    def _add_interpreter(self, process: Process, files: dict[str, Loaded], main: Loaded) -> None:
        tree = self.search.tree
        file = tree.resolve(process.interpreter) if process.interpreter.startswith("/") else None
        elf = None if file is None else self.search.reader.read(tree, file)
        if file is None or elf is None or isinstance(elf, ElfProblem):
            return
        process.interpreter_found = True
        if file in files:
            return
        loaded = Loaded(
            path=process.interpreter, file=file, elf=elf, name=process.interpreter, loader=main, rule="interpreter"
        )
        files[file] = loaded
        process.objects.append(loaded)
        _register(process, loaded, process.interpreter)
        _register(process, loaded, base(process.interpreter))

    def _needs(self, process: Process, files: dict[str, Loaded], asker: Loaded, secure: bool) -> None:
        above: tuple[Asker, ...] | None = None
        for name in asker.elf.needed:
            if name in process.names:
                continue
            if is_musl(process.interpreter) and musl_itself(name) and process.interpreter in process.names:
                process.names[name] = process.names[process.interpreter]
                continue
            if above is None:
                above = asker.askers_above
            result = self.search.find(
                name,
                process.abi,
                process.interpreter,
                asker_of(asker.path, asker.elf),
                above,
                flags_1=asker.elf.flags_1,
                secure=secure,
            )
            if not isinstance(result, Found):
                process.missing.append(
                    MissingLibrary(asker=asker, name=name, searched=result.searched, stopped_at=result.stopped_at)
                )
                continue
            same = files.get(result.file)
            if same is not None:
                _register(process, same, name)
                continue
            loaded = Loaded(
                path=result.path,
                file=result.file,
                elf=result.elf,
                name=name,
                loader=asker,
                rule=result.rule,
                variants=result.variants,
            )
            files[result.file] = loaded
            process.objects.append(loaded)
            _register(process, loaded, name)


def _register(process: Process, loaded: Loaded, name: str) -> None:
    if name:
        process.names.setdefault(name, loaded)
    if loaded.elf.soname:
        process.names.setdefault(loaded.elf.soname, loaded)


def _check_versions(process: Process) -> None:
    for asker in process.objects:
        for need in asker.elf.version_needs:
            library = process.names.get(need.library)
            if library is None:
                continue
            if library.elf.versions is None:
                process.unversioned.append((asker, library))
                continue
            process.bad_versions.extend(
                BadVersion(asker=asker, name=need.library, version=version, library=library)
                for version in need.versions
                if version not in library.elf.versions and version not in need.weak
            )


def is_secure(node: Node) -> bool:
    """Return whether a program runs with other privileges than its caller, so that the loader ignores its environment."""
    if not node.host:
        return False
    try:
        return bool(os.lstat(node.host).st_mode & (stat.S_ISUID | stat.S_ISGID))
    except OSError:
        return False
