"""Run the checks of production images on any image."""

from __future__ import annotations

from chainbuild.execution.session import Session
from chainbuild.images.attachments import attached_bill, exact_name
from chainbuild.images.resolver import ResolvedImage
from chainbuild.images.tools_image import pinned_contexts
from chainbuild.layouts.stage_files import proof_dockerfile
from chainbuild.proof.libraries import Report, look
from chainbuild.step_id import StepId


def bill_of(session: Session, resolved: ResolvedImage) -> bytes:
    """Return the bill of materials of an image: the attached one, else a new one. Errors: those of both."""
    return attached_bill(session.registries, resolved.image.reference) or verify_image(session, resolved).bill


def verify_image(session: Session, resolved: ResolvedImage) -> Report:
    """Check an image of a registry. Errors: those of the builder."""
    platform = resolved.image.platform
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
