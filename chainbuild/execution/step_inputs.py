"""The inputs of a step during a run: its images, the facts of its parents, and what it was made of."""

from __future__ import annotations

from collections.abc import Mapping

from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.services import ExecutionServices
from chainbuild.images.provenance import Provenance, ProvenanceStep, read_provenance
from chainbuild.images.resolver import EMPTY
from chainbuild.model import CHAIN_IMAGE, ImageInput, Step, StepKind
from chainbuild.planning.decisions import ImageFacts, facts_of
from chainbuild.records.notes import BASE, digest_note, image_note
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.step_id import StepId


class StepInputs:
    """Returns the inputs of steps whose parents have ended."""

    def __init__(self, services: ExecutionServices, outcome: RunOutcome, steps: Mapping[StepId, Step]) -> None:
        self._services = services
        self._outcome = outcome
        self._steps = steps

    def facts(self, step: Step) -> dict[StepId, ImageFacts]:
        """Return the facts of the parent steps' images."""
        return {need: facts_of(self._outcome.results[need].record) for need in step.needs}

    def provenance(self, step: Step, key: str) -> Provenance:
        """Return the step and everything below it, lowest first, including the provenance of a base built by chainbuild."""
        below = set(step.needs)
        for other in reversed(tuple(self._steps.values())):
            if other.id in below:
                below.update(other.needs)
        bases = [
            entry
            for other in (*(self._steps[need] for need in below), step)
            for image in other.images
            if image.external is not None and _is_base(other, image)
            for entry in read_provenance(self._services.found[str(image.source), image.platform.oci].image.config)
        ]
        entries = [
            ProvenanceStep(step=need, key=self._outcome.results[need].record.key)
            for need in self._steps
            if need in below
        ]
        return tuple(dict.fromkeys((*bases, *entries, ProvenanceStep(step=step.id, key=key))))

    def keys(self, step: Step) -> dict[str, str]:
        """Return the keys of the steps whose images a step is built from, by input name."""
        return {
            image.name: self._outcome.results[need].record.key
            for image in step.images
            if (need := image.from_step) is not None
        }

    def images(
        self, step: Step, *, without: str = "", known: Mapping[StepId, RemoteImage] | None = None
    ) -> tuple[dict[str, str], dict[str, RemoteImage]]:
        """Return the pinned reference for each image input, and the resolved images; `without` is left out.

        `known` are results of steps that were read from the registry a moment ago.
        """
        pinned: dict[str, str] = {}
        images: dict[str, RemoteImage] = {}
        for image in step.images:
            if image.name == without:
                continue
            if image.from_step is not None:
                need = self._outcome.results[image.from_step]
                seen = known.get(image.from_step) if known else None
                images[image.name] = seen or resolve(self._services.registries, need.reference, need.step.platform)
                pinned[image.name] = images[image.name].reference.pinned
            else:
                resolved = self._services.found[str(image.source), image.platform.oci]
                images[image.name], pinned[image.name] = resolved.image, resolved.pinned
        return pinned, images


def _is_base(step: Step, image: ImageInput) -> bool:
    """Return whether an image is the base of a chain, by whichever ARG its first step takes it."""
    by_arg = step.kind is StepKind.BUILD and image.name == step.parent and not image.as_context
    return by_arg or image.name == CHAIN_IMAGE


def of_chain(step: Step, images: Mapping[str, RemoteImage]) -> tuple[Mapping[str, str], str]:
    """Return the environment and the USER of the chain's image, for the minimize stage."""
    chain = images.get(CHAIN_IMAGE)
    return (dict(chain.config.env), chain.config.user) if chain and step.kind is StepKind.MINIMIZE else ({}, "")


def image_notes(step: Step, images: Mapping[str, RemoteImage]) -> dict[str, str]:
    """Return the notes about the external images: digest and reference of each, and which of them is the base.

    For an image on the builder's platform, the digest is that of its index.
    """
    notes: dict[str, str] = {}
    for image in step.images:
        external = image.external
        if external is None:
            continue
        digest = (image.on_builder and images[image.name].index_digest) or images[image.name].digest
        notes[digest_note(image.name)] = EMPTY if external.is_scratch else str(digest)
        notes[image_note(image.name)] = str(external)
        if image.name == step.parent:
            notes[BASE] = image.name
    return notes
