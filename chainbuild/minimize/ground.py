"""What all parts of the discovery stand on: the two images, what is kept so far, and what was found.

Whoever finds something asks here whether the production image has it, keeps it, and notes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from chainbuild.minimize.abi import abi_of
from chainbuild.minimize.elf import Elf, ElfReader
from chainbuild.minimize.layout import same_content
from chainbuild.minimize.loader import Loader
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.search import Found, Search, SearchSettings, asker_of
from chainbuild.minimize.select import KeptFiles, keep_also


@dataclass(frozen=True, kw_only=True, slots=True)
class MinimizeArgs:
    """What is kept of what is found; what is not is reported.

    ``keep_data`` has the packages whose data is kept that programs name, of which those in ``optional_data`` may be unknown;
    ``keep_all_data`` keeps that of all.
    """

    keep_dlopen: bool = False
    keep_plugins: bool = True
    keep_surroundings: bool = True
    keep_interpreters: bool = False
    keep_data: tuple[str, ...] = ()
    optional_data: frozenset[str] = frozenset()
    keep_all_data: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """Variables of the chain's image that name a locale or a time zone."""

    lang: str = ""
    lc_all: str = ""
    time_zone: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """Something that ``asker`` opens by ``name`` at run time; ``file`` is what it is in the chain's image.

    ``kind`` is ``dlopen``, ``plugin``, ``surroundings``, ``nss``, ``interpreter`` or ``data``; ``why`` says it in words.
    ``state`` is ``kept``, ``production`` (the production image has it) or ``left``. ``rule`` is the name of the rule, if one.
    ``bytes`` is how much it is, where that is a reason to leave it out.
    """

    asker: str
    name: str
    file: str
    kind: str
    why: str
    state: str
    rule: str = ""
    bytes: int = 0


@dataclass(kw_only=True, slots=True)
class Discovery:
    """What was found, each once."""

    opened: dict[tuple[str, str], Opened] = field(default_factory=dict)
    unknown_packages: list[str] = field(default_factory=list)
    """Packages whose data is to be kept and that the chain's image does not have."""

    def rows(self) -> list[Opened]:
        """Everything, in order."""
        return [self.opened[key] for key in sorted(self.opened)]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchGround:
    """Where is looked: the two trees, the settings of the image, and what else is looked at."""

    chain: RootFileSystem
    production: RootFileSystem
    reader: ElfReader
    library_path: str
    search_path: str
    library_locations: tuple[str, ...] = ()
    environment: Environment = field(default_factory=Environment)


class Ground:
    """The state of one discovery."""

    def __init__(self, places: SearchGround, selection: KeptFiles, arguments: MinimizeArgs) -> None:
        self.places = places
        self.chain, self.production, self.reader = places.chain, places.production, places.reader
        self.selection = selection
        self.arguments = arguments
        self.discovery = Discovery()
        self.loader = self._loader(self.chain)
        self.other = self._loader(self.production)
        self._same_libc: dict[str, bool] = {}

    def _loader(self, tree: RootFileSystem) -> Loader:
        settings = SearchSettings(library_path=self.places.library_path, cache=tree is self.chain, fresh=True)
        return Loader(Search(tree, self.reader, settings))

    def renew(self) -> None:
        """Forget what the chain's loader answered: files need more than before."""
        self.loader = self._loader(self.chain)

    def has(self, path: str) -> bool:
        """Whether the result has something at ``path``, as a process would look for it."""
        here = self.chain.resolve(path, follow=False)
        return here in self.selection.kept or self.production.resolve(path) is not None

    def provided(self, name: str, elf: Elf) -> Found | None:
        """The production image's library of that name for the machine of ``elf``."""
        plain = Elf(bits=elf.bits, little=elf.little, machine=elf.machine, kind=elf.kind, flags=elf.flags)
        if "/" in name:
            file = self.production.resolve(name)
            there = None if file is None else self.reader.read(self.production, file)
            return Found(path=name, file=file, elf=there, rule="path") if file and isinstance(there, Elf) else None
        found = self.other.search.find(name, abi_of(elf), self.other.interpreter_for(elf), asker_of("/", plain))
        return found if isinstance(found, Found) else None

    def has_same_libc(self, elf: Elf) -> bool:
        """Whether the result's C library will be the chain's: brought from there, or equal to it byte for byte."""
        name = abi_of(elf).name
        if name not in self._same_libc:
            there = self.provided("libc.so.6", elf)
            here = self.loader.search.find(
                "libc.so.6", abi_of(elf), self.loader.interpreter_for(elf), asker_of("/", elf)
            )
            one = None if there is None else self.production.entry(there.file)
            other = self.chain.entry(here.file) if isinstance(here, Found) else None
            self._same_libc[name] = one is None or (other is not None and same_content(one.host, other.host))
        return self._same_libc[name]

    def keep(self, path: str, reason: str, because: str, leave: Callable[[str], bool] | None = None) -> int:
        """Keep what lies at ``path`` and what belongs to it; gives how many paths are new."""
        return keep_also(self.chain, self.production, self.selection, path, reason, because, leave)

    def note(
        self, asker: str, name: str, file: str, kind: str, why: str, state: str, *, rule: str = "", size: int = 0
    ) -> None:
        """Remember that something is opened; the first of the same asker and name counts."""
        row = Opened(asker=asker, name=name, file=file, kind=kind, why=why, state=state, rule=rule, bytes=size)
        self.discovery.opened.setdefault((asker, name), row)

    def open(self, path: str, elf: Elf, name: str, kind: str, why: str, *, keep: bool, rule: str = "") -> bool:
        """Count ``name`` as needed by ``path`` if the loader finds it and ``keep``; whether that is new."""
        if (path, name) in self.discovery.opened:
            return False
        found = self.loader.search.find(
            name, abi_of(elf), self.loader.interpreter_for(elf), asker_of(path, elf), flags_1=elf.flags_1
        )
        node = self.chain.entry(path)
        if not isinstance(found, Found) or node is None or found.file == path:
            return False
        if found.file in self.selection.kept:
            state = "kept"
        elif self.provided(name, found.elf):
            state = "production"
        else:
            state = "kept" if keep else "left"
        self.note(path, name, found.file, kind, why, state, rule=rule)
        return keep and self.reader.also_needs(node, [name])
