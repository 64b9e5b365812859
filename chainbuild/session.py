"""One run's company: the chain registry (with a lease, where it is the managed one), the clients, the builder.

This is where the parts are put together; they know each other only by what they are handed here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chainbuild.bases import BaseFinder
from chainbuild.events import Emit
from chainbuild.local_store import LocalStore
from chainbuild.records.seen import SeenRecords
from chainbuild.records.store import RecordStore
from chainbuild.references import ChainRegistry, Platform
from chainbuild.registry.managed import ManagedRegistry
from chainbuild.registry.pool import Registries
from chainbuild.shipped import shipped
from chainbuild.trust.keyring import KeyRing
from chainbuild.trust.keys import PublicKey

if TYPE_CHECKING:
    from chainbuild.buildx import BuildxDriver

COMPOSE_FILE = "docker-compose-registry.yml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a run is set to, besides what it builds."""

    root: Path
    registry: ChainRegistry | None = None
    """The chain registry; None for the managed one."""
    port: int = 5000
    builders: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    trusted_keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """The keys that the project file names; they count for a registry other than the managed one."""

    @property
    def chain(self) -> ChainRegistry:
        """The chain registry's place."""
        return self.registry or ChainRegistry(f"localhost:{self.port}")


def managed_registry(settings: Settings) -> ManagedRegistry:
    """The managed registry of a tree: its compose file (the tree's own, else the shipped one), its data beside it."""
    own = settings.root / COMPOSE_FILE
    return ManagedRegistry(
        compose_file=own if own.is_file() else shipped(COMPOSE_FILE),
        port=settings.port,
        data_folder=settings.root / "registry",
    )


def keyring_of(settings: Settings) -> KeyRing:
    """Return the keys that count for the settings' registry."""
    return KeyRing(shared=settings.registry is not None, project=settings.trusted_keys)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What a command works with while the chain registry is there."""

    settings: Settings
    registries: Registries
    records: RecordStore
    local: LocalStore
    emit: Emit
    driver: BuildxDriver

    @property
    def chain(self) -> ChainRegistry:
        """The chain registry's place."""
        return self.settings.chain

    def finder(self) -> BaseFinder:
        """What finds the images that nobody builds."""
        return BaseFinder(self.records, self.local, self.emit, hand_over=_hand_over)


def _hand_over(local_name: str, platform: Platform, destination: str) -> None:
    from chainbuild.buildx import hand_over

    hand_over(local_name, platform, destination)


@contextmanager
def open_session(settings: Settings, emit: Emit) -> Iterator[Session]:
    """Have the chain registry there as long as the `with` lasts.

    Errors: `NotReadyError` where the managed registry cannot come up.
    """
    from chainbuild.buildx import BuildxDriver

    lease = nullcontext() if settings.registry else managed_registry(settings).lease(emit)
    with lease, Registries() as registries:
        yield Session(
            settings=settings,
            registries=registries,
            records=RecordStore(registries, keyring_of(settings), settings.chain, SeenRecords.of(settings.chain)),
            local=LocalStore(),
            emit=emit,
            driver=BuildxDriver(builders=settings.builders, no_cache=settings.no_cache),
        )


def environment() -> Mapping[str, str]:
    """The environment, for what may ask for it (bare keys of args files, `--secret env=`)."""
    return dict(os.environ)
