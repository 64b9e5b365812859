"""A new image type in the user's own folder, on top of one that is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.images.provenance import PRIVATE
from chainbuild.layouts.image_types.dependencies import relative_path
from chainbuild.layouts.image_types.manifest import DOCKERFILE, MANIFEST, PUBLIC
from chainbuild.layouts.image_types.tree import Catalogue, Image
from chainbuild.references import ImageReference
from chainbuild.text import perhaps_you_meant

_SYSTEM: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class NewType(Struct, frozen=True, kw_only=True):
    """An image type that is to be: its folder, the image that it stands on, and what its image is called."""

    folder: Path
    spot: str
    below: Image
    name: str
    tag: str

    @property
    def manifest(self) -> str:
        """The text of its `casa_distro_docker.yaml`."""
        return (
            "# What this image comes after: a path of image types stands for every image beneath it.\n"
            "dependencies:\n"
            f"  - {relative_path(self.spot, self.below.spot)}\n"
            "image_sources:\n"
            f"  - name: {self.name}\n"
            "    # The last tag is the one that is built; the others are aliases of it.\n"
            "    tags:\n"
            f'      - "{self.tag}"\n'
            f"    # {PUBLIC}, once everybody may have it.\n"
            f"    visibility: {PRIVATE}\n"
        )

    @property
    def dockerfile(self) -> str:
        """The text of its Dockerfile."""
        return (
            f"FROM {self.below.id}\n"
            "\n"
            "# The packages that your application needs, for example:\n"
            "# RUN apt-get update \\\n"
            "#  && apt-get install --yes --no-install-recommends libhdf5-103 \\\n"
            "#  && rm -rf /var/lib/apt/lists/*\n"
            "\n"
            "# Files that lie beside this Dockerfile:\n"
            "# COPY my-application /usr/local/bin/\n"
        )


def new_type(catalogue: Catalogue, folder: Path, name: str, below: str, system: str = "") -> NewType:
    """Think a new image type out. `folder` is the user's; `name` may be `NAME/SYSTEM`; `below` is `TYPE/SYSTEM`.

    Errors: `WrongUseError` with everything that is wrong with the words.
    """
    kind, _, said = name.partition("/")
    spots = sorted({image.spot for image in catalogue.images.values()})
    spot = below.strip("/")
    if spot not in spots:
        beneath = next((one for one in spots if one.startswith(f"{spot}/")), None)
        hint = perhaps_you_meant(beneath or spot, spots)
        raise WrongUseError(f"--from {below}: there is no such image type", hint=f"{hint}Here are: {', '.join(spots)}.")
    image = catalogue.beneath(spot)[0]
    system = system or said or spot.rpartition("/")[2]
    if said and said != system:
        raise WrongUseError(f"{name!r} and --system {system} name two systems", hint="Name it once.")
    parsed = ImageReference.parse(kind)
    if parsed.tag or parsed.digest:
        raise WrongUseError(f"{name!r} is no name of an image type", hint="NAME, or NAME/SYSTEM.")
    if not _SYSTEM.fullmatch(system):
        hint = "It is a folder's name and a tag: letters, digits, '_', '.', '-'."
        raise WrongUseError(f"{system!r} is no name of a system", hint=hint)
    taken = catalogue.by_name.get(f"{kind}:{system}")
    if taken:
        hint = "Give the image type another name, or a --system of its own."
        raise WrongUseError(f"{kind}:{system} is an image of {taken.manifest.shown} already", hint=hint)
    place = folder / kind / system
    if place.exists():
        raise WrongUseError(f"{place} is there already", hint="Give another name, or edit what is there.")
    return NewType(folder=place, spot=f"{kind}/{system}", below=image, name=kind, tag=system)


def write_new(new: NewType) -> tuple[Path, ...]:
    """Write its files. Errors: `WrongUseError` where the folder cannot be written."""
    files = {new.folder / MANIFEST: new.manifest, new.folder / DOCKERFILE: new.dockerfile}
    try:
        new.folder.mkdir(parents=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongUseError(f"{new.folder} cannot be written: {error.strerror}", hint="Is it yours?") from error
    return tuple(files)
