"""The images that a graph is based on and does not build: found, checked for the platform, pinned by digest.

An image is looked for in its own registry first; where that does not answer, the chain registry's copy (as `bootstrap`
makes it) serves; one that only the local image store has is handed over through the chain registry, because a builder
that runs elsewhere sees registries alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from chainbuild.errors import (
    BuildFailedError,
    ChainbuildError,
    DamagedContentError,
    LoginNeededError,
    NotAnImageError,
    NotFoundInRegistryError,
    NotReadyError,
    RegistryError,
    UnreachableError,
)
from chainbuild.events import Emit, Message
from chainbuild.images.local_store import LocalStore
from chainbuild.model import ImageInput
from chainbuild.records.labels import TRAIL_LABEL
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import local_tag
from chainbuild.references import SCRATCH, ImageReference, Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.registry.oci import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest

EMPTY: Final = "scratch"
"""How builders call the empty image, and its content identity in keys."""
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HandOver = Callable[[str, Platform, str], None]
"""`(local name, platform, destination)`: push a local image of one platform into the chain registry."""


class ResolvedImage(Struct, frozen=True, kw_only=True):
    """An image that is there: what the user called it, its content, and the pinned name that a builder gets."""

    named: ImageReference
    image: RemoteImage
    note: str = ""
    from_local_store: bool = False

    @property
    def pinned(self) -> str:
        """Return `registry/repository@digest`; of the index where there is one, so that every platform of it is reachable.

        Of the empty image, `scratch`.
        """
        if self.named.is_scratch:
            return EMPTY
        digest = self.image.index_digest or self.image.digest
        return self.image.reference.with_digest(digest).pinned


def empty_image(platform: Platform) -> ResolvedImage:
    """Return `scratch` for a platform: no layer, and the configuration that BuildKit starts `FROM scratch` with."""
    config = ImageConfig.make(platform, ()).with_changes(env=[("PATH", _DEFAULT_PATH)], working_dir="/")
    manifest = Manifest.make(config=Descriptor.of(config.raw, OCI_CONFIG), layers=(), media_type=OCI_MANIFEST)
    image = RemoteImage(
        reference=SCRATCH.with_digest(manifest.digest),
        index_digest=None,
        platform=platform,
        manifest=manifest,
        config=config,
    )
    return ResolvedImage(named=SCRATCH, image=image)


Found = Mapping[tuple[str, str], ResolvedImage]
"""Found images by (the reference as named, the OCI platform)."""


def find_all(finder: ImageResolver, images: Iterable[ImageInput]) -> Found:
    """Find every image; all that are missing are told in one error.

    Errors: `RegistryError` (or the kind of the only problem).
    """
    found: dict[tuple[str, str], ResolvedImage] = {}
    missing: list[ChainbuildError] = []
    for wanted in images:
        if isinstance(wanted.source, str):
            continue
        try:
            found[str(wanted.source), wanted.platform.oci] = finder.find(wanted.source, wanted.platform, wanted.origin)
        except ChainbuildError as error:
            missing.append(error)
    if len(missing) == 1:
        raise missing[0]
    if missing:
        raise RegistryError("\n".join(dict.fromkeys(str(error) for error in missing)))
    return found


class ImageResolver:
    """Finds images where they are; hands local ones over (or, in a dry run, only says so)."""

    def __init__(self, records: RecordStore, local: LocalStore, emit: Emit, *, hand_over: HandOver) -> None:
        self._records = records
        self._registries = records.registries
        self._chain = records.chain
        self._local = local
        self._emit = emit
        self._hand_over = hand_over

    def find(self, named: ImageReference, platform: Platform, origin: str = "") -> ResolvedImage:
        """Return the image for that platform.

        Errors: `NotFoundInRegistryError`, `LoginNeededError`, `UnreachableError`, each with what to do; `RegistryBusyError`
        and every other `RegistryError` at once: a registry that cannot answer now is not one without the image.
        """
        if named.is_scratch:
            return empty_image(platform)
        try:
            return ResolvedImage(named=named, image=resolve(self._registries, named, platform))
        except (NotFoundInRegistryError, LoginNeededError, UnreachableError) as error:
            if self._chain.holds(named):
                raise _with_hint(
                    error, origin, "See what the chain registry holds with: chainbuild registry ls."
                ) from None
            refused = error
        except RegistryError as error:
            raise _with_hint(error, origin or f"image {named}", error.hint) from None
        copy = self._copy_in_chain(named, platform)
        distrust = self._distrust(named, copy) if copy else ""
        silent = isinstance(refused, UnreachableError)
        if copy and silent and not distrust:
            note = f"{named}: {named.registry} does not answer; using the chain registry's copy"
            self._emit(Message(text=f"{note} ({copy.digest.short})"))
            return ResolvedImage(named=named, image=copy, note=note)
        handed = self._from_local_store(named, platform)
        if handed:
            return handed
        # A layer that was built here under a name without a registry: Docker Hub, whose name that is, knows nothing of it.
        if copy and not silent and not distrust and copy.config.label(TRAIL_LABEL):
            note = f"{named}: {named.registry} does not have it; using the chain registry's ({copy.digest.short})"
            return ResolvedImage(named=named, image=copy, note=note)
        if copy and silent:
            # Anybody who can write to the registry may have put it there: it does not stand in for another registry's.
            hint = (
                f"Name it as {copy.reference.name}:{named.tag_or_latest} to use it all the same, or make it again with"
                " chainbuild bootstrap or a build."
            )
            raise _with_hint(
                type(refused)(f"{refused.message}; {self._chain} has an image of that name, but {distrust}"),
                origin,
                hint,
            )
        raise self._told(refused, named, platform, origin)

    def _distrust(self, named: ImageReference, copy: RemoteImage) -> str:
        """Why an image of the chain registry does not count; empty if a trusted key signed for it, or its digest is named."""
        if named.digest:
            return ""
        place = ImageReference(copy.reference.registry, copy.reference.repository)
        found = self._records.of_image(place, copy.digest)
        if found.record is None:
            return found.refusal or "no trusted key has signed for it"
        return self._records.misfit(place, found.record)

    def find_result(self, named: ImageReference, platform: Platform) -> ResolvedImage:
        """Return an image that a person names to look at: what the chain registry calls so comes first. Errors: as `find`."""
        if not named.is_scratch and not self._chain.holds(named):
            copy = self._copy_in_chain(named, platform)
            if copy:
                return ResolvedImage(named=named, image=copy)
        return self.find(named, platform)

    def find_at_hand(self, named: ImageReference, platform: Platform) -> ResolvedImage:
        """Return an image that a person names to take: of the chain registry, else of the local store, else of its own registry.

        Errors: as `find`.
        """
        if not named.is_scratch and not self._chain.holds(named):
            copy = self._copy_in_chain(named, platform)
            if copy:
                return ResolvedImage(named=named, image=copy)
            try:
                handed = self._from_local_store(named, platform)
            except NotReadyError:
                # A machine without an engine has no local store.
                handed = None
            if handed:
                return handed
        return self.find(named, platform)

    def _copy_in_chain(self, named: ImageReference, platform: Platform) -> RemoteImage | None:
        place = self._chain.place(named).with_tag(named.tag_or_latest)
        if named.digest:
            place = place.with_digest(named.digest)
        try:
            return resolve(self._registries, place, platform)
        except (NotFoundInRegistryError, LoginNeededError):
            # Some registries want a login for names that they do not have.
            return None
        except (DamagedContentError, NotAnImageError) as error:
            self._registries.notice(f"the chain registry's {place} cannot be used: {error}")
            return None

    def _from_local_store(self, named: ImageReference, platform: Platform) -> ResolvedImage | None:
        local = self._local.find(str(named))
        if local is None:
            return None
        # A tag of its own for each platform: the name itself may be an index that must keep its other platforms. The
        # engine's id of the image is in it, so that what was handed over once is not sent again.
        place = self._chain.place(named)
        destination = place.with_tag(local_tag(platform, local.id))
        note = f"{named}: found only in the local image store ({platform.oci}); copied to {self._chain}"
        step = f"local image {local.id} for {platform.oci}"
        try:
            image = self._sent_before(destination, platform, step)
            if image is None:
                self._emit(Message(text=note))
                self._send(str(named), platform, destination)
                image = resolve(self._registries, destination, platform)
                self._records.vouch(place, image, step)
            return ResolvedImage(named=named, image=image, note=note, from_local_store=True)
        except ChainbuildError:
            # A store may hold several platforms under one name and shows one: only the attempt tells.
            if local.platform.same_as(platform):
                raise
            return None

    def _sent_before(self, destination: ImageReference, platform: Platform, step: str) -> RemoteImage | None:
        """Return the copy of a local image that this user sent; None if there is none, or another user put it there."""
        try:
            image = resolve(self._registries, destination, platform)
        except NotFoundInRegistryError:
            return None
        place = ImageReference(destination.registry, destination.repository)
        record = self._records.of_image(place, image.digest).record
        return image if record and record.step == step else None

    def _send(self, name: str, platform: Platform, destination: ImageReference) -> None:
        try:
            self._hand_over(name, platform, str(destination))
        except BuildFailedError:
            # Engine 26.1's builder says "not found" after it has pushed an image that adds nothing to a local one: what
            # counts is whether the image has arrived.
            if self._registries.client(destination).head(destination.repository, destination.tag_or_latest) is None:
                raise

    def _told(self, error: RegistryError, named: ImageReference, platform: Platform, origin: str) -> RegistryError:
        hint = error.hint
        if isinstance(error, UnreachableError) and named.familiar_name == "debian":
            hint = (
                f"Make it from the distribution's packages: chainbuild bootstrap {named.familiar_name}:"
                f"{named.tag_or_latest} --platform {platform.name}; or load it into the local image store."
            )
        elif isinstance(error, UnreachableError):
            hint = (
                f"Nor is it in {self._chain} (chainbuild images lists what is) or in the local image store (docker images)."
                " Is the name right?"
            )
        elif isinstance(error, LoginNeededError):
            hint = (
                f"Log in with: docker login {named.registry}. (Docker Hub says the same of an image that is not there.)"
            )
        return _with_hint(error, origin or f"image {named}", hint)


def _with_hint(error: RegistryError, where: str, hint: str) -> RegistryError:
    return type(error)(error.message, where=where or error.where, hint=hint or error.hint)
