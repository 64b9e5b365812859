"""Everything that a set of ELF files needs in a tree, and by which chain of needs each file is in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chainbuild.minimize.elf import ET_DYN, ET_EXEC, Elf, ElfProblem, ElfReader
from chainbuild.minimize.loader import Loader, Missing, Process
from chainbuild.minimize.root import Tree, parent


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
    missing: dict[tuple[str, str], Missing] = field(default_factory=dict)

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


def elf_files(tree: Tree, reader: ElfReader, paths: Iterable[str]) -> Iterator[tuple[str, Elf | ElfProblem]]:
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


def top_folders(tree: Tree, patterns: Iterable[str]) -> tuple[list[str], list[str]]:
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
