"""Set the ENV of an image in a SIF file exactly.

Apptainer writes an image's variables into a shell script, in quotes that a `"`, a `$`, a backslash or a backtick in a
value breaks, and then sets none of them. Variables with such values are set by a script of their own, in a layer on top
of the image. As with Apptainer's script, values that the user sets for the container take precedence.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Final

from chainbuild.patterns import regex
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.oci import canonical, digest_of

SCRIPT: Final = ".singularity.d/env/11-image.sh"
"""After Apptainer's own script (10-…), and before the user's settings."""
_NAME: Final = regex(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN: Final = regex(r"[A-Za-z0-9 _@%+=:,./~^-]*")
# Apptainer sets these even if the user has set them.
_ALWAYS: Final = frozenset({"PATH"})

Variables = tuple[tuple[str, str], ...]


def divide(env: Iterable[tuple[str, str]]) -> tuple[Variables, Variables, tuple[str, ...]]:
    """Split variables into those that Apptainer sets correctly, all others, and the names that no shell can set."""
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
    """Return an sh script that sets these variables if they are not set."""
    lines = ["#!/bin/sh"]
    for name, value in variables:
        # Not with a backslash, which the shell of Apptainer 1.4 keeps there.
        quoted = value.replace("'", """'"'"'""")
        assignment = f"{name}='{quoted}'"
        lines += [
            assignment if name in _ALWAYS else f'if [ -z "${{{name}:-}}" ]; then {assignment}; fi',
            f"export {name}",
        ]
    return "\n".join(lines) + "\n"


def layer_of(files: Mapping[str, bytes]) -> bytes:
    """Return a layer with these files by path, as a plain tar. The same files result in the same bytes."""
    buffer = io.BytesIO()
    folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(folders):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        for path, content in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755 if path == SCRIPT else 0o644
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def with_layer(config: ImageConfig, layer: bytes) -> ImageConfig:
    """Return the image's config with this layer (a plain tar) added on top."""
    document = json.loads(config.raw)
    document["rootfs"]["diff_ids"] = [*map(str, config.diff_ids), str(digest_of(layer))]
    # Remove the history, which would lack an entry for the layer.
    document.pop("history", None)
    return ImageConfig.parse(canonical(document))
