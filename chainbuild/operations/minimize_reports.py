"""What the minimize stage found out about a chain's image: its report, and which step each file came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import DamagedContentError, NotFoundInRegistryError
from chainbuild.images.attachments import attached_report
from chainbuild.images.inventory import trail_of
from chainbuild.minimize.account import STATES
from chainbuild.minimize.report import MINIMIZE_SCHEMA, READABLE_SCHEMAS
from chainbuild.model import CHAIN_IMAGE, StepId
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.references import ImageReference
from chainbuild.registry.contents import FileOrigin, origins
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor, Manifest

BASE: Final = "base image"
"""What is said instead of a step for what the chain's own base brought."""
_MINIMIZE: Final = "minimize"


class Minimized(Struct, frozen=True, kw_only=True):
    """A minimized image: the record of its stage, where that lies, and its report (`chainbuild.minimize/2` or `/1`)."""

    place: ImageReference
    record: Record
    report: Mapping[str, Any]


def minimized_of(records: RecordStore, image: RemoteImage) -> Minimized:
    """What is known of the minimize stage of a chain's result, or of the minimized image itself.

    Errors: `NotFoundInRegistryError` where the image is neither, or the chain registry has no report.
    """
    crumbs = trail_of(records, image)
    option = crumbs[-1].step.rpartition("/")[0]
    mine = [crumb for crumb in crumbs if crumb.step == f"{option}/{_MINIMIZE}"]
    if not mine:
        raise NotFoundInRegistryError(
            f"{image.reference} is {crumbs[-1].step}, which stands before the minimize stage",
            hint="Name the chain's result (TAG-OPTION-PLATFORM).",
        )
    record = mine[-1].record
    if record is None:
        raise NotFoundInRegistryError(
            f"{records.chain} has no record of how {image.reference} was minimized",
            hint="It was deleted, or files changed while that was done: build the option again.",
        )
    place = image.reference if records.chain.holds(image.reference) else records.chain.place(image.reference)
    place = ImageReference(place.registry, place.repository)
    raw = attached_report(records.registries, place.with_digest(record.image))
    if raw is None:
        raise NotFoundInRegistryError(
            f"{records.chain} has no report of how {image.reference} was minimized",
            hint="It keeps one with what this version of chainbuild minimizes: build the option again.",
        )
    return Minimized(place=place, record=record, report=_read(raw, str(image.reference)))


def _read(raw: bytes, image: str) -> Mapping[str, Any]:
    document = limits.read_object(raw, "the report of its minimize stage", image, has_file_names=True)
    if document.get("schema") not in READABLE_SCHEMAS:
        raise DamagedContentError(f"the report of its minimize stage is not a {MINIMIZE_SCHEMA}", where=image)
    return document


@contextmanager
def reading(image: str) -> Iterator[None]:
    """Read the report of an image in this `with`: one that does not have the schema's form ends in a clear error.

    Errors: `DamagedContentError`.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, StopIteration) as error:
        raise DamagedContentError(
            f"the report of its minimize stage does not have the form of {MINIMIZE_SCHEMA} ({type(error).__name__}:"
            f" {str(error)[:100]})",
            where=image,
            hint="Build the option again with this version of chainbuild.",
        ) from error


# By step --------------------------------------------------------------------------------------------------------------


def by_step(records: RecordStore, minimized: Minimized) -> list[dict[str, Any]]:
    """Rows of which step brought what: `step`, `package`, and `bytes` by state as in the report; steps in order.

    Empty where the records of the steps are gone, or the report does not tell of single files. It reads the layers of the
    chain's image, all of them. Errors: `RegistryError`.
    """
    layers, steps = _chain(records, minimized)
    packages = minimized.report["packages"]
    if not layers or not all("paths" in row for row in packages):
        return []
    found = origins(records.registries, minimized.place, layers)
    kept = {row.get("source", row["path"]): row["bytes"] for row in minimized.report["files"]}
    sums: dict[tuple[int, str], dict[str, int]] = {}
    for package in packages:
        for state, paths in package["paths"].items():
            for path in paths:
                origin = found.get(path, FileOrigin(0, 0))
                bytes_of = sums.setdefault((_place(steps, origin.layer), package["package"]), dict.fromkeys(STATES, 0))
                size = min(kept.get(path, origin.size), origin.size) if state == "kept" else origin.size
                bytes_of[state] += size
                bytes_of["trimmed"] += origin.size - size
    names = [name for name, _ in steps]
    return [
        {"step": names[step], "package": package, "bytes": bytes_of}
        for (step, package), bytes_of in sorted(sums.items())
    ]


def _place(steps: list[tuple[str, int]], layer: int) -> int:
    return next(index for index, (_, end) in enumerate(steps) if layer < end)


def _chain(records: RecordStore, minimized: Minimized) -> tuple[tuple[Descriptor, ...], list[tuple[str, int]]]:
    """The layers of the chain's image, and by step, the lowest first, the number of the layer after its last one."""
    top: tuple[Descriptor, ...] = ()
    ends: list[tuple[str, int]] = []
    lowest: tuple[Record, Manifest] | None = None
    for record, manifest in _parents(records, minimized):
        top = top or manifest.layers
        # An option that starts from the result of another one has that result's layers, not those of its chain.
        if [one.digest for one in manifest.layers] != [one.digest for one in top[: len(manifest.layers)]]:
            break
        ends.append((_name(record.step), len(manifest.layers)))
        lowest = record, manifest
    if lowest is not None:
        ends.append((BASE, _base_layers(*lowest)))
    return top, [(name, end) for name, end in reversed(ends) if end]


def _parents(records: RecordStore, minimized: Minimized) -> Iterator[tuple[Record, Manifest]]:
    """The steps of the chain, the newest first."""
    client = records.registries.client(minimized.place)
    seen: set[str] = set()
    record: Record | None = minimized.record
    while record is not None:
        key = record.parents.get(CHAIN_IMAGE, "")
        record = records.read(minimized.place, key) if key and key not in seen else None
        seen.add(key)
        if record is not None:
            try:
                raw = client.manifest(minimized.place.repository, record.image)
            except NotFoundInRegistryError:
                return
            yield record, Manifest.of(raw, where=record.step)


def _base_layers(record: Record, manifest: Manifest) -> int:
    """How many layers of a step's image are its parent's.

    The record says how many bytes the step added; its configs differ by a few bytes, so a layer of as little may be told
    of on the wrong side, which nobody sees in a picture.
    """
    above = 0
    best, nearest = len(manifest.layers), abs(record.added)
    for count in range(len(manifest.layers) - 1, -1, -1):
        above += manifest.layers[count].size
        if abs(record.added - above) < nearest:
            best, nearest = count, abs(record.added - above)
    return best


def _name(step: StepId) -> str:
    """A step as one reads it in a picture: without the platform, which is that of the whole."""
    return step.partition("/")[2] or step
