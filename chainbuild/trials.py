"""Tests of built images: `<descriptor>-test` beside a Dockerfile runs in the step's image, `production-test` in the result.

A test is any executable file: a script with a `#!` line, or a program for the image's platform. It runs through the
builder that built the image, on its platform, in a container that is thrown away, with the image's ENV, USER and WORKDIR,
without network. Comments in its first lines may ask for more:

    # chainbuild: network
    # chainbuild: timeout 10m
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from chainbuild.build_order import BuildOrder
from chainbuild.buildx import BuildResult
from chainbuild.durations import parse_duration
from chainbuild.errors import BuildFailedError, NotProvenError, Problem, WrongUseError
from chainbuild.events import Emit, Verdict
from chainbuild.model import Step
from chainbuild.orders import shown_path
from chainbuild.records.record import Record
from chainbuild.registry.images import RemoteImage
from chainbuild.scratch import scratch_folder

VERDICT: Final = "test"
TIME_LIMIT: Final = 300.0
"""Seconds that a test may take when it does not ask for more. Under emulation everything takes ten times as long."""
_SHOWN: Final = 20
_ASKS_IN_LINES: Final = 20
_ASK = re.compile(rb"^\s*(?:#|//|--|;)+\s*chainbuild:\s*(?P<words>.*?)\s*$")


class Builder(Protocol):
    """What runs the test; `buildx.BuildxDriver` is the real one."""

    def build(self, order: BuildOrder, emit: Emit) -> BuildResult:
        """Build."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A test as it was read: its digest names it in verdicts; `seconds` is its time limit."""

    path: Path
    digest: str
    network: bool = False
    seconds: float = TIME_LIMIT


def read_trial(path: Path, shown: str = "") -> tuple[Trial, tuple[Problem, ...]]:
    """Read what a test asks for, and what is wrong with that."""
    shown = shown or str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        problem = Problem(path=shown, message=f"cannot be read: {error.strerror}", hint="A test is a readable file.")
        return Trial(path=path, digest=""), (problem,)
    network, seconds = False, TIME_LIMIT
    problems: list[Problem] = []
    for number, line in enumerate(raw.split(b"\n")[:_ASKS_IN_LINES], start=1):
        ask = _ASK.match(line)
        words = ask["words"].decode("utf-8", "replace").split() if ask else []
        try:
            if words == ["network"]:
                network = True
            elif len(words) == 2 and words[0] == "timeout":
                seconds = parse_duration(words[1])
            elif ask:
                raise WrongUseError(f"a test cannot ask for {' '.join(words)!r}")
        except WrongUseError as error:
            hint = "It can ask for: network; timeout 10m."
            problems += [Problem(path=shown, line=number, message=one.message, hint=hint) for one in error.problems]
    if not raw.startswith((b"#!", b"\x7fELF")):
        hint = "Begin it with #!/bin/sh, or whatever runs it."
        problems.append(Problem(path=shown, line=1, message="neither a script with a #! line nor a program", hint=hint))
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return Trial(path=path, digest=digest, network=network, seconds=seconds), tuple(problems)


def run_trial(builder: Builder, emit: Emit, step: Step, image: RemoteImage, *, again: bool = False) -> str:
    """Run a step's test in an image of it; gives the verdict that a record keeps. `again`: also what passed before.

    Errors: `NotProvenError` with the test's last lines where it fails or takes too long.
    """
    if step.test is None:
        raise ValueError(f"{step.id} has no test")
    trial, _ = read_trial(step.test)
    started = time.monotonic()
    with scratch_folder() as scratch:
        program = scratch / "context" / "test"
        program.parent.mkdir()
        shutil.copyfile(step.test, program)
        program.chmod(0o755)
        dockerfile = scratch / "Dockerfile"
        network = "default" if trial.network else "none"
        dockerfile.write_text(
            "ARG IMAGE\n"
            "FROM ${IMAGE}\n"
            f'RUN --network={network} --mount=type=bind,target=/.chainbuild-test ["/.chainbuild-test/test"]\n',
            encoding="utf-8",
        )
        order = BuildOrder(
            step=step.id,
            dockerfile=dockerfile,
            shown=str(step.test.name),
            context=program.parent,
            platform=step.platform,
            args=(("IMAGE", image.reference.pinned),),
            seconds=trial.seconds,
            no_cache=again,
        )
        try:
            builder.build(order, emit)
        except BuildFailedError as error:
            took = time.monotonic() - started
            late = took >= trial.seconds
            why = f"took longer than {trial.seconds:.0f} s" if late else "failed"
            hint = "Give it more: # chainbuild: timeout 10m in its first lines." if late else ""
            summary = f"{step.test.name} {why}"
            emit(Verdict(step=step.id, proof=VERDICT, passed=False, summary=summary, findings=error.log_tail[-_SHOWN:]))
            raise NotProvenError(
                f"{step.reference}: its test {step.test.name} {why}", where=shown_path(step.test), hint=hint,
                findings=error.log_tail[-_SHOWN:],
            ) from error  # fmt: skip
    took = time.monotonic() - started
    emit(Verdict(step=step.id, proof=VERDICT, passed=True, summary=f"{step.test.name} passed in {took:.1f} s"))
    return verdict_of(trial)


def has_passed(step: Step, record: Record) -> bool:
    """Whether a step has no test, or its recorded image has passed it as it is now."""
    return step.test is None or record.verdicts.get(VERDICT) == verdict_of(read_trial(step.test)[0])


def verdict_of(trial: Trial) -> str:
    """What a record says of a test that passed; another test's verdict differs."""
    return f"passed {trial.digest}"
