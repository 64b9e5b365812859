"""What turns a built production image into the one that gets the name: its runtime configuration, and the proof."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from chainbuild.attachments import attach_bill, attach_report, exact_name
from chainbuild.build_order import BuildOrder
from chainbuild.dockerfile import parse
from chainbuild.dockerfile.facts import all_declarations
from chainbuild.events import Emit, Verdict
from chainbuild.execute import Finished
from chainbuild.import_proof import VERDICT as IMPORTS
from chainbuild.import_proof import ImportProof, is_wanted
from chainbuild.model import CHAIN_IMAGE, Step, StepKind
from chainbuild.proof import Builder, Report, look, require
from chainbuild.provenance import Trail, with_stamps, with_trail
from chainbuild.records.record import Record
from chainbuild.registry.collect import BUILT_AS
from chainbuild.registry.images import RemoteImage, replace_config
from chainbuild.registry.pool import Registries
from chainbuild.runtime_config import carried_over
from chainbuild.scratch import scratch_folder
from chainbuild.trace.proof import TraceProof, trace_stands
from chainbuild.trials import VERDICT, has_passed, run_trial


class StageFinisher:
    """Finishes the stages' images; every other step is finished when it is built."""

    def __init__(
        self, registries: Registries, builder: Builder, emit: Emit, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._registries = registries
        self._builder = builder
        self._emit = emit
        self._trace = TraceProof(builder, emit)

    def finish(
        self, step: Step, order: BuildOrder, built: RemoteImage, inputs: Mapping[str, RemoteImage], trail: Trail
    ) -> Finished:
        """Count what minimize left; give production the chain's runtime configuration, and prove it; stamp the stamped.

        Errors: `NotProvenError`.
        """
        if step.kind is StepKind.MINIMIZE:
            return self._counted(order, built)
        finished = Finished(image=built)
        if step.stamps:
            finished = self._stamped(step, order, built, trail)
        if step.kind is StepKind.PRODUCE:
            finished = self._proven(step, order, built, inputs, trail)
        if step.test is None:
            return finished
        verdict = run_trial(self._builder, self._emit, step, finished.image)
        return replace(finished, verdicts={**finished.verdicts, VERDICT: verdict})

    def verdict_stands(self, step: Step, record: Record) -> bool:
        """Whether there is no test, or the image has passed it: what did not change is not tested again."""
        return proofs_stand(step, record)

    def tested(self, step: Step, image: RemoteImage, record: Record, inputs: Mapping[str, RemoteImage]) -> Record:
        """The record with the verdicts of the tests as they are now. Errors: `NotProvenError`."""
        if not trace_stands(step, record):
            contexts = {
                one.written: f"docker-image://{inputs[one.name].reference.pinned}"
                for one in step.images
                if one.as_context
            }
            traced = self._trace.prove(step, image, inputs[CHAIN_IMAGE], contexts)
            record = replace(
                record, verdicts={**record.verdicts, **traced.verdicts}, notes={**record.notes, **traced.notes}
            )
        if has_passed(step, record):
            return record
        verdict = run_trial(self._builder, self._emit, step, image)
        return replace(record, verdicts={**record.verdicts, VERDICT: verdict})

    def _counted(self, order: BuildOrder, built: RemoteImage) -> Finished:
        dockerfile = parse(order.dockerfile.read_bytes(), order.shown)
        if not any(stage.name == "report" for stage in dockerfile.stages):
            return Finished(image=built)
        with scratch_folder() as scratch:
            self._builder.build(replace(order, target="report", image="", export=scratch), self._emit)
            report = (scratch / "report.json").read_bytes()
        attach_report(self._registries, built.reference, report)
        sizes = json.loads(report)["sizes"]
        return Finished(image=built, unpacked=int(sizes["minimized"]), notes={"chain_bytes": str(sizes["chain"])})

    def _stamped(self, step: Step, order: BuildOrder, built: RemoteImage, trail: Trail) -> Finished:
        config = with_stamps(with_trail(built.config, trail), step.stamps, self._clock())
        image = replace_config(self._registries, built, config, step.repository.with_tag(_tag_of(order.image)))
        return Finished(image=image, notes={BUILT_AS: str(built.digest)})

    def _proven(
        self, step: Step, order: BuildOrder, built: RemoteImage, inputs: Mapping[str, RemoteImage], trail: Trail
    ) -> Finished:
        config = carried_over(
            chain=inputs["BASE_IMAGE"].config, production_base=inputs["PRODUCTION_IMAGE"].config, built=built.config
        )
        config = with_trail(config, trail)
        # The staging tag of the built image: the name is given later, to what is proven.
        image = replace_config(self._registries, built, config, step.repository.with_tag(_tag_of(order.image)))
        report = self._prove(step, order, image)
        self._emit(
            Verdict(
                step=step.id,
                proof="libraries",
                passed=not report.errors,
                summary=report.summary,
                findings=(*report.errors, *(f"warning: {text}" for text in report.warnings)),
            )
        )
        require(report, str(step.reference))
        verdicts = {"libraries": report.summary}
        imported = self._imported(step, order, image, inputs["BASE_IMAGE"], report)
        if imported:
            verdicts[IMPORTS] = imported
        if report.bill:
            attach_bill(self._registries, image.reference, report.bill)
        traced = self._trace.prove(step, image, inputs["BASE_IMAGE"], _image_contexts(order))
        notes = {BUILT_AS: str(built.digest)} if built.digest != image.digest else {}
        return Finished(
            image=image,
            verdicts={**verdicts, **traced.verdicts},
            unpacked=report.unpacked,
            notes={**notes, **traced.notes},
        )

    def _imported(self, step: Step, order: BuildOrder, image: RemoteImage, chain: RemoteImage, report: Report) -> str:
        """The verdict on the image's Python; empty where there is none, or where the proof is turned off."""
        declared = all_declarations(parse(order.dockerfile.read_bytes(), order.shown))
        if not is_wanted(step, {one.name: one.default for one in declared}):
            return ""
        proof = ImportProof(
            self._builder,
            self._emit,
            step,
            image=image.reference.pinned,
            chain=chain.reference.pinned,
            contexts=_image_contexts(order),
        )
        return proof.prove(report.pythons)

    def _prove(self, step: Step, order: BuildOrder, image: RemoteImage) -> Report:
        return look(
            self._builder,
            self._emit,
            step=step.id,
            platform=step.platform,
            image=image.reference.pinned,
            baseline=dict(order.args)["PRODUCTION_IMAGE"],
            contexts=_image_contexts(order),
            library_path=dict(image.config.env).get("LD_LIBRARY_PATH", ""),
            python_path=dict(image.config.env).get("PYTHONPATH", ""),
            name=exact_name(image),
        )


def proofs_stand(step: Step, record: Record) -> bool:
    """Whether a recorded image has passed its tests as they are now, and was traced by them."""
    return has_passed(step, record) and trace_stands(step, record)


def _image_contexts(order: BuildOrder) -> dict[str, str]:
    """The images that the proof's Dockerfile names, pinned."""
    asked = {name: spec for name, spec in order.contexts if spec.startswith("docker-image://")}
    return {name: f"docker-image://{pinned}" for name, pinned in order.images} | asked


def _tag_of(image: str) -> str:
    return image.rpartition(":")[2]
