from __future__ import annotations

from collections.abc import Iterator

import pytest

from chainbuild.registry.pool import Registries
from tests.support.fake_registry import FakeRegistry


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def registries(fake: FakeRegistry) -> Iterator[Registries]:
    with Registries(transport=fake.transport, credentials=lambda host: None) as pool:
        yield pool
