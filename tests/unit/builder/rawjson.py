"""Messages of buildx's rawjson."""

from __future__ import annotations

import base64
from typing import Any

RUN = "[2/3] RUN make"


def encoded(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def vertex(name: str = RUN, digest: str = "sha256:1", **more: Any) -> dict[str, Any]:
    return {"vertexes": [{"digest": digest, "name": name, "started": "2026-01-01T00:00:00Z", **more}]}


def log(data: str | bytes, digest: str = "sha256:1", stream: int = 1) -> dict[str, Any]:
    return {"logs": [{"vertex": digest, "stream": stream, "data": encoded(data), "timestamp": "2026-01-01T00:00:00Z"}]}


ERROR = 'process "/bin/sh -c make" did not complete successfully: exit code: 2'
