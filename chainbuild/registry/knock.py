"""What answers on a port: a registry, nothing, or something else; and the connection that the question went through."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from chainbuild import limits
from chainbuild.registry.answers import is_registry
from chainbuild.registry.transport import PlainTransport, Request, TransportError

# Long enough for a registry on a busy disk, short enough for a person who waits.
_PING_SECONDS: Final = 5.0

Answer = Literal["registry", "nothing", "something else"]


class Reply(Struct, frozen=True, kw_only=True):
    """What answered on the port. `presence` is the connection that was asked through; it is open until it is closed."""

    answer: Answer
    challenge: str | None = None
    """The `WWW-Authenticate` header; None if the registry demands no login."""
    presence: PlainTransport | None = None

    def close(self) -> None:
        """Close the connection."""
        if self.presence is not None:
            self.presence.close()


def ask(endpoint: str, seconds: float = _PING_SECONDS) -> Answer:
    """Return what answers at `host:port`: a registry (OCI spec, "Determining Support"), nothing, something else."""
    reply = knock(endpoint, seconds)
    reply.close()
    return reply.answer


def knock(endpoint: str, seconds: float = _PING_SECONDS) -> Reply:
    """Ask what is at `host:port`, and keep the connection open."""
    transport = PlainTransport(connect_seconds=seconds)
    request = Request(method="GET", url=f"http://{endpoint}/v2/", answer_seconds=seconds)
    try:
        response = transport.send(request)
        response.end_within(seconds)
        body = limits.read_start(response.chunks(), limits.ERROR_BODY)
        if len(body) == limits.ERROR_BODY.value:
            transport.close()
            return Reply(answer="something else")
    except TransportError as error:
        transport.close()
        # Reset: docker's proxy listens before the registry in the container does.
        return Reply(answer="nothing" if error.fault in {"refused", "no-host"} else "something else")
    if not is_registry(response.status, response.headers, body):
        transport.close()
        return Reply(answer="something else")
    challenge = response.headers.get("www-authenticate", "") if response.status == 401 else None
    return Reply(answer="registry", challenge=challenge, presence=transport)
