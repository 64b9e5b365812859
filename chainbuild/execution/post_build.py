"""Finish a built image before it is tagged: set the production image's runtime configuration, and prove it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from chainbuild.dockerfile import parse
from chainbuild.events import Emit, Verdict, labelled
from chainbuild.execution.services import FinishedImage
from chainbuild.host.folders import scratch_folder
from chainbuild.layouts.test_files import VERDICT, has_passed
from chainbuild.model import CHAIN_IMAGE, Step, StepKind
from chainbuild.proof.switches import is_on, switches
from chainbuild.proof.trace.proof import TraceProof, proofs_stand, trace_stands
from chainbuild.records.notes import BILL
from chainbuild.records.record import Record
from chainbuild.registry.images import RemoteImage, replace_config
from chainbuild.registry.oci import digest_of
from chainbuild.registry.pool import Registries
from chainbuild.step_warnings import OF_TESTS, read_report_warnings
from chainbuild.text import plural
from chainbuild.values import replace

if TYPE_CHECKING:
    # Every run makes a finisher, but many build nothing: each proof is imported where it is used.
    from chainbuild.builder.build_spec import BuildDriver, BuildSpec
    from chainbuild.images.provenance import Provenance
    from chainbuild.images.tools_image import Contexts
    from chainbuild.proof.chain_files import Owned, Question
    from chainbuild.proof.configuration import Configuration, Judgement
    from chainbuild.proof.imports import ImportProof
    from chainbuild.proof.libraries import Report


class StageFinisher:
    """Finishes the images of the stages; images of other steps need no further work."""

    def __init__(
        self,
        registries: Registries,
        builder: BuildDriver,
        emit: Emit,
        *,
        clock: Callable[[], float] = time.time,
        contexts: Contexts | None = None,
        annotations: Callable[[Step, RemoteImage], Mapping[str, str]] = lambda _step, _image: {},
    ) -> None:
        """`contexts` finds the image in which chainbuild's own programs run (see `tools_image`).

        `annotations` returns those of the manifest of a step's image.
        """
        self._clock = clock
        self._annotations = annotations
        self._contexts = contexts
        self._registries = registries
        self._builder = builder
        self._emit = emit
        self._trace = TraceProof(builder, emit)

    def finish(
        self, step: Step, spec: BuildSpec, built: RemoteImage, inputs: Mapping[str, RemoteImage], trail: Provenance
    ) -> FinishedImage:
        """Attach the minimize report; set a production image's runtime configuration and prove it; add labels.

        Errors: `NotProvenError`.
        """
        if step.kind is StepKind.MINIMIZE:
            return self._with_minimize_report(spec, built)
        if step.kind is StepKind.PRODUCE:
            finished = self._finish_production(step, spec, built, inputs, trail)
        else:
            finished = self._with_labels(step, spec, built, trail)
        if step.test is None:
            return finished
        verdict = self._run_test(step, finished.image)
        return replace(finished, verdicts={**finished.verdicts, VERDICT: verdict})

    def verdict_stands(self, step: Step, record: Record) -> bool:
        """Return whether the image has passed its current tests; an unchanged image is not tested again."""
        return proofs_stand(step, record)

    def tested(self, step: Step, image: RemoteImage, record: Record, inputs: Mapping[str, RemoteImage]) -> Record:
        """Run the current tests and return the record with their verdicts. Errors: `NotProvenError`."""
        if not trace_stands(step, record):
            contexts = {
                context.written: f"docker-image://{inputs[context.name].reference.pinned}"
                for context in step.images
                if context.as_context
            }
            traced = self._trace.prove(step, image, inputs[CHAIN_IMAGE], contexts)
            record = replace(
                record,
                verdicts={**record.verdicts, **traced.verdicts},
                notes={**record.notes, **traced.notes},
                warnings=record.warnings.with_kind(OF_TESTS, traced.warnings),
            )
        if has_passed(step, record):
            return record
        verdict = self._run_test(step, image)
        return replace(record, verdicts={**record.verdicts, VERDICT: verdict})

    def _run_test(self, step: Step, image: RemoteImage) -> str:
        from chainbuild.proof.image_tests import run_image_test

        return run_image_test(self._builder, self._emit, step, image, contexts=self._contexts)

    def _with_minimize_report(self, spec: BuildSpec, built: RemoteImage) -> FinishedImage:
        from chainbuild.images.attachments import attach_report

        dockerfile = parse(spec.dockerfile.read_bytes(), spec.shown)
        if not any(stage.name == "report" for stage in dockerfile.stages):
            return FinishedImage(image=built)
        with scratch_folder() as scratch:
            self._builder.build(replace(spec, target="report", image="", export=scratch), self._emit)
            path = scratch / "report.json"
            if path.is_symlink() or not path.is_file():
                return FinishedImage(image=built)  # a user's stage that happens to have this name
            report = path.read_bytes()
        try:
            document = json.loads(report)
            sizes = document["sizes"]
            minimized, chain = int(sizes["minimized"]), int(sizes["chain"])
            warnings = read_report_warnings(document)
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
            return FinishedImage(image=built)
        attach_report(self._registries, built.reference, report)
        return FinishedImage(
            image=built,
            unpacked=minimized,
            notes={"chain_bytes": str(chain)},
            warnings=warnings,
        )

    def _with_labels(self, step: Step, spec: BuildSpec, built: RemoteImage, trail: Provenance) -> FinishedImage:
        """Add the labels and the annotations that the step's image gets after its build, if any."""
        from chainbuild.images.provenance import with_post_build_labels, with_provenance
        from chainbuild.records.garbage import BUILT_AS

        annotations = self._annotations(step, built)
        config = built.config
        if step.post_build_labels:
            config = with_post_build_labels(with_provenance(config, trail), step.post_build_labels, self._clock())
        elif not annotations:
            return FinishedImage(image=built)
        tag = step.repository.with_tag(_tag_of(spec.image))
        image = replace_config(self._registries, built, config, tag, annotations)
        return FinishedImage(image=image, notes={BUILT_AS: str(built.digest)})

    def _finish_production(
        self, step: Step, spec: BuildSpec, built: RemoteImage, inputs: Mapping[str, RemoteImage], trail: Provenance
    ) -> FinishedImage:
        from chainbuild.images.attachments import attach_bill
        from chainbuild.images.provenance import with_provenance
        from chainbuild.images.runtime_config import carried_over
        from chainbuild.proof import configuration as runtime
        from chainbuild.proof import imports as python
        from chainbuild.proof.libraries import require
        from chainbuild.records.garbage import BUILT_AS

        config = carried_over(
            chain=inputs["BASE_IMAGE"].config, production_base=inputs["PRODUCTION_IMAGE"].config, built=built.config
        )
        config = with_provenance(config, trail)
        # Push to the staging tag: the final tag is set after the proofs.
        tag = step.repository.with_tag(_tag_of(spec.image))
        image = replace_config(self._registries, built, config, tag, self._annotations(step, built))
        values = switches(step, spec.dockerfile.read_bytes())
        report = self._prove(step, spec, image)
        self._emit(
            Verdict(
                step=step.id,
                proof="libraries",
                passed=not report.errors,
                summary=report.summary,
                findings=(
                    *report.errors,
                    *(labelled("warning", str(warning)) for warning in report.warnings if report.errors),
                ),
            )
        )
        configuration = report.configuration if is_on(values, runtime.SWITCH) else None
        judged = (
            self._judge_configuration(step, spec, image, inputs, configuration)
            if configuration
            else runtime.Judgement()
        )
        require(report, str(step.reference), step.platform.name, judged.errors)
        verdicts = {"libraries": report.summary}
        if configuration:
            verdicts[runtime.VERDICT] = configuration.summary
        warnings = report.warnings + judged.warnings
        if is_on(values, python.SWITCH):
            proof = self._import_proof(step, spec, image, inputs["BASE_IMAGE"])
            if imported := proof.prove(report.pythons):
                verdicts[python.VERDICT] = imported
                warnings += proof.warnings
        notes = {BUILT_AS: str(built.digest)} if built.digest != image.digest else {}
        if report.bill:
            attach_bill(self._registries, image.reference, report.bill)
            notes[BILL] = str(digest_of(report.bill))
        traced = self._trace.prove(step, image, inputs["BASE_IMAGE"], _image_contexts(spec))
        return FinishedImage(
            image=image,
            verdicts={**verdicts, **traced.verdicts},
            warnings=warnings + traced.warnings,
            unpacked=report.unpacked,
            notes={**notes, **traced.notes},
        )

    def _judge_configuration(
        self,
        step: Step,
        spec: BuildSpec,
        image: RemoteImage,
        inputs: Mapping[str, RemoteImage],
        configuration: Configuration,
    ) -> Judgement:
        """Check the configuration and emit the verdict. Errors: those of a build."""
        from chainbuild.proof.chain_files import whose
        from chainbuild.proof.configuration import VERDICT, doubtful_fields, judge

        chain, production = inputs["BASE_IMAGE"], inputs["PRODUCTION_IMAGE"]

        def ask(questions: Sequence[Question]) -> Sequence[tuple[Owned, ...]]:
            contexts = _image_contexts(spec)
            return whose(self._builder, self._emit, step, chain.reference.pinned, questions, contexts)

        judged = judge(
            configuration,
            ask,
            doubtful=doubtful_fields(image.config, chain=chain.config, production=production.config),
            platform=step.platform.name,
        )
        failure = f"cannot start ({plural(len(judged.errors), 'reason')})"
        self._emit(
            Verdict(
                step=step.id,
                proof=VERDICT,
                passed=not judged.errors,
                summary=failure if judged.errors else configuration.summary,
                findings=judged.errors,
            )
        )
        return judged

    def _import_proof(self, step: Step, spec: BuildSpec, image: RemoteImage, chain: RemoteImage) -> ImportProof:
        """Return the proof of the image's Python modules."""
        from chainbuild.proof.imports import ImportProof

        return ImportProof(
            self._builder,
            self._emit,
            step,
            image=image.reference.pinned,
            chain=chain.reference.pinned,
            contexts=_image_contexts(spec),
        )

    def _prove(self, step: Step, spec: BuildSpec, image: RemoteImage) -> Report:
        from chainbuild.images.attachments import exact_name
        from chainbuild.proof.libraries import look

        return look(
            self._builder,
            self._emit,
            step=step.id,
            platform=step.platform,
            image=image.reference.pinned,
            config=image.config,
            baseline=dict(spec.args)["PRODUCTION_IMAGE"],
            contexts=_image_contexts(spec),
            library_path=dict(image.config.env).get("LD_LIBRARY_PATH", ""),
            python_path=dict(image.config.env).get("PYTHONPATH", ""),
            name=exact_name(image),
        )


def _image_contexts(spec: BuildSpec) -> dict[str, str]:
    """Return the images that the proof's Dockerfile names, pinned."""
    given = {name: source for name, source in spec.contexts if source.startswith("docker-image://")}
    return {name: f"docker-image://{pinned}" for name, pinned in spec.images} | given


def _tag_of(image: str) -> str:
    return image.rpartition(":")[2]
