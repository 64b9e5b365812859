"""`script/bench minimize`: how fast the closure of an image is found beside `ldd`, and how small the result is.

Looked at are the `stock` chain's images in the chain registry: the one of this machine's platform natively, and the one of
another platform, whose `ldd` runs under QEMU. Where the registry has no chain, a small image is made for it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import chains, ldd, measure, proven, rivals
from benchmarks.images import bytes_in, platform_of, unpacked
from chainbuild.minimize.elf import Elf, ElfReader
from chainbuild.minimize.root import RootFileSystem
from chainbuild.references import Platform

OPTION = "stock"
_SMALL = """\
FROM {base}
RUN apt-get update \\
 && apt-get install -y --no-install-recommends ca-certificates python3 \\
 && rm -rf /var/lib/apt/lists/*
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the benchmark runs. `images` are local images to compare with `ldd` alone, instead of the chain registry's."""

    rounds: int = 3
    images: tuple[str, ...] = ()
    repository: str = "chainbuild/atom"
    production: str = "debian:bookworm-slim"
    emulate: bool = True
    port: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A chain's image, the production image it is for, and the flags of the minimize stage's program."""

    what: str
    image: str
    bare: str
    platform: str
    flags: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    library_path: str = ""
    expected: int = 0
    """The bytes of the minimized image that the registry has; 0 where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Everything; what was not measured is None or empty."""

    times: tuple[ldd.Comparison, ...]
    chain_bytes: int = 0
    size: proven.Proven | None = None
    others: tuple[rivals.Result, ...] = ()


def measured(settings: Settings) -> Measured:
    """Measure. Errors: `RunFailedError`."""
    own = Platform.of_this_machine()
    if settings.images:
        return Measured(
            times=tuple(
                _times(Subject(what=f"`{image}`", image=image, bare="", platform=platform_of(image)), settings.rounds)
                for image in settings.images
            )
        )
    with chains.registry(settings.port) as session:
        there = [
            one for one in chains.finished(session, settings.repository, settings.production) if one.option == OPTION
        ]
        natively = [_subject(one) for one in there if one.platform.same_as(own)]
        others = [_subject(one) for one in there if not one.platform.same_as(own)]
        with _small(settings.production) if not natively else _given(natively[0]) as subject:
            whole = _native(subject, settings.rounds)
        # Each file takes ldd a third of a second under QEMU: once is enough.
        more = tuple(_times(other, 1) for other in others) if settings.emulate else ()
    return Measured(times=(*whole.times, *more), chain_bytes=whole.chain_bytes, size=whole.size, others=whole.others)


def _subject(one: chains.Finished) -> Subject:
    variables = dict(line.partition("=")[::2] for line in one.chain.env)
    return Subject(
        what=f"`{one.option}`",
        image=one.chain_image,
        bare=one.bare_image,
        platform=one.platform.oci,
        flags=tuple(one.settings),
        additional=one.additional_files,
        library_path=variables.get("LD_LIBRARY_PATH", ""),
        expected=one.minimized.unpacked,
    )


@contextmanager
def _given(subject: Subject) -> Iterator[Subject]:
    yield subject


@contextmanager
def _small(base: str) -> Iterator[Subject]:
    """An image with Python, for a machine whose registry has no chain."""
    name = f"chainbuild-bench/small:{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder:
        Path(folder, "Dockerfile").write_text(_SMALL.format(base=base))
        measure.run(["docker", "buildx", "build", "--load", "--tag", name, folder])
    try:
        yield Subject(what="the base with Python", image=name, bare=base, platform=Platform.of_this_machine().oci)
    finally:
        measure.run(["docker", "rmi", "--force", name])


def _times(subject: Subject, rounds: int) -> ldd.Comparison:
    with unpacked(subject.image, subject.platform) as root:
        return _compared(subject, root, rounds)


def _compared(subject: Subject, root: Path, rounds: int) -> ldd.Comparison:
    emulated = not Platform.from_oci(*subject.platform.split("/")).same_as(Platform.of_this_machine())
    return ldd.compared(subject.what, subject.image, subject.platform, root, emulated=emulated, rounds=rounds)


def _native(subject: Subject, rounds: int) -> Measured:
    with (
        unpacked(subject.image) as root,
        unpacked(subject.bare) as bare,
        tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as place,
    ):
        folder = Path(place)
        times = _compared(subject, root, rounds)
        (folder / "made").mkdir()
        _pack(subject, root, bare, folder / "made")
        holds = bytes_in(folder / "made" / "out")
        if subject.expected and holds != subject.expected:
            measure.say(f"note: the registry's minimized image has {subject.expected:,} bytes, this one {holds:,}")
        size = proven.proven(subject.image, subject.bare, (root, bare, folder / "made"), subject.additional)
        (folder / "nothing").mkdir()
        others = rivals.results(
            _task(subject, root), folder, lambda into: _pack(subject, root, folder / "nothing", into)
        )
        return Measured(times=(times,), chain_bytes=bytes_in(root), size=size, others=others)


def _pack(subject: Subject, root: Path, bare: Path, into: Path) -> None:
    measure.run(
        [
            sys.executable,
            "-m",
            "chainbuild.minimize",
            "pack",
            root,
            "--production",
            bare,
            "--output",
            into / "out",
            "--report",
            into / "report.json",
            *subject.flags,
        ],
        cwd=measure.REPOSITORY,
    )


def _task(subject: Subject, root: Path) -> rivals.Task:
    files, _ = proven.packaged_files(subject.image, (*proven.DOCUMENTED, *subject.additional))
    reader, tree = ElfReader(), RootFileSystem(str(root))
    found = {path: reader.read(tree, path) for path in sorted(files)}
    elf_files = {path: elf for path, elf in found.items() if isinstance(elf, Elf) and elf.dynamic}
    links = (path for path, node in _links(tree) if node)
    return rivals.Task(
        image=subject.image,
        root=root,
        library_path=subject.library_path,
        files=tuple(sorted({*files, *links})),
        elf_files=tuple(elf_files),
        programs=tuple(path for path, elf in elf_files.items() if elf.executable),
    )


def _links(tree: RootFileSystem) -> Iterator[tuple[str, bool]]:
    """The links among the packaged files that lead somewhere."""
    for pattern in proven.DOCUMENTED:
        for top in tree.glob(pattern):
            for path, node in tree.walk(top):
                yield path, node.kind == "link" and tree.is_file(path)


def table(found: Measured) -> str:
    """The page's tables."""
    parts = [ldd.table(found.times)]
    if found.size is not None:
        parts += ["", f"Sizes, {found.times[0].what} for {found.times[0].platform}, unpacked:", ""]
        parts += [proven.table(found.size, found.chain_bytes)]
    if found.others:
        parts += ["", "The same files on an empty image, by other tools:", "", rivals.table(found.others)]
    return "\n".join(parts)
