"""What kept programs load without needing it in the loader's sense: plugins, modules of the C library, interpreters.

Nothing is guessed: a plugin folder counts when the library that loads it comes from the chain's image, a library
that is named in constant data counts when the loader would find it. What is not kept is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from chainbuild.minimize.abi import abi_of, is_c_library
from chainbuild.minimize.closure import Seed, close, runs_or_loads, top_folders
from chainbuild.minimize.dlopen import names_in
from chainbuild.minimize.elf import Elf, ElfReader
from chainbuild.minimize.loader import Loader
from chainbuild.minimize.plugins import PluginRule, libraries_in, rules_for
from chainbuild.minimize.root import Root, base, join, parent
from chainbuild.minimize.scripts import lacking_interpreters
from chainbuild.minimize.search import Found, Search, Settings, asker_of, is_musl
from chainbuild.minimize.select import Selection, keep_also

_ROUNDS = 16
_NSSWITCH = "/etc/nsswitch.conf"
_BUILT_IN_SINCE = "GLIBC_2.34"  # the C library has the services files and dns in itself


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What is kept of what is found; what is not is told."""

    keep_dlopen: bool = False
    keep_plugins: bool = True
    keep_interpreters: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """Something that ``asker`` loads by ``name`` at run time; ``file`` is what it is in the chain's image.

    ``kind`` is ``dlopen``, ``plugin``, ``nss`` or ``interpreter``; ``why`` says it in words. ``state`` is ``kept``,
    ``production`` (the production image has it) or ``left``.
    """

    asker: str
    name: str
    file: str
    kind: str
    why: str
    state: str


@dataclass(kw_only=True, slots=True)
class Discovery:
    """What was found, each once."""

    opened: dict[tuple[str, str], Opened] = field(default_factory=dict)

    def rows(self) -> list[Opened]:
        """Everything, in order."""
        return [self.opened[key] for key in sorted(self.opened)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where is looked: the two trees, the settings of the image, and what else is looked at."""

    chain: Root
    production: Root
    reader: ElfReader
    library_path: str
    search_path: str
    library_locations: tuple[str, ...] = ()


def discover(places: Places, selection: Selection, wishes: Wishes) -> Discovery:
    """Adds to ``selection``, and to what files need in the eyes of the reader, what ``wishes`` ask for."""
    return _Work(places, selection, wishes).done()


class _Work:
    def __init__(self, places: Places, selection: Selection, wishes: Wishes) -> None:
        self.places = places
        self.chain, self.production, self.reader = places.chain, places.production, places.reader
        self.selection = selection
        self.wishes = wishes
        self.discovery = Discovery()
        self.loader = self._loader(self.chain)
        self.other = self._loader(self.production)
        self.looked: set[str] = set()

    def _loader(self, tree: Root) -> Loader:
        settings = Settings(library_path=self.places.library_path, cache=tree is self.chain, fresh=True)
        return Loader(Search(tree, self.reader, settings))

    def done(self) -> Discovery:
        self._interpreters()
        for _ in range(_ROUNDS):
            more = False
            for path, elf in self._objects():
                if path not in self.looked:
                    self.looked.add(path)
                    more |= self._look_at(path, elf)
            if not more:
                break
            self.loader = self._loader(self.chain)  # its answers hold what files needed before
        return self.discovery

    def _objects(self) -> list[tuple[str, Elf]]:
        """What is kept, and everything it needs that the production image does not have, in order of paths."""
        seeds: dict[str, Elf] = {}
        for path, kept in self.selection.kept.items():
            elf = self.reader.read_node(kept.node)
            if isinstance(elf, Elf) and runs_or_loads(elf):
                seeds[path] = elf
        for top in top_folders(self.chain, self.places.library_locations)[0]:
            for path, node in self.chain.walk(top):
                elf = self.reader.read_node(node)
                if isinstance(elf, Elf) and runs_or_loads(elf):
                    seeds[path] = elf
        closure, _ = close(self.loader, [Seed(path=path, elf=elf, reason="") for path, elf in sorted(seeds.items())])
        objects = dict(seeds)
        for path, link in closure.files.items():
            elf = self.reader.read(self.chain, path)
            if isinstance(elf, Elf) and not self._provided(link.name, elf):
                objects.setdefault(path, elf)
        return sorted(objects.items())

    def _provided(self, name: str, elf: Elf) -> bool:
        """Whether the production image has a library of that name for the same machine."""
        loader = self.other.interpreter_for(elf)
        if "/" in name:
            return self.production.is_file(name)
        found = self.other.search.find(name, abi_of(elf), loader, asker_of("/", Elf(
            bits=elf.bits, little=elf.little, machine=elf.machine, kind=elf.kind, flags=elf.flags,
        )))  # fmt: skip
        return isinstance(found, Found)

    def _note(self, asker: str, name: str, file: str, kind: str, why: str, state: str) -> None:
        row = Opened(asker=asker, name=name, file=file, kind=kind, why=why, state=state)
        self.discovery.opened.setdefault((asker, name), row)

    def _look_at(self, path: str, elf: Elf) -> bool:
        more = False
        for rule in rules_for(elf.soname or base(path)):
            more |= self._plugins(path, elf, rule)
        if (elf.soname or base(path)) == "libc.so.6":
            more |= self._name_services(path, elf)
        return self._dlopened(path, elf) or more

    def _plugins(self, path: str, elf: Elf, rule: PluginRule) -> bool:
        more = False
        for pattern in rule.folders:
            for there in self.chain.glob(pattern.replace("{lib}", parent(path))):
                more |= self._keep_plugin(path, there, rule.what)
        for pattern in rule.libraries:
            for there in self.chain.glob(pattern.replace("{lib}", parent(path))):
                more |= self._open(path, elf, base(there), "plugin", rule.what, keep=self.wishes.keep_plugins)
        for pattern in rule.manifests:
            for there in self.chain.glob(pattern):
                more |= self._keep_plugin(path, there, rule.what)
                for name in libraries_in(self.chain.read(there) or b""):
                    full = name if "/" not in name or name.startswith("/") else join(parent(there), name)
                    if "/" in full:
                        found = self.chain.resolve(full)
                        more |= found is not None and self._keep_plugin(path, found, rule.what)
                    else:
                        more |= self._open(path, elf, full, "plugin", rule.what, keep=self.wishes.keep_plugins)
        return more

    def _keep_plugin(self, asker: str, there: str, what: str) -> bool:
        if there in self.selection.kept:
            return False
        state = "left"
        if self.wishes.keep_plugins:
            reason = f"{what}, which {asker} loads"
            new = keep_also(self.chain, self.production, self.selection, there, reason, asker)
            state = "kept" if new else "production"
        elif self.production.resolve(there) is not None:
            state = "production"
        self._note(asker, there, there, "plugin", what, state)
        return state == "kept"

    def _dlopened(self, path: str, elf: Elf) -> bool:
        node = self.chain.entry(path)
        more = False
        for name in names_in(node.host, elf) if node is not None else ():
            if not is_c_library(name) and base(name) != base(path):
                more |= self._open(path, elf, name, "dlopen", "named in its data", keep=self.wishes.keep_dlopen)
        return more

    def _open(self, path: str, elf: Elf, name: str, kind: str, why: str, *, keep: bool) -> bool:
        """Counts ``name`` as needed by ``path`` if the loader finds it and ``keep``; whether that is new."""
        found = self.loader.search.find(
            name, abi_of(elf), self.loader.interpreter_for(elf), asker_of(path, elf), flags_1=elf.flags_1
        )
        node = self.chain.entry(path)
        if not isinstance(found, Found) or node is None or found.file == path:
            return False
        if found.file in self.selection.kept:
            state = "kept"
        elif self._provided(name, found.elf):
            state = "production"
        else:
            state = "kept" if keep else "left"
        if (path, name) in self.discovery.opened:
            return False
        self._note(path, name, found.file, kind, why, state)
        return keep and self.reader.also_needs(node, [name])

    def _name_services(self, path: str, elf: Elf) -> bool:
        """The modules that ``/etc/nsswitch.conf`` names (nss(5)); a C library takes only those that came with it."""
        if is_musl(self.loader.interpreter_for(elf)):
            return False
        own = self.selection.kept.get(_NSSWITCH)
        tree = self.chain if own is not None else self.production
        services = services_in(tree.read(_NSSWITCH) or b"passwd: files\nhosts: files dns\n")
        bare = not any(self.production.is_file(loader) for loader in abi_of(elf).loaders)
        more = False
        for service in services:
            if not (service in ("files", "dns") and _BUILT_IN_SINCE in (elf.versions or ())):
                why = f"the service {service} of {_NSSWITCH}"
                more |= self._open(path, elf, f"libnss_{service}.so.2", "nss", why, keep=bare)
        return more

    def _interpreters(self) -> None:
        """Interpreters of kept scripts that neither the kept files nor the production image has."""
        kept = self.selection.kept
        files = sorted(path for path, one in kept.items() if one.node.kind == "file")
        lacking = lacking_interpreters(self.chain, files, self.places.search_path, there=self._has)
        for script, name in ((script, name) for script, names in lacking.items() for name in names):
            folders = [""] if name.startswith("/") else self.places.search_path.split(":")
            paths = [name if not folder else join(folder, name) for folder in folders]
            found = next((path for path in paths if self.chain.is_file(path)), None)
            if found is None:
                continue
            state = "left"
            if self.wishes.keep_interpreters:
                self._keep_with_links(found, script)
                state = "kept"
            self._note(script, name, self.chain.resolve(found) or found, "interpreter", "the interpreter of it", state)

    def _has(self, path: str) -> bool:
        here = self.chain.resolve(path, follow=False)
        return here in self.selection.kept or self.production.is_file(path)

    def _keep_with_links(self, path: str, script: str) -> None:
        """Keeps ``path`` so that it is found by that very name: with the links among the folders above it."""
        above = parent(path)
        while above != "/":
            here = self.chain.resolve(above, follow=False)
            node = None if here is None else self.chain.entry(here)
            if here is not None and node is not None and node.kind == "link" and self.production.entry(above) is None:
                keep_also(self.chain, self.production, self.selection, here, f"leads to {path}", script)
            above = parent(above)
        here = self.chain.resolve(path, follow=False)
        if here is not None:
            keep_also(self.chain, self.production, self.selection, here, f"interpreter of {script}", script)


def services_in(nsswitch: bytes) -> tuple[str, ...]:
    """The services that an ``nsswitch.conf`` names, each once (nsswitch.conf(5)); actions in brackets are no services."""
    found: dict[str, None] = {}
    for line in nsswitch.decode("utf-8", "replace").splitlines():
        _, colon, rest = line.partition("#")[0].partition(":")
        if colon:
            words = re.sub(r"\[[^\]]*\]", " ", rest).split()
            found.update(dict.fromkeys(word for word in words if re.fullmatch(r"[A-Za-z0-9_-]+", word)))
    return tuple(found)
