"""Tests next to Dockerfiles: their settings, and the verdict of a passed test in a record."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import Problem, WrongUseError
from chainbuild.model import Step
from chainbuild.patterns import regex
from chainbuild.records.record import Record
from chainbuild.text import parse_duration

VERDICT: Final = "test"


TIME_LIMIT: Final = 300.0
"""The default time limit of a test in seconds. Under emulation everything takes ten times as long."""


_ASKS_IN_LINES: Final = 20


_ASK = regex(rb"^\s*(?:#|//|--|;)+\s*chainbuild:\s*(?P<words>.*?)\s*$")


class ImageTest(Struct, frozen=True, kw_only=True):
    """A test after parsing: its digest identifies it in verdicts; `seconds` is its time limit."""

    path: Path
    digest: str
    network: bool = False
    seconds: float = TIME_LIMIT


def read_image_test(path: Path, shown: str = "") -> tuple[ImageTest, tuple[Problem, ...]]:
    """Read the settings of a test; return also its problems."""
    shown = shown or str(path)
    try:
        raw = limits.read_tree_file(path)
    except OSError as error:
        problem = Problem(path=shown, message=f"cannot be read: {error.strerror}", hint="Make it readable.")
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
                raise WrongUseError(f"unknown setting of a test: {' '.join(words)!r}")
        except WrongUseError as error:
            hint = "Use: network; timeout 10m."
            problems += [Problem(path=shown, line=number, message=item.message, hint=hint) for item in error.problems]
    if not raw.startswith((b"#!", b"\x7fELF")):
        hint = "Begin it with #!/bin/sh or another interpreter."
        problems.append(Problem(path=shown, line=1, message="not a program and not a script with a #! line", hint=hint))
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return ImageTest(path=path, digest=digest, network=network, seconds=seconds), tuple(problems)


def has_passed(step: Step, record: Record) -> bool:
    """Return whether a step has no test, or its recorded image passed the current test."""
    return step.test is None or record.verdicts.get(VERDICT) == verdict_of(read_image_test(step.test)[0])


def verdict_of(image_test: ImageTest) -> str:
    """Return the verdict in a record of a passed test; every test has a different one."""
    return f"passed {image_test.digest}"
