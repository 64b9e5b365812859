"""Run tests of images again: those of an option's steps in the chain registry's images, or the test of one image.

The verdict on a step is stored in the record of its image, if it has one: the next run repeats a test that failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path

from msgspec import Struct

from chainbuild import events
from chainbuild.builder.build_spec import shown_path
from chainbuild.errors import BuildFailedError, ChainbuildError, NotFoundInRegistryError, NotProvenError, WrongUseError
from chainbuild.execution.executor import STOP_SECONDS
from chainbuild.execution.session import Session
from chainbuild.images.inventory import Crumb, trail_of
from chainbuild.images.resolver import ResolvedImage
from chainbuild.images.tools_image import pinned_contexts
from chainbuild.layouts.test_files import VERDICT, read_image_test
from chainbuild.model import Graph, Step, StepKind
from chainbuild.proof.image_tests import run_image_test
from chainbuild.records.record import Record
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.step_id import PRODUCTION, StepId
from chainbuild.values import replace


class Retest(Struct, frozen=True, kw_only=True):
    """A test to run in an image. `record` is the image's record that gets the verdict, if any."""

    step: Step
    image: RemoteImage
    record: Record | None = None


def of_options(session: Session, graph: Graph) -> tuple[Retest, ...]:
    """Return every test of the graph's steps, with the image that the step has in the chain registry.

    Errors: `WrongUseError` if no step has a test; `NotFoundInRegistryError` with every missing image.
    """
    steps = [step for step in graph if step.test]
    if not steps:
        options = ", ".join(dict.fromkeys(chain.option for chain in graph.chains))
        raise WrongUseError(
            f"no step of {options} has a test",
            hint="Write a test in <descriptor>-test next to a Dockerfile, or in production-test.",
        )
    retests: list[Retest] = []
    missing: list[NotFoundInRegistryError] = []
    for step in steps:
        try:
            image = resolve(session.registries, step.reference, step.platform)
        except NotFoundInRegistryError as error:
            missing.append(error)
            continue
        retests.append(Retest(step=step, image=image, record=_record_of(session, step, image)))
    if missing:
        raise NotFoundInRegistryError(
            "\n".join(error.message for error in missing),
            hint="Build the missing images first. List the existing images with chainbuild images.",
        )
    return tuple(retests)


def of_image(session: Session, resolved: ResolvedImage, platform: Platform, test: Path | None) -> Retest:
    """Return the test from the tree that an image's provenance names, or an explicit test for any image.

    Errors: `WrongUseError` if the tree has no such test or the test is invalid; `NotFoundInRegistryError` if the image's
    provenance is unknown.
    """
    crumb: Crumb | None = None
    try:
        crumb = trail_of(session.records, resolved.image)[-1]
    except NotFoundInRegistryError as error:
        if test is None:
            raise NotFoundInRegistryError(
                error.message, hint="Name a test with chainbuild test IMAGE --with FILE."
            ) from None
    step = _step(session, resolved, platform, crumb, test)
    _, problems = read_image_test(step.test, shown_path(step.test)) if step.test else (None, ())
    if problems:
        raise WrongUseError(problems)
    # The verdict of a test that is not the step's own is not stored, because runs would rely on it.
    return Retest(step=step, image=resolved.image, record=crumb.record if crumb and test is None else None)


def _step(
    session: Session, resolved: ResolvedImage, platform: Platform, crumb: Crumb | None, test: Path | None
) -> Step:
    named, root = resolved.named, session.settings.root
    option, name = (crumb.step.option, crumb.step.name) if crumb and crumb.step.option else ("", "")
    place = resolved.image.reference
    return Step(
        id=crumb.step if crumb and test is None else StepId.parse(f"{platform.name}/{named}"),
        kind=StepKind.PRODUCE if name == PRODUCTION else StepKind.BUILD,
        name=name,
        option=option,
        number=0,
        platform=platform,
        dockerfile=Path(),
        context=root,
        test=test or _own_test(root, str(named), option, name),
        repository=ImageReference(place.registry, place.repository),
        tag=named.tag_or_latest,
    )


def _own_test(root: Path, image: str, option: str, name: str) -> Path:
    path = root / option / f"{name if name == PRODUCTION else name.partition('-')[2] or name}-test"
    if not path.is_file():
        raise WrongUseError(
            f"{image} is {option}/{name}, for which the tree has no test: no such file: {shown_path(path)}",
            hint="Name the tree with --root, or a test with --with FILE.",
        )
    return path


def _record_of(session: Session, step: Step, image: RemoteImage) -> Record | None:
    last = session.records.last(step.repository, step.family).record
    if last and last.image == image.digest:
        return last
    with suppress(NotFoundInRegistryError):
        crumb = trail_of(session.records, image)[-1]
        if crumb.record and crumb.record.image == image.digest:
            return crumb.record
    return None


# Running --------------------------------------------------------------------------------------------------------------

Failures = dict[StepId, ChainbuildError]


def run_retests(
    session: Session,
    retrials: Sequence[Retest],
    *,
    log_folder: Path | None = None,
    log_path: Callable[[StepId], Path | None] = lambda _: None,
) -> Failures:
    """Run all tests, platforms in parallel, even if some fail. Emit the events of a run; return the failures."""
    started = time.monotonic()
    session.emit(events.RunStarted(steps=tuple(_announced(test) for test in retrials), log_folder=log_folder))
    failures: Failures = {}
    by_platform: dict[str, list[Retest]] = {}
    for test in retrials:
        by_platform.setdefault(test.step.platform.oci, []).append(test)

    def run_all(mine: Iterable[Retest]) -> None:
        for test in mine:
            try:
                _run(session, test, log_path(test.step.id))
            except ChainbuildError as error:
                if isinstance(error, BuildFailedError):
                    error.log_path = log_path(test.step.id)
                failures[test.step.id] = error

    pool = ThreadPoolExecutor(max_workers=len(by_platform), thread_name_prefix="test")
    running = [pool.submit(run_all, mine) for mine in by_platform.values()]
    try:
        for future in running:
            future.result()
    except KeyboardInterrupt:
        session.driver.stop()
        wait(running, timeout=STOP_SECONDS)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    session.emit(events.RunFinished(seconds=time.monotonic() - started, succeeded=not failures))
    return {test.step.id: failures[test.step.id] for test in retrials if test.step.id in failures}


def _announced(test: Retest) -> events.PlannedStep:
    return events.PlannedStep(step=test.step.id, action="test", reason="requested", image=str(test.image.reference))


def _run(session: Session, test: Retest, log_path: Path | None) -> None:
    step, started = test.step, time.monotonic()
    session.emit(events.StepStarted(step=step.id, activity="test", log_path=log_path))
    try:
        contexts = partial(pinned_contexts, session.finder())
        verdict = run_image_test(session.driver, session.emit, step, test.image, contexts=contexts, again=True)
    except ChainbuildError as error:
        seconds = time.monotonic() - started
        session.emit(events.StepFailed(step=step.id, seconds=seconds, message=error.message))
        if isinstance(error, NotProvenError):
            _keep(session, test, f"failed {read_image_test(step.test)[0].digest}" if step.test else "failed")
        raise
    _keep(session, test, verdict)
    session.emit(
        events.StepFinished(
            step=step.id,
            activity="test",
            image=str(test.image.reference),
            digest=str(test.image.digest),
            seconds=time.monotonic() - started,
            size=test.image.size,
        )
    )


def _keep(session: Session, test: Retest, verdict: str) -> None:
    """Store the verdict in the image's record. Nothing is sent if the record already has it.

    A record that is not the newest of its step does not become the newest: only builds do that.
    """
    if test.record is None or test.record.verdicts.get(VERDICT) == verdict:
        return
    record = replace(test.record, verdicts={**test.record.verdicts, VERDICT: verdict})
    reference = test.image.reference
    place = reference if session.chain.holds(reference) else session.chain.place(reference)
    place = ImageReference(place.registry, place.repository)
    newest = session.records.last(place, record.family).record
    session.records.write(place, record, newest=newest is not None and newest.key == record.key)
