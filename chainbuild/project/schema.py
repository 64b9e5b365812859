"""The keys of `chainbuild.yaml`, and their JSON schema (draft 2020-12), made from the rules that the reader checks.

To write the published schema: python -m chainbuild.project.schema > docs/chainbuild.schema.json
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from chainbuild.host.folders import make_own_folder, write_whole
from chainbuild.layouts.image_keys import KEY_PATTERN
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
"""The project's copy of the schema, relative to its folder: that of the chainbuild version that was last used there."""


def schema() -> dict[str, Any]:
    """Return the schema as a document."""
    return schema_of(PROJECT, FILE_NAME, "The settings of chainbuild for a folder.")


def schema_text() -> str:
    """Return the schema as the text that is published."""
    return as_text(schema())


def put_schema(root: Path) -> None:
    """Write this version's schema into a project, for editors. Does nothing if the project cannot be written to."""
    path, text = root / SCHEMA_PLACE, schema_text()
    with suppress(OSError):
        make_own_folder(root)
        if path.is_symlink() or not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text.encode())


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
_TAG: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"


def _spellings() -> tuple[str, ...]:
    platforms = [Platform.parse(name) for name in _PLATFORMS]
    return tuple(dict.fromkeys(text for platform in platforms for text in (*platform.spellings, platform.oci)))


_PLATFORM: Final = TextRule(what="a platform", choices=_spellings())


_IMAGE: Final = TextRule(what="an image", examples=("debian:bookworm-slim",))


_FOLDER: Final = TextRule(what="a folder")


_DURATION: Final = TextRule(
    what="a duration such as 7d or 4h30m", pattern=r"^([0-9]+(\.[0-9]+)?[wdhms])+$", examples=("7d", "4h30m")
)


_BUILD_ARGS: Final = MapRule(key=TextRule(what="the name of an arg", pattern=f"^{_NAME}$"), value=ArgValueRule())


_TESTS: Final = BooleanRule(default=True)
_NATIVE: Final = TextRule(
    what="auto, off, check or check:N%",
    pattern=r"^(auto|off|check(:([1-9][0-9]?|100)%)?)$",
    examples=("auto", "check:5%"),
)


_BASE_ARG: Final = TextRule(what="the name of an ARG", pattern=f"^{_NAME}$", examples=("BASEIMAGE",))


LAYER: Final = TableRule(
    what="a layer",
    keys={
        "folder": KeyRule(
            rule=_FOLDER, needed=True, about="The folder with the Dockerfile, or with NN-Dockerfile-* files."
        ),
        "image": KeyRule(
            rule=TextRule(what="an image name", examples=("acme/base:latest",)),
            needed=True,
            about="The full name of the layer's image. The default tag is the project's tag, else latest.",
        ),
        "name": KeyRule(
            rule=TextRule(what="a layer name", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
            about="The layer's name, in plans and for other layers (default: the name of its folder).",
        ),
        "base": KeyRule(
            rule=_IMAGE,
            about="The base image: an image, or the name of an earlier layer (default: the layer before it; "
            "for the first layer, the image in its Dockerfile).",
        ),
        "base-arg": KeyRule(
            rule=_BASE_ARG,
            about="The ARG before FROM that takes the base (default: the ARG that FROM consists of).",
        ),
        "build-args": KeyRule(rule=_BUILD_ARGS, about="Build args for this layer."),
        "context": KeyRule(rule=_FOLDER, about="The build context for COPY and ADD (default: the layer's folder)."),
        "tags": KeyRule(
            rule=ListRule(item=TextRule(what="a tag", pattern=_TAG), alone=True),
            about="Additional tags of the layer's image.",
        ),
        "dockerfile": KeyRule(
            rule=TextRule(what="the name of a Dockerfile", pattern=r"^[^/]+$", examples=("Dockerfile.dev",)),
            about="The name of the Dockerfile in the folder (default: Dockerfile, or NN-Dockerfile-* files).",
        ),
        "image-key": KeyRule(
            rule=TextRule(what="an image key", pattern=KEY_PATTERN, examples=("ros2_humble.realsense",)),
            about="Build the Dockerfile.<key> files that this key selects, with the platform in front if there are such files.",
        ),
        "packages": KeyRule(
            rule=ListRule(item=TextRule(what="the name of a package"), alone=True),
            about="Build these packages and what their Dockerfiles' comment headers list as depends. "
            "The packages are below the folder.",
        ),
        "skip-packages": KeyRule(
            rule=ListRule(item=TextRule(what="the name of a package"), alone=True),
            about="Leave out these packages although others depend on them.",
        ),
        "search-dirs": KeyRule(
            rule=ListRule(item=_FOLDER, alone=True),
            about="Folders to search for the Dockerfiles of image-key or packages before the folder itself.",
        ),
        "tests": KeyRule(rule=_TESTS, about="Run the layer's tests."),
    },
)


SCIENCE: Final = TableRule(
    what="science and compatibility layers",
    keys={
        "root": KeyRule(
            rule=_FOLDER, about="The folder that contains science/ and compat/ (default: the project's folder)."
        ),
        "repo": KeyRule(
            rule=TextRule(what="a repository"), about="The repository prefix of the sci/… and rel/… images."
        ),
    },
)


PROJECT: Final = TableRule(
    what="a project",
    any_of=("options", "layers", "science"),
    keys={
        "platforms": KeyRule(
            rule=ListRule(item=_PLATFORM, alone=True),
            about="The platforms to build for (default: this machine's platform).",
        ),
        "repo": KeyRule(
            rule=TextRule(what="a repository", examples=("acme/tools",)),
            about="The repository of the options' images, without a tag.",
        ),
        "tag": KeyRule(
            rule=TextRule(what="a tag", pattern=_TAG, examples=("v1",)),
            about="The tag prefix of the options' images, and the tag of layers whose image has none.",
        ),
        "base": KeyRule(
            rule=_IMAGE, about="The base image of the first option: an image, or the name of a layer of this project."
        ),
        "production": KeyRule(
            rule=_IMAGE,
            about="The base of the slim production images of the options: an image, a layer, or scratch.",
        ),
        "options": KeyRule(
            rule=ListRule(item=_FOLDER, alone=True),
            about="Folders of numbered Dockerfiles, in order: each is built on the result of the option before it.",
        ),
        "base-arg": KeyRule(
            rule=_BASE_ARG,
            about="The ARG before FROM that takes the base image in the options' Dockerfiles (default: BASE_IMAGE, "
            "or the ARG that FROM consists of).",
        ),
        "layers": KeyRule(
            rule=ListRule(item=LAYER),
            about="Folders that make one image each, in order: each is built on the layer before it unless it sets base.",
        ),
        "science": KeyRule(rule=SCIENCE, about="Science and compatibility layers (science/*/sciserver-image.json)."),
        "registry": KeyRule(
            rule=TextRule(what="a registry", examples=("ghcr.io/acme",)),
            about="Registry for steps and records (default: a temporary registry on localhost).",
        ),
        "trust": KeyRule(
            rule=MapRule(
                key=TextRule(what="the name of a key", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
                value=TextRule(
                    what="a public key",
                    pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$",
                    examples=("ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",),
                ),
            ),
            about="The keys whose records are trusted in the registry, by names of your choice (see chainbuild trust). "
            "They do not apply to the registry on localhost.",
        ),
        "registry-port": KeyRule(rule=IntegerRule(least=1, most=65535), about="The port of the registry on localhost."),
        "registry-data": KeyRule(
            rule=TextRule(
                what="`registry` or a folder in `.chainbuild/`",
                pattern=r"^(registry|\.chainbuild/[A-Za-z0-9][A-Za-z0-9._-]*)$",
                examples=(".chainbuild/registry",),
            ),
            about="A folder of the tree for the data of the registry on localhost (default: one folder per user).",
        ),
        "builders": KeyRule(
            rule=TextOrTableRule(
                text=TextRule(what="a buildx builder"),
                table=MapRule(key=_PLATFORM, value=TextRule(what="a buildx builder")),
            ),
            about="The buildx builder for all platforms, or a table with a builder for each platform.",
        ),
        "context": KeyRule(
            rule=_FOLDER, about="The build context for COPY and ADD of the options (default: the project's folder)."
        ),
        "build-args": KeyRule(rule=_BUILD_ARGS, about="Build args for every Dockerfile that declares them."),
        "build-contexts": KeyRule(
            rule=MapRule(
                key=TextRule(what="the name of a context"),
                value=TextRule(what="a folder, or docker-image://, https://, …"),
            ),
            about="Named contexts.",
        ),
        "secrets": KeyRule(
            rule=MapRule(
                key=TextRule(what="the id of a secret", pattern=r"^[^,=\s]+$"),
                value=TableRule(
                    what="a secret",
                    any_of=("src", "env"),
                    keys={
                        "src": KeyRule(
                            rule=TextRule(what="a file", pattern=r"^[^,]+$"), about="The file that contains the secret."
                        ),
                        "env": KeyRule(
                            rule=TextRule(what="a variable", pattern=f"^{_NAME}$"),
                            about="The variable with the secret.",
                        ),
                    },
                ),
            ),
            about="BuildKit secrets by id: the file or variable that has the value, never the value itself.",
        ),
        "refresh-after": KeyRule(
            rule=_DURATION, about="Rebuild steps that are older than this even if nothing changed."
        ),
        "deadline": KeyRule(rule=_DURATION, about="Start no step that would end later; the next run continues."),
        "jobs": KeyRule(
            rule=IntegerRule(least=1), about="The number of steps to build at once (default: one per platform)."
        ),
        "keep-going": KeyRule(
            rule=BooleanRule(default=False),
            about="After a failure, finish every step that does not depend on the failed step.",
        ),
        "tests": KeyRule(rule=_TESTS, about="Run the tests of images."),
        "strict": KeyRule(
            rule=BooleanRule(default=False),
            about="Treat warnings of minimize and of the proofs as errors: an image that has any is not tagged.",
        ),
        "native": KeyRule(
            rule=TextOrTableRule(
                text=_NATIVE, table=MapRule(key=TextRule(what="OPTION/STEP, or a pattern of it"), value=_NATIVE)
            ),
            about="Native compilers in emulated builds: for all steps, or a table with a mode for each OPTION/STEP.",
        ),
        "push": KeyRule(rule=BooleanRule(default=False), about="Push results and indexes to their own registries."),
        "load": KeyRule(rule=BooleanRule(default=True), about="Load results into the local image store."),
    },
)


if __name__ == "__main__":
    sys.stdout.write(schema_text())
