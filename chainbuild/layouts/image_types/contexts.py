"""The build context of an image: its folder with the templates rendered, without the files that describe the image.

Files that end in `.secret` are not included, unless the user allows it: a secret is available to a RUN while it runs, and
is in no layer. Links out of the folder, to other files of the repository, are replaced by these files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from chainbuild.context import ContextTree
from chainbuild.context.dockerignore import find_ignore
from chainbuild.dockerfile import find_facts, parse
from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.image_types.manifest import DOCKERFILE, MANIFEST, TEMPLATE, TEST
from chainbuild.layouts.image_types.roots import shown
from chainbuild.layouts.image_types.secrets import is_secret
from chainbuild.layouts.image_types.tree import Image
from chainbuild.references import Platform
from chainbuild.text import perhaps_you_meant


def write_context(image: Image, target: Path, *, secret_files: bool = False) -> None:
    """Fill the folder `target` with the image's context. `secret_files`: with its `*.secret` files.

    Files are hard links to the tree if possible, since nothing writes to them. Errors: `WrongUseError`.
    """
    source = image.folder.path
    try:
        ignore = _left_out(source, secret_files=secret_files)
        shutil.copytree(source, target, symlinks=True, ignore=ignore, copy_function=_take)
        _replace_links(image, target, ignore, secret_files=secret_files)
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


def _left_out(top: Path, *, secret_files: bool) -> Callable[[str, list[str]], Collection[str]]:
    def left_out(folder: str, names: list[str]) -> Collection[str]:
        current = Path(folder) == top
        return {
            name
            for name in names
            if (is_secret(name) and not secret_files)
            or (current and (name in {MANIFEST, TEST} or (name.endswith(TEMPLATE) and (top / name).is_file())))
        }

    return left_out


def _take(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _replace_links(
    image: Image, target: Path, ignore: Callable[[str, list[str]], Collection[str]], *, secret_files: bool
) -> None:
    """Replace the links of a context that lead out of the image's folder to other files of the repository."""
    links = [
        Path(folder, name)
        for folder, folders, files in os.walk(target)
        for name in (*folders, *files)
        if Path(folder, name).is_symlink()
    ]
    for link in links:
        source = linked_file(image, link.relative_to(target))
        if source is None:
            continue
        link.unlink()
        if source.is_dir():
            shutil.copytree(source, link, symlinks=True, ignore=ignore, copy_function=_take)
        elif secret_files or not is_secret(source.name):
            _take(str(source), str(link))


def linked_file(image: Image, path: Path) -> Path | None:
    """Return the file or folder that a link leads to outside of the image's folder, but in the repository; else None.

    A repository's `.git` is not a part of it, and neither is a folder around the image's own.
    """
    folder = image.folder.path.resolve()
    repository = (image.folder.root.repository or image.folder.root.folder).resolve()
    try:
        found = (folder / path).resolve(strict=True)
    except (OSError, RuntimeError):  # it leads nowhere, or to itself
        return None
    if found.is_relative_to(folder) or folder.is_relative_to(found) or not found.is_relative_to(repository):
        return None
    return None if ".git" in found.relative_to(repository).parts else found


def missing_sources(
    image: Image,
    text: bytes,
    context: Path,
    besides: Collection[str],
    *,
    args: Mapping[str, str],
    platform: Platform,
    build_platform: Platform,
) -> Iterator[Problem]:
    """Yield a problem for each file that a Dockerfile requires and its context does not have, `besides` some others."""
    dockerfile = parse(text, image.dockerfile.path)
    facts = find_facts(dockerfile, args=args, target_platform=platform, build_platform=build_platform)
    keywords = {item.line: item.keyword for stage in dockerfile.stages for item in stage.instructions}
    tree = ContextTree(context)
    ignore = find_ignore(context, image.folder.path / DOCKERFILE)
    for pattern in tree.missing(ignore, [item for item in facts.sources.required if item not in besides]):
        line = facts.source_lines.get(("", pattern), 0)
        yield Problem(
            path=image.dockerfile.path,
            line=line,
            message=f"{keywords.get(line, 'COPY')} {pattern}: no such file or folder in {shown(image.folder.path)}",
            hint=_way_out(image, pattern, context),
        )


def _way_out(image: Image, pattern: str, context: Path) -> str:
    link = image.folder.path / pattern
    if link.is_symlink():
        why = "is not a part of the repository" if link.exists() else "does not exist"
        return f"It is a link to {link.readlink()}, which {why}."
    return perhaps_you_meant(pattern, sorted(path.name for path in context.iterdir())) + "Check the path."
