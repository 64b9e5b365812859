"""The results of the minimize stage for a chain's image: its report, and the step that added each file."""

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
from chainbuild.records.record import Record, base_layers
from chainbuild.records.store import RecordStore
from chainbuild.references import ImageReference
from chainbuild.registry.contents import FileOrigin, origins
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor, Manifest
from chainbuild.step_id import MINIMIZE, StepId

BASE: Final = "base image"
"""Stands in place of a step for the files of the chain's base image."""


class Minimized(Struct, frozen=True, kw_only=True):
    """A minimized image: the record of its stage, the record's repository, and its report (`chainbuild.minimize/2` or `/1`)."""

    place: ImageReference
    record: Record
    report: Mapping[str, Any]


def minimized_of(records: RecordStore, image: RemoteImage) -> Minimized:
    """Return the record and report of the minimize stage, for a chain's result or its minimized image.

    Errors: `NotFoundInRegistryError` if the image is neither, or the chain registry has no report.
    """
    crumbs = trail_of(records, image)
    stage = crumbs[-1].step.sibling(MINIMIZE)
    mine = [crumb for crumb in crumbs if crumb.step == stage]
    if not mine:
        raise NotFoundInRegistryError(
            f"{image.reference} is {crumbs[-1].step}, which comes before the minimize stage",
            hint="Name the result of the chain (TAG-OPTION-PLATFORM).",
        )
    record = mine[-1].record
    if record is None:
        raise NotFoundInRegistryError(
            f"{records.chain} has no record of minimizing {image.reference}",
            hint="The record was deleted, or files changed during the build: build the option again.",
        )
    place = image.reference if records.chain.holds(image.reference) else records.chain.place(image.reference)
    place = ImageReference(place.registry, place.repository)
    raw = attached_report(records.registries, place.with_digest(record.image))
    if raw is None:
        raise NotFoundInRegistryError(
            f"{records.chain} has no minimize report of {image.reference}",
            hint="Earlier versions of chainbuild did not store reports: build the option again.",
        )
    return Minimized(place=place, record=record, report=_read(raw, str(image.reference)))


def _read(raw: bytes, image: str) -> Mapping[str, Any]:
    document = limits.read_object(raw, "the minimize report", image, has_file_names=True)
    if document.get("schema") not in READABLE_SCHEMAS:
        raise DamagedContentError(f"the minimize report is not a {MINIMIZE_SCHEMA} document", where=image)
    return document


@contextmanager
def reading(image: str) -> Iterator[None]:
    """Turn errors while reading an image's report into a clear one: the report does not match its schema.

    Errors: `DamagedContentError`.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, StopIteration) as error:
        raise DamagedContentError(
            f"the minimize report does not match the schema {MINIMIZE_SCHEMA} ({type(error).__name__}:"
            f" {str(error)[:100]})",
            where=image,
            hint="Build the option again with this version of chainbuild.",
        ) from error


# By step --------------------------------------------------------------------------------------------------------------


def by_step(records: RecordStore, minimized: Minimized) -> list[dict[str, Any]]:
    """Return rows of what each step added: `step`, `package`, and `bytes` by state as in the report, in step order.

    Empty if the records of the steps are gone, or the report does not list single files. Reads all layers of the chain's
    image. Errors: `RegistryError`.
    """
    layers, steps = _chain(records, minimized)
    packages = minimized.report["packages"]
    if not layers or not all("paths" in row for row in packages):
        return []
    file_origins = origins(records.registries, minimized.place, layers)
    kept = {row.get("source", row["path"]): row["bytes"] for row in minimized.report["files"]}
    sums: dict[tuple[int, str], dict[str, int]] = {}
    for package in packages:
        for state, paths in package["paths"].items():
            for path in paths:
                origin = file_origins.get(path, FileOrigin(0, 0))
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
    """Return the layers of the chain's image, and for each step, lowest first, the number of layers up to its last one."""
    top: tuple[Descriptor, ...] = ()
    ends: list[tuple[str, int]] = []
    lowest: tuple[Record, Manifest] | None = None
    for record, manifest in _parents(records, minimized):
        top = top or manifest.layers
        # An option that starts from another option's result has the layers of that result, not those of its chain.
        if [layer.digest for layer in manifest.layers] != [layer.digest for layer in top[: len(manifest.layers)]]:
            break
        ends.append((_name(record.step), len(manifest.layers)))
        lowest = record, manifest
    if lowest is not None:
        ends.append((BASE, base_layers(lowest[0].added, lowest[1].layers)))
    return top, [(name, end) for name, end in reversed(ends) if end]


def _parents(records: RecordStore, minimized: Minimized) -> Iterator[tuple[Record, Manifest]]:
    """Yield the steps of the chain, newest first."""
    client = records.registries.client(minimized.place)
    seen: set[str] = set()
    record: Record | None = minimized.record
    while record is not None:
        key = record.chain_parent
        record = records.read(minimized.place, key) if key and key not in seen else None
        seen.add(key)
        if record is not None:
            try:
                raw = client.manifest(minimized.place.repository, record.image)
            except NotFoundInRegistryError:
                return
            yield record, Manifest.of(raw, where=str(record.step))


def _name(step: StepId) -> str:
    """Return a step's name without its platform, which is that of the whole report."""
    return step.in_option or str(step)
