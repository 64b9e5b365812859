"""Decide whether a step's parent can be the result of another build of the same solve, and under which name.

A build that is linked to another one names its parent by a named context, `target:` and the other build. A named context
replaces every image and every stage of its name, so the name must not occur in the Dockerfile. The argument that names the
parent must be used in FROM only: elsewhere its value, which differs from that of a single build, would be part of the image.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from chainbuild.dockerfile import Facts, parse
from chainbuild.dockerfile.model import Dockerfile
from chainbuild.model import ImageInput, Step

_PREFIX: Final = "chainbuild-parent-"
_MOST_NAMES: Final = 100


def parent_context(step: Step, raw: bytes, facts: Facts) -> str:
    """Return the name for the parent in a linked build of the Dockerfile `raw`; empty if the build cannot be linked.

    `facts` are those of this build.
    """
    parents = [image for image in step.images if image.from_step is not None]
    if len(parents) != 1 or parents[0].name != step.parent or facts.foreign or facts.problems:
        return ""
    parent = parents[0]
    dockerfile = parse(raw, step.shown or str(step.dockerfile))
    if parent.platform != step.platform or not _only_in_from(dockerfile, parent):
        return ""
    return _free_name(raw)


def _only_in_from(dockerfile: Dockerfile, parent: ImageInput) -> bool:
    if parent.as_context or parent.asked or parent.by_trigger:
        return False
    whole = re.compile(rf"\$(?:{re.escape(parent.name)}|\{{{re.escape(parent.name)}(?::?-[^}}$]*)?\}})")
    mention = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(parent.name)}(?![A-Za-z0-9_])")
    named = False
    for stage in dockerfile.stages:
        if mention.search(stage.base):
            if not whole.fullmatch(stage.base) or stage.platform:
                return False
            named = True
        if any(mention.search(text) for text in (stage.platform, *(result.original for result in stage.instructions))):
            return False
    others = (arg.default or "" for arg in dockerfile.global_args if arg.name != parent.name)
    return named and not any(mention.search(text) for text in others)


def _free_name(raw: bytes) -> str:
    """Return a name that does not occur in a Dockerfile; empty if there is none."""
    text = raw.lower()
    for number in range(_MOST_NAMES):
        name = _PREFIX + hashlib.sha256(b"%d %s" % (number, raw)).hexdigest()[:12]
        if name.encode() not in text:
            return name
    return ""
