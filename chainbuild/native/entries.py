"""Find out whether an image has package tools of its own where native ones are mounted: they must not be hidden."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from chainbuild.dockerfile.model import Dockerfile, Instruction
from chainbuild.native.runs import ENTRIES
from chainbuild.patterns import regex

_NAMES: Final = "|".join(entry.rpartition("/")[2] for entry in ENTRIES)
_MENTIONED: Final = regex(rf"/?{ENTRIES[0].rpartition('/')[0].strip('/')}/(?:{_NAMES})(?![\w-])")
_ARCHIVE: Final = regex(r".*\.(?:tar(?:\.\w+)?|tgz|tbz2?|txz)")
_SOME: Final = ENTRIES[0]


def own_entry(dockerfile: Dockerfile, context: Path) -> str:
    """Return the place of a package tool that the Dockerfile may write; empty if it writes none.

    Files that it copies are looked for in the context. What is in archives and other images cannot be seen, so they may have
    one if they are unpacked above such a place.
    """
    stages = {str(number) for number in range(len(dockerfile.stages))} | {stage.name for stage in dockerfile.stages}
    for stage in dockerfile.stages:
        for found in stage.instructions:
            mentioned = _MENTIONED.search("\n".join((found.rest, *(document.content for document in found.heredocs))))
            if mentioned:
                return f"/{mentioned[0].lstrip('/')}"
            entry = _copied(found, context, stages) if found.keyword in {"ADD", "COPY"} and len(found.words) > 1 else ""
            if entry:
                return entry
    return ""


def _copied(found: Instruction, context: Path, stages: set[str]) -> str:
    *sources, target = found.words
    tails = dict(_below(target))
    origin = found.flag("from")
    if not tails or origin in stages:
        return ""
    if origin is not None or any(_ARCHIVE.fullmatch(source) for source in sources if found.keyword == "ADD"):
        return _SOME if target.startswith("/") else ""
    for source in sources:
        for path in _matching(context, source):
            for tail, entry in tails.items():
                if (path / tail).exists() or (path.name == tail and path.is_file()):
                    return entry
    return ""


def _below(target: str) -> Iterator[tuple[str, str]]:
    """Yield where the tools would be in a folder that is copied to `target`, with their places in the image.

    A relative target, or one with variables, may be any folder above them.
    """
    for entry in ENTRIES:
        path = PurePosixPath(entry)
        if target.startswith("/") and "$" not in target:
            folder = PurePosixPath(target)
            if folder in path.parents:
                yield str(path.relative_to(folder)), entry
        else:
            for parent in list(path.parents)[1:]:
                yield str(path.relative_to(parent)), entry


def _matching(context: Path, source: str) -> list[Path]:
    try:
        plain = context / source.lstrip("/")
        return [plain] if plain.exists() else list(context.glob(source.lstrip("/")))
    except (OSError, ValueError, NotImplementedError):
        return []
