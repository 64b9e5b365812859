from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chainbuild.events import Event
from chainbuild.execution.session import Session
from chainbuild.references import Digest
from chainbuild.registry.pool import Registries
from chainbuild.singularity.collection import Sif, sha256_of
from chainbuild.singularity.names import SifName
from tests.support.fake_registry import FakeRegistry
from tests.support.world import Surroundings


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


@pytest.fixture
def fake(surroundings: Surroundings) -> FakeRegistry:
    return surroundings.fake


@pytest.fixture
def registries(session: Session) -> Registries:
    return session.registries


@pytest.fixture
def told(surroundings: Surroundings) -> list[Event]:
    return surroundings.events


@pytest.fixture
def session(surroundings: Surroundings) -> Iterator[Session]:
    """Provide a session with a chain registry at localhost:5000 and an empty local store."""
    with surroundings.session() as opened:
        yield opened


def sif_of(path: Path, name: str = "team/tool:v1", **changes: Any) -> Sif:
    """Return the facts of a file."""
    repository, _, tag = name.rpartition(":")
    known: dict[str, Any] = {
        "name": SifName(repository=repository, tag=tag),
        "image": name,
        "digest": Digest("sha256:" + "1" * 64),
        "platform": "linux/amd64",
        "size": path.stat().st_size,
        "sha256": sha256_of(path),
        "tool": "apptainer 1.4.5",
    }
    return Sif(**known | changes)
