"""What the Dockerfile of an image sees: its folder with the templates rendered, and without what says how it is made.

Files that end in `.secret` never get in: a secret is given to a RUN for as long as that lasts, and is in no layer.
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
    """Make the folder `target` the image's context.

    Files are links to the ones of the tree where they can be: nothing writes to them. Errors: `WrongUseError`.
    """
    source = image.folder.path
    try:
        shutil.copytree(source, target, symlinks=True, ignore=_left_out(source), copy_function=_take)
    except shutil.Error as error:
        problems = [
            Problem(
                path=shown(Path(path)), message=f"cannot be taken: {why}", hint="Take it away, or make it readable."
            )
            for path, _, why in error.args[0]
        ]
        raise WrongUseError(problems) from error
    for template in image.templates:
        place = target / template.name
        # The folder may have a file or a link of that name: a hard link by now, or one that leads out of here.
        place.unlink(missing_ok=True)
        with place.open("xb") as file:
            file.write(template.content)
        mode = (source / f"{template.name}{TEMPLATE}").stat().st_mode
        place.chmod(mode & 0o7777)


def _left_out(top: Path) -> Callable[[str, list[str]], Collection[str]]:
    def left_out(folder: str, names: list[str]) -> Collection[str]:
        here = Path(folder) == top
        return {
            name
            for name in names
            if fnmatchcase(name, SECRETS)
            or (here and (name in {MANIFEST, TEST} or (name.endswith(TEMPLATE) and (top / name).is_file())))
        }

    return left_out


def _take(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def check_secrets(image: Image, platform: Platform, problems: list[Problem]) -> None:
    """A COPY or ADD of a secret file would put it into a layer, where everybody finds it who has the image."""
    facts = find_facts(image.dockerfile, args={}, target_platform=platform, build_platform=platform)
    for pattern in facts.sources.patterns:
        name = pattern.rpartition("/")[2]
        if fnmatchcase(name, SECRETS):
            text = image.raw.decode("utf-8", "surrogateescape").split("\n")
            line = next((number for number, one in enumerate(text, 1) if name in one), 0)
            secret = name.removesuffix(SECRETS[1:])
            hint = (
                f"Give it as --secret id={secret},src={shown(image.folder.path / name)}, and read it with"
                f" RUN --mount=type=secret,id={secret}."
            )
            message = f"{name} would be in a layer of the image"
            problems.append(Problem(path=image.dockerfile.path, line=line, message=message, hint=hint))
