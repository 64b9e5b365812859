"""Find what kept programs open at run time: plugins, surroundings, C library modules, interpreters, data.

Nothing is guessed: a rule counts if its library or program exists, a library named in constant data if the loader would
find it, a path if the chain's image has it. Whatever is not kept is reported.
"""

from __future__ import annotations

import re
from itertools import islice

from chainbuild.minimize.abi import abi_of, is_c_library
from chainbuild.minimize.applying import Applier, Trigger
from chainbuild.minimize.constants import Constants, calls, constants_of, paths_in_text
from chainbuild.minimize.datapaths import DataPaths
from chainbuild.minimize.elf import Elf
from chainbuild.minimize.elf_file import ET_DYN, ET_EXEC
from chainbuild.minimize.environment import keep_wanted
from chainbuild.minimize.ground import Discovery, Environment, Ground, MinimizeArgs, Opened, SearchGround
from chainbuild.minimize.loader import Seed, close, runs_or_loads, top_folders
from chainbuild.minimize.packages import Ownership
from chainbuild.minimize.root import base, join, parent
from chainbuild.minimize.scripts import PROGRAM_FOLDERS, lacking_interpreters
from chainbuild.minimize.search import is_musl
from chainbuild.minimize.select import KeptFiles

__all__ = ["Discovery", "Environment", "MinimizeArgs", "Opened", "SearchGround", "discover", "services_in"]

_ROUNDS = 32
_NSSWITCH = "/etc/nsswitch.conf"
_BUILT_IN_SINCE = "GLIBC_2.34"  # the C library has the services files and dns built in
_MOST_TEXT = 256 << 10


def discover(places: SearchGround, selection: KeptFiles, arguments: MinimizeArgs, ownership: Ownership) -> Discovery:
    """Add what `arguments` ask for to `selection`, and to the needs of files that the reader returns.

    `ownership` is that of the chain's image.
    """
    return _Work(places, selection, arguments, ownership).done()


class _Work:
    def __init__(
        self, places: SearchGround, selection: KeptFiles, arguments: MinimizeArgs, ownership: Ownership
    ) -> None:
        self.places = places
        self.ground = Ground(places, selection, arguments)
        self.applier = Applier(self.ground)
        self.data = DataPaths(self.ground, ownership)
        self.selection, self.arguments = selection, arguments
        self.looked: set[str] = set()
        self.passed = 0
        """How many of the kept paths have been examined as files."""
        self.scripted = 0
        """How many of the kept paths have been examined for their interpreters."""

    def done(self) -> Discovery:
        keep_wanted(self.ground)
        for _ in range(_ROUNDS):
            self._interpreters()
            more = self._files() | self._objects()
            if not more:
                more = self.data.settle()
            if not more:
                break
            self.ground.renew()  # its cached answers have the earlier needs of files
        self.applier.tell()
        self.data.note()
        self.ground.discovery.unknown_packages = [
            name for name in self.data.unknown() if name not in self.arguments.optional_data
        ]
        return self.ground.discovery

    # Files ------------------------------------------------------------------------------------------------------------

    def _files(self) -> bool:
        """Examine kept files by their paths, and the texts among them; return whether anything new is kept."""
        new = list(islice(self.selection.kept.items(), self.passed, None))
        self.passed += len(new)
        more = False
        for path, kept in new:
            if kept.node.kind != "file":
                continue
            elf = self.ground.reader.read_node(kept.node)
            if not isinstance(elf, Elf):
                more |= self.applier.apply(Trigger(path=path, node=kept.node))
                self._add_text(path, kept.node.size)
            elif not runs_or_loads(elf) and elf.kind in (ET_EXEC, ET_DYN):
                constants = constants_of(kept.node.host, elf)
                more |= self.applier.apply(Trigger(path=path, node=kept.node, elf=elf, constants=constants))
                self._add_data(path, constants.paths)
        return more

    def _add_text(self, path: str, size: int) -> None:
        """Record the paths in a script of a program folder, or in a configuration file."""
        program = base(parent(path)) in PROGRAM_FOLDERS
        if size > _MOST_TEXT or not (program or path.startswith("/etc/")):
            return
        text = self.ground.chain.read(path, _MOST_TEXT) or b""
        if b"\0" not in text and (text.startswith(b"#!") or not program):
            for mentioned in paths_in_text(text):
                self.data.add(path, mentioned, text=True)

    def _add_data(self, path: str, paths: tuple[str, ...]) -> None:
        if not is_c_library(base(path)):
            for mentioned in paths:
                self.data.add(path, mentioned)

    # Programs and libraries -------------------------------------------------------------------------------------------

    def _objects(self) -> bool:
        """Examine every program and library that is kept or needed; return whether anything new is kept or needed."""
        more = False
        for path, elf, provided in self._closure():
            if path not in self.looked:
                self.looked.add(path)
                more |= self._examine_provided(elf) if provided else self._look_at(path, elf)
        return more

    def _closure(self) -> list[tuple[str, Elf, bool]]:
        """Return what is kept and everything it needs, sorted by path; the flag marks the production image's own files."""
        ground, seeds = self.ground, dict[str, Elf]()
        for path, kept in self.selection.kept.items():
            elf = ground.reader.read_node(kept.node)
            if isinstance(elf, Elf) and runs_or_loads(elf):
                seeds[path] = elf
        for top in top_folders(ground.chain, self.places.library_locations)[0]:
            for path, node in ground.chain.walk(top):
                elf = ground.reader.read_node(node)
                if isinstance(elf, Elf) and runs_or_loads(elf):
                    seeds[path] = elf
        closure, _ = close(ground.loader, [Seed(path=path, elf=elf, reason="") for path, elf in sorted(seeds.items())])
        objects = {path: (elf, False) for path, elf in seeds.items()}
        for path, link in closure.files.items():
            elf = ground.reader.read(ground.chain, path)
            if isinstance(elf, Elf) and path not in objects:
                objects[path] = elf, ground.provided(link.name, elf) is not None
        return [(path, elf, provided) for path, (elf, provided) in sorted(objects.items())]

    def _look_at(self, path: str, elf: Elf) -> bool:
        node = self.ground.chain.entry(path)
        if node is None:
            return False
        constants = constants_of(node.host, elf)
        called = calls(node.host, elf, self.applier.rules.imports)
        if is_c_library(base(path)):
            constants, called = Constants(libraries=constants.libraries), frozenset()
        trigger = Trigger(path=path, node=node, elf=elf, constants=constants, called=called)
        more = self.applier.apply(trigger)
        if (elf.soname or base(path)) == "libc.so.6":
            more |= self._name_services(path, elf)
        self._add_data(path, constants.paths)
        return self._dlopened(path, elf, constants.libraries) or more

    def _examine_provided(self, elf: Elf) -> bool:
        """Examine a library of the production image: it uses the files around it there, if they exist."""
        library = self.ground.provided(elf.soname, elf) if elf.soname else None
        node = None if library is None else self.ground.production.entry(library.file)
        if library is None or node is None or not isinstance(library.elf, Elf):
            return False
        return self.applier.apply(Trigger(path=library.file, node=node, elf=library.elf, provided=True))

    def _dlopened(self, path: str, elf: Elf, names: tuple[str, ...]) -> bool:
        more = False
        for name in names:
            if not is_c_library(name) and base(name) != base(path):
                more |= self.ground.open(
                    path, elf, name, "dlopen", "named in its data", keep=self.arguments.keep_dlopen
                )
        return more

    def _name_services(self, path: str, elf: Elf) -> bool:
        """Open the modules that `/etc/nsswitch.conf` names (nss(5)); a C library loads only those of its own release."""
        ground = self.ground
        if is_musl(ground.loader.interpreter_for(elf)):
            return False
        own = self.selection.kept.get(_NSSWITCH)
        tree = ground.chain if own is not None else ground.production
        services = services_in(tree.read(_NSSWITCH) or b"passwd: files\nhosts: files dns\n")
        bare = not any(ground.production.is_file(loader) for loader in abi_of(elf).loaders)
        more = False
        for service in services:
            if not (service in ("files", "dns") and _BUILT_IN_SINCE in (elf.versions or ())):
                why = f"the service {service} of {_NSSWITCH}"
                more |= ground.open(path, elf, f"libnss_{service}.so.2", "nss", why, keep=bare)
        return more

    # Interpreters -----------------------------------------------------------------------------------------------------

    def _interpreters(self) -> None:
        """Find interpreters of kept scripts that neither the kept files nor the production image has."""
        ground = self.ground
        new = list(islice(self.selection.kept.items(), self.scripted, None))
        self.scripted += len(new)
        files = sorted(path for path, kept in new if kept.node.kind == "file")
        missing = lacking_interpreters(ground.chain, files, self.places.search_path, there=self._has)
        for script, name in ((script, name) for script, names in missing.items() for name in names):
            folders = [""] if name.startswith("/") else self.places.search_path.split(":")
            paths = [name if not folder else join(folder, name) for folder in folders]
            file = next((path for path in paths if ground.chain.is_file(path)), None)
            if file is None:
                continue
            state = "left"
            if self.arguments.keep_interpreters:
                ground.keep(file, f"interpreter of {script}", script)
                state = "kept"
            real = ground.chain.resolve(file) or file
            ground.note(script, name, real, "interpreter", "its interpreter", state)

    def _has(self, path: str) -> bool:
        place = self.ground.chain.resolve(path, follow=False)
        return place in self.selection.kept or self.ground.production.is_file(path)


def services_in(nsswitch: bytes) -> tuple[str, ...]:
    """Return the services that an `nsswitch.conf` names, unique (nsswitch.conf(5)); actions in brackets are skipped."""
    services: dict[str, None] = {}
    for line in nsswitch.decode("utf-8", "replace").splitlines():
        _, colon, rest = line.partition("#")[0].partition(":")
        if colon:
            words = re.sub(r"\[[^\]]*\]", " ", rest).split()
            services.update(dict.fromkeys(word for word in words if re.fullmatch(r"[A-Za-z0-9_-]+", word)))
    return tuple(services)
