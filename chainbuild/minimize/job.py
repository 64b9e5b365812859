"""Run the pack job: select, lay out, add libraries, write, report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from chainbuild.minimize.abi import abi_of
from chainbuild.minimize.account import Account, accounts, links_to_files
from chainbuild.minimize.account import sizes as owner_sizes
from chainbuild.minimize.discover import Discovery, Environment, MinimizeArgs, SearchGround, discover
from chainbuild.minimize.elf import Elf, ElfProblem, ElfReader
from chainbuild.minimize.layout import Layout, lay_out, lay_over
from chainbuild.minimize.ldcache import LD_SO_CACHE, build_cache, cache_flags, encode_cache, read_cache
from chainbuild.minimize.loader import Closure, Loader, Seed, is_secure, runs_or_loads, top_folders
from chainbuild.minimize.nearest import nearest
from chainbuild.minimize.overlay import Overlay
from chainbuild.minimize.pack import Packing
from chainbuild.minimize.packages import Ownership, owned
from chainbuild.minimize.records import StepRecord, kept_packages, records
from chainbuild.minimize.root import Node, RootFileSystem, size_of
from chainbuild.minimize.sbom import Digests, digests_of, document, system_of
from chainbuild.minimize.scripts import DEFAULT_PATH, missing_interpreters
from chainbuild.minimize.search import Search, SearchSettings, is_musl
from chainbuild.minimize.select import KeptFiles, select
from chainbuild.minimize.trim import Trim, Trimmed, trim
from chainbuild.minimize.users import AddedUsers, bring_users
from chainbuild.minimize.write import Writer, Written


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The input of a pack job: folders of this machine, patterns of the image, and settings of the image.

    `library_path` and `search_path` are the image's `LD_LIBRARY_PATH` and `PATH`; `epoch` is `SOURCE_DATE_EPOCH` in
    seconds. Patterns in `optional_files` and `optional_locations` may match nothing. With `package_records`, scanners
    of the result see which packages own the kept files.
    """

    chain: str
    production: str
    output: str
    library_locations: tuple[str, ...] = ()
    additional_files: tuple[str, ...] = ()
    optional_locations: frozenset[str] = frozenset()
    optional_files: frozenset[str] = frozenset()
    library_path: str = ""
    search_path: str = DEFAULT_PATH
    epoch: int | None = None
    trim: Trim = field(default_factory=Trim)
    arguments: MinimizeArgs = field(default_factory=MinimizeArgs)
    environment: Environment = field(default_factory=Environment)
    package_records: bool = True
    users: bool = True
    """Whether to add users and groups that the production image lacks."""
    image_user: str = ""
    """The `USER` of the chain's image."""
    sbom: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class MinimizeSizes:
    """Bytes of regular files; hard links count once."""

    chain: int
    production: int
    minimized: int


@dataclass(kw_only=True, slots=True)
class MinimizeOutcome:
    """Everything that the job found and did; `report` formats it."""

    order: Order
    selection: KeptFiles
    trimmed: Trimmed
    discovery: Discovery
    ownership: Ownership
    accounts: dict[str, Account]
    production_sizes: dict[str, int]
    layout: Layout
    packing: Packing
    closure: Closure
    written: Written
    sizes: MinimizeSizes
    seeds: int
    analysis_seconds: float
    seconds: float
    damaged: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    cache_written: bool = False
    records: dict[str, StepRecord] = field(default_factory=dict)
    sbom: dict[str, Any] | None = None
    users: AddedUsers = field(default_factory=AddedUsers)
    links: dict[str, str] = field(default_factory=dict)
    """The links of the chain's image that are not kept, each with the regular file that it finally leads to."""
    nearest: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The nearest paths of the chain's image, for each pattern that matches nothing."""

    def owner(self, path: str) -> str:
        """Return the key of the package that owns a file, by its path in the chain's image or in the result; `""` if none."""
        kept, brought = self.layout.placed.get(path), self.packing.brought.get(path)
        source = kept.path if kept is not None else brought.source if brought is not None else path
        return self.ownership.owner(source)


def pack(order: Order) -> MinimizeOutcome:
    """Run `order`. Errors: OSError only if the output folder cannot be written at all."""
    start = time.monotonic()
    chain, production = RootFileSystem(order.chain), RootFileSystem(order.production)
    reader = ElfReader()
    selection = select(chain, production, order.additional_files, order.optional_files)
    trimmed = trim(chain, selection, order.trim, order.additional_files)
    ownership = owned(chain)
    discovery = discover(_places(order, chain, production, reader), selection, order.arguments, ownership)
    layout = lay_out(selection, production, library_path=order.library_path)
    overlay = Overlay(production)
    lay_over(layout, overlay)
    searching = Search(chain, reader, SearchSettings(library_path=order.library_path, fresh=True))
    packing = Packing(Loader(searching), production, overlay, library_path=order.library_path)
    damaged: dict[str, str] = {}
    seeds = _seeds(order, layout, packing, selection, damaged)
    closure = packing.settle(seeds)
    cache_written = _renew_cache(packing, reader)
    users = bring_users(chain, overlay, order.image_user) if order.users else AddedUsers()
    files = sorted(where for where, kept in layout.placed.items() if kept.node.kind == "file")
    scripts = missing_interpreters(overlay, files, order.search_path)
    analysed = time.monotonic()
    production_ownership = owned(production)
    documents = _Documents(order, chain, production, (ownership, production_ownership), _sources(layout, packing))
    has_errors = bool(layout.conflicts or users.conflicts or selection.unmatched or discovery.unknown_packages)
    written, written_records = _write(documents, overlay, has_errors=has_errors)
    trimmed_files = frozenset(trimmed.files)
    return MinimizeOutcome(
        order=order,
        selection=selection,
        trimmed=trimmed,
        discovery=discovery,
        ownership=ownership,
        production_sizes=owner_sizes(production, production_ownership),
        accounts=accounts(chain, production, ownership, kept_bytes(layout, packing, written), trimmed_files),
        layout=layout,
        packing=packing,
        closure=closure,
        written=written,
        sizes=MinimizeSizes(chain=size_of(chain), production=size_of(production), minimized=written.bytes),
        seeds=len(seeds),
        analysis_seconds=analysed - start,
        seconds=time.monotonic() - start,
        damaged=damaged,
        scripts=scripts,
        unreadable=sorted({(entry.path, entry.reason) for tree in (chain, production) for entry in tree.unreadable}),
        cache_written=cache_written,
        records=written_records,
        sbom=documents.sbom(overlay) if order.sbom else None,
        users=users,
        links=links_to_files(chain, selection),
        nearest=nearest(chain, [pattern for _, pattern in selection.unmatched]),
    )


def _places(order: Order, chain: RootFileSystem, production: RootFileSystem, reader: ElfReader) -> SearchGround:
    return SearchGround(
        chain=chain,
        production=production,
        reader=reader,
        library_path=order.library_path,
        search_path=order.search_path,
        library_locations=order.library_locations,
        environment=order.environment,
    )


def _write(documents: _Documents, overlay: Overlay, *, has_errors: bool) -> tuple[Written, dict[str, StepRecord]]:
    """Write the laid-out files, and then the records, which contain their checksums; write nothing if there are errors."""
    order = documents.order
    writer = Writer(order.output, documents.production, documents.chain, epoch=order.epoch, strip=order.trim.strip)
    if has_errors:
        writer.write({})
        return writer.finish(), {}
    writer.write(dict(overlay.added))
    record_files = documents.records(overlay)
    for where, record in record_files.items():
        overlay.add(where, record.node)
    writer.write({where: record.node for where, record in record_files.items()})
    return writer.finish(), record_files


class _Documents:
    """Creates the documents about the result: records of packages, and the bill of materials."""

    def __init__(
        self,
        order: Order,
        chain: RootFileSystem,
        production: RootFileSystem,
        owners: tuple[Ownership, Ownership],
        sources: dict[str, str],
    ) -> None:
        self.order = order
        self.chain = chain
        self.production = production
        self.ownership, self.there = owners
        self.sources = sources
        self.kept = kept_packages(self.ownership, sources)
        self._known: dict[str, Digests | None] = {}

    def digests(self, path: str) -> Digests | None:
        """Return the checksums of the file that was written to `path`; None if it is not a file."""
        if path not in self._known:
            try:
                self._known[path] = digests_of(self.order.output.rstrip("/") + path)
            except OSError:
                self._known[path] = None
        return self._known[path]

    def records(self, overlay: Overlay) -> dict[str, StepRecord]:
        """Return the records for scanners that are written in addition to the files in `overlay`."""
        if not self.order.package_records:
            return {}
        return records(self.chain, overlay, self.ownership, self.there, self.kept, self.digests)

    def sbom(self, overlay: Overlay) -> dict[str, Any]:
        """Return the bill of materials of the minimized files, without those of the production image."""
        sums = {path: self.digests(path) for path, node in sorted(overlay.added.items()) if node.kind == "file"}
        digests = {path: sums_of_file for path, sums_of_file in sums.items() if sums_of_file is not None}
        owners = {path: self.ownership.owner(self.sources.get(path, "")) for path in digests}
        system = system_of(self.chain)
        return document("minimized", self.ownership, self.kept, owners, digests, system, self.order.epoch)


def _sources(layout: Layout, packing: Packing) -> dict[str, str]:
    """Map paths in the result to paths in the chain's image."""
    sources = {where: kept.path for where, kept in layout.placed.items() if kept.node.kind != "dir"}
    return sources | {where: brought.source for where, brought in packing.brought.items()}


def kept_bytes(layout: Layout, packing: Packing, written: Written) -> dict[str, int]:
    """Map paths of files in the chain's image to the number of their bytes that are kept."""
    kept: dict[str, int] = {}
    for where, placed in layout.placed.items():
        if placed.node.kind == "file":
            kept[placed.path] = written.stripped.get(where, (0, placed.node.size))[1]
    for where, brought in packing.brought.items():
        if brought.node.kind == "file":
            kept[brought.source] = written.stripped.get(where, (0, brought.node.size))[1]
    return kept


def _seeds(
    order: Order, layout: Layout, packing: Packing, selection: KeptFiles, damaged: dict[str, str]
) -> list[tuple[Seed, str]]:
    """Return every kept ELF file, and those in the additional locations, each with its path in the result."""
    chain, reader = packing.chain.search.tree, packing.chain.search.reader
    seeds: list[tuple[Seed, str]] = []
    for where, kept in sorted(layout.placed.items()):
        if kept.node.kind != "file":
            continue
        elf = reader.read_node(kept.node)
        if isinstance(elf, ElfProblem):
            damaged[kept.path] = elf.message
        elif elf is not None and runs_or_loads(elf):
            packing.places[kept.path] = where
            seed = Seed(path=kept.path, elf=elf, reason=kept.reason, secure=is_secure(kept.node))
            seeds.append((seed, where))
    kept_paths = {seed.path for seed, _ in seeds}
    tops, nothing = top_folders(chain, order.library_locations)
    selection.unmatched += [
        ("ADDITIONAL_LIB_LOCATIONS", pattern) for pattern in nothing if pattern not in order.optional_locations
    ]
    for top in tops:
        for path, node in chain.walk(top):
            elf = reader.read_node(node) if path not in kept_paths else None
            if isinstance(elf, Elf) and runs_or_loads(elf):
                kept_paths.add(path)
                seed = Seed(path=path, elf=elf, reason="additional library location", secure=is_secure(node))
                seeds.append((seed, packing.production.place(path) or path))
    return seeds


def _renew_cache(packing: Packing, reader: ElfReader) -> bool:
    """Add a new `ld.so.cache` to the result if the production image's would not list the added libraries."""
    overlay = packing.overlay
    program = None
    for node in overlay.added.values():
        elf = reader.read_node(node) if node.kind == "file" else None
        if isinstance(elf, Elf) and cache_flags(elf):
            loader = packing.result.interpreter_for(elf)
            if overlay.is_file(loader) and not is_musl(loader):
                program = elf, loader
                break
    if program is None:
        return False
    elf, loader = program
    fresh = build_cache(overlay, reader, abi_of(elf), packing.result.search.built_in(loader, abi_of(elf)))
    present = read_cache(overlay)
    where_to = overlay.resolve(LD_SO_CACHE) or overlay.place(LD_SO_CACHE)
    ours = any(overlay.resolve(entry.path) in overlay.added for entry in fresh)
    if where_to is None or where_to in overlay.added or present == fresh or not ours:
        return False
    data = encode_cache(fresh, little=elf.little)
    overlay.add(where_to, Node(kind="file", data=data, size=len(data)))
    packing.result.changed()
    return True
