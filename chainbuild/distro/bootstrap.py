"""Base images from the distribution's own packages: for where no registry is reachable, and for a base of one's own.

mmdebstrap.py makes the root of each platform; here it becomes an image, natively: layer, config, the index over the
platforms. The same inputs at the same state of the mirror give the same image, bit for bit. An image carries the digest
of its inputs as a label, and is not made again while that is the same, unless asked for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from msgspec import Struct

from chainbuild.distro import oci_layout as local
from chainbuild.distro.debian import CA_CERTIFICATES, INPUTS_LABEL, PackageRequest, Variant, read_request
from chainbuild.distro.mmdebstrap import Workshop
from chainbuild.errors import NotFoundInRegistryError
from chainbuild.events import Emit, Message
from chainbuild.records.store import RecordStore
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry import images
from chainbuild.registry.pool import Registries
from chainbuild.values import replace


class Bootstrapped(Struct, frozen=True, kw_only=True):
    """One platform's base image. Names are empty where it was not put there; `made` is False where it stood already."""

    platform: Platform
    registry_name: str = ""
    local_name: str = ""
    digest: Digest | None = None
    """The digest of the image's manifest."""
    size: int = 0
    """Compressed, in bytes."""
    made: bool
    seconds: float


def bootstrap(
    reference: ImageReference,
    platforms: Sequence[Platform],
    *,
    records: RecordStore,
    emit: Emit,
    include: Sequence[str] = (),
    variant: Variant | None = None,
    suite: str | None = None,
    certificates: bool = False,
    refresh: bool = False,
    load: bool = True,
) -> tuple[Bootstrapped, ...]:
    """Make `reference` for the platforms (and the build machine's own, where `load`), side by side.

    `reference` is `debian:SUITE[-slim]` or `ubuntu:SUITE`; any other name needs `suite`, of the machine's distribution.
    It goes into the chain registry of `records`, as one index that keeps the platforms which it has already, and is
    signed for there; `load` puts it into the local image store, too. `refresh` makes anew what stands. `certificates`: put
    the machine's own CA certificates into it, and say so in its labels.
    Errors: `WrongUseError`; `NotReadyError` (a tool, QEMU, space, the mirror); those of the registry.
    """
    own = Platform.of_this_machine()
    wanted = {platform.oci: platform for platform in (*platforms, *((own,) if load else ()))}
    request = read_request(reference, include=include, variant=variant, suite=suite, certificates=certificates)
    if request.mirror_needs_certificates:
        text = f"this machine's package mirror uses TLS: apt in {reference} needs --package {CA_CERTIFICATES}"
        emit(Message(level="warning", text=text))
    registries = records.registries
    target = records.chain.place(reference).with_tag(reference.tag_or_latest)
    pushed = {} if refresh else _standing(records, target, request, wanted)
    missing = {key: platform for key, platform in wanted.items() if key not in pushed}
    seconds: dict[str, float] = {}
    if own.oci in missing and not refresh and local.label(str(reference), INPUTS_LABEL) == request.inputs(own):
        # Made a moment ago, for the registry's own image: only handed over.
        began = time.monotonic()
        local.push(str(reference), target)
        pushed[own.oci] = images.resolve(registries, target, own)
        seconds[own.oci] = time.monotonic() - began
        missing.pop(own.oci)
    if missing:
        for key, (image, took) in _made(registries, target, request, tuple(missing.values()), emit).items():
            pushed[key], seconds[key] = image, took
    for key in seconds:
        records.vouch(replace(target, tag=None), pushed[key], f"bootstrap {reference}")
    if seconds:
        changed = {wanted[key]: pushed[key].descriptor for key in pushed}
        images.put_index(registries, target, changed, merge=True)
    if load:
        local.pull(target, str(reference), tuple(wanted.values()))
    return tuple(
        Bootstrapped(
            platform=platform,
            registry_name=str(target),
            local_name=str(reference) if load else "",
            digest=pushed[key].digest,
            size=pushed[key].size,
            made=key in seconds,
            seconds=seconds.get(key, 0.0),
        )
        for key, platform in wanted.items()
    )


def _made(
    registries: Registries, target: ImageReference, request: PackageRequest, platforms: tuple[Platform, ...], emit: Emit
) -> dict[str, tuple[images.RemoteImage, float]]:
    """Make the images from packages and push them without a tag; return them with the seconds that each took."""
    found: dict[str, tuple[images.RemoteImage, float]] = {}
    with Workshop(emit) as workshop:
        for key, (layer, config, took) in workshop.make(request, platforms).items():
            registries.client(target).put_blob(target.repository, layer.path, digest=layer.digest)
            image = images.put_image(registries, replace(target, tag=None), config, (layer.descriptor,))
            found[key] = (image, took)
    return found


def bootstrap_local(reference: str, emit: Emit) -> Bootstrapped:
    """Make an image for the build machine's own platform and put it into the local store only, without any registry.

    It has CA certificates only if the machine's package mirror uses TLS.

    Errors: as `bootstrap`.
    """
    parsed, own = ImageReference.parse(reference), Platform.of_this_machine()
    request = read_request(parsed)
    if request.mirror_needs_certificates:
        request = read_request(parsed, include=[CA_CERTIFICATES], certificates=True)
    with Workshop(emit) as workshop:
        layer, config, took = workshop.make(request, (own,))[own.oci]
        local.load(layer, config, parsed)
    return Bootstrapped(platform=own, local_name=str(parsed), size=layer.size, made=True, seconds=took)


def _standing(
    records: RecordStore, target: ImageReference, request: PackageRequest, wanted: Mapping[str, Platform]
) -> dict[str, images.RemoteImage]:
    """What the registry has of these platforms, made from the same inputs by somebody who is trusted."""
    found: dict[str, images.RemoteImage] = {}
    for key, platform in wanted.items():
        try:
            image = images.resolve(records.registries, target, platform)
        except NotFoundInRegistryError:
            continue
        vouched = records.of_image(replace(target, tag=None), image.digest).record
        if vouched and image.config.label(INPUTS_LABEL) == request.inputs(platform):
            found[key] = image
    return found
