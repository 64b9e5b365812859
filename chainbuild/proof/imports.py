"""The proof of an image's Python: what imports in the chain's image imports in the production image.

Which interpreters there are, and what is to be imported in each, is known from the look into the image (`proof.py`), so an
image without Python costs nothing. The imports themselves run in the production image, on its platform, in containers that
are thrown away, without network. Only what fails there is imported in the chain's image, too; and only where it is well
there the look for the missing file, natively, follows.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from msgspec import Struct

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.builder.buildx import BuildResult
from chainbuild.errors import BuildFailedError, ChainbuildError, NotProvenError
from chainbuild.events import Emit, Verdict
from chainbuild.host.folders import scratch_folder
from chainbuild.host.package_data import minimize_program
from chainbuild.model import Step
from chainbuild.proof.chain_files import MissingObject, Owned, Question, Raised, missing_files, whose
from chainbuild.proof.libraries import SHOWN_FINDINGS, PythonEnvironment
from chainbuild.references import Platform
from chainbuild.step_warnings import StepWarning
from chainbuild.text import plural

VERDICT: Final = "imports"
SWITCH: Final = "PROVE_IMPORTS"
"""The build argument of the production stage that turns the proof off."""
MODULE_SECONDS: Final = 60.0
EMULATED_SECONDS: Final = 600.0
"""How long one import may take; under emulation everything takes ten times as long."""
_SHOWN_MODULES: Final = 3
_NOT_STARTED: Final = "not started"
# What the builder says when the container's process did not start, or went away: it is the image's. Anything else is not.
_OF_THE_IMAGE: Final = re.compile(
    r"exit code: \d+|exec: |exec format|unable to find user|OCI runtime|container process"
)


class Builder(Protocol):
    """What runs the imports; `buildx.BuildxDriver` is the real one."""

    def build(self, order: BuildSpec, emit: Emit) -> BuildResult:
        """Build and export."""


class Answer(Struct, frozen=True, kw_only=True):
    """How the import of a module in the environment at `start` ended, as `minimize/try_imports.py` has it.

    Where the interpreter itself does not start, `outcome` is so for each of its modules.
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
        """Why it failed, on one line."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        # What Python tells of a crash has the place that crashed first.
        crashed = (line for line, above in zip(lines[1:], lines, strict=False) if "most recent call first" in above)
        last = next(crashed, lines[-1] if lines else "")
        match self.outcome:
            case "raised" if self.errors:
                return str(self.errors[0])
            case "killed":
                words = f"it is killed by signal {self.code}"
            case "late":
                words = "it takes too long"
            case "not started":
                words = "its interpreter does not start"
            case _:
                words = f"the process ends with exit code {self.code}"
        return f"{words} ({last})" if last else words


class ImportProof:
    """Proves the Python of one production image.

    `image` and `chain` are pinned; `contexts` replace the images that the proof's Dockerfile names.
    """

    def __init__(
        self, builder: Builder, emit: Emit, step: Step, *, image: str, chain: str, contexts: Mapping[str, str]
    ) -> None:
        self._builder = builder
        self._emit = emit
        self._step = step
        self._image = image
        self._chain = chain
        self._contexts = contexts
        self.warnings: tuple[StepWarning, ...] = ()
        """What fails in the chain's image as well."""

    def prove(self, pythons: Iterable[PythonEnvironment]) -> str:
        """The verdict that a record keeps; empty where there is no Python to prove.

        Errors: `NotProvenError` with what does not import, the missing files and their packages.
        """
        pythons = tuple(pythons)
        if not pythons:
            return ""
        answers = [one for python in pythons for one in self._imports(python, python.modules, self._image)]
        failed = [one for one in answers if not one.well]
        well_in_chain = {
            (one.start, one.module)
            for python in pythons
            if (again := tuple(one.module for one in failed if one.start == python.start))
            for one in self._imports(python, again, self._chain)
            if one.well
        }
        broken = [one for one in failed if (one.start, one.module) in well_in_chain]
        shared = [one for one in failed if (one.start, one.module) not in well_in_chain]
        self.warnings = tuple(
            StepWarning(kind=VERDICT, text=f"{text}, as in the chain's image") for text in _told(shared)
        )
        if not broken:
            summary = plural(len(answers) - len(shared), "module")
            self._emit(Verdict(step=self._step.id, proof=VERDICT, passed=True, summary=summary))
            return summary
        raise self._refuse(pythons, broken, len(answers))

    def _refuse(self, pythons: tuple[PythonEnvironment, ...], broken: list[Answer], asked: int) -> NotProvenError:
        """Tell what does not import, and what it lacks; gives the error."""
        files = self._files({python.start: python for python in pythons}, broken)
        findings = tuple(_told(broken, files))
        more = len(findings) - SHOWN_FINDINGS
        findings = (*findings[:SHOWN_FINDINGS], *((f"and {more} more",) if more > 0 else ()))
        summary = f"{len(broken)} of {plural(asked, 'module')} import in the chain's image and not in this one"
        warnings = tuple(f"warning: {one.text}" for one in self.warnings)
        self._emit(
            Verdict(step=self._step.id, proof=VERDICT, passed=False, summary=summary, findings=findings + warnings)
        )
        paths = tuple(dict.fromkeys(owned[0].path for owned in files.values() if owned))
        names = f"ADDITIONAL_FILES={' '.join(paths[:SHOWN_FINDINGS])}" if paths else "ADDITIONAL_FILES"
        stage = f"{self._step.platform.name}-args"
        return NotProvenError(
            f"{self._step.reference} is not proven: {summary}",
            hint=f"Bring what is missing: {names} in minimize-{stage}, or its package by PRODUCTION_PACKAGES."
            f" {SWITCH}=0 in production-{stage} turns this proof off.",
            findings=findings,
        )

    def _files(
        self, by_start: Mapping[str, PythonEnvironment], broken: list[Answer]
    ) -> dict[Answer, tuple[Owned, ...]]:
        """The files of the chain's image that each of the answers lacks, as far as they are known."""
        blamed = {one: _blamed(one, by_start[one.start]) for one in broken}
        asked = list(dict.fromkeys((one.start, missing) for one in broken for missing in blamed[one]))
        found = dict(zip(asked, self._whose(by_start, asked), strict=True)) if asked else {}
        return {
            one: next((files for missing in blamed[one] if (files := found[one.start, missing])), ()) for one in broken
        }

    # Running ----------------------------------------------------------------------------------------------------------

    def _imports(self, python: PythonEnvironment, modules: tuple[str, ...], image: str) -> tuple[Answer, ...]:
        """Import the modules in an image. Errors: those of a build that are not the image's."""
        native = self._step.platform.same_as(Platform.of_this_machine())
        seconds = MODULE_SECONDS if native else EMULATED_SECONDS
        with scratch_folder() as scratch:
            context = scratch / "context"
            context.mkdir(mode=0o755)
            shutil.copyfile(minimize_program() / "try_imports.py", context / "try_imports.py")
            (context / "questions").write_text("".join(f"{name}\n" for name in modules), encoding="utf-8")
            (context / "answers").touch()
            for file in context.iterdir():
                file.chmod(0o666)  # whatever the image's USER is
            dockerfile = scratch / "Dockerfile"
            dockerfile.write_text(_dockerfile(python.start, seconds), encoding="utf-8")
            out = scratch / "out"
            out.mkdir()
            order = BuildSpec(
                step=self._step.id,
                dockerfile=dockerfile,
                shown="the proof of Python",
                context=context,
                platform=self._step.platform,
                args=(("IMAGE", image),),
                export=out,
            )
            try:
                self._builder.build(order, self._emit)
            except BuildFailedError as error:
                if not _OF_THE_IMAGE.search(error.message):
                    raise
                said = "\n".join(error.log_tail) or error.message.rpartition(" failed: ")[2]
                return tuple(
                    Answer(start=python.start, module=name, outcome=_NOT_STARTED, said=said) for name in modules
                )
            return tuple(read_answers((out / "answers").read_bytes(), python.start, modules))

    def _whose(
        self, by_start: Mapping[str, PythonEnvironment], asked: Iterable[tuple[str, MissingObject]]
    ) -> tuple[tuple[Owned, ...], ...]:
        """Where the chain's image has what is missing in an environment, for each that is asked."""
        questions = [
            Question(kind=missing.kind, name=missing.name, folders=by_start[start].folders) for start, missing in asked
        ]
        return whose(self._builder, self._emit, self._step, self._chain, questions, self._contexts)


def _dockerfile(start: str, seconds: float) -> str:
    """Runs the imports: what a container writes is gone, but for the answers."""
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
    """The answers, one for each module, in order. Errors: `ChainbuildError` where one is lacking (a bug)."""
    found: dict[str, dict[str, Any]] = {}
    try:
        for line in raw.splitlines():
            document = json.loads(line)
            found[str(document["module"])] = document
        for module in modules:
            document = found[module]
            yield Answer(
                start=start,
                module=module,
                outcome=str(document["outcome"]),
                code=int(document["code"]),
                errors=tuple(
                    Raised(**{key: str(one[key]) for key in ("type", "message", "module", "file")})
                    for one in document["errors"]
                ),
                said=str(document["said"]),
            )
    except (ValueError, KeyError, TypeError) as error:
        raise ChainbuildError(f"the imports in the image gave no answer ({error!r})") from error


# Telling --------------------------------------------------------------------------------------------------------------


def _blamed(answer: Answer, python: PythonEnvironment) -> tuple[MissingObject, ...]:
    """What a failed import lacks, the likeliest first."""
    if answer.outcome == _NOT_STARTED and python.missing:
        return (MissingObject(kind="path", name=python.missing),)
    return missing_files(answer.errors, "" if answer.errors else answer.said)


def _told(answers: Iterable[Answer], files: Mapping[Answer, tuple[Owned, ...]] | None = None) -> Iterator[str]:
    """A line for each reason, with the modules that fail for it. `files`: what the chain's image has instead."""
    groups: dict[tuple[str, str, tuple[Owned, ...]], list[str]] = {}
    for one in answers:
        where = (files or {}).get(one, ())
        groups.setdefault((one.start, one.in_words, where), []).append(one.module)
    for (start, why, where), modules in groups.items():
        names = ", ".join(modules[:_SHOWN_MODULES])
        if len(modules) > _SHOWN_MODULES:
            names += f" and {len(modules) - _SHOWN_MODULES} more"
        there = f"; the chain's image has {' or '.join(map(str, where))}" if where else ""
        yield f"{names} ({start}): {why}{there}"
