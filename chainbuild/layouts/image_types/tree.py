"""Read all image types: their folders, rendered names and templates, and every problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct, field

from chainbuild import limits
from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.errors import LimitError, Problem, WrongUseError
from chainbuild.layouts.image_types.dependencies import check_dependencies, lies_beneath
from chainbuild.layouts.image_types.manifest import (
    DOCKERFILE,
    MANIFEST,
    PREDEFINED,
    PUBLIC,
    TEMPLATE,
    ImageSource,
    ImageTypeManifest,
    implied_manifest,
    read_manifest,
)
from chainbuild.layouts.image_types.roots import Folder, TypesRoot, find_folders, shown
from chainbuild.layouts.image_types.templates import Parameters, Wrong, render, resolve_parameters
from chainbuild.references import DOCKER_HUB, ImageReference
from chainbuild.values import replace


class Template(Struct, frozen=True, kw_only=True):
    """A rendered template file; `name` is the name of the resulting file."""

    name: str
    shown: str
    content: bytes


class Image(Struct, frozen=True, kw_only=True):
    """An image that is built from the folder of an image type."""

    folder: Folder
    manifest: ImageTypeManifest
    source: ImageSource
    name: str
    tags: tuple[str, ...]
    parameters: Mapping[str, str]
    dockerfile: Dockerfile
    raw: bytes
    """The bytes of the rendered Dockerfile."""
    templates: tuple[Template, ...] = ()
    problems: tuple[Problem, ...] = ()
    """The problems of its files: it cannot be built."""

    @property
    def tag(self) -> str:
        """The tag that is built."""
        return self.tags[-1]

    @property
    def aliases(self) -> tuple[str, ...]:
        """Its other tags."""
        return self.tags[:-1]

    @property
    def id(self) -> str:
        """`name:tag`, unique among the images."""
        return f"{self.name}:{self.tag}"

    @property
    def ids(self) -> tuple[str, ...]:
        """`name:tag` for each of its tags."""
        return tuple(f"{self.name}:{tag}" for tag in self.tags)

    @property
    def is_public(self) -> bool:
        """True if it is published in the public registry."""
        return self.source.visibility == PUBLIC

    @property
    def spot(self) -> str:
        """The place of its folder in its root, such as `casa-dev/ubuntu-22.04`."""
        return self.folder.spot

    @property
    def made_dockerfile(self) -> bool:
        """True if its Dockerfile is rendered from a template and not a file of the tree."""
        return any(item.name == DOCKERFILE for item in self.templates)

    def problem(self, message: str, hint: str, *place: str | int) -> Problem:
        """Return a problem with a value of its entry."""
        return self.manifest.problem(message, hint, "image_sources", self.source.index, *place)


class Catalogue(Struct, frozen=True, kw_only=True):
    """The images by id, sorted by place, including those with problems; the roots; and the shadowed folders.

    `notes` are about the folders as a whole and stop no image.
    """

    roots: tuple[TypesRoot, ...]
    images: Mapping[str, Image] = field(default_factory=dict)
    shadowed: tuple[Folder, ...] = ()
    notes: tuple[Problem, ...] = ()

    @property
    def by_name(self) -> Mapping[str, Image]:
        """The images by `name:tag`, including aliases."""
        return {name: image for image in self.images.values() for name in image.ids}

    def beneath(self, place: str) -> tuple[Image, ...]:
        """Return the images of the image types at a place and below it; an empty place contains all."""
        return tuple(image for image in self.images.values() if lies_beneath(image.spot, place))


def read_catalogue(roots: tuple[TypesRoot, ...], *, version: str) -> Catalogue:
    """Read every image type. `version` is the value of `casa_version`.

    Images keep their own problems. Errors: `WrongUseError` if a root is missing or a limit is exceeded.
    """
    notes: list[Problem] = []
    folders = find_folders(roots, notes)
    images: list[Image] = []
    expanded = 0
    spots = {folder.spot for folder in folders}
    for folder in folders:
        if folder.shadowed_by:
            continue
        problems: list[Problem] = []
        manifest = _read_manifest(folder, problems)
        check_dependencies(folder.spot, manifest, spots, problems)
        if not manifest.sources and problems:
            # Its images are unknown. It is listed under the name that its folder suggests.
            manifest = replace(manifest, sources=implied_manifest(folder.spot, manifest.shown).sources)
        for source in manifest.sources:
            image = _read_image(folder, manifest, source, version, problems)
            images.append(image)
            expanded += sum(map(len, image.parameters.values()))
            expanded += sum(len(template.content) for template in image.templates)
            if expanded > limits.TEMPLATES.value:
                message = f"its images exceed the limit on {limits.TEMPLATES.name}, {limits.TEMPLATES.shown}"
                problem = Problem(path=manifest.shown, message=message, hint="Use shorter parameters.")
                raise WrongUseError([problem])
    return Catalogue(
        roots=roots,
        images={image.id: image for image in _with_unique_names(images, notes)},
        shadowed=tuple(folder for folder in folders if folder.shadowed_by),
        notes=tuple(notes),
    )


def _read_manifest(folder: Folder, problems: list[Problem]) -> ImageTypeManifest:
    path = folder.path / MANIFEST
    if not folder.has_manifest:
        return implied_manifest(folder.spot, shown(folder.path / DOCKERFILE))
    try:
        return read_manifest(limits.read_file(path), shown(path), problems)
    except LimitError as error:
        problems.append(Problem(path=shown(path), message=error.message, hint="Check that it is a manifest."))
    except OSError as error:
        hint = "Check the permissions of the file."
        problems.append(Problem(path=shown(path), message=f"cannot be read: {error.strerror}", hint=hint))
    return implied_manifest(folder.spot, shown(path))


def _read_image(
    folder: Folder, manifest: ImageTypeManifest, source: ImageSource, version: str, of_folder: Iterable[Problem]
) -> Image:
    """Read an image; `of_folder` are the problems of its folder, which it has, too."""
    problems = list(of_folder)
    values = {PREDEFINED: version} | dict(source.parameters)
    parameters, wrong = resolve_parameters(values)
    current = ("image_sources", source.index)
    problems += [
        manifest.problem(item.message, item.hint, *current, "template_files_parameters", name)
        for name, item in wrong.items()
    ]
    name = _rendered_name(manifest, source, parameters, problems)
    tags = _rendered_tags(manifest, source, parameters, problems)
    before = len(problems)
    templates = _render_templates(folder.path, parameters, problems)
    raw, path = _dockerfile(folder, manifest, templates, problems)
    dockerfile = parse(raw, path)
    if len(problems) == before:
        problems += dockerfile.problems
    suggested = implied_manifest(folder.spot, manifest.shown).sources[0]
    return Image(
        folder=folder,
        manifest=manifest,
        source=source,
        name=name or suggested.name,
        tags=tags or suggested.tags,
        parameters=parameters.values,
        dockerfile=dockerfile,
        raw=raw,
        templates=templates,
        problems=tuple(dict.fromkeys(problems)),
    )


def _rendered_name(
    manifest: ImageTypeManifest, source: ImageSource, parameters: Parameters, problems: list[Problem]
) -> str:
    """Return the name of an image; empty if it has a problem."""
    place = ("image_sources", source.index, "name")
    name, wrong = render(source.name, parameters)
    problems += [manifest.problem(item.message, item.hint, *place) for item in wrong]
    if wrong:
        return ""
    try:
        parsed = ImageReference.parse(name)
    except WrongUseError as error:
        problems += [manifest.problem(f"name: {item.message}", item.hint, *place) for item in error.problems]
        return ""
    if parsed.registry != DOCKER_HUB or name.startswith(f"{DOCKER_HUB}/") or parsed.tag or parsed.digest:
        hint = "Give only the name: tags are listed in tags, and the registry depends on the visibility."
        problems.append(manifest.problem(f"name: {name!r} has a registry, a tag or a digest", hint, *place))
        return ""
    return name


def _rendered_tags(
    manifest: ImageTypeManifest, source: ImageSource, parameters: Parameters, problems: list[Problem]
) -> tuple[str, ...]:
    """Return the valid tags of an image."""
    tags: list[str] = []
    for index, text in enumerate(source.tags):
        place = ("image_sources", source.index, "tags", index)
        tag, wrong = render(text, parameters)
        problems += [manifest.problem(item.message, item.hint, *place) for item in wrong]
        if wrong:
            continue
        try:
            ImageReference(DOCKER_HUB, "any").with_tag(tag)
        except WrongUseError as error:
            problems += [manifest.problem(f"tags: {item.message}", item.hint, *place) for item in error.problems]
            continue
        if tag in tags:
            problems.append(manifest.problem(f"tags: duplicate tag {tag!r}", "Remove one of them.", *place))
        tags.append(tag)
    return tuple(tags)


def _render_templates(folder: Path, parameters: Parameters, problems: list[Problem]) -> tuple[Template, ...]:
    """Return the rendered template files of the folder; its subfolders are not searched."""
    templates: list[Template] = []
    for path in sorted(folder.glob(f"*{TEMPLATE}")):
        if not path.is_file() or path.name == TEMPLATE:
            continue
        name = path.name.removesuffix(TEMPLATE)
        if (folder / name).exists() or (folder / name).is_symlink():
            hint = "Remove one of the two files: both result in the same file."
            problems.append(Problem(path=shown(path), message=f"{name} exists, too", hint=hint))
        try:
            text = limits.read_file(path).decode("utf-8")
        except (OSError, UnicodeDecodeError, LimitError) as error:
            hint = "A template must be a readable UTF-8 text file."
            problems.append(Problem(path=shown(path), message=f"cannot be read: {error}", hint=hint))
            continue
        rendered, wrong = render(text, parameters)
        problems += [_in_file(path, item) for item in wrong]
        templates.append(Template(name=name, shown=shown(path), content=rendered.encode()))
    return tuple(templates)


def _in_file(path: Path, wrong: Wrong) -> Problem:
    return Problem(path=shown(path), line=wrong.line, message=wrong.message, hint=wrong.hint)


def _dockerfile(
    folder: Folder, manifest: ImageTypeManifest, templates: Iterable[Template], problems: list[Problem]
) -> tuple[bytes, str]:
    """Return the bytes of an image's Dockerfile (empty if it cannot be read), and its path for messages."""
    made = next((item for item in templates if item.name == DOCKERFILE), None)
    if made:
        return made.content, made.shown
    path = folder.path / DOCKERFILE
    try:
        return limits.read_file(path), shown(path)
    except LimitError as error:
        problems.append(Problem(path=shown(path), message=error.message, hint="Check that it is a Dockerfile."))
    except FileNotFoundError:
        hint = f"Add a {DOCKERFILE}, or a {DOCKERFILE}{TEMPLATE}."
        problems.append(Problem(path=manifest.shown, message=f"no {DOCKERFILE} in this folder", hint=hint))
    except OSError as error:
        hint = "Check the permissions of the file."
        problems.append(Problem(path=shown(path), message=f"cannot be read: {error.strerror}", hint=hint))
    return b"", shown(path)


def _with_unique_names(images: list[Image], notes: list[Problem]) -> list[Image]:
    """Return the images such that each `name:tag` belongs to one of them.

    Built-in images yield to all others. If two images build the same tag, the first has the problem. An alias that another
    image has, too, is not set, since which image it means would depend on what is built last.
    """
    taken = {name for image in images if not image.folder.root.built_in for name in image.ids}
    images = [image for image in images if not image.folder.root.built_in or taken.isdisjoint(image.ids)]
    users: dict[str, list[Image]] = {}
    for image in images:
        for name in image.ids:
            users.setdefault(name, []).append(image)
    unique: dict[str, Image] = {}
    for image in images:
        if image.id in unique:
            first = unique[image.id]
            problem = _duplicate(image, image.id, first, "Change the name or tag of one of them.")
            unique[image.id] = replace(first, problems=(*first.problems, problem, *image.problems))
            continue
        kept = tuple(tag for tag in image.aliases if len(users[f"{image.name}:{tag}"]) == 1)
        for name in (f"{image.name}:{tag}" for tag in image.aliases if tag not in kept):
            other = next((user for user in users[name] if user.id == name), users[name][0])
            if other is not image:
                notes.append(_duplicate(image, name, other, "The alias is not set. Remove it from one of them."))
        unique[image.id] = replace(image, tags=(*kept, image.tag))
    return list(unique.values())


def _duplicate(image: Image, name: str, other: Image, hint: str) -> Problem:
    where = f"{other.manifest.shown}:{other.manifest.content.line('image_sources', other.source.index)}"
    return image.problem(f"{name} is already an image of {where}", hint)
