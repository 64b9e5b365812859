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
from chainbuild.events import Emit, Message
from chainbuild.local_store import LocalStore
from chainbuild.references import ChainRegistry, Platform
from chainbuild.registry.managed import ManagedRegistry
from chainbuild.registry.pool import Registries
from chainbuild.shipped import shipped

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What a command works with while the chain registry is there."""

    settings: Settings
    registries: Registries
    local: LocalStore
    emit: Emit
    driver: BuildxDriver

    @property
    def chain(self) -> ChainRegistry:
        """The chain registry's place."""
        return self.settings.chain

    def finder(self) -> BaseFinder:
        """What finds the images that nobody builds."""
        return BaseFinder(self.registries, self.chain, self.local, self.emit, hand_over=_hand_over)


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

    def notice(text: str) -> None:
        emit(Message(level="warning", text=text))

    with lease, Registries(notice=notice) as registries:
        yield Session(
            settings=settings,
            registries=registries,
            local=LocalStore(),
            emit=emit,
            driver=BuildxDriver(builders=settings.builders, no_cache=settings.no_cache),
        )


def environment() -> Mapping[str, str]:
    """The environment, for what may ask for it (bare keys of args files, `--secret env=`)."""
    return dict(os.environ)
