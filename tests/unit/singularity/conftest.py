from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from chainbuild.events import Event
from chainbuild.execution.session import Session, Settings
from chainbuild.references import ChainRegistry, Digest
from chainbuild.registry.pool import Registries
from chainbuild.singularity.collection import Sif, sha256_of
from chainbuild.singularity.names import SifName
from tests.support.fake_registry import FakeRegistry
from tests.support.keys import record_store
from tests.support.world import FakeStore


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def registries(fake: FakeRegistry) -> Iterator[Registries]:
    with Registries(transport=fake.transport, credentials=lambda host: None) as pool:
        yield pool


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def session(registries: Registries, told: list[Event], tmp_path: Path) -> Session:
    """Return a session with a chain registry at localhost:5000, an empty local store and no builder."""
    return Session(
        settings=Settings(root=tmp_path, registry=ChainRegistry("localhost:5000")),
        registries=registries,
        records=record_store(registries),
        local=FakeStore(),
        emit=told.append,
        driver=cast(Any, None),
    )


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
