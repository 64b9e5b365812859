"""Check what a registry sends: its digest, its size, and whether it is what was asked for."""

from __future__ import annotations

from typing import Final

from chainbuild import limits
from chainbuild.errors import DamagedContentError, RegistryError, WrongUseError
from chainbuild.references import Digest, check_repository
from chainbuild.registry.http.answers import is_page
from chainbuild.registry.http.transport import HttpResponse
from chainbuild.registry.http.wire import shown

QUOTED: Final = 3
"""The number of invalid names quoted in a warning."""


def read_names(raw: bytes, key: str, url: str) -> list[str]:
    try:
        document = limits.read_object(raw, "it")
    except DamagedContentError as error:
        raise RegistryError(f"GET {shown(url)}: not a list of {key}: {error.message}") from error
    # Null is an empty list. A response without the key is invalid, and must not be taken for an empty list.
    names = (document[key] or []) if key in document else None
    if not isinstance(names, list):
        raise RegistryError(f"GET {shown(url)}: not a list of {key}")
    return [name if isinstance(name, str) else str(name)[:128] for name in names]


def is_repository(name: str) -> bool:
    try:
        check_repository(name)
    except WrongUseError:
        return False
    return True


def media_type_of(response: HttpResponse) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip()


def own_media_type(raw: bytes) -> str:
    try:
        found = limits.read_object(raw, "the manifest").get("mediaType")
    except DamagedContentError:
        return ""
    return found if isinstance(found, str) else ""


def check_manifest(raw: bytes, url: str) -> None:
    """Check that content without a known digest is a manifest. Errors: `RegistryError`."""
    try:
        document = limits.read_object(raw, "it")
    except DamagedContentError as error:
        raise not_a_registry(url, f"content that is not a manifest: {error.message}") from error
    if not {"config", "manifests", "fsLayers"}.intersection(document):
        raise not_a_registry(url, "content that is not a manifest")


def not_a_registry(url: str, what: str) -> RegistryError:
    return RegistryError(
        f"{shown(url)} returned {what}",
        hint="Check that this is a registry, without a login page or a proxy in between.",
    )


def check_digest(found: str, digest: Digest, url: str, response: HttpResponse) -> None:
    if found != digest.hex:
        if is_page(response.headers):
            # This is not the registry's content.
            raise not_a_registry(url, "an HTML page instead of the content")
        raise DamagedContentError(
            f"GET {shown(url)}: the content is damaged: its digest is {found[:12]}…, not {digest.short}…",
            hint="Push the image again; the registry's storage or a proxy in between changes it.",
        )


def check_size(found: int, size: int | None, url: str) -> None:
    if size is not None and found != size:
        raise DamagedContentError(
            f"{shown(url)}: the content is damaged: it has {found:,} bytes, not {size:,}",
            hint="Push the image again; the registry's storage or a proxy in between changes it.",
        )
