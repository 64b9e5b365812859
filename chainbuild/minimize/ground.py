"""The shared state of the discovery: the two images, the files kept so far, and the findings.

Each part of the discovery asks it whether the production image has a file, and uses it to keep and note files.
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
    """Which of the discovered files are kept; the others are reported.

    `keep_data` are the packages whose data is kept if programs name it; those in `optional_data` may be unknown.
    `keep_all_data` keeps the data of all packages.
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
    """Variables of the chain's image that select a locale or a time zone."""

    lang: str = ""
    lc_all: str = ""
    time_zone: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """Something that `asker` opens by `name` at run time; `file` is its path in the chain's image.

    `kind` is `dlopen`, `plugin`, `surroundings`, `nss`, `interpreter` or `data`; `why` describes it in words. `state`
    is `kept`, `production` (the production image has it) or `left`. `rule` is the name of the rule, if any. `bytes` is
    its size if that is a reason to leave it out.
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
    """The findings, each once."""

    opened: dict[tuple[str, str], Opened] = field(default_factory=dict)
    unknown_packages: list[str] = field(default_factory=list)
    """Packages whose data is requested and that the chain's image does not have."""

    def rows(self) -> list[Opened]:
        """Return all findings, sorted."""
        return [self.opened[key] for key in sorted(self.opened)]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchGround:
    """The inputs of a discovery: the two trees, the settings of the image, and additional library locations."""

    chain: RootFileSystem
    production: RootFileSystem
    reader: ElfReader
    library_path: str
    search_path: str
    library_locations: tuple[str, ...] = ()
    environment: Environment = field(default_factory=Environment)


class Ground:
    """The state of a discovery."""

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
        """Drop the cached answers of the chain's loader: files have more needs than before."""
        self.loader = self._loader(self.chain)

    def has(self, path: str) -> bool:
        """Return whether a process of the result would find something at `path`."""
        path_in_chain = self.chain.resolve(path, follow=False)
        return path_in_chain in self.selection.kept or self.production.resolve(path) is not None

    def provided(self, name: str, elf: Elf) -> Found | None:
        """Return the production image's library of that name for the machine of `elf`."""
        plain = Elf(bits=elf.bits, little=elf.little, machine=elf.machine, kind=elf.kind, flags=elf.flags)
        if "/" in name:
            file = self.production.resolve(name)
            library = None if file is None else self.reader.read(self.production, file)
            return Found(path=name, file=file, elf=library, rule="path") if file and isinstance(library, Elf) else None
        result = self.other.search.find(name, abi_of(elf), self.other.interpreter_for(elf), asker_of("/", plain))
        return result if isinstance(result, Found) else None

    def has_same_libc(self, elf: Elf) -> bool:
        """Return whether the result's C library will be the chain's: brought from there, or identical to it."""
        name = abi_of(elf).name
        if name not in self._same_libc:
            provided = self.provided("libc.so.6", elf)
            own = self.loader.search.find(
                "libc.so.6", abi_of(elf), self.loader.interpreter_for(elf), asker_of("/", elf)
            )
            first = None if provided is None else self.production.entry(provided.file)
            second = self.chain.entry(own.file) if isinstance(own, Found) else None
            self._same_libc[name] = first is None or (second is not None and same_content(first.host, second.host))
        return self._same_libc[name]

    def keep(self, path: str, reason: str, because: str, leave: Callable[[str], bool] | None = None) -> int:
        """Keep the file at `path` and everything that belongs to it; return how many paths are new."""
        return keep_also(self.chain, self.production, self.selection, path, reason, because, leave)

    def note(
        self, asker: str, name: str, file: str, kind: str, why: str, state: str, *, rule: str = "", size: int = 0
    ) -> None:
        """Record that something is opened; only the first note for an asker and name counts."""
        row = Opened(asker=asker, name=name, file=file, kind=kind, why=why, state=state, rule=rule, bytes=size)
        self.discovery.opened.setdefault((asker, name), row)

    def open(self, path: str, elf: Elf, name: str, kind: str, why: str, *, keep: bool, rule: str = "") -> bool:
        """Record `name` as needed by `path` if the loader finds it and `keep` is set; return whether that is new."""
        if (path, name) in self.discovery.opened:
            return False
        result = self.loader.search.find(
            name, abi_of(elf), self.loader.interpreter_for(elf), asker_of(path, elf), flags_1=elf.flags_1
        )
        node = self.chain.entry(path)
        if not isinstance(result, Found) or node is None or result.file == path:
            return False
        if result.file in self.selection.kept:
            state = "kept"
        elif self.provided(name, result.elf):
            state = "production"
        else:
            state = "kept" if keep else "left"
        self.note(path, name, result.file, kind, why, state, rule=rule)
        return keep and self.reader.also_needs(node, [name])
