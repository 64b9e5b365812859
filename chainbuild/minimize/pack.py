"""Which libraries have to come with the kept files so that they run in the production image, and where they lie.

The result is looked at before it exists: an overlay of the kept files on the production root is searched by the
production image's own rules. A need that nothing meets there is met by the library that met it in the chain's
image, which goes to ``/usr/local/lib``; this is done again until nothing more is needed. So exactly what the
production image lacks is brought, and nothing that it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chainbuild.minimize.abi import Abi, is_c_library
from chainbuild.minimize.constants import calls
from chainbuild.minimize.elf import Elf
from chainbuild.minimize.ldcache import LD_SO_CONF, configured_folders, musl_folders, musl_path_file
from chainbuild.minimize.loader import BadVersion, Closure, Loaded, Loader, MissingLibrary, Process, Seed, close
from chainbuild.minimize.root import FileTree, Node, Overlay, base, join, parent
from chainbuild.minimize.search import Found, Search, SearchSettings, asker_of

LIBRARY_HOME = "/usr/local/lib"
_OWN_CONF = "/etc/ld.so.conf.d/00-chainbuild.conf"
_ASKING = ("dladdr", "dladdr1", "PR_GetLibraryFilePathname")
"""Functions by which a library learns its own path: dladdr(3), and NSPR's."""
_ROUNDS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class AddedLibrary:
    """A library that comes along: its path in the result, the file it is in the chain's image, who needed it."""

    path: str
    source: str
    name: str
    needed_by: str
    reason: str
    node: Node


@dataclass(kw_only=True, slots=True)
class Problems:
    """What packing could not put right; whether it matters is for verify to say."""

    missing_in_chain: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    missing_in_result: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    versions: dict[tuple[str, str, str], str] = field(default_factory=dict)
    interpreters: dict[str, str] = field(default_factory=dict)


class Packing:
    """The work of bringing libraries; ``overlay`` is the result as it grows."""

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
        self._asks: dict[str, bool] = {}
        self.places: dict[str, str] = {}
        """Where in the result each kept or brought ELF file of the chain's image lies."""

    def settle(self, seeds: Iterable[tuple[Seed, str]]) -> Closure:
        """Brings what ``seeds`` need; each comes with its path in the result. Gives the chain's own closure."""
        todo = list(seeds)
        closure, processes = close(self.chain, (seed for seed, _ in todo))
        for (asker, name), missing in closure.missing.items():
            self.problems.missing_in_chain[asker, name] = missing.searched
        for _ in range(_ROUNDS):
            before = len(self.brought)
            for seed, path in todo:
                if seed.path in processes:
                    self._settle_one(path, seed, processes[seed.path])
            if len(self.brought) == before:
                break
        self._judge([(path, seed, processes[seed.path]) for seed, path in todo if seed.path in processes])
        return closure

    def _settle_one(self, path: str, seed: Seed, there: Process) -> None:
        for _ in range(_ROUNDS):
            process = self.result.run(path, seed.elf, secure=seed.secure)
            wanted = 0
            if not process.interpreter_found and there.interpreter_found and not self._has_c_library(process.abi):
                wanted += self._bring_interpreter(there)
            for missing in process.missing:
                library = there.names.get(missing.name) or self._anywhere(missing, process)
                wanted += library is not None and self._bring(missing.name, missing.asker.file, library, process, "")
            for bad in process.bad_versions:
                library = there.names.get(bad.name)
                if library is not None and bad.version in (library.elf.versions or ()) and self._runs(library, process):
                    why = f"the production image's {bad.library.file} has no {bad.version}"
                    wanted += self._bring(bad.name, bad.asker.file, library, process, why)
            if not wanted:
                return
            self._ensure_home_is_searched(process.abi)
            self.result.changed()

    @staticmethod
    def _runs(library: Loaded, process: Process) -> bool:
        """Whether the C library of the result is new enough for ``library``.

        One for which it is not would take the place of the production image's own and break what works there.
        """
        for need in library.elf.version_needs:
            there = process.names.get(need.library)
            if there is not None and is_c_library(need.library) and there.elf.versions is not None:
                wanted = set(need.versions) - set(need.weak)
                if not wanted <= set(there.elf.versions):
                    return False
        return True

    def _anywhere(self, missing: MissingLibrary, process: Process) -> Loaded | None:
        """For a need that only the production image's own library has: what the chain's image would take for it."""
        elf = missing.asker.elf
        found = self.chain.search.find(
            missing.name, process.abi, self.chain.interpreter_for(elf), asker_of(missing.asker.path, elf)
        )
        return Loaded(path=found.path, file=found.file, elf=found.elf) if isinstance(found, Found) else None

    def _has_c_library(self, abi: Abi) -> bool:
        return any(self.production.is_file(path) for path in (*abi.loaders, abi.musl_loader))

    def _bring_interpreter(self, there: Process) -> bool:
        """For a production image without any C library: the loader, at the very path that programs name."""
        loader = next((one for one in there.objects if one.rule == "interpreter"), None)
        where = self.overlay.place(there.interpreter)
        if loader is None or where is None:
            return False
        return self._lay(where, loader.file, there.interpreter, there.objects[0].file, "the production image has none")

    def _bring(self, name: str, asker: str, library: Loaded, process: Process, why: str) -> bool:
        """Whether something new was laid into the result for ``name``."""
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
        """``/usr/local/lib/NAME``, or where it was in the chain's image if that is taken or would not be found.

        A library that asks where it lies itself (dladdr(3)) looks for plugins and data beside that: it stays where it was
        if it is ``alone``, which is to say that it takes no other library's place. If the result's loader does not search
        there, the next round makes a link to it in ``/usr/local/lib``.
        """
        if "/" in name:
            return self.overlay.place(name)
        here = join(self.home, name)
        if alone and self._asks_where_it_is(library):
            own = self.overlay.place(join(parent(library.path), name))
            if own is not None and own not in self.brought and self.overlay.entry(own) is None:
                return own
        taken = self.overlay.added.get(here)
        listed = name.startswith(("lib", "ld-")) and (library.elf.soname or name) == name
        if listed and (taken is None or (here in self.brought and self.brought[here].source == library.file)):
            return here
        return self.overlay.place(join(parent(library.path), name))

    def _asks_where_it_is(self, library: Loaded) -> bool:
        if library.file not in self._asks:
            node = self.chain.search.tree.entry(library.file)
            self._asks[library.file] = node is not None and bool(calls(node.host, library.elf, _ASKING))
        return self._asks[library.file]

    def _bring_variant(self, variant: str, name: str, asker: str) -> None:
        level = base(parent(variant))
        file = self.chain.search.tree.resolve(variant)
        if file is not None and "/glibc-hwcaps/" in variant:
            where = join(join(join(self.home, "glibc-hwcaps"), level), name)
            self._lay(where, file, name, asker, f"for processors of level {level}")

    def _lay(self, where: str, source: str, name: str, asker: str, reason: str) -> bool:
        if where in self.brought or where in self.overlay.added:
            return False
        known = self.places.get(source)
        if known is not None:
            node = Node(kind="link", target=known)
        else:
            found = self.chain.search.tree.entry(source)
            if found is None:
                return False
            node = found
            self.places[source] = where
        self.overlay.add(where, node)
        self.brought[where] = AddedLibrary(
            path=where, source=source, name=name, needed_by=asker, reason=reason, node=node
        )
        return True

    def _put_home_first(self) -> None:
        """Makes the loader's configuration name ``/usr/local/lib`` before the distribution's own folders."""
        folders = [self.overlay.resolve(folder) for folder in configured_folders(self.overlay)]
        present = [folder for folder in folders if folder is not None]
        if not present or present[0] == self.home:
            return
        self._configure()

    def _ensure_home_is_searched(self, abi: Abi) -> None:
        """Makes the loader of the result look into ``/usr/local/lib``, once something was brought there."""
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
        """Notes what is taken from the production image and what is still wrong with the result."""
        for path, seed, there in settled:
            process = self.result.run(path, seed.elf, secure=seed.secure)
            if not process.interpreter_found and seed.elf.interpreter is not None and seed.elf.executable:
                self.problems.interpreters[path] = process.interpreter
            for loaded in process.objects[1:]:
                if loaded.file not in self.overlay.added:
                    asker = loaded.loader.file if loaded.loader is not None else path
                    self.from_production.setdefault(loaded.file, set()).add(asker)
            for missing in process.missing:
                if missing.name in there.names or not self._missing_there(missing, there):
                    key = missing.asker.file, missing.name
                    self.problems.missing_in_result.setdefault(key, missing.searched)
            for bad in process.bad_versions:
                self.problems.versions.setdefault((bad.asker.file, bad.name, bad.version), _provides(bad))

    @staticmethod
    def _missing_there(missing: MissingLibrary, there: Process) -> bool:
        return any(one.name == missing.name for one in there.missing)


def _provides(bad: BadVersion) -> str:
    """What the library does define, for the message: its highest version of the same family."""
    return f"{bad.library.file}: {best_version(bad.version, bad.library.elf)}"


def best_version(wanted: str, library: Elf) -> str:
    """The highest version of the family of ``wanted`` (``GLIBC_2.38``: ``GLIBC_``) that ``library`` defines."""
    family = wanted.rstrip("0123456789.")
    numbers = []
    for version in library.versions or ():
        rest = version[len(family) :]
        if version.startswith(family) and rest and all(part.isdigit() for part in rest.split(".")):
            numbers.append((tuple(int(part) for part in rest.split(".")), version))
    return max(numbers)[1] if numbers else ""
