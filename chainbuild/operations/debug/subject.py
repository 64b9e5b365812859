"""Find what to debug: a build, its Dockerfile, and the instruction that a shell is started at."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from chainbuild.builder.build_spec import BuildSpec, build_spec_for, stage_args
from chainbuild.context.dockerignore import own_ignore
from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.dockerfile.cut import Place, find_place
from chainbuild.dockerfile.evaluation import foreign_frontend
from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.execution.failed_builds import FailedBuild, FailedRun
from chainbuild.execution.run_plan import plan_run
from chainbuild.execution.session import Session
from chainbuild.execution.step_inputs import of_chain
from chainbuild.execution.tool_runs import plan_acceleration
from chainbuild.model import Step
from chainbuild.operations.why import steps_named
from chainbuild.planning.decisions import Decision, facts_of
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.requests.build import BuildRequest
from chainbuild.step_id import StepId
from chainbuild.values import replace


class Subject(Struct, frozen=True, kw_only=True):
    """A build to debug. `raw` is its Dockerfile without pins, `below` the builds that it is linked to, lowest first."""

    spec: BuildSpec
    below: tuple[BuildSpec, ...] = ()
    raw: bytes
    dockerfile: Dockerfile
    place: Place

    @property
    def where(self) -> str:
        """The location of the instruction."""
        return self.spec.where(self.place.instruction.line)


def failed_builds_named(run: FailedRun | None, name: str | None) -> tuple[FailedBuild, ...]:
    """Return the failed builds of a run whose step has that name, or all."""
    builds = run.builds if run else ()
    return tuple(build for build in builds if name is None or is_named(build.spec.step, name))


def is_named(step: StepId, name: str) -> bool:
    """Return whether a name means a step: its id, or the end of its id."""
    return f"/{step}".endswith(f"/{name}")


def check_one(steps: tuple[StepId, ...], name: str | None) -> None:
    """Check that a name means one step. Errors: `WrongUseError`, with the names that mean one each."""
    if len(steps) > 1:
        names = ", ".join(str(step) for step in steps)
        raise WrongUseError(
            f"{name!r} means several steps" if name else "several steps failed", hint=f"Name one of them: {names}."
        )


def failed_subject(build: FailedBuild, line: int | None) -> Subject:
    """Return the subject of a failed build: the failed instruction, or the one on a line.

    Errors: `WrongUseError` if no instruction is on the line; `NotReadyError` if its files are gone.
    """
    spec = build.spec
    if not spec.context.is_dir():
        raise NotReadyError(
            f"{spec.step}: its build context is gone: {spec.context}", hint="Run the command again with --debug."
        )
    return _subject(spec, build.below, build.source, line or build.line)


def _subject(spec: BuildSpec, below: tuple[BuildSpec, ...], raw: bytes, line: int) -> Subject:
    dockerfile = parse(raw, spec.shown)
    if frontend := foreign_frontend(dockerfile, dict(spec.args)):
        raise WrongUseError(
            f"{spec.shown}: only the frontend {frontend} can read this Dockerfile",
            hint="debug can only cut Dockerfiles of Docker's own frontend.",
        )
    place = find_place(dockerfile, line)
    if spec.source is None:
        spec = replace(spec, source=raw, ignore=own_ignore(spec.dockerfile))
    return Subject(spec=spec, below=below, raw=raw, dockerfile=dockerfile, place=place)


def planned_subject(request: BuildRequest, session: Session, name: str, line: int) -> Subject:
    """Return the subject of a step that did not fail: the instruction on a line of its Dockerfile.

    Errors: `WrongUseError` if there is no such step or instruction; `NotReadyError` if its parents are not built.
    """
    planned = plan_run(request.graph, session, request.options)
    decisions = {decision.step.id: decision for decision in planned.plan.decisions}
    chosen = steps_named(planned.plan.graph, name)
    check_one(tuple(step.id for step in chosen), name)
    step = chosen[0]
    if step.handed:
        raise WrongUseError(
            f"{step.id}: its context has files of other steps' images",
            hint="debug does not support this. Start a shell in the image of the step before it.",
        )
    images = _images(step, decisions, session, lambda source, oci: planned.found[source, oci].image)
    pinned = {entry: image.reference.pinned for entry, image in images.items()}
    pinned |= {
        image.name: planned.found[str(image.source), image.platform.oci].pinned
        for image in step.images
        if image.external is not None
    }
    facts = {need: facts_of(record) for need in step.needs if (record := decisions[need].cached_record)}
    if step.text is not None:
        step.dockerfile.write_bytes(step.text)
    spec = build_spec_for(
        step,
        pinned,
        sent=planned.planner.with_fresh_inputs().sent(step, facts),
        extra=stage_args(step, *of_chain(step, images)),
    )
    spec = plan_acceleration(planned, session, request.options).applied(step, spec)
    return _subject(spec, (), step.read_dockerfile(), line)


def _images(
    step: Step, decisions: dict[StepId, Decision], session: Session, external: Callable[[str, str], RemoteImage]
) -> dict[str, RemoteImage]:
    """Return the images that a step is built from. Errors: `NotReadyError` if a parent is not built."""
    images: dict[str, RemoteImage] = {}
    for image in step.images:
        if image.from_step is None:
            images[image.name] = external(str(image.source), image.platform.oci)
            continue
        record = decisions[image.from_step].cached_record
        if record is None:
            raise NotReadyError(
                f"{step.id}: {image.from_step}, which it is built on, is not built",
                hint="Build it first: chainbuild build … --until NN.",
            )
        parent = decisions[image.from_step]
        place = parent.source or parent.step.repository
        images[image.name] = resolve(session.registries, place.with_digest(record.image), parent.step.platform)
    return images
