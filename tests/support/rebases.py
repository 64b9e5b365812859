"""Bases and steps as layers in memory, and the proof that a step fits another base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainbuild.dockerfile import parse
from chainbuild.rebase.bases import BasePair
from chainbuild.rebase.prove import RebaseVerdict, StepContent, prove
from chainbuild.rebase.reading import LayerReader
from chainbuild.rebase.tree import ImageTree
from chainbuild.registry.pool import Registries
from tests.support.elf_builder import GLIBC
from tests.support.fake_registry import FakeRegistry
from tests.unit.comparison.layers import Content, add, dpkg

Files = Mapping[str, Content]
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
OS = b'ID=debian\nVERSION_ID="12"\n'
BASE: dict[str, Content] = {
    **GLIBC,
    "/etc/os-release": OS,
    "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "/etc/group": b"root:x:0:\n",
    "/var/lib/dpkg/status": dpkg(libc6="2.36-9"),
    "/bin/sh": (0o755, b"\x7fELF is what a shell begins with"),
    "/opt": None,
    "/etc/motd": b"welcome\n",
}
"""The files of a base image: a C library, a shell, and databases."""
RUN = "FROM base\nRUN apt-get install -y x\n"


def proven(step: Files, new: Files, old: Files = BASE, *, dockerfile: str = RUN, **config: Any) -> RebaseVerdict:
    """Return the verdict on a step built on `old` that is put on `new`."""
    fake = FakeRegistry()
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    reader = LayerReader(registries)
    before, after = add(fake, "team/base:1", old), add(fake, "team/base:2", new)
    built = add(fake, "team/app:1", old, step, **config)
    bases = BasePair(ImageTree(reader.layers(before)), ImageTree(reader.layers(after)))
    numbers = range(1, 2)
    content = StepContent(
        layers=reader.layers(built, numbers),
        dockerfile=parse(dockerfile.encode(), "Dockerfile"),
        built=built.config,
        rebased=built.config,
    )
    return prove(bases, content, reader.symbols, lambda names: reader.mentioned(built, numbers, names))


def changed(**files: Content) -> dict[str, Content]:
    """Return the base with other files, whose paths are spelled with `__` for `/`."""
    return {**BASE, **{path.replace("__", "/"): content for path, content in files.items()}}
