"""The build context of an image: its folder with the templates rendered, without the files that describe the image.

Files that end in `.secret` are never included: a secret is available to a RUN while it runs, and is in no layer.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from chainbuild.dockerfile import find_facts
from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.image_types.manifest import MANIFEST, TEMPLATE, TEST
from chainbuild.layouts.image_types.roots import shown
from chainbuild.layouts.image_types.tree import Image
from chainbuild.references import Platform

SECRETS: Final = "*.secret"


def write_context(image: Image, target: Path) -> None:
    """Fill the folder `target` with the image's context.

    Files are hard links to the tree if possible, since nothing writes to them. Errors: `WrongUseError`.
    """
    source = image.folder.path
    try:
        shutil.copytree(source, target, symlinks=True, ignore=_left_out(source), copy_function=_take)
    except shutil.Error as error:
        problems = [
            Problem(path=shown(Path(path)), message=f"cannot be copied: {why}", hint="Remove it, or make it readable.")
            for path, _, why in error.args[0]
        ]
        raise WrongUseError(problems) from error
    for template in image.templates:
        place = target / template.name
        # The folder may have a file or a link of that name: now a hard link, or a link that leads outside.
        place.unlink(missing_ok=True)
        with place.open("xb") as file:
            file.write(template.content)
        mode = (source / f"{template.name}{TEMPLATE}").stat().st_mode
        place.chmod(mode & 0o7777)


def _left_out(top: Path) -> Callable[[str, list[str]], Collection[str]]:
    def left_out(folder: str, names: list[str]) -> Collection[str]:
        current = Path(folder) == top
        return {
            name
            for name in names
            if fnmatchcase(name, SECRETS)
            or (current and (name in {MANIFEST, TEST} or (name.endswith(TEMPLATE) and (top / name).is_file())))
        }

    return left_out


def _take(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def check_secrets(image: Image, platform: Platform, problems: list[Problem]) -> None:
    """Report a COPY or ADD of a secret file: it would be in a layer, where everybody with the image can read it."""
    facts = find_facts(image.dockerfile, args={}, target_platform=platform, build_platform=platform)
    for pattern in facts.sources.patterns:
        name = pattern.rpartition("/")[2]
        if fnmatchcase(name, SECRETS):
            text = image.raw.decode("utf-8", "surrogateescape").split("\n")
            line = next((number for number, item in enumerate(text, 1) if name in item), 0)
            secret = name.removesuffix(SECRETS[1:])
            hint = (
                f"Pass it as --secret id={secret},src={shown(image.folder.path / name)}, and read it with"
                f" RUN --mount=type=secret,id={secret}."
            )
            message = f"the secret {name} would be stored in a layer of the image"
            problems.append(Problem(path=image.dockerfile.path, line=line, message=message, hint=hint))
