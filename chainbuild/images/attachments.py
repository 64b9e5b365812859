"""Attach bills of materials and minimize reports to the images that chainbuild builds.

The chain registry stores both beside the image, so that they can be read without an
engine and without the image.
"""

from __future__ import annotations

from typing import Final

from chainbuild import limits
from chainbuild.references import ImageReference
from chainbuild.registry.artifacts import attach, attached
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries

BILL_TYPE: Final = "application/spdx+json"
"""The media type that IANA registered for SPDX JSON; other tools find the document by it."""
REPORT_TYPE: Final = "application/vnd.chainbuild.minimize.v1+json"


def exact_name(image: RemoteImage) -> str:
    """Return the name of an image in its bill of materials, `team/atom@sha256:…`, independent of the registry."""
    return f"{image.reference.repository}@{image.digest}"


def attach_bill(registries: Registries, image: ImageReference, document: bytes) -> None:
    """Attach an SPDX document to the image of that digest."""
    attach(registries, image, artifact_type=BILL_TYPE, media_type=BILL_TYPE, content=document, title="sbom.spdx.json")


def attached_bill(registries: Registries, image: ImageReference) -> bytes | None:
    """Return the SPDX document that is attached to the image of that digest; None if there is none.

    Errors: `DamagedContentError` if it is not text; `LimitError` if it is too large.
    """
    document = attached(registries, image, BILL_TYPE)
    if document is not None:
        limits.check_text(document, "the attached bill of materials", str(image))
    return document


def attach_report(registries: Registries, image: ImageReference, document: bytes) -> None:
    """Attach the report of the minimize stage to the minimized image of that digest."""
    attach(
        registries,
        image,
        artifact_type=REPORT_TYPE,
        media_type="application/json",
        content=document,
        title="report.json",
    )


def attached_report(registries: Registries, image: ImageReference) -> bytes | None:
    """Return the report that is attached to the minimized image of that digest; None if there is none."""
    return attached(registries, image, REPORT_TYPE)
