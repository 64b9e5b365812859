"""The ENV of an image in a SIF file, exactly.

Apptainer writes an image's variables into a shell script, in quotes that a `"`, a `$`, a backslash or a backtick in a value
breaks: then none of them is set. Variables with such values go into a script of their own beside it, which is a layer on top
of the image; as with Apptainer's, what the user has set for the container wins.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable
from typing import Final

from chainbuild.registry.config import ImageConfig
from chainbuild.registry.oci import canonical, digest_of

SCRIPT: Final = ".singularity.d/env/11-image.sh"
"""Behind Apptainer's own (10-…), and before what the user sets."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN: Final = re.compile(r"[A-Za-z0-9 _@%+=:,./~^-]*")
# What Apptainer sets whatever the user has set.
_ALWAYS: Final = frozenset({"PATH"})

Variables = tuple[tuple[str, str], ...]


def divide(env: Iterable[tuple[str, str]]) -> tuple[Variables, Variables, tuple[str, ...]]:
    """The variables whose values Apptainer writes right, the others, and the names that no shell can set."""
    plain: list[tuple[str, str]] = []
    hard: list[tuple[str, str]] = []
    lost: list[str] = []
    for name, value in env:
        if not _NAME.fullmatch(name) or "\0" in value:
            lost.append(name)
        else:
            (plain if _PLAIN.fullmatch(value) else hard).append((name, value))
    return tuple(plain), tuple(hard), tuple(lost)


def script(variables: Variables) -> str:
    """A script for sh that sets these variables, each unless it is set."""
    lines = ["#!/bin/sh"]
    for name, value in variables:
        # Not with a backslash, which the shell in Apptainer 1.4 keeps there.
        quoted = value.replace("'", """'"'"'""")
        assignment = f"{name}='{quoted}'"
        lines += [
            assignment if name in _ALWAYS else f'if [ -z "${{{name}:-}}" ]; then {assignment}; fi',
            f"export {name}",
        ]
    return "\n".join(lines) + "\n"


def layer_of(text: str) -> bytes:
    """A layer, as a plain tar, with the script. The same text gives the same bytes."""
    buffer = io.BytesIO()
    content = text.encode("utf-8", "surrogateescape")
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        parts = SCRIPT.split("/")
        for depth in range(1, len(parts)):
            folder = tarfile.TarInfo("/".join(parts[:depth]))
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        member = tarfile.TarInfo(SCRIPT)
        member.size, member.mode = len(content), 0o755
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def with_layer(config: ImageConfig, layer: bytes) -> ImageConfig:
    """The config of the image with this layer (a plain tar) on top."""
    document = json.loads(config.raw)
    document["rootfs"]["diff_ids"] = [*map(str, config.diff_ids), str(digest_of(layer))]
    # The history would be one short: it says nothing of how a SIF is made.
    document.pop("history", None)
    return ImageConfig.parse(canonical(document))
