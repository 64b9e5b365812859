"""What provenance says about an image, read back into values: by whom, from what, by which steps, with which verdicts.

Provenance of other builders is read as far as SLSA defines its fields. Nothing here is verified: see `verification`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, field

from chainbuild.attestations.provenance import BUILD_TYPE, MARK
from chainbuild.attestations.statement import Resource, Statement, StatementError
from chainbuild.values import convert


class Verdict(Struct, frozen=True, kw_only=True):
    """The outcome of a proof or test, with its summary."""

    proof: str
    summary: str
    passed: bool


class InputImage(Struct, frozen=True, kw_only=True):
    """An image that a step was built from; `reference` is empty if it was not recorded."""

    name: str
    reference: str
    sha256: str
    is_base: bool


class StepAccount(Struct, frozen=True, kw_only=True):
    """What the provenance says about a step. Ids and digests are as written; `signed_by` is empty for an unsigned record."""

    step: str
    platform: str = ""
    dockerfile: str = ""
    dockerfile_sha256: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    image: str = ""
    identity: str = ""
    signed_by: str = ""
    built_at: float = 0.0
    parents: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    images: tuple[InputImage, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    unknown: tuple[str, ...] = ()
    """The names of image inputs whose digest the record does not have."""
    warnings: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)


class Source(Struct, frozen=True, kw_only=True):
    """A git commit that the image was built from; `dirty`: the tree had other changes."""

    uri: str
    commit: str
    dirty: bool


class Account(Struct, frozen=True, kw_only=True):
    """What provenance says about an image. Times are in seconds since the epoch, 0 if unknown."""

    build_type: str
    builder: str
    version: str = ""
    finished: float = 0.0
    steps: tuple[StepAccount, ...] = ()
    sources: tuple[Source, ...] = ()
    others: tuple[Resource, ...] = ()
    """The dependencies that belong to no step: all of them if another builder wrote the provenance."""

    @property
    def is_own(self) -> bool:
        """Return whether chainbuild wrote the provenance."""
        return self.build_type == BUILD_TYPE

    @property
    def bases(self) -> tuple[InputImage, ...]:
        """Return the base images of the chain and of the production stage, each once."""
        return tuple(dict.fromkeys(image for step in self.steps for image in step.images if image.is_base))

    @property
    def gaps(self) -> tuple[str, ...]:
        """Return what the provenance does not have of the chain: steps, and the digests of images."""
        names = {step.step for step in self.steps}
        return tuple(
            text
            for step in self.steps
            for text in (
                *(f"{parent[:80]}, a parent of {step.step}" for parent in step.parents.values() if parent not in names),
                *(f"the image that {step.step} was built from as {name[:80]}" for name in step.unknown),
            )
        )

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Return the verdicts of all steps, lowest step first."""
        return tuple(verdict for step in self.steps for verdict in step.verdicts)


class _Definition(Struct, frozen=True):
    build_type: str = field(name="buildType")
    external: Mapping[str, Any] = field(name="externalParameters")
    internal: Mapping[str, Any] = field(name="internalParameters", default_factory=dict)
    dependencies: tuple[Resource, ...] = field(name="resolvedDependencies", default=())


class _Builder(Struct, frozen=True):
    id: str
    version: Mapping[str, str] = field(default_factory=dict)


class _Metadata(Struct, frozen=True):
    finished: str = field(name="finishedOn", default="")


class _Run(Struct, frozen=True):
    builder: _Builder
    metadata: _Metadata = _Metadata()
    byproducts: tuple[Resource, ...] = ()


class _Predicate(Struct, frozen=True):
    definition: _Definition = field(name="buildDefinition")
    run: _Run = field(name="runDetails")


class _Parameters(Struct, frozen=True):
    step: str
    platform: str = ""
    dockerfile: str = ""
    args: Mapping[str, str] = field(default_factory=dict)


class _Internal(Struct, frozen=True):
    step: str
    key: str = ""
    image: str = ""
    identity: str = ""
    signed_by: str = field(name="signedBy", default="")
    built_at: str = field(name="builtAt", default="")
    parents: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = field(name="unknownImages", default=())
    notes: Mapping[str, str] = field(default_factory=dict)
    warnings: int = 0


def read_account(statement: Statement) -> Account:
    """Return what provenance says. Errors: `StatementError` if it lacks a required field, or has one of another type."""
    try:
        predicate = convert(statement.predicate, _Predicate)
        steps = _steps(predicate) if predicate.definition.build_type == BUILD_TYPE else ()
    except ValueError as error:
        raise StatementError(f"not SLSA provenance of version 1: {error}") from error
    dependencies = predicate.definition.dependencies
    return Account(
        build_type=predicate.definition.build_type,
        builder=predicate.run.builder.id,
        version=predicate.run.builder.version.get("chainbuild", ""),
        finished=_seconds(predicate.run.metadata.finished),
        steps=steps,
        sources=_sources(dependencies),
        others=tuple(resource for resource in dependencies if not _mark(resource, "step")),
    )


def _steps(predicate: _Predicate) -> tuple[StepAccount, ...]:
    definition = predicate.definition
    parameters = convert(definition.external.get("steps", ()), tuple[_Parameters, ...])
    records = convert(definition.internal.get("records", ()), tuple[_Internal, ...])
    if not parameters or [each.step for each in parameters] != [each.step for each in records]:
        raise ValueError("its steps and its records differ")
    if definition.external.get("result") != parameters[-1].step or len({each.step for each in parameters}) != len(
        records
    ):
        raise ValueError("its last step is not its result, or a step occurs twice")
    by_step: dict[str, list[Resource]] = {}
    for resource in (*definition.dependencies, *predicate.run.byproducts):
        by_step.setdefault(_mark(resource, "step"), []).append(resource)
    if not by_step.keys() <= {"", *(each.step for each in parameters)}:
        raise ValueError("it has resources of a step that it does not have")
    return tuple(
        _step(given, record, by_step.get(given.step, ())) for given, record in zip(parameters, records, strict=True)
    )


def _step(given: _Parameters, record: _Internal, resources: Sequence[Resource]) -> StepAccount:
    by_kind: dict[str, list[Resource]] = {}
    for resource in resources:
        by_kind.setdefault(_mark(resource, "kind"), []).append(resource)
    images = tuple(
        InputImage(
            name=resource.name, reference=_mark(resource, "reference"), sha256=resource.sha256, is_base=kind == "base"
        )
        for kind in ("base", "image")
        for resource in by_kind.get(kind, ())
    )
    return StepAccount(
        step=given.step,
        platform=given.platform,
        dockerfile=given.dockerfile,
        dockerfile_sha256=next((resource.sha256 for resource in by_kind.get("dockerfile", ())), ""),
        args=given.args,
        key=record.key,
        image=record.image,
        identity=record.identity,
        signed_by=record.signed_by,
        built_at=_seconds(record.built_at),
        parents=record.parents,
        files={resource.name: resource.sha256 for resource in by_kind.get("file", ())},
        images=images,
        verdicts=tuple(
            Verdict(proof=resource.name, summary=resource.text, passed=_mark(resource, "outcome") == "passed")
            for resource in by_kind.get("verdict", ())
        ),
        unknown=record.unknown,
        warnings=record.warnings,
        notes=record.notes,
    )


def _sources(dependencies: Sequence[Resource]) -> tuple[Source, ...]:
    return tuple(
        dict.fromkeys(
            Source(uri=resource.uri, commit=resource.digest["gitCommit"], dirty=_mark(resource, "dirty") != "no")
            for resource in dependencies
            if "gitCommit" in resource.digest and _mark(resource, "kind") in {"source", ""}
        )
    )


def _mark(resource: Resource, name: str) -> str:
    return resource.annotation(MARK + name)


def _seconds(text: str) -> float:
    """Return a Timestamp of SLSA in seconds since the epoch; 0 if it is none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return when.replace(tzinfo=when.tzinfo or UTC).timestamp()
