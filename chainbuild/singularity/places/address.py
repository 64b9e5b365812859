"""Parse the addresses of places to publish to."""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.patterns import regex

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
_HOST: Final = regex(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_USER: Final = regex(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*")
_CONTROL: Final = regex(r"[\x00-\x1f\x7f]")
_KNOWN: Final = "Use a folder, sftp://[USER@]HOST[:PORT]/PATH, https://HOST/PATH (WebDAV), or oras://REGISTRY/PATH."


class Address(Struct, frozen=True, kw_only=True):
    """The address of a place. For a folder and for SFTP, `path` is decoded (for SFTP relative to the home without `/`).

    For WebDAV it is the path of the URL as written, for ORAS the prefix of all repositories.
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
    """Parse an address. Errors: `WrongUseError`, which never repeats a password."""
    if _CONTROL.search(text) or not text.strip():
        raise _wrong("the address is empty or has invalid characters")
    scheme, colon, _ = text.partition("://")
    if not colon:
        return Address(kind="folder", path=text)
    kind = _SCHEMES.get(scheme.lower())
    if kind is None:
        raise _wrong(f"unsupported scheme {scheme}://")
    try:
        parts = urlsplit(text)
        port = parts.port or 0
    except ValueError:
        raise _wrong(f"invalid address {scheme}://…") from None
    if parts.password is not None:
        raise WrongUseError(
            f"the address {scheme}://… contains a password, which every process of this machine could read",
            hint="Use SSH keys (SFTP), ~/.netrc (WebDAV) or docker login (ORAS).",
        )
    if kind == "folder":
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise _wrong(f"{text!r} is not a folder of this machine")
        return Address(kind=kind, path=unquote(parts.path))
    userinfo, _, hostport = parts.netloc.rpartition("@")
    host = re.sub(r":[0-9]*$", "", hostport)
    if not _HOST.fullmatch(host):
        raise _wrong(f"invalid host {host!r}")
    if userinfo and (kind != "sftp" or not _USER.fullmatch(unquote(userinfo))):
        raise _wrong(f"{scheme}://… has an invalid user name")
    if parts.query or parts.fragment:
        raise _wrong(f"{scheme}://{hostport} has a query or fragment ('?' or '#')")
    path = parts.path
    if kind == "sftp":
        path = unquote(path).removeprefix("/~/") if path.startswith("/~/") else unquote(path)
        if _CONTROL.search(path):
            raise _wrong("the path of the address has invalid characters")
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
