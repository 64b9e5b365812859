"""Rebase the steps of a run whose base moved: prove that their layers fit, and compose their images in the registry."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final, TypeVar

from msgspec import Struct, field

from chainbuild import events
from chainbuild.builder.build_spec import staging_reference
from chainbuild.dockerfile import parse
from chainbuild.errors import BuildFailedError, ChainbuildError, NotFoundInRegistryError, NotProvenError, RegistryError
from chainbuild.execution.outcome import RunOutcome, StepResult
from chainbuild.execution.services import ExecutionServices
from chainbuild.execution.step_inputs import StepInputs, image_notes
from chainbuild.execution.step_reports import StepReports
from chainbuild.host.package_data import shipped
from chainbuild.images.attachments import attach_bill, attached_bill, exact_name
from chainbuild.images.provenance import with_post_build_labels, with_provenance
from chainbuild.images.runtime_config import carried_over
from chainbuild.layouts.test_files import VERDICT
from chainbuild.model import CHAIN_IMAGE, Step, StepKind
from chainbuild.planning.decisions import Decision
from chainbuild.planning.moved import PRODUCTION_IMAGE, moved_images
from chainbuild.proof.imports import VERDICT as IMPORTS
from chainbuild.proof.trace.proof import VERDICT as TRACE
from chainbuild.rebase.bases import BasePair
from chainbuild.rebase.bill import bill_of
from chainbuild.rebase.configuration import ConfigurationConflictError, rebased_config, with_layer
from chainbuild.rebase.images import merged_layer, put_rebased
from chainbuild.rebase.prove import RebaseVerdict, StepContent, prove, shortened
from chainbuild.rebase.reading import LayerReader
from chainbuild.rebase.stages import import_conflicts, minimized_conflicts, production_conflicts, startup_conflicts
from chainbuild.rebase.tree import ImageTree
from chainbuild.records.garbage import BUILT_AS
from chainbuild.records.keys import Components
from chainbuild.records.labels import identity_of
from chainbuild.records.notes import BILL, REBASED, digest_note
from chainbuild.records.record import Record
from chainbuild.records.tags import is_key
from chainbuild.references import Digest
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import RemoteImage, put_tag, replace_config, resolve
from chainbuild.registry.oci import digest_of
from chainbuild.step_id import StepId
from chainbuild.step_warnings import OF_TESTS
from chainbuild.text import plural
from chainbuild.values import replace

REBASE: Final = "rebase"
"""The name of the proof in records, and of the activity."""
LIBRARIES: Final = "libraries"
OF_RUNS: Final = frozenset({VERDICT, TRACE})
"""The verdicts that a container gave: they are obtained anew."""
_SHIPPED: Final = {
    StepKind.MINIMIZE: "utilities/Dockerfile-minimize",
    StepKind.PRODUCE: "utilities/Dockerfile-production",
}
_MOST_REMEMBERED: Final = 16
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class NotRebasedError(Exception):
    """A step cannot be rebased; `reasons` say why, one line each."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        super().__init__("; ".join(reasons))


class Moved(Struct, frozen=True, kw_only=True):
    """A step to rebase: its newest record and image, and the images that it is to be built from now, by input name."""

    step: Step
    last: Record
    built: RemoteImage
    images: Mapping[str, RemoteImage]


class Composed(Struct, frozen=True, kw_only=True):
    """A rebased image, with the verdicts and notes for its record."""

    image: RemoteImage
    verdicts: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)


class StepRebaser:
    """Rebases the steps of a run. What several steps have in common is read and compared once."""

    def __init__(
        self,
        services: ExecutionServices,
        outcome: RunOutcome,
        inputs: StepInputs,
        reports: StepReports,
    ) -> None:
        self._services = services
        self._registries = services.registries
        self._outcome = outcome
        self._inputs = inputs
        self._reports = reports
        self._reader = LayerReader(services.registries)
        self._pairs: dict[tuple[tuple[Digest, ...], tuple[Digest, ...]], BasePair] = {}
        self._trees: dict[tuple[Digest, ...], ImageTree] = {}
        self._lock = threading.Lock()

    def rebased(self, decision: Decision) -> StepResult | None:
        """Rebase a step that would be built; None if it has to be built. The reasons are reported.

        Errors: those of writing the record and the tag; `NotProvenError` if warnings are errors in this run.
        """
        if not decision.rebase or decision.components is None or decision.previous_record is None:
            return None
        step, last, started = decision.step, decision.previous_record, time.monotonic()
        self._reports.started(step, REBASE)
        try:
            record = self._proven(decision.components, step, last)
        except (NotRebasedError, RegistryError) as error:
            reasons = error.reasons if isinstance(error, NotRebasedError) else (error.message,)
            text = "\n".join((f"{step.id} cannot be rebased, so it is built:", *(f"    {why}" for why in reasons)))
            self._services.emit(events.Message(text=text))
            return None
        summary = record.verdicts[REBASE]
        self._services.emit(events.Verdict(step=step.id, proof=REBASE, passed=True, summary=summary, findings=()))
        try:
            self._services.records.write(step.repository, record)
            self._reports.warn(step, record)
            self._services.before_name(StepResult(step=step, record=record, built=True))
            put_tag(self._registries, step.reference, record.image)
        except ChainbuildError as error:
            self._reports.failed(step, started, error)
            raise
        return self._reports.finished(step, record, REBASE, time.monotonic() - started)

    def _proven(self, components: Components, step: Step, last: Record) -> Record:
        """Return the record of the step's rebased image, which is in the registry. Errors: `NotRebasedError`."""
        moved = Moved(step=step, last=last, built=self._built(step, last), images=self._inputs.images(step)[1])
        names = moved_images(step, last, components)
        if not names:
            raise NotRebasedError("more than its base changed")
        origins = {name: self._origin(moved, name) for name in names}
        composed = self._composed(moved, origins, components.key)
        return self._tested(moved, composed.image, self._record(moved, composed, origins, components))

    # What was built ---------------------------------------------------------------------------------------------------

    def _built(self, step: Step, last: Record) -> RemoteImage:
        for need in step.needs:
            result = self._outcome.results[need]
            if REBASED not in result.record.notes and result.record.key != last.parents.get(_input_of(step, need), ""):
                raise NotRebasedError(f"{need.short_name}, which it is built on, was built and not rebased")
        try:
            return resolve(self._registries, step.repository.with_digest(last.image), step.platform)
        except NotFoundInRegistryError:
            raise NotRebasedError("its image was deleted from the registry") from None

    def _origin(self, moved: Moved, name: str) -> RemoteImage:
        """Return the image of an input from which the step was built. Errors: `NotRebasedError` if it is gone."""
        step, last = moved.step, moved.last
        if step.image(name).from_step is None:
            digest = last.notes.get(digest_note(name), "")
            reference = moved.images[name].reference
        else:
            key = last.parents.get(name, "")
            record = self._services.records.look_up(step.repository, key).record if is_key(key) else None
            digest, reference = str(record.image) if record else "", step.repository
        try:
            if not digest.startswith("sha256:"):
                raise NotRebasedError(f"the image that it was built from as {name} is not recorded")
            origin = resolve(self._registries, reference.with_digest(Digest(digest)), step.platform)
        except NotFoundInRegistryError:
            why = f"the image that it was built from as {name} ({Digest(digest).short}) was deleted from the registry"
            raise NotRebasedError(why) from None
        if identity_of(origin.config) != last.components.images[name]:
            raise NotRebasedError(f"the image recorded as {name} is not the one that it was built from")
        return origin

    # The proofs -------------------------------------------------------------------------------------------------------

    def _composed(self, moved: Moved, origins: Mapping[str, RemoteImage], key: str) -> Composed:
        """Prove a step and compose its image. Errors: `NotRebasedError`."""
        if (file := _SHIPPED.get(moved.step.kind)) and moved.step.read_dockerfile() != shipped(file).read_bytes():
            # It may read anything of its images.
            raise NotRebasedError("the tree has a Dockerfile of its own for this stage")
        if moved.step.kind is StepKind.MINIMIZE:
            self._prove_minimized(moved, origins)
            return Composed(image=moved.built, verdicts={REBASE: "what minimize keeps did not change"})
        name = moved.step.parent
        parent = moved.images[name]
        origin = origins.get(name, parent)
        below = len(origin.layers)
        if moved.built.config.diff_ids[:below] != origin.config.diff_ids:
            raise NotRebasedError(f"its image does not begin with the layers of {name}")
        dockerfile = parse(moved.step.read_dockerfile(), str(moved.step.dockerfile))
        try:
            config = rebased_config(origin.config, parent.config, self._as_built(moved), dockerfile)
        except ConfigurationConflictError as error:
            raise NotRebasedError(*error.texts) from None
        if moved.step.target and moved.step.kind is StepKind.BUILD:
            raise NotRebasedError(f"its Dockerfile's stage {moved.step.target} is built, which may not be the last one")
        bases, numbers = self._pair(origin, parent), range(below, len(moved.built.layers))
        content = StepContent(
            layers=self._reader.layers(moved.built, numbers),
            dockerfile=dockerfile,
            built=moved.built.config,
            rebased=config,
        )
        verdict = prove(bases, content, self._reader.symbols, partial(self._reader.mentioned, moved.built, numbers))
        final = self._final_config(moved, config, key)
        conflicts = (*verdict.conflicts, *self._result_conflicts(moved, bases, content, final))
        if conflicts:
            raise NotRebasedError(*shortened(conflicts))
        verdicts = {REBASE: verdict.summary}
        if moved.step.kind is StepKind.PRODUCE:
            verdicts[LIBRARIES] = (
                f"{plural(verdict.elves, 'ELF file')} {'has' if verdict.elves == 1 else 'have'} all that"
            )
            verdicts[LIBRARIES] += " it needs" if verdict.elves == 1 else " they need"
        return self._put(moved, parent, numbers, (config, final), verdict, verdicts)

    def _as_built(self, moved: Moved) -> ImageConfig:
        """Return the config that the builder made, before chainbuild changed it."""
        digest = moved.last.notes.get(BUILT_AS, "")
        if not digest:
            return moved.built.config
        try:
            reference = moved.step.repository.with_digest(Digest(digest))
            return resolve(self._registries, reference, moved.step.platform).config
        except NotFoundInRegistryError:
            raise NotRebasedError("the image that its builder made was deleted from the registry") from None

    def _final_config(self, moved: Moved, config: ImageConfig, key: str) -> ImageConfig:
        """Return the config with what is set after a build: the chain's settings, the provenance, labels."""
        step = moved.step
        if step.kind is StepKind.PRODUCE:
            base = moved.images[PRODUCTION_IMAGE].config
            config = carried_over(chain=moved.images[CHAIN_IMAGE].config, production_base=base, built=config)
        elif not step.post_build_labels:
            return config
        config = with_provenance(config, self._inputs.provenance(step, key))
        return with_post_build_labels(config, step.post_build_labels, self._services.clock())

    def _result_conflicts(
        self, moved: Moved, bases: BasePair, content: StepContent, config: ImageConfig
    ) -> Iterator[str]:
        """Yield why a production image may no longer start or import its modules."""
        if moved.step.kind is StepKind.PRODUCE and bases.differences:
            old, new = bases.old.extended(content.layers), bases.new.extended(content.layers)
            yield from startup_conflicts(old, new, config)
            if IMPORTS in moved.last.verdicts:
                yield from import_conflicts(bases)

    def _prove_minimized(self, moved: Moved, origins: Mapping[str, RemoteImage]) -> None:
        """Check that the minimized files stand: the chain's image has the same, and the production image fits them."""
        layers = self._reader.layers(moved.built)
        conflicts: tuple[str, ...] = ()
        if origin := origins.get(CHAIN_IMAGE):
            chain = self._pair(origin, moved.images[CHAIN_IMAGE])
            conflicts += tuple(minimized_conflicts(chain, ImageTree(layers)))
        if origin := origins.get(PRODUCTION_IMAGE):
            production = self._pair(origin, moved.images[PRODUCTION_IMAGE])
            config = moved.images[CHAIN_IMAGE].config
            content = StepContent(layers=layers, dockerfile=None, built=config, rebased=config)
            mentions = partial(self._reader.mentioned, moved.built, range(len(moved.built.layers)))
            conflicts += prove(production, content, self._reader.symbols, mentions).conflicts
            conflicts += tuple(production_conflicts(production))
        if conflicts:
            raise NotRebasedError(*shortened(conflicts))

    def _pair(self, old: RemoteImage, new: RemoteImage) -> BasePair:
        """Return the trees of two images. Chains on the same base share them."""
        with self._lock:
            key = (_layers_of(old), _layers_of(new))
            pair = self._pairs.pop(key, None) or BasePair(self._tree(old), self._tree(new))
            self._pairs[key] = pair
            _forget_oldest(self._pairs)
            return pair

    def _tree(self, image: RemoteImage) -> ImageTree:
        key = _layers_of(image)
        below = max((known for known in self._trees if key[: len(known)] == known), key=len, default=())
        layers = self._reader.layers(image, range(len(below), len(key)))
        if below and not layers:
            return self._trees[below]
        tree = self._trees[below].extended(layers) if below else ImageTree(layers, str(image.reference))
        self._trees[key] = tree
        _forget_oldest(self._trees)
        return tree

    # The image and its record -----------------------------------------------------------------------------------------

    def _put(
        self,
        moved: Moved,
        parent: RemoteImage,
        numbers: range,
        configs: tuple[ImageConfig, ImageConfig],
        verdict: RebaseVerdict,
        verdicts: Mapping[str, str],
    ) -> Composed:
        """Put the image in the registry, as a build does: first with the builder's config, then with the final one."""
        layer = merged_layer(verdict.merged) if verdict.merged else None
        plain, final = (config if layer is None else with_layer(config, digest_of(layer)) for config in configs)
        own = tuple(moved.built.layers[number] for number in numbers)
        destination = staging_reference(moved.step)
        image = put_rebased(self._registries, moved.built, parent, own, plain, layer, destination)
        if final == plain:
            return Composed(image=image, verdicts=verdicts)
        notes = {BUILT_AS: str(image.digest)}
        image = replace_config(self._registries, image, final, destination)
        if attached_bill(self._registries, moved.built.reference) is not None:
            bill = bill_of(self._registries, image, exact_name(image))
            attach_bill(self._registries, image.reference, bill)
            notes[BILL] = str(digest_of(bill))
        return Composed(image=image, verdicts=verdicts, notes=notes)

    def _record(
        self, moved: Moved, composed: Composed, origins: Mapping[str, RemoteImage], components: Components
    ) -> Record:
        """Return the record. Its age and duration are those of the build: what a RUN fetched is that old."""
        step, last = moved.step, moved.last
        kept = {name: text for name, text in last.verdicts.items() if name not in (*OF_RUNS, LIBRARIES, REBASE)}
        notes = {name: text for name, text in last.notes.items() if name not in {BILL, BUILT_AS, REBASED}}
        parent = moved.images.get(step.parent)
        record = Record.of_image(
            composed.image,
            components,
            step=step.id,
            family=step.family,
            built_at=last.built_at,
            seconds=last.seconds,
        )
        return replace(
            record,
            added=record.size - parent.size if parent else record.size,
            unpacked=last.unpacked,
            verdicts={**kept, **composed.verdicts},
            warnings=last.warnings.with_kind(OF_TESTS, ()),
            notes={**notes, **image_notes(step, moved.images), **composed.notes, REBASED: self._moves(moved, origins)},
            parents=self._inputs.keys(step),
        )

    def _moves(self, moved: Moved, origins: Mapping[str, RemoteImage]) -> str:
        """Return the note of a record: `from IMAGE@DIGEST onto IMAGE@DIGEST`."""
        moves: dict[str, None] = {}
        for name, origin in origins.items():
            image = moved.step.image(name)
            if image.from_step is not None:
                moves[self._outcome.results[image.from_step].record.notes.get(REBASED, "")] = None
            else:
                onto = moved.images[name].digest.short
                moves[f"from {image.source}@{origin.digest.short} onto {image.source}@{onto}"] = None
        return "; ".join(move for move in moves if move)

    def _tested(self, moved: Moved, image: RemoteImage, record: Record) -> Record:
        """Return the record after the step's tests have passed. Errors: `NotRebasedError` if one fails."""
        finisher = self._services.finisher
        if finisher.verdict_stands(moved.step, record):
            return record
        try:
            return finisher.tested(moved.step, image, record, moved.images)
        except (NotProvenError, BuildFailedError) as error:
            raise NotRebasedError(error.message) from None


def _input_of(step: Step, need: StepId) -> str:
    return next(image.name for image in step.images if image.from_step == need)


def _layers_of(image: RemoteImage) -> tuple[Digest, ...]:
    return tuple(layer.digest for layer in image.layers)


def _forget_oldest(known: dict[_Key, _Value]) -> None:
    """Limit what is remembered: trees of large images take much memory."""
    while len(known) > _MOST_REMEMBERED:
        del known[next(iter(known))]
