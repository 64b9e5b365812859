"""Prove an image's Python: modules that import in the chain's image also import in the production image.

The interpreters and the modules to import are known from the analysis of the image (`libraries.py`), so an image
without Python costs nothing. The imports run in the production image, on its platform, in temporary containers without
network. Only modules that fail there are imported in the chain's image too, and only for those that succeed there the
missing file is looked up, natively.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from chainbuild.builder.build_spec import BuildDriver, BuildSpec
from chainbuild.errors import BuildFailedError, ChainbuildError, NotProvenError
from chainbuild.events import Emit, Verdict, labelled
from chainbuild.host.folders import scratch_folder
from chainbuild.host.package_data import minimize_program
from chainbuild.model import Step
from chainbuild.patterns import regex
from chainbuild.proof.chain_files import MissingObject, Owned, Question, Raised, missing_files, whose
from chainbuild.proof.libraries import SHOWN_FINDINGS, PythonEnvironment
from chainbuild.references import Platform
from chainbuild.step_warnings import StepWarning
from chainbuild.text import plural
from chainbuild.values import convert

VERDICT: Final = "imports"
SWITCH: Final = "PROVE_IMPORTS"
"""The build argument of the production stage that turns off the proof."""
MODULE_SECONDS: Final = 60.0
EMULATED_SECONDS: Final = 600.0
"""The time limit of an import in seconds; everything takes ten times as long under emulation."""
_SHOWN_MODULES: Final = 3
_NOT_STARTED: Final = "not started"
# The builder's message if the container's process did not start or exited: a fault of the image. Others are not.
_OF_THE_IMAGE: Final = regex(
    r"exited with code \d+|exit code: \d+|exec: |exec format|unable to find user|OCI runtime|container process"
)
# What comes before the reason in the message of a failed build.
_BEFORE_REASON: Final = regex(r" failed: | (?=exited with code )")


class Answer(Struct, frozen=True, kw_only=True):
    """The result of importing a module in the environment at `start`, as in `minimize/try_imports.py`.

    If the interpreter itself does not start, each of its modules has the outcome `not started`.
    """

    start: str
    module: str
    outcome: str
    code: int = 0
    errors: tuple[Raised, ...] = ()
    said: str = ""

    @property
    def well(self) -> bool:
        return self.outcome == "imported"

    @property
    def in_words(self) -> str:
        """Return the reason of the failure, on one line."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        # Python's crash report has the innermost frame first.
        crashed = (line for line, above in zip(lines[1:], lines, strict=False) if "most recent call first" in above)
        last = next(crashed, lines[-1] if lines else "")
        match self.outcome:
            case "raised" if self.errors:
                return str(self.errors[0])
            case "killed":
                words = f"killed by signal {self.code}"
            case "late":
                words = "timed out"
            case "not started":
                words = "the interpreter does not start"
            case _:
                words = f"the process exited with code {self.code}"
        return f"{words} ({last})" if last else words


class ImportProof:
    """Proves the Python of a production image.

    `image` and `chain` are pinned; `contexts` replace the images that the proof's Dockerfile names.
    """

    def __init__(
        self, builder: BuildDriver, emit: Emit, step: Step, *, image: str, chain: str, contexts: Mapping[str, str]
    ) -> None:
        self._builder = builder
        self._emit = emit
        self._step = step
        self._image = image
        self._chain = chain
        self._contexts = contexts
        self.warnings: tuple[StepWarning, ...] = ()
        """Modules that fail in the chain's image as well."""

    def prove(self, pythons: Iterable[PythonEnvironment]) -> str:
        """Return the verdict for the record; empty if there is no Python to prove.

        Errors: `NotProvenError` with the modules that fail, the missing files and their packages.
        """
        pythons = tuple(pythons)
        if not pythons:
            return ""
        answers = [answer for python in pythons for answer in self._imports(python, python.modules, self._image)]
        failed = [answer for answer in answers if not answer.well]
        well_in_chain = {
            (answer.start, answer.module)
            for python in pythons
            if (again := tuple(answer.module for answer in failed if answer.start == python.start))
            for answer in self._imports(python, again, self._chain)
            if answer.well
        }
        broken = [answer for answer in failed if (answer.start, answer.module) in well_in_chain]
        shared = [answer for answer in failed if (answer.start, answer.module) not in well_in_chain]
        self.warnings = tuple(
            StepWarning(kind=VERDICT, text=f"{text}, as in the chain's image") for text in _describe(shared)
        )
        if not broken:
            summary = plural(len(answers) - len(shared), "module")
            self._emit(Verdict(step=self._step.id, proof=VERDICT, passed=True, summary=summary))
            return summary
        raise self._refuse(pythons, broken, len(answers))

    def _refuse(self, pythons: tuple[PythonEnvironment, ...], broken: list[Answer], total: int) -> NotProvenError:
        """Emit the verdict on the failed modules; return the error."""
        files = self._files({python.start: python for python in pythons}, broken)
        findings = tuple(_describe(broken, files))
        more = len(findings) - SHOWN_FINDINGS
        findings = (*findings[:SHOWN_FINDINGS], *((f"and {more} more",) if more > 0 else ()))
        summary = f"{len(broken)} of {plural(total, 'module')} can be imported in the chain's image but not in this one"
        warnings = tuple(labelled("warning", warning.text) for warning in self.warnings)
        self._emit(
            Verdict(step=self._step.id, proof=VERDICT, passed=False, summary=summary, findings=findings + warnings)
        )
        paths = tuple(dict.fromkeys(owned[0].path for owned in files.values() if owned))
        names = f"ADDITIONAL_FILES={' '.join(paths[:SHOWN_FINDINGS])}" if paths else "ADDITIONAL_FILES"
        stage = f"{self._step.platform.name}-args"
        return NotProvenError(
            f"{self._step.reference} failed its import check: {summary}",
            hint=f"Add the missing files: {names} in minimize-{stage}, or their packages with PRODUCTION_PACKAGES."
            f" {SWITCH}=0 in production-{stage} turns off this proof.",
            findings=findings,
        )

    def _files(
        self, by_start: Mapping[str, PythonEnvironment], broken: list[Answer]
    ) -> dict[Answer, tuple[Owned, ...]]:
        """Return the files of the chain's image that explain each failure, if known."""
        blamed = {answer: _missing_objects(answer, by_start[answer.start]) for answer in broken}
        requests = list(dict.fromkeys((answer.start, missing) for answer in broken for missing in blamed[answer]))
        files_of = dict(zip(requests, self._whose(by_start, requests), strict=True)) if requests else {}
        return {
            answer: next((files for missing in blamed[answer] if (files := files_of[answer.start, missing])), ())
            for answer in broken
        }

    # Running ----------------------------------------------------------------------------------------------------------

    def _imports(self, python: PythonEnvironment, modules: tuple[str, ...], image: str) -> tuple[Answer, ...]:
        """Import the modules in an image. Errors: those of a build that the image does not cause."""
        native = self._step.platform.same_as(Platform.of_this_machine())
        seconds = MODULE_SECONDS if native else EMULATED_SECONDS
        with scratch_folder() as scratch:
            context = scratch / "context"
            context.mkdir(mode=0o755)
            shutil.copyfile(minimize_program() / "try_imports.py", context / "try_imports.py")
            (context / "questions").write_text("".join(f"{name}\n" for name in modules), encoding="utf-8")
            (context / "answers").touch()
            for file in context.iterdir():
                file.chmod(0o666)  # readable and writable for any USER of the image
            dockerfile = scratch / "Dockerfile"
            dockerfile.write_text(_dockerfile(python.start, seconds), encoding="utf-8")
            out = scratch / "out"
            out.mkdir()
            spec = BuildSpec(
                step=self._step.id,
                dockerfile=dockerfile,
                shown="the proof of Python",
                context=context,
                platform=self._step.platform,
                args=(("IMAGE", image),),
                export=out,
            )
            try:
                self._builder.build(spec, self._emit)
            except BuildFailedError as error:
                if not _OF_THE_IMAGE.search(error.message):
                    raise
                output = "\n".join(error.log_tail) or _BEFORE_REASON.split(error.message)[-1]
                return tuple(
                    Answer(start=python.start, module=name, outcome=_NOT_STARTED, said=output) for name in modules
                )
            return tuple(read_answers((out / "answers").read_bytes(), python.start, modules))

    def _whose(
        self, by_start: Mapping[str, PythonEnvironment], requests: Iterable[tuple[str, MissingObject]]
    ) -> tuple[tuple[Owned, ...], ...]:
        """Look up what is missing in each environment in the chain's image."""
        questions = [
            Question(kind=missing.kind, name=missing.name, folders=by_start[start].folders)
            for start, missing in requests
        ]
        return whose(self._builder, self._emit, self._step, self._chain, questions, self._contexts)


def _dockerfile(start: str, seconds: float) -> str:
    """Return the Dockerfile that runs the imports; only the answers of the container are kept."""
    program = "/.chainbuild-imports"
    command = [start, "-B", "-X", "faulthandler", f"{program}/try_imports.py", f"{program}/questions"]
    command += ["/.chainbuild-answers", str(seconds)]
    return (
        "ARG IMAGE\n"
        "FROM ${IMAGE} AS imports\n"
        "COPY answers /.chainbuild-answers\n"
        f"RUN --network=none --mount=type=bind,target={program} {json.dumps(command)}\n"
        "FROM scratch\n"
        "COPY --from=imports /.chainbuild-answers /answers\n"
    )


# Reading --------------------------------------------------------------------------------------------------------------


def read_answers(raw: bytes, start: str, modules: Iterable[str]) -> Iterator[Answer]:
    """Yield the answers, one for each module, in order. Errors: `ChainbuildError` if one is missing (a bug)."""
    documents: dict[str, dict[str, Any]] = {}
    try:
        for line in raw.splitlines():
            document = json.loads(line)
            documents[str(document["module"])] = document
        for module in modules:
            yield convert({**documents[module], "start": start}, Answer)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ChainbuildError(f"the imports in the image returned no valid answer ({error!r})") from error


# Formatting -----------------------------------------------------------------------------------------------------------


def _missing_objects(answer: Answer, python: PythonEnvironment) -> tuple[MissingObject, ...]:
    """Return the objects that a failed import lacks, the likeliest first."""
    if answer.outcome == _NOT_STARTED and python.missing:
        return (MissingObject(kind="path", name=python.missing),)
    return missing_files(answer.errors, "" if answer.errors else answer.said)


def _describe(answers: Iterable[Answer], files: Mapping[Answer, tuple[Owned, ...]] | None = None) -> Iterator[str]:
    """Yield a line for each reason, with the modules that fail for it. `files`: the missing files in the chain's image."""
    groups: dict[tuple[str, str, tuple[Owned, ...]], list[str]] = {}
    for answer in answers:
        where = (files or {}).get(answer, ())
        groups.setdefault((answer.start, answer.in_words, where), []).append(answer.module)
    for (start, why, where), modules in groups.items():
        names = ", ".join(modules[:_SHOWN_MODULES])
        if len(modules) > _SHOWN_MODULES:
            names += f" and {len(modules) - _SHOWN_MODULES} more"
        replacement = f"; the chain's image has {' or '.join(map(str, where))}" if where else ""
        yield f"{names} ({start}): {why}{replacement}"
