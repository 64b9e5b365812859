"""The comment in a Dockerfile that names the stage to build: `# chainbuild: target NAME` in its first lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from chainbuild.dockerfile import Dockerfile
from chainbuild.patterns import regex
from chainbuild.text import perhaps_you_meant

_COMMENT: Final = regex(rb"\s*#+\s*chainbuild:\s*(?P<words>.*?)\s*")
_IN_LINES: Final = 20


def find_target(raw: bytes, facts: Dockerfile, problem: Callable[[int, str, str], None]) -> str | None:
    """Return the stage that the comment names; None if there is no comment: the last stage is built.

    `problem` is called with the line, the message and the hint of each comment that cannot be followed.
    """
    target = None
    for number, line in enumerate(raw.split(b"\n")[:_IN_LINES], start=1):
        comment = _COMMENT.fullmatch(line)
        if comment is None:
            continue
        words = comment["words"].decode("utf-8", "replace").split()
        names = [stage.name for stage in facts.stages if stage.name]
        if len(words) != 2 or words[0] != "target":
            problem(number, f"unknown setting of a Dockerfile: {' '.join(words)!r}", "Use: target NAME.")
        elif words[1].lower() not in names:
            hint = perhaps_you_meant(words[1], names) + (f"Its stages: {', '.join(names)}." if names else "")
            problem(number, f"target: no such stage: {words[1]!r}", hint or "Name the stage: FROM … AS name.")
        else:
            target = words[1]
    return target
