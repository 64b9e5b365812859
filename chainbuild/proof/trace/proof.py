"""The traced proof of a production image: what its tests open in the chain's image is there.

The test is the production image's own. If there is none, the tests of the chain's steps are taken, as far as they pass in the
production image; with `PROVE_TRACE=all` both are. A path that is missing fails the proof, with its package and the line that
brings it. It does not if its test fails in the chain's image: what such a test did until then says little, so it is a warning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from chainbuild.errors import NotProvenError
from chainbuild.events import Emit, Verdict
from chainbuild.layouts.test_files import ImageTest, read_image_test
from chainbuild.minimize.lists import ListWord, as_list
from chainbuild.model import Step, StepKind
from chainbuild.proof.libraries import SHOWN_FINDINGS, Builder
from chainbuild.proof.switches import is_on, switches, value_of
from chainbuild.records.record import Record
from chainbuild.registry.images import RemoteImage
from chainbuild.step_warnings import OF_TESTS, StepWarning
from chainbuild.text import plural

if TYPE_CHECKING:
    from chainbuild.proof.trace.report import MissingPath, TracedTest, TraceReport

VERDICT: Final = "trace"
SWITCH: Final = "PROVE_TRACE"
"""The build argument of the production stage: `0` turns the proof off; `all` proves by the tests of the chain's steps too."""
IGNORE: Final = "TRACE_IGNORE"
"""The build argument of the production stage with patterns of paths that do not count."""
_NOT_TRACED: Final = "not traced"
_DOUBT: Final = "warning: "
_TESTS_NOTE: Final = "traced_tests"


class TraceVerdicts(Struct, frozen=True, kw_only=True):
    """What a record keeps of the proof: its verdict, and by which tests it was given."""

    verdicts: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[StepWarning, ...] = ()


class TraceProof:
    """Proves production images by their tests."""

    def __init__(self, builder: Builder, emit: Emit) -> None:
        self._builder = builder
        self._emit = emit

    def prove(self, step: Step, image: RemoteImage, chain: RemoteImage, contexts: Mapping[str, str]) -> TraceVerdicts:
        """Prove the image of a production step; return what its record keeps, nothing if there is no test.

        `chain` is the chain's last image. `contexts` replace the images that the proof's Dockerfile names, pinned. Errors:
        `NotProvenError` with the missing paths, their packages and the line for `minimize-<platform>-args`.
        """
        # Late: a run that builds nothing traces nothing.
        from chainbuild.proof.trace.runs import NotTraceableError, TraceTarget, trace

        values = switches(step) if step.traced or step.test else {}
        trials = tests_of(step, values)
        if not trials:
            return TraceVerdicts()
        tests = tuple(TraceTarget.of_trial(one, only_if_it_passes=one.path != step.test) for one in trials)
        kept = {_TESTS_NOTE: digest_of(trials)}
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
        judged = {test.name for test in report.tests if test.traced and test.passed}
        missing = tuple(one for one in report.missing if not judged.isdisjoint(one.tests))
        ignored = f"{plural(len(report.ignored), 'missing path')} left out by {IGNORE}"
        notes = (*notes_on(report, judged), *((ignored,) if report.ignored else ()))
        if not missing:
            counted = (
                f"{plural(report.paths, 'path')}"
                if len(report.tests) == 1
                else (f"{plural(report.paths, 'path')} of {plural(len(judged), 'test')}")
            )
            plain = tuple(note for note in notes if not note.startswith(_DOUBT))
            doubts = tuple(
                StepWarning(kind=OF_TESTS, text=note.removeprefix(_DOUBT)) for note in notes if note.startswith(_DOUBT)
            )
            verdict = self._passed(step, counted if judged else _NOT_TRACED, plain)
            return TraceVerdicts(verdicts={VERDICT: verdict}, notes=kept, warnings=doubts)
        summary = (
            f"{len(missing)} of {plural(report.paths, 'path')} that tests use in the chain's image are not in this one"
        )
        shown = tuple(str(one) for one in missing[:SHOWN_FINDINGS])
        more = len(missing) - len(shown)
        findings = (*shown, *((f"and {more} more",) if more else ()))
        self._emit(Verdict(step=step.id, proof=VERDICT, passed=False, summary=summary, findings=findings + notes))
        raise NotProvenError(
            f"{step.reference} is not proven: {summary}", hint=_hint(step, report, missing), findings=findings
        )

    def _passed(self, step: Step, summary: str, notes: tuple[str, ...]) -> str:
        self._emit(Verdict(step=step.id, proof=VERDICT, passed=True, summary=summary, findings=notes))
        return summary


def tests_of(step: Step, values: Mapping[str, str | None]) -> tuple[ImageTest, ...]:
    """Return the tests by which a production step is proven, its own last: that one, or if there is none those of the chain.

    `values` are those of the build arguments. With `PROVE_TRACE=all` the chain's tests count in any case.
    """
    if not is_on(values, SWITCH):
        return ()
    own = (step.test,) if step.test else ()
    paths = (*step.traced, *own) if value_of(values, SWITCH) == "all" or not own else own
    return tuple(read_image_test(path)[0] for path in paths)


def digest_of(tests: Iterable[ImageTest]) -> str:
    """Return what stands in a record for the tests as they are now."""
    return hashlib.sha256(" ".join(test.digest for test in tests).encode("ascii")).hexdigest()


def trace_stands(step: Step, record: Record) -> bool:
    """Whether the proof of a recorded image is by the tests as they are now, or there is nothing to prove."""
    if step.kind is not StepKind.PRODUCE or not (step.traced or step.test):
        return True
    tests = tests_of(step, switches(step))
    return not tests or record.notes.get(_TESTS_NOTE) == digest_of(tests)


def line_for(report: TraceReport, missing: tuple[MissingPath, ...]) -> str:
    """The line for an args file that brings these paths; empty if there is none."""
    words = [ListWord(text=one.pattern) for one in report.additions_for(missing)]
    return f"ADDITIONAL_FILES={as_list(words)}" if words else ""


def notes_on(report: TraceReport, judged: set[str]) -> Iterator[str]:
    """What else is worth a line: tests that were not traced, or that fail in the chain's image, and limits."""
    for test in report.tests:
        if test.status == "skipped":
            yield f"{test.name} does not pass in this image, so it is a test of the chain alone"
        elif not test.traced:
            yield f"{_DOUBT}{test.name} is not traced: {_why(test)}"
        elif not test.passed:
            paths = [one.path for one in report.missing if test.name in one.tests and judged.isdisjoint(one.tests)]
            told = (
                f"; until then it used {', '.join(paths[:3])}, which {'are' if len(paths) > 1 else 'is'} not in this one"
                if paths
                else ""
            )
            yield f"{_DOUBT}{test.name} {test.ending} in the chain's image, so it proves nothing{told}"
        elif test.cut:
            yield f"{_DOUBT}{test.name} does more than is read of a trace"


def _why(test: TracedTest) -> str:
    lines = [line.strip() for line in test.said.splitlines() if line.strip()]
    return lines[-1] if lines else "strace wrote nothing"


def _hint(step: Step, report: TraceReport, missing: tuple[MissingPath, ...]) -> str:
    args = f"{step.platform.name}-args"
    line = line_for(report, missing)
    bring = (
        f"Add to minimize-{args}: {line}" if line else f"Bring what is missing by ADDITIONAL_FILES in minimize-{args}"
    )
    return (
        f"{bring}\n(chainbuild minimize trace {step.option} --write does it.) A path that need not be there goes into {IGNORE}"
        f" in production-{args}; {SWITCH}=0 there turns this proof off."
    )
