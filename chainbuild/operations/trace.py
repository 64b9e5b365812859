"""Trace a command in built images, for `chainbuild minimize trace`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from chainbuild.builder.build_spec import shown_path, staging_reference
from chainbuild.errors import NotFoundInRegistryError, NotReadyError, WrongUseError
from chainbuild.events import Message
from chainbuild.execution.session import Session
from chainbuild.images.inventory import Crumb, trail_of
from chainbuild.images.resolver import ResolvedImage
from chainbuild.images.tools_image import pinned_contexts
from chainbuild.layouts.stage_files import proof_dockerfile
from chainbuild.layouts.test_files import read_image_test
from chainbuild.minimize.lists import ListWord
from chainbuild.model import Chain, Graph
from chainbuild.proof.switches import switches
from chainbuild.proof.trace.args_lines import args_file, with_words
from chainbuild.proof.trace.proof import IGNORE, line_for, notes_on
from chainbuild.proof.trace.report import MissingPath, TraceReport
from chainbuild.proof.trace.runs import NotTraceableError, TraceTarget, trace
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.step_id import MINIMIZE, PRODUCTION, StepId

SCHEMA = "chainbuild.traced/1"


class Subject(Struct, frozen=True, kw_only=True):
    """A chain's last image, its result, and what to trace: a command, or the production test in `test`."""

    step: StepId
    option: Path
    platform: Platform
    chain: RemoteImage
    result: RemoteImage
    target: TraceTarget
    ignore: str = ""
    """The option's list of paths that may be missing."""


class Findings(Struct, frozen=True, kw_only=True):
    """The result of a trace. `file` is the args file for the platform, `content` its new content with the added line.

    `content` is None if there is nothing to add, or the file already has it.
    """

    subject: Subject
    report: TraceReport
    missing: tuple[MissingPath, ...]
    file: Path
    line: str = ""
    content: bytes | None = None

    @property
    def passed(self) -> bool:
        """True if the command passes in the chain's image."""
        return self.report.tests[0].passed

    @property
    def good(self) -> bool:
        """True if the command passes in both images and nothing is missing."""
        return not self.missing and self.passed and self.report.tests[0].produced == "0"


def subjects_of_options(session: Session, graph: Graph, command: Sequence[str]) -> tuple[Subject, ...]:
    """Return what to trace in each chain of the graph.

    Errors: `WrongUseError` if there is neither a command nor a production test; `NotFoundInRegistryError` with every
    missing image.
    """
    chains = [chain for chain in graph.chains if chain.production is not None]
    without = [chain.option for chain in chains if chain.production and chain.production.test is None]
    if without and not command:
        raise WrongUseError(
            f"{', '.join(dict.fromkeys(without))}: no production-test to trace",
            hint="Write a production-test next to the Dockerfiles, or add a command: … -- COMMAND.",
        )
    subjects: list[Subject] = []
    missing: list[NotFoundInRegistryError] = []
    for chain in chains:
        try:
            subjects.append(_subject_of_chain(session, chain, command))
        except NotFoundInRegistryError as error:
            missing.append(error)
    if missing:
        raise NotFoundInRegistryError(
            "\n".join(error.message for error in missing),
            hint="Build the missing images first. List the existing images with chainbuild images.",
        )
    return tuple(subjects)


def _subject_of_chain(session: Session, chain: Chain, command: Sequence[str]) -> Subject:
    production = chain.production
    if production is None:
        raise ValueError("a chain without a production stage")
    result = _last_result(session, production.reference, staging_reference(production), chain.platform)
    return Subject(
        step=production.id,
        option=chain.last.dockerfile.parent,
        platform=chain.platform,
        chain=_chain_image(session, result, chain.platform),
        result=result,
        target=_target(command, production.test),
        ignore=switches(production).get(IGNORE) or "",
    )


def _last_result(
    session: Session, reference: ImageReference, staging: ImageReference, platform: Platform
) -> RemoteImage:
    """Return the tagged result, or a newer image that failed its checks."""
    try:
        staged = resolve(session.registries, staging, platform)
        own = trail_of(session.records, staged)[-1]
    except NotFoundInRegistryError:
        return resolve(session.registries, reference, platform)
    if own.record is not None:
        try:
            return resolve(session.registries, reference, platform)
        except NotFoundInRegistryError:
            return staged
    session.emit(Message(text=f"comparing with the newest image of {own.step}, which failed its checks"))
    return staged


def subject_of_image(session: Session, resolved: ResolvedImage, platform: Platform, command: Sequence[str]) -> Subject:
    """Return what to trace for a chain's result, from its provenance.

    Errors: `NotFoundInRegistryError` if the provenance is unknown; `WrongUseError` if the image is not a result, or the tree
    has no production test for it.
    """
    step = trail_of(session.records, resolved.image)[-1].step
    if not step.option or step.name != PRODUCTION:
        raise WrongUseError(
            f"{resolved.named} is {step}, not the result of a chain",
            hint="Name the result of the chain (TAG-OPTION-PLATFORM).",
        )
    folder = session.settings.root / step.option
    test = folder / "production-test"
    if not command and not test.is_file():
        raise WrongUseError(
            f"no such file to trace: {shown_path(test)}",
            hint="Name the tree with --root, or add a command: … -- COMMAND.",
        )
    return Subject(
        step=step,
        option=folder,
        platform=platform,
        chain=_chain_image(session, resolved.image, platform),
        result=resolved.image,
        target=_target(command, test),
    )


def _chain_image(session: Session, result: RemoteImage, platform: Platform) -> RemoteImage:
    """Return the last image of the chain that a result was made from."""
    crumbs = trail_of(session.records, result)
    crumb = _before_minimize(crumbs)
    if crumb is None or crumb.record is None:
        name = str(crumb.step) if crumb else "the chain"
        raise NotFoundInRegistryError(
            f"{session.chain} has no record of {name}, from which {result.reference} was made",
            hint="The record was deleted: build the option again.",
        )
    place = result.reference if session.chain.holds(result.reference) else session.chain.place(result.reference)
    place = ImageReference(place.registry, place.repository)
    return resolve(session.registries, place.with_digest(crumb.record.image), platform)


def _before_minimize(crumbs: Sequence[Crumb]) -> Crumb | None:
    stage = crumbs[-1].step.sibling(MINIMIZE)
    for above, below in zip(crumbs[1:], crumbs, strict=False):
        if above.step == stage:
            return below
    return None


def _target(command: Sequence[str], test: Path | None) -> TraceTarget:
    if command or test is None:
        return TraceTarget(name=command[0], command=tuple(command), in_production=True)
    image_test, problems = read_image_test(test, shown_path(test))
    if problems:
        raise WrongUseError(problems)
    return TraceTarget.of_trial(image_test, in_production=True)


def trace_subject(session: Session, subject: Subject) -> Findings:
    """Run the command in both images and compare. Errors: `NotReadyError` if it cannot be traced; those of a build."""
    session.emit(Message(text=f"tracing {subject.target.name} in {subject.chain.reference}"))
    try:
        report = trace(
            session.driver,
            session.emit,
            (subject.target,),
            step=subject.step,
            platform=subject.platform,
            chain=subject.chain,
            production=subject.result,
            contexts=pinned_contexts(session.finder(), proof_dockerfile(), subject.platform),
            ignore=subject.ignore,
        )
    except NotTraceableError as error:
        raise NotReadyError(f"{subject.step}: {error.message}", hint="Read more: chainbuild docs proofs") from error
    (test,) = report.tests
    if not test.traced:
        reason = "; ".join(note.text for note in notes_on(report, set()))
        raise NotReadyError(f"{subject.step}: {reason}", hint="Read more: chainbuild docs proofs")
    file = args_file(subject.option, subject.platform)
    additions = report.additions_for(report.missing)
    if not additions:
        return Findings(subject=subject, report=report, missing=report.missing, file=file)
    raw = file.read_bytes() if file.is_file() else b""
    content = with_words(raw, [ListWord(text=added.pattern) for added in additions], shown_path(file))
    return Findings(
        subject=subject,
        report=report,
        missing=report.missing,
        file=file,
        line=line_for(report, report.missing),
        content=content if content != raw else None,
    )


def in_words(findings: Findings, *, written: bool) -> Iterator[str]:
    """Yield lines of text: how the command ended, the missing paths by package, and the line that adds them."""
    subject, report = findings.subject, findings.report
    (test,) = report.tests
    if not test.passed:
        yield f"{test.name} {test.ending} in the chain's image {subject.chain.reference}"
    if test.produced != "0":
        yield f"{test.name} {test.ending_in_production} in {subject.result.reference}"
    if not findings.missing:
        yield f"{subject.step}: none of {report.paths} paths is missing in {subject.result.reference}"
        return
    yield f"{subject.step}: {len(findings.missing)} of {report.paths} paths are missing in {subject.result.reference}"
    for package, paths in report.by_package().items():
        yield f"  {package.title}"
        for missing in paths:
            yield f"    {missing.path} ({missing.action} by {missing.program or test.name})"
    file = shown_path(findings.file)
    if findings.line and findings.content is None:
        yield f"{file} already has this line; build the option again: {findings.line}"
    elif findings.line:
        yield f"{'added to' if written else 'add to'} {file}: {findings.line}"


def as_row(findings: Findings, *, written: bool) -> dict[str, Any]:
    """Return findings as a JSON object (in `images` of `chainbuild.traced/1`)."""
    subject = findings.subject
    (test,) = findings.report.tests
    return {
        "step": str(subject.step),
        "platform": subject.platform.name,
        "chain": str(subject.chain.reference),
        "image": str(subject.result.reference),
        "test": test.name,
        "status": {"chain": test.status, "image": test.produced},
        "paths": findings.report.paths,
        "missing": [
            {
                "path": missing.path,
                "action": missing.action,
                "program": missing.program,
                "package": {
                    "kind": missing.package.kind,
                    "name": missing.package.name,
                    "version": missing.package.version,
                },
            }
            for missing in findings.missing
        ],
        "line": findings.line,
        "file": str(findings.file),
        "written": written,
    }
