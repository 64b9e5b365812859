"""The image in which chainbuild's own programs run during builds, resolved outside of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chainbuild.dockerfile import Dockerfile
from chainbuild.dockerfile.images import named_images
from chainbuild.host.package_data import PROGRAM
from chainbuild.images.resolver import ImageResolver, find_all
from chainbuild.references import Platform

Contexts = Callable[[Dockerfile, Platform], Mapping[str, str]]
"""Return the images that a Dockerfile names; see `pinned_contexts`."""


def pinned_contexts(finder: ImageResolver, dockerfile: Dockerfile, platform: Platform) -> Mapping[str, str]:
    """Return named contexts, `docker-image://` and a digest, for the images that one of chainbuild's Dockerfiles names.

    The images of its args `IMAGE` and `PRODUCTION_IMAGE` are not included. Errors: those of finding images.
    """
    inputs, _ = named_images(
        dockerfile,
        given=("IMAGE", "PRODUCTION_IMAGE"),
        args={},
        platform=platform,
        build_platform=Platform.of_this_machine(),
        contexts=(PROGRAM,),
    )
    images = find_all(finder, inputs)
    return {image.written: f"docker-image://{images[str(image.source), image.platform.oci].pinned}" for image in inputs}
