"""`casa_distro_docker.yaml`: what a folder of an image type says of itself, with its lines.

The rules are the one source of the reader's checks and of the JSON schema:

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
EXAMPLE: Final = "It needs image_sources: a list with the name and the tags of each image."

SOURCE: Final = TableRule(
    what="an image",
    keys={
        "name": KeyRule(
            rule=TextRule(what="an image's name", examples=("casa-dev",)),
            needed=True,
            about="The image's name, without registry and tag; it may use the parameters.",
        ),
        "tags": KeyRule(
            rule=ListRule(item=TextRule(what="a tag", examples=("ubuntu-22.04",))),
            needed=True,
            about="Its tags: the last one is what is built, the others are aliases of it; they may use the parameters.",
        ),
        "visibility": KeyRule(
            rule=TextRule(what="public or private", choices=(PUBLIC, PRIVATE)),
            about="Which registry it is published to; private where not given.",
        ),
        "template_files_parameters": KeyRule(
            rule=MapRule(
                key=TextRule(what="a parameter's name", pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$"), value=ArgValueRule()
            ),
            about="Parameters of the *.template files, used there as %(name)s; their values may use others.",
        ),
    },
)

IMAGE_TYPE: Final = TableRule(
    what="an image type",
    keys={
        "dependencies": KeyRule(
            rule=ListRule(item=TextRule(what="a path", examples=("../../casa-dev", "../../casa-dev/ubuntu-22.04"))),
            about="Paths of image types, from this folder: each stands for every image beneath it.",
        ),
        "image_sources": KeyRule(
            rule=ListRule(item=SOURCE), needed=True, about="The images that are made of this folder."
        ),
    },
)


class ImageSource(Struct, frozen=True, kw_only=True):
    """An entry of `image_sources` as it is written: nothing is rendered yet."""

    index: int
    name: str
    tags: tuple[str, ...]
    visibility: str
    parameters: tuple[tuple[str, str], ...]


class ImageTypeManifest(Struct, frozen=True, kw_only=True):
    """What a file says; `shown` is its path for people."""

    shown: str
    dependencies: tuple[tuple[int, str], ...]
    """Paths with their lines."""
    sources: tuple[ImageSource, ...]
    content: Content

    def problem(self, message: str, hint: str, *place: str | int) -> Problem:
        """What is wrong with a value of the file."""
        return Problem(path=self.shown, line=self.content.line(*place), message=message, hint=hint)


def read_manifest(raw: bytes, shown: str, problems: list[Problem]) -> ImageTypeManifest:
    """Read a file; what is wrong with its shape goes to `problems`, and what is right is here."""
    content = read_nodes(raw, shown, IMAGE_TYPE, if_empty=EXAMPLE)
    problems += content.problems
    values = content.values
    sources = [
        _source(index, said) for index, said in enumerate(values.get("image_sources") or ()) if isinstance(said, dict)
    ]
    return ImageTypeManifest(
        shown=shown,
        dependencies=tuple(
            (content.line("dependencies", index), path)
            for index, path in enumerate(values.get("dependencies") or ())
            if path
        ),
        sources=tuple(one for one in sources if one is not None),
        content=content,
    )


def _source(index: int, said: dict[str, Any]) -> ImageSource | None:
    """None where name or tags are not there, which was told."""
    tags = tuple(tag for tag in said.get("tags") or () if tag)
    if not said.get("name") or not tags:
        return None
    given = said.get("template_files_parameters") or {}
    return ImageSource(
        index=index,
        name=said["name"],
        tags=tags,
        # What nobody said is shown to nobody.
        visibility=said.get("visibility") or PRIVATE,
        parameters=tuple((name, "" if value is None else str(value)) for name, value in given.items()),
    )


def schema() -> dict[str, Any]:
    """The JSON schema of the file (draft 2020-12)."""
    return schema_of(IMAGE_TYPE, MANIFEST, "The images that are made of an image type's folder.")


if __name__ == "__main__":
    sys.stdout.write(as_text(schema()))
