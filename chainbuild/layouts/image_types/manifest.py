"""`casa_distro_docker.yaml`: the settings of an image type's folder, with their lines.

The rules are the source of the reader's checks and of the JSON schema. To write the schema:

python -m chainbuild.layouts.image_types.manifest > docs/casa_distro_docker.schema.json
"""

from __future__ import annotations

import sys
from typing import Any, Final

from msgspec import Struct

from chainbuild.errors import Problem
from chainbuild.images.provenance import PRIVATE
from chainbuild.yamlspec.json_schema import as_text, schema_of
from chainbuild.yamlspec.nodes import Content, read_nodes
from chainbuild.yamlspec.rules import ArgValueRule, KeyRule, ListRule, MapRule, TableRule, TextRule

MANIFEST: Final = "casa_distro_docker.yaml"
DOCKERFILE: Final = "Dockerfile"
TEMPLATE: Final = ".template"
TEST: Final = "layer-test"
PUBLIC: Final = "public"
PREDEFINED: Final = "casa_version"
EXAMPLE: Final = "Add image_sources: a list with the name and the tags of each image."

SOURCE: Final = TableRule(
    what="an image",
    keys={
        "name": KeyRule(
            rule=TextRule(what="an image name", examples=("casa-dev",)),
            needed=True,
            about="The name of the image, without registry and tag; may use parameters.",
        ),
        "tags": KeyRule(
            rule=ListRule(item=TextRule(what="a tag", examples=("ubuntu-22.04",))),
            needed=True,
            about="The tags: the last tag is built, the others are aliases of it; may use parameters.",
        ),
        "visibility": KeyRule(
            rule=TextRule(what="public or private", choices=(PUBLIC, PRIVATE)),
            about="The registry that it is published to (default: private).",
        ),
        "template_files_parameters": KeyRule(
            rule=MapRule(
                key=TextRule(what="the name of a parameter", pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$"),
                value=ArgValueRule(),
            ),
            about="Parameters of the *.template files, used as %(name)s; their values may use other parameters.",
        ),
    },
)

IMAGE_TYPE: Final = TableRule(
    what="an image type",
    keys={
        "dependencies": KeyRule(
            rule=ListRule(item=TextRule(what="a path", examples=("../../casa-dev", "../../casa-dev/ubuntu-22.04"))),
            about="Paths of image types, relative to this folder: each includes every image below it.",
        ),
        "image_sources": KeyRule(
            rule=ListRule(item=SOURCE), needed=True, about="The images that are built from this folder."
        ),
    },
)


class ImageSource(Struct, frozen=True, kw_only=True):
    """An entry of `image_sources` as it is written, before rendering."""

    index: int
    name: str
    tags: tuple[str, ...]
    visibility: str
    parameters: tuple[tuple[str, str], ...]


class ImageTypeManifest(Struct, frozen=True, kw_only=True):
    """The content of a file; `shown` is its path in messages."""

    shown: str
    dependencies: tuple[tuple[int, str], ...]
    """Paths with their lines."""
    sources: tuple[ImageSource, ...]
    content: Content
    implied: bool = False
    """True if there is no such file, and the folder's path is the name and the tag of its image."""

    def problem(self, message: str, hint: str, *place: str | int) -> Problem:
        """Return a problem with a value of the file."""
        return Problem(path=self.shown, line=self.content.line(*place), message=message, hint=hint)


def read_manifest(raw: bytes, shown: str, problems: list[Problem]) -> ImageTypeManifest:
    """Read a file. Values of the wrong shape go to `problems`, and the result has the others."""
    content = read_nodes(raw, shown, IMAGE_TYPE, if_empty=EXAMPLE)
    problems += content.problems
    values = content.values
    sources = [
        _source(index, value)
        for index, value in enumerate(values.get("image_sources") or ())
        if isinstance(value, dict)
    ]
    return ImageTypeManifest(
        shown=shown,
        dependencies=tuple(
            (content.line("dependencies", index), path)
            for index, path in enumerate(values.get("dependencies") or ())
            if path
        ),
        sources=tuple(item for item in sources if item is not None),
        content=content,
    )


def implied_manifest(spot: str, shown: str) -> ImageTypeManifest:
    """Return the manifest of a folder that has none, or none that can be read: `TYPE/SYSTEM` is the image `TYPE:SYSTEM`.

    Names of images are in lower case; a folder `TYPE` is the image `TYPE:latest`.
    """
    kind, _, system = spot.partition("/")
    source = ImageSource(index=0, name=kind.lower(), tags=(system or "latest",), visibility=PRIVATE, parameters=())
    return ImageTypeManifest(shown=shown, dependencies=(), sources=(source,), content=Content(), implied=True)


def _source(index: int, text: dict[str, Any]) -> ImageSource | None:
    """Return an entry; None if its name or tags are missing, which was reported before."""
    tags = tuple(tag for tag in text.get("tags") or () if tag)
    if not text.get("name") or not tags:
        return None
    values = text.get("template_files_parameters") or {}
    return ImageSource(
        index=index,
        name=text["name"],
        tags=tags,
        # Private by default: nothing is published by accident.
        visibility=text.get("visibility") or PRIVATE,
        parameters=tuple((name, "" if value is None else str(value)) for name, value in values.items()),
    )


def schema() -> dict[str, Any]:
    """Return the JSON schema of the file (draft 2020-12)."""
    return schema_of(IMAGE_TYPE, MANIFEST, "The images that are built from the folder of an image type.")


if __name__ == "__main__":
    sys.stdout.write(as_text(schema()))
