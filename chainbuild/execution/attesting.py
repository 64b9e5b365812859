"""The attestations of a run: every result is signed and attested before it gets its tag.

The index of a chain's records lists which results were considered, so a run that builds nothing needs no requests. A reused
result is attested if the user's own key signed its record: by a run that was killed, or by an older version of chainbuild.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping

from chainbuild.errors import RegistryError
from chainbuild.execution.outcome import StepResult
from chainbuild.images.provenance import Provenance, read_provenance
from chainbuild.images.resolver import Found
from chainbuild.in_parallel import in_parallel
from chainbuild.model import Chain, Graph, Step
from chainbuild.records.index import RecordIndex
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.references import ImageReference
from chainbuild.registry.images import resolve
from chainbuild.step_id import StepId


class ResultAttestations:
    """Attests the results of a run. `note` may be called from several threads."""

    def __init__(
        self,
        graph: Graph,
        records: RecordStore,
        found: Found,
        index: RecordIndex,
    ) -> None:
        self._graph = graph
        self._registries = records.registries
        self._records = records
        self._found = found
        self._lock = threading.Lock()
        # A result that other chains build on, without names of its own, is attested as part of theirs.
        self._chains = {chain.result.id: chain for chain in graph.chains if chain.publication}
        self._known = {chain.result.id: index.asked(chain) for chain in self._chains.values()}
        self._made: dict[StepId, str] = {}

    def note(self, result: StepResult) -> None:
        """Attest a step's image if it ends a chain, unless that was done before. If a registry rejects it, warn only."""
        step = result.step
        if step.id not in self._chains:
            return
        mark = result.record.image.hex[:32]
        if result.built or mark not in self._known[step.id].get(_mark_name(step), ()):
            try:
                self._attest(result)
            except RegistryError as error:
                self._registries.notice(f"could not attest {step.reference}: {error.message}")
                return
        with self._lock:
            self._made[step.id] = mark

    def made(self, chain: Chain) -> Mapping[str, str]:
        """Return the marks for the chain's index."""
        with self._lock:
            mark = self._made.get(chain.result.id)
        return {_mark_name(chain.result): mark} if mark else {}

    def _attest(self, result: StepResult) -> None:
        step, record = result.step, result.record
        if not result.built and not self._is_own(step, record):
            return
        # Imported late: most runs build nothing.
        from chainbuild.attestations.lineage import chain_of
        from chainbuild.attestations.writer import attest_image

        place = step.repository.with_digest(record.image)
        config = resolve(self._registries, place, step.platform).config
        steps = chain_of(self._records, step.repository, record, config, bases=tuple(self._bases(step)))
        attest_image(self._registries, self._records.keyring, place, steps)

    def _is_own(self, step: Step, record: Record) -> bool:
        signer = self._records.look_up(step.repository, record.key).signer
        return signer is not None and signer.key == self._records.keyring.signing_key.public

    def _bases(self, step: Step) -> Iterator[Provenance]:
        """Yield the provenance of the images that the step's chain starts from, as far as chainbuild made them."""
        by_id = self._graph.by_id
        todo, met = [step.id], {step.id}
        while todo:
            for image in by_id[todo.pop()].images:
                if image.from_step is not None and image.from_step not in met:
                    met.add(image.from_step)
                    todo.append(image.from_step)
                elif image.external is not None and not image.on_builder:
                    yield read_provenance(self._found[str(image.source), image.platform.oci].image.config)


def sign_indexes(records: RecordStore, references: Iterable[ImageReference]) -> tuple[str, ...]:
    """Sign the indexes under these names, and return notes about those that are not signed."""
    from chainbuild.attestations.writer import sign_index

    def note(reference: ImageReference) -> str:
        try:
            if sign_index(records.registries, records.keyring, reference):
                return ""
        except RegistryError as error:
            return f"could not sign {reference}: {error.message}"
        return f"{reference} is not signed, because no trusted key has signed one of its images"

    return tuple(text for text in in_parallel(note, dict.fromkeys(references)) if text)


def _mark_name(step: Step) -> str:
    """Return the name of a result's mark in the index of its chain: no tag has a space."""
    return f"attested {step.tag}"
