"""Create a new image type in the user's own folder, based on an existing type."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.images.provenance import PRIVATE
from chainbuild.layouts.image_types.dependencies import relative_path
from chainbuild.layouts.image_types.manifest import DOCKERFILE, MANIFEST, PUBLIC
from chainbuild.layouts.image_types.tree import Catalogue, Image
from chainbuild.patterns import regex
from chainbuild.references import ImageReference
from chainbuild.text import perhaps_you_meant

_SYSTEM: Final = regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class NewType(Struct, frozen=True, kw_only=True):
    """An image type to create: its folder, its base image, and the name of its image."""

    folder: Path
    spot: str
    below: Image
    name: str
    tag: str

    @property
    def manifest(self) -> str:
        """The text of its `casa_distro_docker.yaml`."""
        return (
            "# Image types that this image depends on: each path includes every image below it.\n"
            "dependencies:\n"
            f"  - {relative_path(self.spot, self.below.spot)}\n"
            "image_sources:\n"
            f"  - name: {self.name}\n"
            "    # The last tag is built; the others are aliases of it.\n"
            "    tags:\n"
            f'      - "{self.tag}"\n'
            f"    # Set {PUBLIC} to publish it for everybody.\n"
            f"    visibility: {PRIVATE}\n"
        )

    @property
    def dockerfile(self) -> str:
        """The text of its Dockerfile."""
        return (
            f"FROM {self.below.id}\n"
            "\n"
            "# Install the packages that your application needs, for example:\n"
            "# RUN apt-get update \\\n"
            "#  && apt-get install --yes --no-install-recommends libhdf5-103 \\\n"
            "#  && rm -rf /var/lib/apt/lists/*\n"
            "\n"
            "# Copy files from the folder of this Dockerfile:\n"
            "# COPY my-application /usr/local/bin/\n"
        )


def new_type(catalogue: Catalogue, folder: Path, name: str, below: str, system: str = "") -> NewType:
    """Plan a new image type. `folder` is the user's; `name` may be `NAME/SYSTEM`; `below` is `TYPE/SYSTEM`.

    Errors: `WrongUseError` for invalid arguments.
    """
    kind, _, value = name.partition("/")
    spots = sorted({image.spot for image in catalogue.images.values()})
    spot = below.strip("/")
    if spot not in spots:
        beneath = next((item for item in spots if item.startswith(f"{spot}/")), None)
        hint = perhaps_you_meant(beneath or spot, spots)
        raise WrongUseError(f"--from {below}: no such image type", hint=f"{hint}Available: {', '.join(spots)}.")
    image = catalogue.beneath(spot)[0]
    system = system or value or spot.rpartition("/")[2]
    if value and value != system:
        raise WrongUseError(f"{name!r} and --system {system} give different systems", hint="Give the system once.")
    parsed = ImageReference.parse(kind)
    if parsed.tag or parsed.digest:
        raise WrongUseError(f"invalid name of an image type: {name!r}", hint="Use NAME or NAME/SYSTEM.")
    if not _SYSTEM.fullmatch(system):
        hint = "Use letters, digits, '_', '.' and '-': it is a folder name and a tag."
        raise WrongUseError(f"invalid name of a system: {system!r}", hint=hint)
    taken = catalogue.by_name.get(f"{kind}:{system}")
    if taken:
        hint = "Choose another name or another --system."
        raise WrongUseError(f"{kind}:{system} is already an image of {taken.manifest.shown}", hint=hint)
    place = folder / kind / system
    if place.exists():
        raise WrongUseError(f"{place} already exists", hint="Choose another name, or edit the existing files.")
    return NewType(folder=place, spot=f"{kind}/{system}", below=image, name=kind, tag=system)


def write_new(new: NewType) -> tuple[Path, ...]:
    """Write its files. Errors: `WrongUseError` if the folder cannot be written to."""
    files = {new.folder / MANIFEST: new.manifest, new.folder / DOCKERFILE: new.dockerfile}
    try:
        new.folder.mkdir(parents=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongUseError(
            f"cannot write to {new.folder}: {error.strerror}", hint="Check the permissions of the folder."
        ) from error
    return tuple(files)
