"""Determine which libraries the kept files need in addition in order to run in the production image, and their paths.

The result is analysed before it exists: an overlay of the kept files on the production root is searched by the
production image's own rules. A need that is not met there is met by the chain's library, which goes to
`/usr/local/lib`; this is repeated until nothing more is needed. So exactly what the production image lacks is added,
and nothing that it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chainbuild.minimize.abi import Abi, is_c_library
from chainbuild.minimize.constants import calls
from chainbuild.minimize.elf import Elf
from chainbuild.minimize.ldcache import LD_SO_CONF, configured_folders, musl_folders, musl_path_file
from chainbuild.minimize.loader import BadVersion, Closure, Loaded, Loader, MissingLibrary, Process, Seed, close
from chainbuild.minimize.overlay import Overlay
from chainbuild.minimize.root import FileTree, Node, base, join, parent
from chainbuild.minimize.search import Found, Search, SearchSettings, asker_of

LIBRARY_HOME = "/usr/local/lib"
_OWN_CONF = "/etc/ld.so.conf.d/00-chainbuild.conf"
_OWN_PATH_FUNCTIONS = ("dladdr", "dladdr1", "PR_GetLibraryFilePathname")
"""Functions by which a library learns its own path: dladdr(3), and NSPR's."""
_ROUNDS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class AddedLibrary:
    """An added library: its path in the result, its file in the chain's image, and the file that needs it."""

    path: str
    source: str
    name: str
    needed_by: str
    reason: str
    node: Node


@dataclass(kw_only=True, slots=True)
class Problems:
    """What packing could not fix; verify decides whether it matters."""

    missing_in_chain: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    missing_in_result: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    versions: dict[tuple[str, str, str], str] = field(default_factory=dict)
    interpreters: dict[str, str] = field(default_factory=dict)


class Packing:
    """Adds libraries to the result; `overlay` is the result in its current state."""

    def __init__(self, chain: Loader, production: FileTree, overlay: Overlay, *, library_path: str) -> None:
        self.chain = chain
        self.production = production
        self.overlay = overlay
        self.result = Loader(
            Search(overlay, chain.search.reader, SearchSettings(library_path=library_path, cache=False, fresh=True))
        )
        self.home = production.place_folder(LIBRARY_HOME) or LIBRARY_HOME
        self.brought: dict[str, AddedLibrary] = {}
        self.from_production: dict[str, set[str]] = {}
        self.problems = Problems()
        self._ensured: set[str] = set()
        self._users_of_own_path: dict[str, bool] = {}
        self.places: dict[str, str] = {}
        """The paths in the result of kept or added ELF files of the chain's image."""

    def settle(self, seeds: Iterable[tuple[Seed, str]]) -> Closure:
        """Add the libraries that `seeds` need; return the chain's own closure.

        `seeds` are pairs of a file and its path in the result.
        """
        todo = list(seeds)
        closure, processes = close(self.chain, (seed for seed, _ in todo))
        for (asker, name), missing in closure.missing.items():
            self.problems.missing_in_chain[asker, name] = missing.searched
        for _ in range(_ROUNDS):
            before = len(self.brought)
            for seed, path in todo:
                if seed.path in processes:
                    self._settle_file(path, seed, processes[seed.path])
            if len(self.brought) == before:
                break
        self._judge([(path, seed, processes[seed.path]) for seed, path in todo if seed.path in processes])
        return closure

    def _settle_file(self, path: str, seed: Seed, original: Process) -> None:
        for _ in range(_ROUNDS):
            process = self.result.run(path, seed.elf, secure=seed.secure)
            added = 0
            if not process.interpreter_found and original.interpreter_found and not self._has_c_library(process.abi):
                added += self._bring_interpreter(original)
            for missing in process.missing:
                library = original.names.get(missing.name) or self._find_in_chain(missing, process)
                added += library is not None and self._bring(missing.name, missing.asker.file, library, process, "")
            for bad in process.bad_versions:
                library = original.names.get(bad.name)
                if (
                    library is not None
                    and bad.version in (library.elf.versions or ())
                    and self._can_run(library, process)
                ):
                    why = f"the production image's {bad.library.file} has no {bad.version}"
                    added += self._bring(bad.name, bad.asker.file, library, process, why)
            if not added:
                return
            self._ensure_home_is_searched(process.abi)
            self.result.changed()

    @staticmethod
    def _can_run(library: Loaded, process: Process) -> bool:
        """Return whether the C library of the result is new enough for `library`.

        If it is not, the library would replace the production image's own and break what works there.
        """
        for need in library.elf.version_needs:
            provider = process.names.get(need.library)
            if provider is not None and is_c_library(need.library) and provider.elf.versions is not None:
                versions = set(need.versions) - set(need.weak)
                if not versions <= set(provider.elf.versions):
                    return False
        return True

    def _find_in_chain(self, missing: MissingLibrary, process: Process) -> Loaded | None:
        """Return the chain's library for a need that only the production image's own library has."""
        elf = missing.asker.elf
        result = self.chain.search.find(
            missing.name, process.abi, self.chain.interpreter_for(elf), asker_of(missing.asker.path, elf)
        )
        return Loaded(path=result.path, file=result.file, elf=result.elf) if isinstance(result, Found) else None

    def _has_c_library(self, abi: Abi) -> bool:
        return any(self.production.is_file(path) for path in (*abi.loaders, abi.musl_loader))

    def _bring_interpreter(self, original: Process) -> bool:
        """Add the loader at the path that programs name, for a production image without any C library."""
        loader = next((loaded for loaded in original.objects if loaded.rule == "interpreter"), None)
        where = self.overlay.place(original.interpreter)
        if loader is None or where is None:
            return False
        return self._lay(
            where, loader.file, original.interpreter, original.objects[0].file, "the production image has none"
        )

    def _bring(self, name: str, asker: str, library: Loaded, process: Process, why: str) -> bool:
        """Add a library for `name`; return whether anything new was added to the result."""
        if is_c_library(name) or is_c_library(base(library.file)):
            if self._has_c_library(process.abi):
                return False
            where = self.overlay.place(join(parent(library.path), base(name)))
            return where is not None and self._lay(where, library.file, name, asker, "the production image has none")
        where = self._where(name, library, alone=not why)
        if where is None:
            return False
        if why:
            self._put_home_first()
        reason = why or "the production image has none"
        laid = self._lay(where, library.file, name, asker, reason)
        for variant in library.variants if laid and parent(where) == self.home else ():
            self._bring_variant(variant, name, asker)
        return laid

    def _where(self, name: str, library: Loaded, *, alone: bool) -> str | None:
        """Return `/usr/local/lib/NAME`, or the library's path in the chain's image if that is taken or would not be found.

        A library that asks for its own path (dladdr(3)) looks for plugins and data next to it, so it keeps its path if
        it is `alone`, that is, if it does not replace another library. If the result's loader does not search there,
        the next round creates a link to it in `/usr/local/lib`.
        """
        if "/" in name:
            return self.overlay.place(name)
        default = join(self.home, name)
        if alone and self._uses_own_path(library):
            own = self.overlay.place(join(parent(library.path), name))
            if own is not None and own not in self.brought and self.overlay.entry(own) is None:
                return own
        occupant = self.overlay.added.get(default)
        listed = name.startswith(("lib", "ld-")) and (library.elf.soname or name) == name
        if listed and (occupant is None or (default in self.brought and self.brought[default].source == library.file)):
            return default
        return self.overlay.place(join(parent(library.path), name))

    def _uses_own_path(self, library: Loaded) -> bool:
        if library.file not in self._users_of_own_path:
            node = self.chain.search.tree.entry(library.file)
            self._users_of_own_path[library.file] = node is not None and bool(
                calls(node.host, library.elf, _OWN_PATH_FUNCTIONS)
            )
        return self._users_of_own_path[library.file]

    def _bring_variant(self, variant: str, name: str, asker: str) -> None:
        level = base(parent(variant))
        file = self.chain.search.tree.resolve(variant)
        if file is not None and "/glibc-hwcaps/" in variant:
            where = join(join(join(self.home, "glibc-hwcaps"), level), name)
            self._lay(where, file, name, asker, f"for processors of level {level}")

    def _lay(self, where: str, source: str, name: str, asker: str, reason: str) -> bool:
        if where in self.brought or where in self.overlay.added:
            return False
        existing = self.places.get(source)
        if existing is not None:
            node = Node(kind="link", target=existing)
        else:
            entry = self.chain.search.tree.entry(source)
            if entry is None:
                return False
            node = entry
            self.places[source] = where
        self.overlay.add(where, node)
        self.brought[where] = AddedLibrary(
            path=where, source=source, name=name, needed_by=asker, reason=reason, node=node
        )
        return True

    def _put_home_first(self) -> None:
        """Make the loader's configuration list `/usr/local/lib` before the distribution's own folders."""
        folders = [self.overlay.resolve(folder) for folder in configured_folders(self.overlay)]
        present = [folder for folder in folders if folder is not None]
        if not present or present[0] == self.home:
            return
        self._configure()

    def _ensure_home_is_searched(self, abi: Abi) -> None:
        """Make the loader of the result search `/usr/local/lib`, once a library was added there."""
        if abi.name in self._ensured or not any(parent(path) == self.home for path in self.brought):
            return
        self._ensured.add(abi.name)
        configured = {self.overlay.place_folder(folder) for folder in configured_folders(self.overlay)}
        if any(self.overlay.is_file(path) for path in abi.loaders) and self.home not in configured:
            self._configure()
        if abi.musl and self.overlay.is_file(abi.musl_loader):
            folders = musl_folders(self.overlay, abi)
            if self.home not in map(self.overlay.place_folder, folders):
                self._write(musl_path_file(abi), "\n".join((*folders, self.home, "")).encode())

    def _configure(self) -> None:
        line = f"{self.home}\n".encode()
        self._write(_OWN_CONF, line)
        first = next(iter(configured_folders(self.overlay)), None)
        if first != self.home:
            self.overlay.remove(self.overlay.place(_OWN_CONF) or _OWN_CONF)
            self._write(LD_SO_CONF, line + (self.overlay.read(LD_SO_CONF) or b""))
        self.result.changed()

    def _write(self, path: str, data: bytes) -> None:
        where = self.overlay.resolve(path) or self.overlay.place(path) or path
        self.overlay.add(where, Node(kind="file", data=data, size=len(data)))

    def _judge(self, settled: list[tuple[str, Seed, Process]]) -> None:
        """Note what is used from the production image and which problems of the result remain."""
        for path, seed, original in settled:
            process = self.result.run(path, seed.elf, secure=seed.secure)
            if not process.interpreter_found and seed.elf.interpreter is not None and seed.elf.executable:
                self.problems.interpreters[path] = process.interpreter
            for loaded in process.objects[1:]:
                if loaded.file not in self.overlay.added:
                    asker = loaded.loader.file if loaded.loader is not None else path
                    self.from_production.setdefault(loaded.file, set()).add(asker)
            for missing in process.missing:
                if missing.name in original.names or not self._is_missing_in(missing, original):
                    key = missing.asker.file, missing.name
                    self.problems.missing_in_result.setdefault(key, missing.searched)
            for bad in process.bad_versions:
                self.problems.versions.setdefault((bad.asker.file, bad.name, bad.version), _provides(bad))

    @staticmethod
    def _is_missing_in(missing: MissingLibrary, original: Process) -> bool:
        return any(library.name == missing.name for library in original.missing)


def _provides(bad: BadVersion) -> str:
    """Return the library and its highest version of the same family, for the message."""
    return f"{bad.library.file}: {best_version(bad.version, bad.library.elf)}"


def best_version(wanted: str, library: Elf) -> str:
    """Return the highest version of the family of `wanted` (`GLIBC_2.38`: `GLIBC_`) that `library` defines."""
    family = wanted.rstrip("0123456789.")
    numbers = []
    for version in library.versions or ():
        rest = version[len(family) :]
        if version.startswith(family) and rest and all(part.isdigit() for part in rest.split(".")):
            numbers.append((tuple(int(part) for part in rest.split(".")), version))
    return max(numbers)[1] if numbers else ""
