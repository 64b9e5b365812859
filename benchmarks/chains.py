"""What a chain registry holds of finished options: each one's chain, minimized and production image, and how it was made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from chainbuild.events import Event, Message
from chainbuild.execution.session import Session, Settings, open_session
from chainbuild.images.inventory import Listed, list_images
from chainbuild.images.provenance import ProvenanceStep, read_provenance
from chainbuild.images.resolver import ResolvedImage
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import is_machine_tag
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import PRODUCTION

PORT = "CHAINBUILD_REGISTRY_PORT"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """An option on a platform. Records have compressed and unpacked bytes; images are pinned names to fetch them by."""

    option: str
    platform: Platform
    chain: Record
    minimized: Record
    production: Record
    chain_image: str
    bare_image: str

    @property
    def chain_bytes(self) -> int:
        """The unpacked bytes of the chain's image, as minimize saw it."""
        return int(self.minimized.notes.get("chain_bytes", "0"))

    @property
    def settings(self) -> list[str]:
        """What the minimize stage was told besides its folders, as flags of its program."""
        variables = dict(line.partition("=")[::2] for line in self.chain.env)
        flags = ["--library-path", variables.get("LD_LIBRARY_PATH", ""), "--path", variables.get("PATH", "")]
        for name, value in self.minimized.components.args.items():
            if name not in {"TOOLS_IMAGE", "SOURCE_DATE_EPOCH"}:
                flags += [f"--{name.lower().replace('_', '-')}", value]
        return flags

    @property
    def additional_files(self) -> tuple[str, ...]:
        """The patterns that the option keeps besides the documented folders."""
        return tuple(self.minimized.components.args.get("ADDITIONAL_FILES", "").split())


@contextmanager
def registry(registry_port: int | None = None) -> Iterator[Session]:
    """The chain registry of this checkout, up as long as the `with` lasts; the port as chainbuild's own flag has it."""
    port = registry_port or int(os.environ.get(PORT) or 5000)
    with open_session(Settings(root=measure.REPOSITORY, port=port), _tell) as session:
        yield session


def finished(session: Session, repository: str, production: str) -> tuple[Finished, ...]:
    """Every finished option of a repository, the newest of each platform; `production` is what they ended on.

    Left out, and said, is what was made on another production image than `production` is now.
    """
    newest: dict[tuple[str, str], Finished] = {}
    place = session.chain.place(ImageReference.parse(repository))
    bare: dict[str, ResolvedImage] = {}
    for row in list_images(session.records, place.repository):
        if row.is_index or is_machine_tag(row.reference.tag or ""):
            continue
        trail = read_provenance(row.image.config)
        if not trail or trail[-1].step.name != PRODUCTION:
            continue
        platform = row.image.platform
        if platform.oci not in bare:
            bare[platform.oci] = session.finder().find(ImageReference.parse(production), platform)
        one = _finished(session.records, row, trail[-1], bare[platform.oci])
        if one is not None:
            known = newest.get((one.option, one.platform.oci))
            if known is None or known.production.built_at < one.production.built_at:
                newest[one.option, one.platform.oci] = one
    order = {"stock": 0, "graphics": 1, "extras": 2, "atom": 3}
    return tuple(sorted(newest.values(), key=lambda one: (order.get(one.option, 9), one.option, one.platform.oci)))


def _finished(store: RecordStore, row: Listed, last: ProvenanceStep, bare: ResolvedImage) -> Finished | None:
    place = ImageReference(row.reference.registry, row.reference.repository)
    production = store.read(place, last.key)
    minimized = _parent(store, place, production, "MINIMIZED_IMAGE")
    chain = _parent(store, place, minimized, "BASE_IMAGE")
    if production is None or minimized is None or chain is None:
        measure.say(f"{row.reference}: the records of its chain are gone; it is left out")
        return None
    if str(bare.image.config.content_identity) != minimized.components.images.get("PRODUCTION_IMAGE"):
        measure.say(f"{row.reference}: it was not made on {bare.named} as that is now; it is left out")
        return None
    return Finished(
        option=last.step.option,
        platform=row.image.platform,
        chain=chain,
        minimized=minimized,
        production=production,
        chain_image=place.with_digest(chain.image).pinned,
        bare_image=bare.image.reference.pinned,
    )


def _parent(store: RecordStore, place: ImageReference, record: Record | None, name: str) -> Record | None:
    key = "" if record is None else record.parents.get(name, "")
    return store.read(place, key) if key else None


def pack(one: Finished, root: Path, bare: Path, output: Path, *more: str) -> list[str]:
    """The argv of the minimize stage's program for an option, over its chain's image in `root`; `more` wins."""
    return [
        "-m",
        "chainbuild.minimize",
        "pack",
        str(root),
        "--production",
        str(bare),
        "--output",
        str(output / "out"),
        "--report",
        str(output / "report.json"),
        *one.settings,
        *more,
    ]


def _tell(event: Event) -> None:
    if isinstance(event, Message):
        measure.say(event.text)
