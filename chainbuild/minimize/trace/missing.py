"""What a test accessed in the chain's image and a production image does not have.

Both images are looked at as folders; nothing of them is run. A path counts if the chain's image has it: what the test made
itself is in neither. It is missing if it leads nowhere in the production image, by that image's own links. Left out is what
no program depends on (`NOISE`), and what the production image has in another place where programs find it:

- a library that its loader finds by the same name,
- a program that is found on PATH by the same name,
- a Python module whose compiled form was read, if there is its source or that compiled form.
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
    # The builder and the engine put these there.
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/mtab",
    # Looked at by every program that is started; the proof of libraries judges what they say.
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
)
"""Files and folders that never count, with all that is below them. Neither does what is in a folder `.cache`."""

_COMPILED = re.compile(r"(?P<module>[^./]+)\.[^/]*pyc")
_FIRST_LINE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class LostPath:
    """A path that is missing: as the test asked for it, what happened to it, and by which program.

    `kind` is `opened`, `listed` (a folder was opened), `entered` or `executed`.
    """

    path: str
    kind: str
    program: str


@dataclass(kw_only=True, slots=True)
class TraceComparison:
    """The accessed paths of the chain's image that count, and those of them that are missing, in order of paths."""

    counted: set[str] = field(default_factory=set)
    missing: list[LostPath] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variables:
    """What decides where a process of the image looks: `LD_LIBRARY_PATH` and `PATH`."""

    library_path: str = ""
    search_path: str = DEFAULT_PATH


class Comparer:
    """Compares the accesses of a test in the root of the chain's image with the root of a production image."""

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
            for one in self._with_interpreters(access):
                path = self._counting(one)
                if not path or path in seen:
                    continue
                seen.add(path)
                kind = self._kind(path, one.kind)
                if not kind:
                    continue
                result.counted.add(path)
                if self._production.resolve(path) is None and not self._elsewhere(path, kind):
                    result.missing.append(LostPath(path=path, kind=kind, program=one.program))
        result.missing.sort(key=lambda one: one.path)
        return result

    def _with_interpreters(self, access: Access) -> Iterator[Access]:
        """The access, and the interpreter that the kernel starts for a script: no call shows that."""
        yield access
        if access.kind == "executed":
            names = interpreters_of(self._chain.read(access.path, _FIRST_LINE) or b"")
            if names and names[0].startswith("/"):
                yield Access(path=names[0], kind="executed", program=access.path)

    def _counting(self, access: Access) -> str:
        """The path to compare: what was asked for, or what that led to if only the test made it lead there."""
        for path in (_tidy(access.path), _tidy(access.real)):
            if path != "/" and not is_noise(path) and self._chain.resolve(path) is not None:
                return self._source_of(path)
        return ""

    def _source_of(self, path: str) -> str:
        """The source of a compiled Python module in `__pycache__`, else the path; a cache without a source counts not."""
        folder = parent(path)
        if base(folder) != "__pycache__":
            return path
        match = _COMPILED.fullmatch(base(path))
        source = join(parent(folder), f"{match['module']}.py") if match else ""
        if not source or not self._chain.is_file(source) or self._production.is_file(path):
            return ""
        return source

    def _kind(self, path: str, kind: str) -> str:
        """What happened to a path; empty if it is a folder that does not count: one of the whole system, or an empty one."""
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
    """Whether a path never counts."""
    tidy = _tidy(path)
    return any(tidy == one or tidy.startswith(f"{one}/") for one in NOISE) or "/.cache/" in f"{tidy}/"


def _tidy(path: str) -> str:
    """The path without doubled slashes and `.`; `..` stays, because it may follow a link."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
