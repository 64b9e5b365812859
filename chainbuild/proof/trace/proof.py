"""The traced proof of a production image: it has what its tests open in the chain's image.

The test is the production image's own. If there is none, the tests of the chain's steps are used, if they pass in the
production image; with `PROVE_TRACE=all` both are used. A missing path fails the proof, with its package and the line
that adds it, unless its test fails in the chain's image: the accesses of a failing test prove little, so this is a
warning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from chainbuild.errors import NotProvenError
from chainbuild.events import Emit, Verdict, labelled
from chainbuild.layouts.test_files import ImageTest, has_passed, read_image_test
from chainbuild.model import Step, StepKind
from chainbuild.proof.switches import is_on, switches, value_of
from chainbuild.records.record import Record
from chainbuild.step_warnings import OF_TESTS, StepWarning
from chainbuild.text import plural

if TYPE_CHECKING:
    # Every plan asks whether a recorded proof still stands; few runs prove something.
    from chainbuild.builder.build_spec import BuildDriver
    from chainbuild.proof.trace.report import MissingPath, TracedTest, TraceReport
    from chainbuild.registry.images import RemoteImage

VERDICT: Final = "trace"
SWITCH: Final = "PROVE_TRACE"
"""The build argument of the production stage: `0` turns off the proof; `all` also uses the tests of the chain's steps."""
IGNORE: Final = "TRACE_IGNORE"
"""The build argument of the production stage with patterns of paths to ignore."""
_NOT_TRACED: Final = "not traced"
_TESTS_NOTE: Final = "traced_tests"


class TraceVerdicts(Struct, frozen=True, kw_only=True):
    """The proof's entries in a record: its verdict, and the tests that gave it."""

    verdicts: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[StepWarning, ...] = ()


class TraceNote(Struct, frozen=True):
    """A note about a traced test. `doubtful`: it is a warning."""

    text: str
    doubtful: bool = False

    def __str__(self) -> str:
        return labelled("warning" if self.doubtful else "info", self.text)


class TraceProof:
    """Proves production images by their tests."""

    def __init__(self, builder: BuildDriver, emit: Emit) -> None:
        self._builder = builder
        self._emit = emit

    def prove(self, step: Step, image: RemoteImage, chain: RemoteImage, contexts: Mapping[str, str]) -> TraceVerdicts:
        """Prove the image of a production step; return the entries for its record, empty if there is no test.

        `chain` is the chain's last image. `contexts` replace the images that the proof's Dockerfile names, pinned.
        Errors: `NotProvenError` with the missing paths, their packages and the line for `minimize-<platform>-args`.
        """
        # Imported late: a run that builds nothing traces nothing.
        from chainbuild.proof.trace.runs import NotTraceableError, TraceTarget, trace

        values = switches(step) if step.traced or step.test else {}
        image_tests = tests_of(step, values)
        if not image_tests:
            return TraceVerdicts()
        tests = tuple(
            TraceTarget.of_trial(image_test, only_if_it_passes=image_test.path != step.test)
            for image_test in image_tests
        )
        kept = {_TESTS_NOTE: digest_of(image_tests)}
        try:
            report = trace(
                self._builder,
                self._emit,
                tests,
                step=step.id,
                platform=step.platform,
                chain=chain,
                production=image,
                contexts=contexts,
                ignore=values.get(IGNORE) or "",
            )
        except NotTraceableError as error:
            doubts = (StepWarning(kind=OF_TESTS, text=error.message),)
            return TraceVerdicts(
                verdicts={VERDICT: self._passed(step, _NOT_TRACED, ())},
                notes={} if error.passing else kept,
                warnings=doubts,
            )
        return self._judge(step, report, kept)

    def _judge(self, step: Step, report: TraceReport, kept: Mapping[str, str]) -> TraceVerdicts:
        from chainbuild.proof.libraries import SHOWN_FINDINGS

        judged = {test.name for test in report.tests if test.traced and test.passed}
        missing = tuple(lost for lost in report.missing if not judged.isdisjoint(lost.tests))
        ignored = f"{plural(len(report.ignored), 'missing path')} left out by {IGNORE}"
        notes = (*notes_on(report, judged), *((TraceNote(ignored),) if report.ignored else ()))
        if not missing:
            counted = (
                f"{plural(report.paths, 'path')}"
                if len(report.tests) == 1
                else (f"{plural(report.paths, 'path')} of {plural(len(judged), 'test')}")
            )
            plain = tuple(note.text for note in notes if not note.doubtful)
            doubts = tuple(StepWarning(kind=OF_TESTS, text=note.text) for note in notes if note.doubtful)
            verdict = self._passed(step, counted if judged else _NOT_TRACED, plain)
            return TraceVerdicts(verdicts={VERDICT: verdict}, notes=kept, warnings=doubts)
        summary = (
            f"{len(missing)} of {plural(report.paths, 'path')} that tests use in the chain's image are not in this one"
        )
        shown = tuple(str(lost) for lost in missing[:SHOWN_FINDINGS])
        more = len(missing) - len(shown)
        findings = (*shown, *((f"and {more} more",) if more else ()))
        self._emit(
            Verdict(step=step.id, proof=VERDICT, passed=False, summary=summary, findings=(*findings, *map(str, notes)))
        )
        raise NotProvenError(
            f"{step.reference} failed its traced proof: {summary}", hint=_hint(step, report, missing), findings=findings
        )

    def _passed(self, step: Step, summary: str, notes: tuple[str, ...]) -> str:
        self._emit(Verdict(step=step.id, proof=VERDICT, passed=True, summary=summary, findings=notes))
        return summary


def tests_of(step: Step, values: Mapping[str, str | None]) -> tuple[ImageTest, ...]:
    """Return the tests by which a production step is proven, its own last: its own test, or the chain's if it has none.

    `values` are the values of the build arguments. With `PROVE_TRACE=all` the chain's tests always count.
    """
    if not is_on(values, SWITCH):
        return ()
    own = (step.test,) if step.test else ()
    paths = (*step.traced, *own) if value_of(values, SWITCH) == "all" or not own else own
    return tuple(read_image_test(path)[0] for path in paths)


def digest_of(tests: Iterable[ImageTest]) -> str:
    """Return the digest of the current tests that a record stores."""
    return hashlib.sha256(" ".join(test.digest for test in tests).encode("ascii")).hexdigest()


def trace_stands(step: Step, record: Record) -> bool:
    """Return whether the current tests gave a recorded image its proof, or there is nothing to prove."""
    if step.kind is not StepKind.PRODUCE or not (step.traced or step.test):
        return True
    tests = tests_of(step, switches(step))
    return not tests or record.notes.get(_TESTS_NOTE) == digest_of(tests)


def proofs_stand(step: Step, record: Record) -> bool:
    """Return whether a recorded image has passed its current tests and was traced by them."""
    return has_passed(step, record) and trace_stands(step, record)


def line_for(report: TraceReport, missing: tuple[MissingPath, ...]) -> str:
    """Return the line for an args file that adds these paths; empty if there is none."""
    from chainbuild.minimize.lists import ListWord, as_list

    words = [ListWord(text=addition.pattern) for addition in report.additions_for(missing)]
    return f"ADDITIONAL_FILES={as_list(words)}" if words else ""


def notes_on(report: TraceReport, judged: set[str]) -> Iterator[TraceNote]:
    """Yield notes about tests that were not traced, or that fail in the chain's image, and about limits."""
    for test in report.tests:
        if test.status == "skipped":
            yield TraceNote(f"{test.name} does not pass in this image, so it only tests the chain")
        elif not test.traced:
            yield TraceNote(f"{test.name} was not traced: {_why(test)}", doubtful=True)
        elif not test.passed:
            paths = [path.path for path in report.missing if test.name in path.tests and judged.isdisjoint(path.tests)]
            details = (
                f"; before that it used {', '.join(paths[:3])}, which {'are' if len(paths) > 1 else 'is'} missing in this one"
                if paths
                else ""
            )
            text = f"{test.name} {test.ending} in the chain's image, so it proves nothing{details}"
            yield TraceNote(text, doubtful=True)
        elif test.cut:
            yield TraceNote(f"{test.name} exceeds the limits of a trace", doubtful=True)


def _why(test: TracedTest) -> str:
    lines = [line.strip() for line in test.said.splitlines() if line.strip()]
    return lines[-1] if lines else "strace wrote nothing"


def _hint(step: Step, report: TraceReport, missing: tuple[MissingPath, ...]) -> str:
    args = f"{step.platform.name}-args"
    line = line_for(report, missing)
    bring = (
        f"Add to minimize-{args}: {line}" if line else f"Add the missing paths to ADDITIONAL_FILES in minimize-{args}"
    )
    return (
        f"{bring}\n('chainbuild minimize trace {step.option} --write' does this.) Add paths that may be missing to {IGNORE}"
        f" in production-{args}; {SWITCH}=0 there turns off this proof."
    )
