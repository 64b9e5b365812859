"""Find the paths that a test accessed in the chain's image and a production image lacks.

Both images are read as folders; nothing in them is run. A path counts if the chain's image has it: files that the test
created are in neither. It is missing if it does not resolve in the production image, by that image's own links. Left
out are paths that no program depends on (`NOISE`), and files that the production image has in another place where
programs find them:

- a library that its loader finds by the same name,
- a program that is found on PATH by the same name,
- a Python module whose compiled form was read, if its source or that compiled form exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chainbuild.minimize.abi import abi_of
from chainbuild.minimize.elf import Elf, ElfReader
from chainbuild.minimize.loader import Loader
from chainbuild.minimize.root import RootFileSystem, base, join, parent
from chainbuild.minimize.scripts import DEFAULT_PATH, interpreters_of
from chainbuild.minimize.search import Asker, Found, Search, SearchSettings
from chainbuild.minimize.trace.accesses import Access
from chainbuild.minimize.trace.folders import is_wide

NOISE = (
    "/proc",
    "/sys",
    "/dev",
    "/tmp",  # noqa: S108
    "/var/tmp",  # noqa: S108
    "/run",
    "/var/run",
    "/var/cache",
    # The builder and the engine create these.
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/mtab",
    # Every program reads these at its start; the proof of libraries checks their content.
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
)
"""Files and folders that never count, with everything below them. Folders named `.cache` do not count either."""

_COMPILED = re.compile(r"(?P<module>[^./]+)\.[^/]*pyc")
_FIRST_LINE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class LostPath:
    """A missing path: as requested by the test, how it was accessed, and by which program.

    `kind` is `opened`, `listed` (a folder was opened), `entered` or `executed`.
    """

    path: str
    kind: str
    program: str


@dataclass(kw_only=True, slots=True)
class TraceComparison:
    """The accessed paths of the chain's image that count, and the missing ones among them, sorted by path."""

    counted: set[str] = field(default_factory=set)
    missing: list[LostPath] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variables:
    """The variables that decide where a process of the image searches: `LD_LIBRARY_PATH` and `PATH`."""

    library_path: str = ""
    search_path: str = DEFAULT_PATH


class Comparer:
    """Compares a test's accesses in the chain's image with a production image."""

    def __init__(self, chain: RootFileSystem, production: RootFileSystem, variables: Variables | None = None) -> None:
        variables = variables or Variables()
        self._chain = chain
        self._production = production
        self._reader = ElfReader()
        self._loader = Loader(Search(production, self._reader, SearchSettings(library_path=variables.library_path)))
        self._programs = [folder for folder in variables.search_path.split(":") if folder.startswith("/")]

    def compare(self, accesses: Iterable[Access]) -> TraceComparison:
        """Compare all accesses of a test."""
        result = TraceComparison()
        seen: set[str] = set()
        for access in accesses:
            for entry in self._with_interpreters(access):
                path = self._counted_path(entry)
                if not path or path in seen:
                    continue
                seen.add(path)
                kind = self._kind(path, entry.kind)
                if not kind:
                    continue
                result.counted.add(path)
                if self._production.resolve(path) is None and not self._elsewhere(path, kind):
                    result.missing.append(LostPath(path=path, kind=kind, program=entry.program))
        result.missing.sort(key=lambda entry: entry.path)
        return result

    def _with_interpreters(self, access: Access) -> Iterator[Access]:
        """Yield the access, and the interpreter that the kernel starts for a script, which no call shows."""
        yield access
        if access.kind == "executed":
            names = interpreters_of(self._chain.read(access.path, _FIRST_LINE) or b"")
            if names and names[0].startswith("/"):
                yield Access(path=names[0], kind="executed", program=access.path)

    def _counted_path(self, access: Access) -> str:
        """Return the path to compare: the requested path, or its target if only a link that the test created leads there."""
        for path in (_tidy(access.path), _tidy(access.real)):
            if path != "/" and not is_noise(path) and self._chain.resolve(path) is not None:
                return self._source_of(path)
        return ""

    def _source_of(self, path: str) -> str:
        """Return the source of a module compiled in `__pycache__`, otherwise the path; empty for a cache without a source."""
        folder = parent(path)
        if base(folder) != "__pycache__":
            return path
        match = _COMPILED.fullmatch(base(path))
        source = join(parent(folder), f"{match['module']}.py") if match else ""
        if not source or not self._chain.is_file(source) or self._production.is_file(path):
            return ""
        return source

    def _kind(self, path: str, kind: str) -> str:
        """Return how a path was accessed; empty for a folder that does not count: one of the whole system, or an empty one."""
        if not self._chain.is_folder(path):
            return kind
        real = self._chain.resolve(path) or path
        if kind == "opened":
            return "" if is_wide(real) or not self._chain.names(real) else "listed"
        return "" if is_wide(real) else kind

    def _elsewhere(self, path: str, kind: str) -> bool:
        if kind == "executed":
            folders = {self._chain.resolve(folder) for folder in self._programs}
            on_path = self._chain.resolve(parent(path)) in folders
            return on_path and any(self._production.is_file(join(folder, base(path))) for folder in self._programs)
        return kind == "opened" and self._is_library_elsewhere(path)

    def _is_library_elsewhere(self, path: str) -> bool:
        file = self._chain.resolve(path)
        elf = self._reader.read(self._chain, file) if file is not None else None
        if file is None or not isinstance(elf, Elf) or elf.executable or not elf.soname:
            return False
        abi, interpreter = abi_of(elf), self._loader.interpreter_for(elf)
        asker = Asker(folder="/", rpath=None, runpath=None)
        return any(
            isinstance(self._loader.search.find(name, abi, interpreter, asker), Found)
            for name in dict.fromkeys((elf.soname, base(path)))
            if "/" not in name
        )


def is_noise(path: str) -> bool:
    """Return whether a path never counts."""
    tidy = _tidy(path)
    return any(tidy == folder or tidy.startswith(f"{folder}/") for folder in NOISE) or "/.cache/" in f"{tidy}/"


def _tidy(path: str) -> str:
    """Return the path without doubled slashes and `.`; `..` stays, because it may follow a link."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
