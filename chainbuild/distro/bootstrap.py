"""Make base images from the distribution's own packages: for machines without a registry, and for custom bases.

mmdebstrap.py makes the root file system of each platform. This module makes it an image without emulation: layer,
config, and the index over the platforms. The same inputs and the same state of the mirror result in the same image, bit
for bit. An image has the digest of its inputs as a label, and is reused while the digest is the same.
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
    """The base image of one platform. Names are empty if it was not stored there; `made` is False if it was reused."""

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
    """Make `reference` for the platforms in parallel, and if `load` is set for the build machine's own platform.

    `reference` is `debian:SUITE[-slim]` or `ubuntu:SUITE`; any other name needs `suite`, of the machine's distribution.
    The image is pushed to the chain registry of `records` and signed for there, in an index that keeps its other
    platforms; `load` also puts it into the local image store. `refresh` makes it again even if it exists.
    `certificates` adds the machine's own CA certificates and lists them in a label.

    Errors: `WrongUseError`; `NotReadyError` (a tool, QEMU, space, the mirror); those of the registry.
    """
    own = Platform.of_this_machine()
    requested = {platform.oci: platform for platform in (*platforms, *((own,) if load else ()))}
    request = read_request(reference, include=include, variant=variant, suite=suite, certificates=certificates)
    if request.mirror_needs_certificates:
        text = f"this machine's package mirror uses TLS: apt in {reference} needs --package {CA_CERTIFICATES}"
        emit(Message(level="warning", text=text))
    registries = records.registries
    target = records.chain.place(reference).with_tag(reference.tag_or_latest)
    pushed, seconds = _push_all(records, reference, request, requested, emit=emit, refresh=refresh)
    for key in seconds:
        records.vouch(replace(target, tag=None), pushed[key], f"bootstrap {reference}")
    if seconds:
        changed = {requested[key]: pushed[key].descriptor for key in pushed}
        images.put_index(registries, target, changed, merge=True)
    if load:
        local.pull(target, str(reference), tuple(requested.values()))
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
        for key, platform in requested.items()
    )


def _push_all(
    records: RecordStore,
    reference: ImageReference,
    request: PackageRequest,
    requested: Mapping[str, Platform],
    *,
    emit: Emit,
    refresh: bool,
) -> tuple[dict[str, images.RemoteImage], dict[str, float]]:
    """Have the image of every platform in the chain registry, without a tag.

    Returns the images by platform, and the seconds of those that were not there before.
    """
    registries, own = records.registries, Platform.of_this_machine()
    target = records.chain.place(reference).with_tag(reference.tag_or_latest)
    pushed = {} if refresh else _existing(records, target, request, requested)
    missing = {key: platform for key, platform in requested.items() if key not in pushed}
    seconds: dict[str, float] = {}
    if own.oci in missing and not refresh and local.label(str(reference), INPUTS_LABEL) == request.inputs(own):
        # The local store has it already, made for the registry's own image: only push it.
        began = time.monotonic()
        local.push(str(reference), target)
        pushed[own.oci] = images.resolve(registries, target, own)
        seconds[own.oci] = time.monotonic() - began
        missing.pop(own.oci)
    if missing:
        for key, (image, took) in _made(registries, target, request, tuple(missing.values()), emit).items():
            pushed[key], seconds[key] = image, took
    return pushed, seconds


def _made(
    registries: Registries, target: ImageReference, request: PackageRequest, platforms: tuple[Platform, ...], emit: Emit
) -> dict[str, tuple[images.RemoteImage, float]]:
    """Make the images from packages and push them without a tag; return them with the seconds that each took."""
    results: dict[str, tuple[images.RemoteImage, float]] = {}
    with Workshop(emit) as workshop:
        for key, (layer, config, took) in workshop.make(request, platforms).items():
            registries.client(target).put_blob(target.repository, layer.path, digest=layer.digest)
            image = images.put_image(registries, replace(target, tag=None), config, (layer.descriptor,))
            results[key] = (image, took)
    return results


def bootstrap_local(reference: str, emit: Emit) -> Bootstrapped:
    """Make an image for the build machine's own platform and load it into the local store, without any registry.

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


def _existing(
    records: RecordStore, target: ImageReference, request: PackageRequest, requested: Mapping[str, Platform]
) -> dict[str, images.RemoteImage]:
    """Return the registry's images for these platforms that a trusted user made from the same inputs."""
    results: dict[str, images.RemoteImage] = {}
    for key, platform in requested.items():
        try:
            image = images.resolve(records.registries, target, platform)
        except NotFoundInRegistryError:
            continue
        vouched = records.of_image(replace(target, tag=None), image.digest).record
        if vouched and image.config.label(INPUTS_LABEL) == request.inputs(platform):
            results[key] = image
    return results
