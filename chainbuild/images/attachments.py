"""What chainbuild attaches to the images that it makes: bills of materials, and reports of the minimize stage.

Both are in a run's hands anyway; kept beside the image in the chain registry, whoever reaches that reads them, without an
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
"""The media type that IANA has for SPDX's JSON: by it other tools find the document."""
REPORT_TYPE: Final = "application/vnd.chainbuild.minimize.v1+json"


def exact_name(image: RemoteImage) -> str:
    """Return what a bill of materials calls an image, `team/atom@sha256:…`: the same wherever the image is copied to."""
    return f"{image.reference.repository}@{image.digest}"


def attach_bill(registries: Registries, image: ImageReference, document: bytes) -> None:
    """Attach an SPDX document to the image of that digest."""
    attach(registries, image, artifact_type=BILL_TYPE, media_type=BILL_TYPE, content=document, title="sbom.spdx.json")


def attached_bill(registries: Registries, image: ImageReference) -> bytes | None:
    """Return the SPDX document that is attached to the image of that digest; None if there is none.

    Errors: `DamagedContentError` if it is no text; `LimitError` if it is too large.
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
