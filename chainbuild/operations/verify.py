"""Run the checks of production images on any image."""

from __future__ import annotations

from chainbuild.execution.session import Session
from chainbuild.images.attachments import attached_bill, exact_name
from chainbuild.images.resolver import ResolvedImage
from chainbuild.images.tools_image import pinned_contexts
from chainbuild.layouts.stage_files import proof_dockerfile
from chainbuild.proof.libraries import Report, look
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import StepId


def verify_image(session: Session, named: ImageReference, platform: Platform) -> Report:
    """Check an image of a registry or of the local store. Errors: those of finding it."""
    return look_at(session, session.finder().find_result(named, platform), platform)


def bill_of(session: Session, named: ImageReference, platform: Platform) -> bytes:
    """Return the bill of materials of an image: the attached one, else a new one. Errors: those of both."""
    resolved = session.finder().find_result(named, platform)
    return attached_bill(session.registries, resolved.image.reference) or look_at(session, resolved, platform).bill


def look_at(session: Session, resolved: ResolvedImage, platform: Platform) -> Report:
    """Check an image that was found."""
    contexts = pinned_contexts(session.finder(), proof_dockerfile(), platform)
    return look(
        session.driver,
        session.emit,
        step=StepId.parse(f"verify {resolved.named}"),
        platform=platform,
        image=resolved.pinned,
        config=resolved.image.config,
        contexts=contexts,
        library_path=dict(resolved.image.config.env).get("LD_LIBRARY_PATH", ""),
        name=exact_name(resolved.image),
    )
