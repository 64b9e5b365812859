"""Where the chain's image has what is missing in the production image, and of which package: looked for natively."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from msgspec import Struct
from msgspec.structs import asdict

from chainbuild.build_order import BuildOrder
from chainbuild.buildx import BuildResult
from chainbuild.errors import ChainbuildError
from chainbuild.events import Emit
from chainbuild.model import Step
from chainbuild.scratch import scratch_folder
from chainbuild.shipped import PROGRAM, minimize_program, proof_path


class Builder(Protocol):
    """What runs the look; `buildx.BuildxDriver` is the real one."""

    def build(self, order: BuildOrder, emit: Emit) -> BuildResult:
        """Build and export."""


class Question(Struct, frozen=True, kw_only=True):
    """What is looked for, as `minimize/whose.py` has it. `folders` are for modules of Python."""

    kind: Literal["library", "path", "module", "folder"]
    name: str
    folders: tuple[str, ...] = ()


class Owned(Struct, frozen=True, kw_only=True):
    """A file of the chain's image and its package; what no package owns has none."""

    path: str
    kind: str = ""
    package: str = ""
    version: str = ""
    type: str = ""
    """What it is after links: `file`, `dir`, `special`, or empty if it leads nowhere."""

    def __str__(self) -> str:
        kinds = {"deb": "the Debian package", "apk": "the Alpine package", "pypi": "the Python distribution"}
        if not self.package:
            return f"{self.path}, of no package"
        return f"{self.path}, of {kinds.get(self.kind, self.kind)} {self.package} {self.version}".rstrip()


def whose(
    builder: Builder, emit: Emit, step: Step, image: str, questions: Iterable[Question], contexts: Mapping[str, str]
) -> tuple[tuple[Owned, ...], ...]:
    """Return the files of a pinned image that each question may mean, a few of each.

    `contexts` replace the images that the proof's Dockerfile names, pinned. Errors: those of a build.
    """
    asked = [asdict(question) for question in questions]
    with scratch_folder() as scratch:
        context, out = scratch / "context", scratch / "out"
        context.mkdir()
        out.mkdir()
        (context / "questions.json").write_text(json.dumps(asked), encoding="ascii")
        order = BuildOrder(
            step=step.id,
            dockerfile=proof_path(),
            shown=proof_path().name,
            context=context,
            platform=step.platform,
            args=(("IMAGE", image), ("PRODUCTION_IMAGE", "scratch")),
            contexts=(*contexts.items(), (PROGRAM, str(minimize_program()))),
            target="whose",
            export=out,
        )
        builder.build(order, emit)
        return read_whose((out / "whose.json").read_bytes())


def read_whose(raw: bytes) -> tuple[tuple[Owned, ...], ...]:
    """The files that were found, for each question (`chainbuild.whose/1`)."""
    try:
        return tuple(
            tuple(
                Owned(
                    type=str(file.get("type", "")),
                    **{key: str(file[key]) for key in ("path", "kind", "package", "version")},
                )
                for file in answer["files"]
            )
            for answer in json.loads(raw)["answers"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ChainbuildError(f"the look into the chain's image gave no answer ({error!r})") from error
