"""Resolve the external images of a graph: find them, check the platform, and pin them by digest.

An image is looked up in its own registry first. If that is unreachable, the chain registry's copy (made by `bootstrap`) is
used. An image that only the local image store has is copied to the chain registry, because remote builders can read
registries only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
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
from chainbuild.images.local_store import LocalImage, LocalStore
from chainbuild.model import ImageInput
from chainbuild.records.labels import TRAIL_LABEL
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import local_tag
from chainbuild.references import DOCKER_HUB, SCRATCH, Digest, ImageReference, Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import RemoteImage, read_index, resolve
from chainbuild.registry.oci import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest
from chainbuild.text import perhaps_you_meant

EMPTY: Final = "scratch"
"""The builders' name for the empty image, and its content identity in keys."""
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HandOver = Callable[[str, Platform, str], None]
"""`(local name, platform, destination)`: push a local image of one platform into the chain registry."""


class ResolvedImage(Struct, frozen=True, kw_only=True):
    """A resolved image: the reference as the user wrote it, the image, and the pinned reference for the builder."""

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
    return ResolvedImage(named=SCRATCH, image=_without_layers(SCRATCH, config))


def _without_layers(named: ImageReference, config: ImageConfig) -> RemoteImage:
    manifest = Manifest.make(config=Descriptor.of(config.raw, OCI_CONFIG), layers=(), media_type=OCI_MANIFEST)
    return RemoteImage(
        reference=named.with_digest(manifest.digest),
        index_digest=None,
        platform=config.platform,
        manifest=manifest,
        config=config,
    )


Found = Mapping[tuple[str, str], ResolvedImage]
"""Resolved images by (reference as written, OCI platform)."""


def find_all(finder: ImageResolver, images: Iterable[ImageInput]) -> Found:
    """Find every image; one error reports all that are missing.

    Errors: `RegistryError` (or the kind of the only problem); `NotReadyError` if this machine is why any is missing.
    """
    resolved: dict[tuple[str, str], ResolvedImage] = {}
    missing: list[ChainbuildError] = []
    for image in images:
        if image.external is None:
            continue
        try:
            resolved[str(image.external), image.platform.oci] = finder.find(
                image.external, image.platform, image.origin
            )
        except ChainbuildError as error:
            missing.append(error)
    if len(missing) == 1:
        raise missing[0]
    if missing:
        # An engine that does not answer is the cause; what was not found because of it is not reported.
        if unready := next((error for error in missing if isinstance(error, NotReadyError)), None):
            raise unready
        raise RegistryError("\n".join(dict.fromkeys(str(error) for error in missing)))
    return resolved


class ImageResolver:
    """Finds images, and copies those that only the local image store has to the chain registry."""

    def __init__(self, records: RecordStore, local: LocalStore, emit: Emit, *, hand_over: HandOver | None) -> None:
        """If `hand_over` is None, nothing is copied: of an image that only the local store has, the labels are found."""
        self._records = records
        self._registries = records.registries
        self._chain = records.chain
        self._local = local
        self._emit = emit
        self._hand_over = hand_over

    def find(self, named: ImageReference, platform: Platform, origin: str = "") -> ResolvedImage:
        """Return the image for that platform.

        Errors: `NotFoundInRegistryError`, `LoginNeededError`, `UnreachableError`, each with a hint; `RegistryBusyError`
        and every other `RegistryError` at once: a busy registry may have the image.
        """
        if named.is_scratch:
            return empty_image(platform)
        try:
            return ResolvedImage(named=named, image=resolve(self._registries, named, platform))
        except (NotFoundInRegistryError, LoginNeededError, UnreachableError) as error:
            if self._chain.holds(named):
                raise _with_hint(
                    error, origin, "List the chain registry's images with: chainbuild registry ls."
                ) from None
            refused = error
        except RegistryError as error:
            raise _with_hint(error, origin or f"image {named}", error.hint) from None
        copy = self._copy_in_chain(named, platform)
        distrust = self._distrust(named, copy) if copy else ""
        silent = isinstance(refused, UnreachableError)
        if copy and silent and not distrust:
            note = f"{named}: {named.registry} is unreachable; using the chain registry's copy"
            self._emit(Message(text=f"{note} ({copy.digest.short})"))
            return ResolvedImage(named=named, image=copy, note=note)
        handed = self._from_local_store(named, platform)
        if handed:
            return handed
        # A layer that was built under a name without a registry, which means Docker Hub, where it does not exist.
        if copy and not silent and not distrust and copy.config.label(TRAIL_LABEL):
            note = f"{named}: {named.registry} does not have it; using the chain registry's image ({copy.digest.short})"
            return ResolvedImage(named=named, image=copy, note=note)
        if copy and silent:
            # Anyone with write access may have pushed it: do not use it in place of another registry's image.
            hint = (
                f"Use it explicitly as {copy.reference.name}:{named.tag_or_latest}, or rebuild it with"
                " chainbuild bootstrap or a build."
            )
            raise _with_hint(
                type(refused)(f"{refused.message}; {self._chain} has an image of this name, but {distrust}"),
                origin,
                hint,
            )
        raise self._not_found(refused, named, platform, origin)

    def _distrust(self, named: ImageReference, copy: RemoteImage) -> str:
        """Return why an image of the chain registry is not trusted; empty if a trusted key signed it or its digest is given."""
        if named.digest:
            return ""
        place = ImageReference(copy.reference.registry, copy.reference.repository)
        lookup = self._records.of_image(place, copy.digest)
        if lookup.record is None:
            return lookup.refusal or "no trusted key has signed it"
        return self._records.misfit(place, lookup.record)

    def find_result(self, named: ImageReference, platform: Platform) -> ResolvedImage:
        """Return an image to inspect, looked up in the chain registry first. Errors: as `find`."""
        if not named.is_scratch and not self._chain.holds(named):
            copy = self._copy_in_chain(named, platform)
            if copy:
                return ResolvedImage(named=named, image=copy)
        return self.find(named, platform)

    def find_at_hand(self, named: ImageReference, platform: Platform) -> ResolvedImage:
        """Return an image to use, from the chain registry, else the local store, else its own registry.

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
            # Some registries require a login for images that they do not have.
            return None
        except (DamagedContentError, NotAnImageError) as error:
            self._registries.notice(f"skipped {place} of the chain registry: {error}")
            return None

    def _from_local_store(self, named: ImageReference, platform: Platform) -> ResolvedImage | None:
        local = self._local.find(str(named))
        if local is None:
            return None
        hand_over = self._hand_over
        if hand_over is None:
            return self._read_local(named, platform, local) if local.platform.same_as(platform) else None
        # A separate tag per platform: the tag itself may be an index that must keep its other platforms. The
        # tag contains the engine's image id, so that an image is copied only once.
        place = self._chain.place(named)
        destination = place.with_tag(local_tag(platform, local.id))
        note = f"{named}: found only in the local image store ({platform.oci}); copied to {self._chain}"
        origin = f"local image {local.id} for {platform.oci}"
        try:
            image = self._sent_before(destination, platform, origin)
            if image is None:
                self._emit(Message(text=note))
                self._send(hand_over, str(named), platform, destination)
                image = resolve(self._registries, destination, platform)
                self._records.vouch(place, image, origin)
            return ResolvedImage(named=named, image=image, note=note, from_local_store=True)
        except ChainbuildError:
            # The store may hold several platforms of a tag but shows one, so just try.
            if local.platform.same_as(platform):
                raise
            return None

    def _read_local(self, named: ImageReference, platform: Platform, local: LocalImage) -> ResolvedImage:
        """Return what can be read of a local image without copying it: all if a registry has it, else its labels."""
        # It may be in the chain registry under another tag: the engine notes the digests that it pulled.
        for text in (local.id, *(name.rpartition("@")[2] for name in local.repo_digests)):
            with suppress(NotFoundInRegistryError, NotAnImageError):
                place = self._chain.place(named).with_digest(Digest(text))
                return ResolvedImage(named=named, image=resolve(self._registries, place, platform))
        config = ImageConfig.make(local.platform, ()).with_changes(labels=local.labels)
        return ResolvedImage(named=named, image=_without_layers(named, config), from_local_store=True)

    def _sent_before(self, destination: ImageReference, platform: Platform, origin: str) -> RemoteImage | None:
        """Return the copy of a local image that this user pushed; None if there is none, or another user pushed it."""
        try:
            image = resolve(self._registries, destination, platform)
        except NotFoundInRegistryError:
            return None
        place = ImageReference(destination.registry, destination.repository)
        record = self._records.of_image(place, image.digest).record
        return image if record and str(record.step) == origin else None

    def _send(self, hand_over: HandOver, name: str, platform: Platform, destination: ImageReference) -> None:
        try:
            hand_over(name, platform, str(destination))
        except BuildFailedError:
            # Engine 26.1's builder reports "not found" after pushing an image that adds nothing to a local one, so
            # check whether the image has arrived.
            if self._registries.client(destination).head(destination.repository, destination.tag_or_latest) is None:
                raise

    def _not_found(self, error: RegistryError, named: ImageReference, platform: Platform, origin: str) -> RegistryError:
        """Return the error with what the user can do: other spellings, other platforms, other sources."""
        from chainbuild.distributions import image_tags

        where = origin or f"image {named}"
        name, tag = named.familiar_name, named.tag or ""
        hint = _other_spelling(named)
        if not isinstance(error, UnreachableError):
            if isinstance(error, LoginNeededError):
                hint += f"Log in with: docker login {named.registry}. (Docker Hub requires a login for missing images, too.)"
            return _with_hint(error, where, hint.strip() or error.hint)
        elsewhere = self._other_platforms(named)
        if elsewhere:
            has = ", ".join(f"{place} has it only for {platforms}" for place, platforms in elsewhere.items())
            error = UnreachableError(f"{named} is not available for {platform.name}: {has}; {error.message}")
            hint = f"Load the image for {platform.oci} into the local image store. "
        if name == "debian" and tag in image_tags(name):
            made = f"chainbuild bootstrap {name}:{tag} --platform {platform.name}"
            hint = f"{hint}Make it from Debian's packages: {made}; or load it into the local image store."
        elif not hint:
            hint = (
                f"It is neither in {self._chain} (list: chainbuild images) nor in the local image store (list: docker images)."
                " Check the name."
            )
            if origin and not named.tag and not named.digest and "/" not in name:
                hint += f" If the Dockerfile means a folder, hand it in: --build-context {name}=DIR."
        return _with_hint(error, where, hint.strip())

    def _other_platforms(self, named: ImageReference) -> Mapping[str, str]:
        """Return the places that have an image of this name, which is for other platforms, with these platforms."""
        places: dict[str, str] = {}
        if self._chain.holds(named):
            return places
        with suppress(RegistryError):
            index = read_index(self._registries, self._chain.place(named).with_tag(named.tag_or_latest))
            if index is not None and index.platforms:
                places[str(self._chain)] = ", ".join(str(platform) for platform in index.platforms)
        local = self._local.find(str(named))
        if local is not None:
            places["the local image store"] = local.platform.name
        return places


def _other_spelling(named: ImageReference) -> str:
    """Return a suggestion for the name of a distribution's image that is misspelled or names no release."""
    from chainbuild.distributions import RELEASES, USUAL_TAG, has_ended, image_tags

    name, tag = named.familiar_name, named.tag_or_latest
    if named.digest or named.registry != DOCKER_HUB or "/" in name:
        return ""
    if name not in RELEASES:
        known = [distribution for distribution in RELEASES if tag in image_tags(distribution)]
        return perhaps_you_meant(name, known, lambda near: f"{near}:{tag}")
    if named.tag in {None, "latest"}:
        return f"Name a release, for example {name}:{USUAL_TAG[name]}. "
    if tag in image_tags(name) or has_ended(name, tag):
        return ""
    return perhaps_you_meant(tag, image_tags(name), lambda near: f"{name}:{near}")


def _with_hint(error: RegistryError, where: str, hint: str) -> RegistryError:
    return type(error)(error.message, where=where or error.where, hint=hint or error.hint)
