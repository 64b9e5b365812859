"""What a loader loads: the libraries of an ELF file, and the closure of a set of them.

Everything that a set of ELF files needs in a tree, and by which chain of needs each file is in.

What a process would have loaded before its first instruction: the loader's breadth-first walk, simulated.

The walk follows ``_dl_map_object_deps`` of glibc: needs in order, level by level; a need is first looked for among
what is loaded (by the name it was loaded as, by SONAME, by being the same file), then by :mod:`.search`. Versions
are checked as ``_dl_check_map_versions`` does. musl does not check versions.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chainbuild.minimize.abi import Abi, abi_of
from chainbuild.minimize.elf import ET_DYN, ET_EXEC, Elf, ElfProblem, ElfReader
from chainbuild.minimize.root import FileTree, Node, base, parent
from chainbuild.minimize.search import Asker, Found, Search, asker_of, is_musl, musl_itself


@dataclass(frozen=True, kw_only=True, slots=True)
class Seed:
    """A file that the closure starts from, and why it is one; ``secure`` as :func:`.loader.is_secure` has it."""

    path: str
    elf: Elf
    reason: str
    secure: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One need: ``asker`` names ``name``."""

    asker: str
    name: str


@dataclass(kw_only=True, slots=True)
class Closure:
    """Files that are needed (seeds are not among them unless something needs them) and how each came in."""

    files: dict[str, Link] = field(default_factory=dict)
    missing: dict[tuple[str, str], MissingLibrary] = field(default_factory=dict)

    def add(self, process: Process) -> None:
        """Takes in what one process has loaded. The first need that brought a file is the one that is kept."""
        for loaded in process.objects[1:]:
            if loaded.loader is not None and loaded.file not in self.files:
                self.files[loaded.file] = Link(asker=loaded.loader.file, name=loaded.name)
        for missing in process.missing:
            self.missing.setdefault((missing.asker.file, missing.name), missing)

    def chain(self, file: str) -> tuple[Link, ...]:
        """The needs from a seed down to ``file``; empty for what nothing needs."""
        links: list[Link] = []
        seen: set[str] = set()
        while file in self.files and file not in seen:
            seen.add(file)
            links.append(self.files[file])
            file = links[-1].asker
        return tuple(reversed(links))


def elf_files(tree: FileTree, reader: ElfReader, paths: Iterable[str]) -> Iterator[tuple[str, Elf | ElfProblem]]:
    """The ELF files among ``paths`` (free of links) and below them, each once."""
    seen: set[str] = set()
    for top in paths:
        for path, node in tree.walk(top):
            if node.kind == "file" and path not in seen:
                seen.add(path)
                elf = reader.read_node(node)
                if elf is not None:
                    yield path, elf


def runs_or_loads(elf: Elf) -> bool:
    """Whether a dynamic loader ever deals with the file: objects, kernel modules, cores and static programs not."""
    return elf.kind in (ET_EXEC, ET_DYN) and elf.dynamic


def close(loader: Loader, seeds: Iterable[Seed]) -> tuple[Closure, dict[str, Process]]:
    """The closure of ``seeds``, and the process of each."""
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
    """What shell patterns name in ``tree``, links followed, and the patterns that name nothing."""
    found: dict[str, None] = {}
    empty: list[str] = []
    for pattern in patterns:
        names = [path for path in map(tree.resolve, tree.glob(pattern)) if path is not None]
        found.update(dict.fromkeys(names))
        if not names:
            empty.append(pattern)
    inside = [path for path in found if not any(other != path and _below(path, other) for other in found)]
    return inside, empty


def _below(path: str, folder: str) -> bool:
    while path != "/":
        path = parent(path)
        if path == folder:
            return True
    return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """One object of a process: as the loader opened it, the file behind, the name that brought it, who needed it."""

    path: str
    file: str
    elf: Elf
    name: str = ""
    loader: Loaded | None = None
    rule: str = "program"
    variants: tuple[str, ...] = ()

    @property
    def askers_above(self) -> tuple[Asker, ...]:
        """Those that loaded it, nearest first."""
        chain = []
        one = self.loader
        while one is not None:
            chain.append(asker_of(one.path, one.elf))
            one = one.loader
        return tuple(chain)


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingLibrary:
    """A need that nothing meets."""

    asker: Loaded
    name: str
    searched: tuple[str, ...]
    stopped_at: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadVersion:
    """A version that ``asker`` needs of the library it knows as ``name`` and that ``library`` does not define."""

    asker: Loaded
    name: str
    version: str
    library: Loaded


@dataclass(kw_only=True, slots=True)
class Process:
    """The outcome: what is loaded, by which names it is known, and what is wrong."""

    abi: Abi
    interpreter: str
    interpreter_found: bool
    objects: list[Loaded] = field(default_factory=list)
    names: dict[str, Loaded] = field(default_factory=dict)
    missing: list[MissingLibrary] = field(default_factory=list)
    bad_versions: list[BadVersion] = field(default_factory=list)
    unversioned: list[tuple[Loaded, Loaded]] = field(default_factory=list)


class Loader:
    """Simulates processes over one :class:`Search`."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self._homes: dict[tuple[str, bool], str] = {}

    def interpreter_for(self, elf: Elf) -> str:
        """The loader that runs ``elf``: its own PT_INTERP, or for a library the one that the tree has for its kind."""
        if elf.interpreter is not None and elf.executable:
            return elf.interpreter
        abi = abi_of(elf)
        musl = any(name.startswith("libc.musl-") for name in elf.needed)
        key = (abi.name, musl)
        if key not in self._homes:
            usual = [*abi.loaders, abi.musl_loader] if abi.musl else list(abi.loaders)
            if musl:
                usual.reverse()
            here = [path for path in usual if self.search.tree.is_file(path)]
            self._homes[key] = (here or usual or [""])[0]
        return self._homes[key]

    def changed(self) -> None:
        """Forgets every answer: something was added to the tree."""
        self._homes.clear()
        self.search.changed()

    def run(self, path: str, elf: Elf, *, secure: bool = False) -> Process:
        """The process of the program (or of the library alone, as ``ldd`` takes it) at ``path``, free of links."""
        abi, interpreter = abi_of(elf), self.interpreter_for(elf)
        main = Loaded(path=path, file=path, elf=elf)
        process = Process(abi=abi, interpreter=interpreter, interpreter_found=False)
        files = {main.file: main}
        process.objects.append(main)
        _know(process, main, base(path) if not elf.executable else "")
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
        _know(process, loaded, process.interpreter)
        _know(process, loaded, base(process.interpreter))

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
            found = self.search.find(
                name,
                process.abi,
                process.interpreter,
                asker_of(asker.path, asker.elf),
                above,
                flags_1=asker.elf.flags_1,
                secure=secure,
            )
            if not isinstance(found, Found):
                process.missing.append(
                    MissingLibrary(asker=asker, name=name, searched=found.searched, stopped_at=found.stopped_at)
                )
                continue
            same = files.get(found.file)
            if same is not None:
                _know(process, same, name)
                continue
            loaded = Loaded(
                path=found.path,
                file=found.file,
                elf=found.elf,
                name=name,
                loader=asker,
                rule=found.rule,
                variants=found.variants,
            )
            files[found.file] = loaded
            process.objects.append(loaded)
            _know(process, loaded, name)


def _know(process: Process, loaded: Loaded, name: str) -> None:
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
    """Whether a program is run with other rights than its caller's, which voids the loader's environment."""
    if not node.host:
        return False
    try:
        return bool(os.lstat(node.host).st_mode & (stat.S_ISUID | stat.S_ISGID))
    except OSError:
        return False
