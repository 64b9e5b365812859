"""The chain of an image: the records of all steps that it is made from, lowest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from chainbuild import limits
from chainbuild.attestations.provenance import BuiltStep
from chainbuild.images.provenance import Provenance, read_provenance
from chainbuild.records.record import Lookup, Record
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.config import ImageConfig


class Records(Protocol):
    """The records of a chain registry, implemented by `records.store.RecordStore`."""

    chain: ChainRegistry

    def look_up(self, repository: ImageReference, key: str) -> Lookup:
        """Return the repository's record of a key."""


def chain_of(
    records: Records,
    repository: ImageReference,
    record: Record,
    config: ImageConfig,
    known: Mapping[str, BuiltStep] | None = None,
    bases: Iterable[Provenance] = (),
) -> tuple[BuiltStep, ...]:
    """Return the steps below a record's image and then its own, each with its record.

    They are those that the image's labels name, else those below the record by `Record.parents`, after the `bases`: the
    provenance of images that the chain starts from. `known` has records by key that need not be looked up. A step whose
    record is gone is left out. Errors: those of the registry.
    """
    steps = {**(known or {})}
    missing: set[str] = set()

    def step_of(key: str) -> BuiltStep | None:
        if key not in steps and key not in missing:
            found = _look_up(records, repository, key)
            if found is None:
                missing.add(key)
            else:
                steps[key] = found
        return steps.get(key)

    labelled = read_provenance(config)
    keys = [entry.key for entry in labelled] if labelled and labelled[-1].key == record.key else []
    if not keys:
        keys = [entry.key for base in bases for entry in base]
        keys += _below(record, step_of)
    ordered = [step for key in dict.fromkeys(keys) if key != record.key and (step := step_of(key)) is not None]
    own = steps.get(record.key) or _look_up(records, repository, record.key)
    return (*ordered, BuiltStep(record=record, signed_by=own.signed_by if own else ""))


class _StepOf(Protocol):
    def __call__(self, key: str, /) -> BuiltStep | None: ...


def _below(record: Record, step_of: _StepOf) -> list[str]:
    """Return the keys of the steps below a record, parents first; iterative, because chains may be long."""
    order: dict[str, None] = {}
    met: set[str] = set()
    todo = [(key, False) for key in reversed([*record.parents.values()])]
    while todo and len(met) < limits.TRAIL.value:
        key, parents_are_in = todo.pop()
        if parents_are_in:
            order[key] = None
        elif key not in met:
            met.add(key)
            todo.append((key, True))
            step = step_of(key)
            todo += [(parent, False) for parent in reversed([*step.record.parents.values()])] if step else []
    return list(order)


def _look_up(records: Records, repository: ImageReference, key: str) -> BuiltStep | None:
    for place in (repository, records.chain.records):
        found = records.look_up(place, key)
        if found.record is not None:
            return BuiltStep(record=found.record, signed_by=found.signer.key.id if found.signer else "")
    return None
