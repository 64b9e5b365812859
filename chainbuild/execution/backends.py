"""What a run uses outside of this process: the network, the builder, the engine's image store, the clock.

A session takes all of it from one value, so a run can be given other registries or another builder without changing how it is
put together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field

from chainbuild.images.local_store import LocalStore
from chainbuild.images.resolver import HandOver
from chainbuild.records.index import SeenRecords
from chainbuild.references import ChainRegistry, Platform

if TYPE_CHECKING:
    # Looking commands open sessions, too, and do not import what only builds need.
    from chainbuild.builder.build_spec import BuildResult, BuildSpec, SolveEvent
    from chainbuild.builder.builders import BuilderInfo
    from chainbuild.context.remote import RemoteContent
    from chainbuild.events import Emit
    from chainbuild.limits import Pace
    from chainbuild.native.roots import Root
    from chainbuild.registry.http.auth import Credentials, Lookup
    from chainbuild.registry.http.transport import Transport
    from chainbuild.registry.images import RemoteImage
    from chainbuild.registry.pool import Registries


class SessionDriver(Protocol):
    """The build driver of a session; implemented by `buildx.BuildxDriver`."""

    def build(self, spec: BuildSpec, emit: Emit) -> BuildResult:
        """Build, and push or export the result."""

    def links(self, platform: Platform) -> bool:
        """Return whether several steps of a platform can be built in one solve. Errors: `NotReadyError`."""

    def solve(
        self, specs: Sequence[BuildSpec], emit: Emit, begins: Callable[[int], None]
    ) -> Generator[SolveEvent, None, None]:
        """Build and push each image on top of the one before it, in one solve. Close the generator to stop it.

        `begins` is called, from any thread, with the place of each build when it begins.
        """

    def load(self, specs: Sequence[BuildSpec], emit: Emit) -> None:
        """Build the last image into the engine's local store, linked to the builds before it."""

    def stop(self) -> None:
        """Ask the running builds to stop."""

    def command(self, spec: BuildSpec) -> tuple[str, ...]:
        """Return the command line of a build."""

    def inspect(self, platform: Platform) -> BuilderInfo:
        """Return the builder for a platform. Errors: `NotReadyError`."""


class ChainService(Protocol):
    """Keeps the chain registry running if a run names none; implemented by `service.ManagedRegistry`."""

    data: Path
    is_own: bool

    def lease(self, emit: Emit) -> AbstractContextManager[str]:
        """Keep the registry running for the `with` block."""

    def credentials(self, host: str) -> Credentials | None:
        """Return the login for a registry."""


def _buildx(builders: Mapping[str, str], no_cache: bool) -> SessionDriver:
    return _LateBuildx(builders, no_cache)


class _LateBuildx:
    """The driver of buildx, imported when a run builds or shows what it would build."""

    def __init__(self, builders: Mapping[str, str], no_cache: bool) -> None:
        self._builders = builders
        self._no_cache = no_cache

    @cached_property
    def _driver(self) -> SessionDriver:
        from chainbuild.builder.buildx import BuildxDriver

        return BuildxDriver(builders=self._builders, no_cache=self._no_cache)

    def build(self, spec: BuildSpec, emit: Emit) -> BuildResult:
        return self._driver.build(spec, emit)

    def links(self, platform: Platform) -> bool:
        return self._driver.links(platform)

    def solve(
        self, specs: Sequence[BuildSpec], emit: Emit, begins: Callable[[int], None]
    ) -> Generator[SolveEvent, None, None]:
        return self._driver.solve(specs, emit, begins)

    def load(self, specs: Sequence[BuildSpec], emit: Emit) -> None:
        self._driver.load(specs, emit)

    def stop(self) -> None:
        # Without the driver, no build has been started.
        if "_driver" in self.__dict__:
            self._driver.stop()

    def command(self, spec: BuildSpec) -> tuple[str, ...]:
        return self._driver.command(spec)

    def inspect(self, platform: Platform) -> BuilderInfo:
        return self._driver.inspect(platform)


def _check_builders(driver: SessionDriver, platforms: Iterable[Platform]) -> None:
    from chainbuild.builder.buildx import load_client
    from chainbuild.builder.preflight import check_builders

    load_client()
    check_builders(driver, platforms)


def _read_root(registries: Registries, image: RemoteImage) -> Root:
    from chainbuild.native.roots import read_root

    return read_root(registries, image)


def _indices() -> Transport:
    from chainbuild.registry.http.pooled_transport import PooledTransport

    return PooledTransport()


def _hand_over(local_name: str, platform: Platform, destination: str) -> None:
    from chainbuild.builder.buildx import hand_over

    hand_over(local_name, platform, destination)


def _tree_notes(root: Path) -> Mapping[str, str]:
    from chainbuild.images.provenance import tree_notes

    return tree_notes(root)


class Backends(Struct, frozen=True, kw_only=True):
    """The backends of a session. The defaults are those of the command."""

    transport: Callable[[str], Transport] | None = None
    """Returns the transport of a registry's host; None: the network."""
    pace: Pace | None = None
    """How long registries may take, and when requests are repeated; None: `limits.PACE`."""
    credentials: Lookup | None = None
    """Returns the login for a host; None: the managed registry's or the Docker configuration's."""
    managed: Callable[[], ChainService] | None = None
    """Returns the service of the chain registry if a run names none; None: `session.managed_registry`."""
    driver: Callable[[Mapping[str, str], bool], SessionDriver] = _buildx
    """Returns the build driver for `--builder` and `--no-cache`."""
    check_builders: Callable[[SessionDriver, Iterable[Platform]], None] = _check_builders
    """Checks before a run that it can build for some platforms. Errors: `NotReadyError`."""
    hand_over: HandOver = _hand_over
    read_root: Callable[[Registries, RemoteImage], Root] = _read_root
    """Returns the distribution of an image. Errors: `RegistryError`."""
    local: LocalStore = field(default_factory=LocalStore)
    remotes: RemoteContent | None = None
    """Queries the addresses that Dockerfiles fetch from; None: the network."""
    indices: Callable[[], Transport] = _indices
    """Returns the transport of package repositories."""
    tree_notes: Callable[[Path], Mapping[str, str]] = _tree_notes
    """Returns the notes about a tree for its records."""
    seen: Callable[[ChainRegistry], SeenRecords] = SeenRecords.of
    """Returns this machine's memory of the records of a chain registry."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """The environment variables with the user's keys."""
    build_platform: Callable[[], Platform] = Platform.of_this_machine
    clock: Callable[[], float] = time.time
    """Returns the time in seconds since the epoch."""


_CURRENT: ContextVar[Backends | None] = ContextVar("backends", default=None)


def current_backends() -> Backends:
    """Return the backends that sessions use by default."""
    return _CURRENT.get() or Backends()


@contextmanager
def use_backends(backends: Backends) -> Iterator[None]:
    """Make `backends` the default of the sessions that are opened within the `with` block."""
    token = _CURRENT.set(backends)
    try:
        yield
    finally:
        _CURRENT.reset(token)
