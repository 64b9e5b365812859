"""Addresses of places to publish to, parsed once."""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from chainbuild.errors import WrongUseError

Kind = Literal["folder", "sftp", "webdav", "oras"]

_SCHEMES: Final[dict[str, Kind]] = {
    "file": "folder",
    "sftp": "sftp",
    "http": "webdav",
    "https": "webdav",
    "dav": "webdav",
    "davs": "webdav",
    "oras": "oras",
}
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_KNOWN: Final = "A folder, sftp://[USER@]HOST[:PORT]/PATH, https://HOST/PATH (WebDAV), or oras://REGISTRY/PATH."


class Address(Struct, frozen=True, kw_only=True):
    """A place. `path` is decoded for a folder and SFTP (relative to the home folder there without a leading `/`).

    For WebDAV it is the path of the URL as it was written, for ORAS the repository that all others are under.
    """

    kind: Kind
    path: str
    host: str = ""
    port: int = 0
    user: str = ""
    plain: bool = False
    """WebDAV without TLS."""

    @property
    def netloc(self) -> str:
        """`host[:port]`."""
        return f"{self.host}:{self.port}" if self.port else self.host


def parse_address(text: str) -> Address:
    """Read an address. Errors: `WrongUseError` that never repeats a password."""
    if _CONTROL.search(text) or not text.strip():
        raise _wrong("the address is empty, or has characters that none has")
    scheme, colon, _ = text.partition("://")
    if not colon:
        return Address(kind="folder", path=text)
    kind = _SCHEMES.get(scheme.lower())
    if kind is None:
        raise _wrong(f"nothing can be published to {scheme}://")
    try:
        parts = urlsplit(text)
        port = parts.port or 0
    except ValueError:
        raise _wrong(f"the address {scheme}://… cannot be read") from None
    if parts.password is not None:
        raise WrongUseError(
            f"the address {scheme}://… has a password in it, which every process of this machine could read",
            hint="Take keys (SFTP), ~/.netrc (WebDAV) or docker login (ORAS).",
        )
    if kind == "folder":
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise _wrong(f"{text!r} is not a folder of this machine")
        return Address(kind=kind, path=unquote(parts.path))
    userinfo, _, hostport = parts.netloc.rpartition("@")
    host = re.sub(r":[0-9]*$", "", hostport)
    if not _HOST.fullmatch(host):
        raise _wrong(f"{host!r} is not a host")
    if userinfo and (kind != "sftp" or not _USER.fullmatch(unquote(userinfo))):
        raise _wrong(f"{scheme}://… has a user's name that it cannot have")
    if parts.query or parts.fragment:
        raise _wrong(f"{scheme}://{hostport} has something behind '?' or '#'")
    path = parts.path
    if kind == "sftp":
        path = unquote(path).removeprefix("/~/") if path.startswith("/~/") else unquote(path)
        if _CONTROL.search(path):
            raise _wrong("the address has characters that no path has")
    return Address(
        kind=kind,
        path=path.strip("/") if kind == "oras" else path.rstrip("/") or ("" if kind == "webdav" else "/"),
        host=host,
        port=port,
        user=unquote(userinfo),
        plain=scheme.lower() in {"http", "dav"},
    )


def _wrong(message: str) -> WrongUseError:
    return WrongUseError(message, hint=_KNOWN)
