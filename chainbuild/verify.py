"""The proof for any image, wherever it is."""

from __future__ import annotations

from chainbuild.attachments import attached_bill, exact_name
from chainbuild.bases import FoundImage, find_all
from chainbuild.layouts.images import named_images
from chainbuild.proof import Report, look
from chainbuild.references import ImageReference, Platform
from chainbuild.session import Session
from chainbuild.shipped import proof_dockerfile


def verify_image(session: Session, named: ImageReference, platform: Platform) -> Report:
    """Look into an image of a registry or of the local store. Errors: those of finding it."""
    return look_at(session, session.finder().find_result(named, platform), platform)


def bill_of(session: Session, named: ImageReference, platform: Platform) -> bytes:
    """The bill of materials of an image: what is attached to it, else made by looking into it. Errors: those of both."""
    found = session.finder().find_result(named, platform)
    return attached_bill(session.registries, found.image.reference) or look_at(session, found, platform).bill


def look_at(session: Session, found: FoundImage, platform: Platform) -> Report:
    """Look into an image that was found."""
    return look(
        session.driver,
        session.emit,
        step=f"verify {found.named}",
        platform=platform,
        image=found.pinned,
        contexts=tool_contexts(session, platform),
        library_path=dict(found.image.config.env).get("LD_LIBRARY_PATH", ""),
        name=exact_name(found.image),
    )


def tool_contexts(session: Session, platform: Platform) -> dict[str, str]:
    """Find the images that the Dockerfiles of the proofs name; return the named contexts that pin them."""
    inputs, _ = named_images(
        proof_dockerfile(),
        given=("IMAGE", "PRODUCTION_IMAGE"),
        args={},
        platform=platform,
        build_platform=Platform.of_this_machine(),
        contexts=("chainbuild-minimize",),
    )
    tools = find_all(session.finder(), inputs)
    return {one.written: f"docker-image://{tools[str(one.source), one.platform.oci].pinned}" for one in inputs}
