"""Tests of images run again: those of options, in what the chain registry has under their names, or that of one image.

A step's verdict goes to the record of its image, where one stands: what fails now is tested again by the next run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

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
from chainbuild.model import Graph, Step, StepId, StepKind
from chainbuild.proof.image_tests import run_image_test
from chainbuild.records.record import Record
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.values import replace

_STAGE: Final = "production"


class Retest(Struct, frozen=True, kw_only=True):
    """A test that is to be run in an image. `record` is the image's, where it stands and is to have the verdict."""

    step: Step
    image: RemoteImage
    record: Record | None = None


def of_options(session: Session, graph: Graph) -> tuple[Retest, ...]:
    """Every test of the graph's steps, in the image under the step's name in the chain registry.

    Errors: `WrongUseError` where no step has a test; `NotFoundInRegistryError` with every image that is not there.
    """
    steps = [step for step in graph if step.test]
    if not steps:
        options = ", ".join(dict.fromkeys(chain.option for chain in graph.chains))
        raise WrongUseError(
            f"no step of {options} has a test",
            hint="A test is <descriptor>-test beside a Dockerfile, or production-test.",
        )
    found: list[Retest] = []
    missing: list[NotFoundInRegistryError] = []
    for step in steps:
        try:
            image = resolve(session.registries, step.reference, step.platform)
        except NotFoundInRegistryError as error:
            missing.append(error)
            continue
        found.append(Retest(step=step, image=image, record=_record_of(session, step, image)))
    if missing:
        raise NotFoundInRegistryError(
            "\n".join(error.message for error in missing),
            hint="Build first what is missing; chainbuild images says what is there.",
        )
    return tuple(found)


def of_image(session: Session, found: ResolvedImage, platform: Platform, test: Path | None) -> Retest:
    """The test that an image's provenance names, from the tree; or any other one, of any image.

    Errors: `WrongUseError` where the tree has no such test, or it is wrong; `NotFoundInRegistryError` where nothing is
    known of the image.
    """
    crumb: Crumb | None = None
    try:
        crumb = trail_of(session.records, found.image)[-1]
    except NotFoundInRegistryError as error:
        if test is None:
            raise NotFoundInRegistryError(
                error.message, hint="Name a test yourself: chainbuild test IMAGE --with FILE."
            ) from None
    step = _step(session, found, platform, crumb, test)
    _, problems = read_image_test(step.test, shown_path(step.test)) if step.test else (None, ())
    if problems:
        raise WrongUseError(problems)
    # The verdict of a test that is not the step's own says nothing that a run could go by.
    return Retest(step=step, image=found.image, record=crumb.record if crumb and test is None else None)


def _step(session: Session, found: ResolvedImage, platform: Platform, crumb: Crumb | None, test: Path | None) -> Step:
    named, root = found.named, session.settings.root
    _, option, name = crumb.step.split("/", 2) if crumb and crumb.step.count("/") >= 2 else ("", "", "")
    place = found.image.reference
    return Step(
        id=crumb.step if crumb and test is None else f"{platform.name}/{named}",
        kind=StepKind.PRODUCE if name == _STAGE else StepKind.BUILD,
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
    path = root / option / f"{name if name == _STAGE else name.partition('-')[2] or name}-test"
    if not path.is_file():
        raise WrongUseError(
            f"{image} is {option}/{name}, and the tree has no test of that: there is no file {shown_path(path)}",
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
    """Run the tests, platforms side by side, all of them whatever fails; gives what failed. Told as a run is."""
    started = time.monotonic()
    session.emit(events.RunStarted(steps=tuple(_announced(one) for one in retrials), log_folder=log_folder))
    failures: Failures = {}
    by_platform: dict[str, list[Retest]] = {}
    for one in retrials:
        by_platform.setdefault(one.step.platform.oci, []).append(one)

    def run_all(mine: Iterable[Retest]) -> None:
        for one in mine:
            try:
                _run(session, one, log_path(one.step.id))
            except ChainbuildError as error:
                if isinstance(error, BuildFailedError):
                    error.log_path = log_path(one.step.id)
                failures[one.step.id] = error

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
    return {one.step.id: failures[one.step.id] for one in retrials if one.step.id in failures}


def _announced(one: Retest) -> events.PlannedStep:
    return events.PlannedStep(step=one.step.id, action="test", reason="asked for", image=str(one.image.reference))


def _run(session: Session, one: Retest, log_path: Path | None) -> None:
    step, started = one.step, time.monotonic()
    session.emit(events.StepStarted(step=step.id, activity="test", log_path=log_path))
    try:
        contexts = partial(pinned_contexts, session.finder())
        verdict = run_image_test(session.driver, session.emit, step, one.image, contexts=contexts, again=True)
    except ChainbuildError as error:
        seconds = time.monotonic() - started
        session.emit(events.StepFailed(step=step.id, seconds=seconds, message=error.message))
        if isinstance(error, NotProvenError):
            _keep(session, one, f"failed {read_image_test(step.test)[0].digest}" if step.test else "failed")
        raise
    _keep(session, one, verdict)
    session.emit(
        events.StepFinished(
            step=step.id,
            activity="test",
            image=str(one.image.reference),
            digest=str(one.image.digest),
            seconds=time.monotonic() - started,
            size=one.image.size,
        )
    )


def _keep(session: Session, one: Retest, verdict: str) -> None:
    """Let the image's record have the verdict. Nothing is sent where it has it already.

    A record that is not the newest of its step does not become it: only what is built does.
    """
    if one.record is None or one.record.verdicts.get(VERDICT) == verdict:
        return
    record = replace(one.record, verdicts={**one.record.verdicts, VERDICT: verdict})
    place = (
        one.image.reference if session.chain.holds(one.image.reference) else session.chain.place(one.image.reference)
    )
    place = ImageReference(place.registry, place.repository)
    newest = session.records.last(place, record.family).record
    session.records.write(place, record, newest=newest is not None and newest.key == record.key)
