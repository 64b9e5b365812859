"""The keys of `chainbuild.yaml`, and their JSON schema (draft 2020-12).

The JSON schema of `chainbuild.yaml` (draft 2020-12), made from the rules that its reader follows.

python -m chainbuild.project.schema > docs/chainbuild.schema.json

The keys of chainbuild.yaml.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from chainbuild.host.folders import make_own_folder, write_whole
from chainbuild.project.location import FILE_NAME
from chainbuild.references import Platform
from chainbuild.yamlspec.json_schema import as_text, schema_of
from chainbuild.yamlspec.rules import (
    ArgValueRule,
    BooleanRule,
    IntegerRule,
    KeyRule,
    ListRule,
    MapRule,
    TableRule,
    TextOrTableRule,
    TextRule,
)

SCHEMA_PLACE: Final = ".chainbuild/chainbuild.schema.json"
"""Where a project's copy of the schema lies, from its folder: that of the version that was last used there."""


def schema() -> dict[str, Any]:
    """The schema's document."""
    return schema_of(PROJECT, FILE_NAME, "What chainbuild does in a folder, without flags.")


def schema_text() -> str:
    """The schema as it is published."""
    return as_text(schema())


def put_schema(root: Path) -> None:
    """Have this version's schema in a project, for editors. One that cannot be written to is none the worse for it."""
    path, text = root / SCHEMA_PLACE, schema_text()
    with suppress(OSError):
        make_own_folder(root)
        if path.is_symlink() or not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text.encode())


if __name__ == "__main__":
    sys.stdout.write(schema_text())


_PLATFORMS: Final = (
    "amd64",
    "aarch64",
    "armv7",
    "armv6",
    "i386",
    "riscv64",
    "ppc64le",
    "s390x",
    "mips64le",
    "loong64",
)


_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"


def _spellings() -> tuple[str, ...]:
    known = [Platform.parse(name) for name in _PLATFORMS]
    return tuple(dict.fromkeys(word for one in known for word in (*one.spellings, one.oci)))


_PLATFORM: Final = TextRule(what="a platform", choices=_spellings())


_IMAGE: Final = TextRule(what="an image", examples=("debian:bookworm-slim",))


_FOLDER: Final = TextRule(what="a folder")


_DURATION: Final = TextRule(
    what="a duration, as 7d or 4h30m", pattern=r"^([0-9]+(\.[0-9]+)?[wdhms])+$", examples=("7d", "4h30m")
)


_BUILD_ARGS: Final = MapRule(key=TextRule(what="an arg's name", pattern=f"^{_NAME}$"), value=ArgValueRule())


_TESTS: Final = BooleanRule(default=True)


LAYER: Final = TableRule(
    what="a layer",
    keys={
        "folder": KeyRule(
            rule=_FOLDER, needed=True, about="The folder with the Dockerfile, or with NN-Dockerfile-* files."
        ),
        "image": KeyRule(
            rule=TextRule(what="an image's name", examples=("acme/base:latest",)),
            needed=True,
            about="The full name that the layer's image gets. Without a tag: with the project's TAG, else latest.",
        ),
        "name": KeyRule(
            rule=TextRule(what="a layer's name", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
            about="What the layer is called, in plans and by other layers; its folder's name where not given.",
        ),
        "base": KeyRule(
            rule=_IMAGE,
            about="What it stands on: an image, or an earlier layer by its name. The layer before it where not given; "
            "for the first one, what its Dockerfile says.",
        ),
        "base-arg": KeyRule(
            rule=TextRule(what="an ARG's name", pattern=f"^{_NAME}$", examples=("BASEIMAGE",)),
            about="The ARG before FROM that takes the base; found where FROM is nothing but one ARG.",
        ),
        "build-args": KeyRule(rule=_BUILD_ARGS, about="Build args for this layer."),
        "context": KeyRule(rule=_FOLDER, about="What COPY and ADD see; the layer's folder where not given."),
        "tests": KeyRule(rule=_TESTS, about="Whether its tests are run."),
    },
)


SCIENCE: Final = TableRule(
    what="science and compatibility layers",
    keys={
        "root": KeyRule(
            rule=_FOLDER, about="The folder around science/ and compat/; the project's own where not given."
        ),
        "repo": KeyRule(
            rule=TextRule(what="a repository"), about="The repository below which sci/… and rel/… images go."
        ),
    },
)


PROJECT: Final = TableRule(
    what="a project",
    any_of=("options", "layers", "science"),
    keys={
        "platforms": KeyRule(
            rule=ListRule(item=_PLATFORM, alone=True),
            about="What is built for; this machine's platform where not given.",
        ),
        "repo": KeyRule(
            rule=TextRule(what="a repository", examples=("acme/tools",)),
            about="The repository of the options' images, without a tag.",
        ),
        "tag": KeyRule(
            rule=TextRule(what="a tag", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", examples=("v1",)),
            about="How the tags of the options' images begin; the tag of layers whose image has none.",
        ),
        "base": KeyRule(
            rule=_IMAGE, about="What the first option stands on: an image, or a layer of this project by its name."
        ),
        "production": KeyRule(
            rule=_IMAGE,
            about="What the slim production images of the options stand on: an image, a layer, or scratch.",
        ),
        "options": KeyRule(
            rule=ListRule(item=_FOLDER, alone=True),
            about="Folders of numbered Dockerfiles, in their order: each stands on the result of the one before.",
        ),
        "layers": KeyRule(
            rule=ListRule(item=LAYER),
            about="Folders that are one image each, in their order: each stands on the one before unless it says base.",
        ),
        "science": KeyRule(rule=SCIENCE, about="Science and compatibility layers (science/*/sciserver-image.json)."),
        "registry": KeyRule(
            rule=TextRule(what="a registry", examples=("ghcr.io/acme",)),
            about="The chain registry; without it one is run on localhost while it is needed.",
        ),
        "trust": KeyRule(
            rule=MapRule(
                key=TextRule(what="a key's name", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
                value=TextRule(
                    what="a public key",
                    pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$",
                    examples=("ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",),
                ),
            ),
            about="The keys whose records count in the registry, by names of your choice (see chainbuild trust). "
            "They do not count for the registry on localhost.",
        ),
        "registry-port": KeyRule(rule=IntegerRule(least=1, most=65535), about="The port of the one on localhost."),
        "registry-data": KeyRule(
            rule=TextRule(
                what="`registry` or a folder in `.chainbuild/`",
                pattern=r"^(registry|\.chainbuild/[A-Za-z0-9][A-Za-z0-9._-]*)$",
                examples=(".chainbuild/registry",),
            ),
            about="A folder of the tree for the data of the one on localhost. Default: one place for all trees of the user.",
        ),
        "builders": KeyRule(
            rule=TextOrTableRule(
                text=TextRule(what="a buildx builder"),
                table=MapRule(key=_PLATFORM, value=TextRule(what="a buildx builder")),
            ),
            about="The buildx builder for all platforms, or one for each.",
        ),
        "context": KeyRule(
            rule=_FOLDER, about="What COPY and ADD of the options see; the project's folder where not given."
        ),
        "build-args": KeyRule(rule=_BUILD_ARGS, about="Build args for every Dockerfile that declares them."),
        "build-contexts": KeyRule(
            rule=MapRule(
                key=TextRule(what="a context's name"), value=TextRule(what="a folder, or docker-image://, https://, …")
            ),
            about="Named contexts.",
        ),
        "secrets": KeyRule(
            rule=MapRule(
                key=TextRule(what="a secret's id", pattern=r"^[^,=\s]+$"),
                value=TableRule(
                    what="a secret",
                    any_of=("src", "env"),
                    keys={
                        "src": KeyRule(
                            rule=TextRule(what="a file", pattern=r"^[^,]+$"), about="The file that holds it."
                        ),
                        "env": KeyRule(
                            rule=TextRule(what="a variable", pattern=f"^{_NAME}$"), about="The variable that does."
                        ),
                    },
                ),
            ),
            about="BuildKit secrets by their ids: where each is found, never its value.",
        ),
        "refresh-after": KeyRule(
            rule=_DURATION, about="Build again what is older than that, although nothing changed."
        ),
        "deadline": KeyRule(rule=_DURATION, about="Start no step that will not fit; the next run goes on."),
        "jobs": KeyRule(rule=IntegerRule(least=1), about="Steps at once; one for each platform where not given."),
        "keep-going": KeyRule(
            rule=BooleanRule(default=False), about="After a failure, finish all that does not depend on it."
        ),
        "tests": KeyRule(rule=_TESTS, about="Whether tests of images are run."),
        "strict": KeyRule(
            rule=BooleanRule(default=False),
            about="Treat warnings of minimize and of the proofs as errors: nothing that has one gets its name.",
        ),
        "push": KeyRule(rule=BooleanRule(default=False), about="Send results and indexes to their own registries."),
        "load": KeyRule(rule=BooleanRule(default=True), about="Put results into the local image store."),
    },
)
