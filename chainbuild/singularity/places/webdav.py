"""Publish by WebDAV (RFC 4918): upload a file under a temporary name, then move it into place in one step."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from chainbuild import limits
from chainbuild.errors import LoginNeededError, NotReadyError, RegistryBusyError, RegistryError, UnreachableError
from chainbuild.patterns import regex
from chainbuild.registry.http.answers import is_busy
from chainbuild.registry.http.auth import Credentials, is_this_machine
from chainbuild.registry.http.pooled_transport import PooledTransport
from chainbuild.registry.http.transport import Body, HttpRequest, HttpResponse, Transport, TransportError
from chainbuild.registry.http.wire import shown
from chainbuild.singularity.collection import CHECKSUM, FACTS, Sif, read_checksum
from chainbuild.singularity.names import SUFFIX
from chainbuild.singularity.places.address import Address
from chainbuild.singularity.places.destination import Told, sent_chunks

_HREF: Final = regex(r"<(?:[A-Za-z0-9_.-]+:)?href\s*>([^<]*)</", re.IGNORECASE)
_LIST: Final = b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop><resourcetype/></prop></propfind>'


class WebdavPlace:
    """A collection of a WebDAV server. The login comes from ~/.netrc (or $NETRC) and is sent only over TLS."""

    def __init__(
        self, address: Address, transport: Transport | None = None, credentials: Credentials | None = None
    ) -> None:
        self._base = f"{'http' if address.plain else 'https'}://{address.netloc}{address.path}"
        self._host = address.host
        self._transport = transport or PooledTransport()
        result = credentials or from_netrc(address.host)
        # Without TLS, everybody on the network could read it.
        safe = not address.plain or is_this_machine(address.host)
        self._authorization = result.basic if result and safe else ""

    def checksums(self, sifs: Sequence[Sif]) -> Mapping[str, str]:
        results: dict[str, str] = {}
        for sif in sifs:
            answer = self._send("GET", self._url(sif.file + CHECKSUM), fine=(200, 404, 410))
            text = self._text(answer)
            # A checksum alone does not count.
            if answer.status == 200 and (checksum := read_checksum(text)) and self._is_there(sif.file):
                results[sif.file] = checksum
        return results

    def files(self) -> tuple[str, ...] | None:
        answer = self._send("PROPFIND", f"{self._base}/", headers={"Depth": "1"}, body=Body.of(_LIST), fine=None)
        text = self._text(answer)
        return listed(text) if answer.status == 207 else () if answer.status == 404 else None

    def put(self, sif: Sif, path: Path, told: Told) -> None:
        self._make_folders()
        self._replace(sif.file, Body(sif.size, lambda: sent_chunks(sif, path, told)), instead_of=(CHECKSUM,))
        self._replace(sif.file + FACTS, Body.of(sif.facts))
        self._replace(sif.file + CHECKSUM, Body.of(sif.checksum))

    def close(self) -> None:
        self._transport.close()

    # ---- phases -----------------------------------------------------------------------------------------------------

    def _replace(self, name: str, body: Body, *, instead_of: tuple[str, ...] = ()) -> None:
        """Replace a file in one step. Files that describe the old one (`instead_of`) are removed before."""
        aside, target = self._url(f".{name}.{os.getpid()}.part"), self._url(name)
        try:
            self._send("PUT", aside, body=body, fine=(200, 201, 204)).close()
            for suffix in instead_of:
                self._send("DELETE", self._url(name + suffix), fine=(200, 202, 204, 404)).close()
            headers = {"Destination": target, "Overwrite": "T"}
            self._send("MOVE", aside, headers=headers, fine=(200, 201, 204)).close()
        except BaseException:
            # After any failure, remove the upload if the server still responds.
            with suppress(RegistryError):
                self._send("DELETE", aside, fine=None).close()
            raise

    def _make_folders(self) -> None:
        """Create the collection and its parents if they are missing."""
        missing: list[str] = []
        url = self._base
        while url.count("/") > 2:
            # Not HEAD, which many servers reject for collections.
            answer = self._send("PROPFIND", f"{url}/", headers={"Depth": "0"}, body=Body.of(_LIST), fine=None)
            answer.close()
            if answer.status != 404:
                break
            missing.append(url)
            url = url.rpartition("/")[0]
        for item in reversed(missing):
            # 405: it was created meanwhile (RFC 4918, 9.3.1).
            self._send("MKCOL", f"{item}/", fine=(200, 201, 405)).close()

    def _is_there(self, name: str) -> bool:
        answer = self._send("HEAD", self._url(name), fine=(200, 404, 405, 410))
        answer.close()
        return answer.status in {200, 405}

    def _url(self, name: str) -> str:
        return f"{self._base}/{quote(name)}"

    def _text(self, response: HttpResponse) -> str:
        try:
            raw = limits.read_start(response.chunks(), limits.WEBDAV)
        except TransportError as error:
            raise UnreachableError(f"{self._host}: {error}") from error
        finally:
            response.close()
        return raw.decode("utf-8", "replace")

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        fine: tuple[int, ...] | None,
    ) -> HttpResponse:
        """Send a request; raise unless the status is in `fine` (None: any status except 401 and 403)."""
        whole = {"User-Agent": "chainbuild", **(headers or {})}
        if self._authorization:
            whole["Authorization"] = self._authorization
        try:
            response = self._transport.send(HttpRequest(method=method, url=url, headers=whole, body=body))
        except TransportError as error:
            raise UnreachableError(f"{method} {shown(url)}: {error}", hint="Check the address.") from error
        if response.status in {401, 403}:
            response.close()
            raise LoginNeededError(
                f"{method} {shown(url)}: {response.status}",
                hint=f"Add the login to ~/.netrc: machine {self._host} login USER password PASSWORD."
                " It is sent only over HTTPS.",
            )
        if fine is not None and response.status not in fine:
            response.close()
            kind = RegistryBusyError if is_busy(response.status) else RegistryError
            raise kind(f"{method} {shown(url)}: {response.status}", hint=_meaning(response.status, method))
        return response


def listed(document: str) -> tuple[str, ...]:
    """Return the names of the SIF files in the response to a PROPFIND: the last part of each address."""
    names = (unquote(html.unescape(href).strip()).rpartition("/")[2] for href in _HREF.findall(document))
    return tuple(sorted({name for name in names if name.endswith(SUFFIX) and not name.startswith(".")}))


def from_netrc(host: str) -> Credentials | None:
    """Return the login for a host from ~/.netrc; None if it has none. Errors: `NotReadyError` if it cannot be read."""
    import netrc

    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    if not path.is_file():
        return None
    try:
        result = netrc.netrc(path).authenticators(host)
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", 0) or 0
        reason = getattr(error, "msg", "") or str(error)
        raise NotReadyError(
            reason, where=f"{path}:{line}" if line else str(path), hint="Fix this line, or set NETRC to another file."
        ) from error
    return Credentials(user=result[0] or "", password=result[2] or "") if result else None


def _meaning(status: int, method: str) -> str:
    if status in {301, 302, 307, 308}:
        return "The server redirects: use its new address."
    if status in {405, 501}:
        return f"The server does not support {method}. Check that WebDAV is enabled for this address."
    if status in {413, 507}:
        return "The server is full or does not accept files of this size."
    return "Check the server's log."
