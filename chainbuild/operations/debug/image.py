"""Build the images of a debug session: the state before an instruction, and the content of the instruction's mounts.

The builder makes both from a Dockerfile that is cut before the instruction, so they cost little: everything above the cut
is in its cache.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.dockerfile.cut import cut_before
from chainbuild.model import Secret
from chainbuild.operations.debug.mounts import RunMount
from chainbuild.operations.debug.startup import FOLDER
from chainbuild.operations.debug.subject import Subject
from chainbuild.values import replace

FILES: Final = "chainbuild-debug-files"
"""The named context with the files of the container."""
_MOUNTS: Final = "chainbuild-debug-mounts"
_CONTENT: Final = "/.chainbuild-mounts"
_FILE: Final = ".chainbuild-file"
# Only the numbers and the token change.
_COPY: Final = (
    f"for n in $NUMBERS; do mkdir -p {_CONTENT}/to/$n; if [ -d {_CONTENT}/from/$n ];"
    f" then cp -a {_CONTENT}/from/$n/. {_CONTENT}/to/$n;"
    f" else cp -a {_CONTENT}/from/$n {_CONTENT}/to/$n/{_FILE}; echo $TOKEN: mount $n is a file; fi; done"
)


def is_file_line(token: str, number: int) -> str:
    """Return the line that the copying prints if the content of a mount is a single file.

    The instructions above may print anything, but they do not know the token.
    """
    return f"{token}: mount {number} is a file"


def state_spec(subject: Subject, folder: Path, name: str, secrets: Sequence[Secret]) -> BuildSpec:
    """Return the build of the image before the instruction, with the files of `folder` in it."""
    raw, stage = cut_before(subject.raw, subject.place)
    last = f"FROM {stage} AS {name.partition(':')[0]}\nCOPY --from={FILES} / {FOLDER}/\n"
    return _spec(subject, raw + last.encode(), name, secrets, folder)


def content_spec(
    subject: Subject, flags: Mapping[int, str], name: str, token: str, secrets: Sequence[Secret]
) -> BuildSpec:
    """Return the build of an image with the content of mounts, each in a folder `/<number>`.

    `flags` are the mounts' flags by their number (see `copy_flags`). The copying is never taken from the cache, because of
    `token`: a cache mount may have changed.
    """
    raw, stage = cut_before(subject.raw, subject.place)
    script = f": {token}; " + _COPY.replace("$NUMBERS", " ".join(map(str, flags))).replace("$TOKEN", token)
    copy = (
        f"FROM {stage} AS {_MOUNTS}\nUSER 0\n"
        f'RUN {" ".join(flags.values())} ["/bin/sh", "-c", "{script}"]\n'
        f"FROM scratch\nCOPY --from={_MOUNTS} {_CONTENT}/to /\n"
    )
    return _spec(subject, raw + copy.encode(), name, secrets)


def copy_flags(mounts: Sequence[RunMount]) -> Mapping[int, str]:
    """Return the flags that mount the content of mounts where it is copied from, by the number of the mount."""
    flags = {number: mount.flag(f"{_CONTENT}/from/{number}") for number, mount in enumerate(mounts) if mount.is_copied}
    return {number: flag for number, flag in flags.items() if flag is not None}


def with_mounted_files(spec: BuildSpec, content: BuildSpec, targets: Mapping[int, str]) -> BuildSpec:
    """Return the build of the image with the mounts that are single files in it; `targets` maps their numbers to paths.

    A volume cannot be a file.
    """
    if not targets or spec.source is None or content.source is None:
        return spec
    head, _, last = spec.source.rpartition(b"FROM ")
    copying = content.source.removeprefix(head).rpartition(b"FROM ")[0]
    lines = "".join(
        f"COPY --from={_MOUNTS} {json.dumps([f'{_CONTENT}/to/{number}/{_FILE}', target])}\n"
        for number, target in targets.items()
    )
    return replace(spec, source=head + copying + b"FROM " + last + lines.encode())


def _spec(
    subject: Subject, source: bytes, name: str, secrets: Sequence[Secret], folder: Path | None = None
) -> BuildSpec:
    line = subject.place.instruction.line
    spec = subject.spec
    contexts = (*spec.contexts, (FILES, str(folder))) if folder else spec.contexts
    return replace(
        spec,
        source=source,
        pins=tuple(pin for pin in spec.pins if pin.place.line < line),
        run_flags=tuple((number, flags) for number, flags in spec.run_flags if number < line),
        contexts=contexts,
        secrets=tuple(secrets),
        target=None,
        image="",
        load=name,
    )
