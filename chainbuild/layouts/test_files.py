"""Tests that lie beside Dockerfiles: what they ask for, and what a record says of one that passed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.model import Step
from chainbuild.records.record import Record
from chainbuild.text import parse_duration

VERDICT: Final = "test"


TIME_LIMIT: Final = 300.0
"""Seconds that a test may take when it does not ask for more. Under emulation everything takes ten times as long."""


_ASKS_IN_LINES: Final = 20


_ASK = re.compile(rb"^\s*(?:#|//|--|;)+\s*chainbuild:\s*(?P<words>.*?)\s*$")


class ImageTest(Struct, frozen=True, kw_only=True):
    """A test as it was read: its digest names it in verdicts; `seconds` is its time limit."""

    path: Path
    digest: str
    network: bool = False
    seconds: float = TIME_LIMIT


def read_image_test(path: Path, shown: str = "") -> tuple[ImageTest, tuple[Problem, ...]]:
    """Read what a test asks for, and what is wrong with that."""
    shown = shown or str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        problem = Problem(path=shown, message=f"cannot be read: {error.strerror}", hint="A test is a readable file.")
        return ImageTest(path=path, digest=""), (problem,)
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
    return ImageTest(path=path, digest=digest, network=network, seconds=seconds), tuple(problems)


def has_passed(step: Step, record: Record) -> bool:
    """Whether a step has no test, or its recorded image has passed it as it is now."""
    return step.test is None or record.verdicts.get(VERDICT) == verdict_of(read_image_test(step.test)[0])


def verdict_of(image_test: ImageTest) -> str:
    """What a record says of a test that passed; another test's verdict differs."""
    return f"passed {image_test.digest}"
