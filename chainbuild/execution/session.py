"""The services of a run: the chain registry (with a lease if managed), registry clients, records and build driver.

This module connects the parts, which do not import each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from chainbuild.errors import ChainbuildError, WrongUseError
from chainbuild.events import Emit, Message
from chainbuild.execution.backends import Backends, ChainService, SessionDriver, current_backends
from chainbuild.host.package_data import shipped
from chainbuild.images.local_store import LocalStore
from chainbuild.images.resolver import ImageResolver
from chainbuild.local_registry import DEFAULT_PORT
from chainbuild.records.store import RecordStore
from chainbuild.references import ChainRegistry, Platform
from chainbuild.registry.http.auth import from_docker_config
from chainbuild.registry.pool import Registries
from chainbuild.text import parse_duration
from chainbuild.trust.keyring import KeyRing
from chainbuild.trust.keys import PublicKey
from chainbuild.values import replace

if TYPE_CHECKING:
    # A run with a registry of its own does not manage one.
    from chainbuild.local_registry.service import ManagedRegistry

COMPOSE_FILE: Final = "docker-compose-registry.yml"
DATA_VARIABLE: Final = "CHAINBUILD_REGISTRY_DATA"
COMPOSE_VARIABLE: Final = "CHAINBUILD_REGISTRY_COMPOSE"
LINGER_VARIABLE: Final = "CHAINBUILD_REGISTRY_LINGER"
"""The flags --registry-data, --registry-compose and --registry-linger set these variables for the rest of the process."""
_LARGEST_COMPOSE_FILE: Final = 1 << 20


class Settings(Struct, frozen=True, kw_only=True):
    """Settings of a run, apart from what it builds."""

    root: Path
    registry: ChainRegistry | None = None
    """The chain registry; None for the managed one."""
    port: int = DEFAULT_PORT
    builders: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    trusted_keys: Mapping[str, PublicKey] = field(default_factory=dict)
    """The keys of the project file; they are trusted for registries other than the managed one."""

    @property
    def chain(self) -> ChainRegistry:
        """Return the chain registry's address."""
        return self.registry or ChainRegistry(f"localhost:{self.port}")


def managed_registry(settings: Settings) -> ManagedRegistry:
    """Return the user's managed registry, with the data folder and the compose file that the settings name.

    A tree's compose file is used only if the user names it, because running it grants root's rights.

    Errors: `WrongUseError` if a named file or folder is missing or not allowed, or a duration is none.
    """
    from chainbuild.local_registry.service import ManagedRegistry

    named = os.environ.get(COMPOSE_VARIABLE)
    compose_file = Path(named).absolute() if named else None
    if compose_file and not compose_file.is_file():
        raise WrongUseError(
            f"--registry-compose: no such file: {named}", hint="Name an existing compose file, or omit the flag."
        )
    data = registry_data(settings.root)
    return ManagedRegistry(settings.port, data, compose_file=compose_file, linger=_linger())


def _linger() -> float:
    """Return how many seconds the managed registry stays up after a run. Errors: `WrongUseError`."""
    text = os.environ.get(LINGER_VARIABLE, "").strip()
    if text in {"", "0"}:
        return 0.0
    try:
        return parse_duration(text)
    except WrongUseError as error:
        where = f"--registry-linger ({LINGER_VARIABLE})"
        problems = [replace(problem, message=f"{where}: {problem.message}") for problem in error.problems]
        raise WrongUseError(problems) from error


def registry_data(root: Path) -> Path:
    """Return the data folder of the managed registry: the user's choice, else the tree's, else the default."""
    chosen = os.environ.get(DATA_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    from chainbuild.local_registry.service import default_data_folder
    from chainbuild.project.registry_data import registry_data_of_tree

    return registry_data_of_tree(root) or default_data_folder()


def differing_compose_file(root: Path) -> Path | None:
    """Return the tree's compose file for the registry if it differs from the shipped one and is not used."""
    own = root / COMPOSE_FILE
    try:
        if os.environ.get(COMPOSE_VARIABLE) or not own.is_file() or own.stat().st_size > _LARGEST_COMPOSE_FILE:
            return None
        return own if own.read_bytes() != shipped(COMPOSE_FILE).read_bytes() else None
    except OSError:
        return None


def keyring_of(settings: Settings, environ: Mapping[str, str] | None = None) -> KeyRing:
    """Return the trusted keys for the registry of the settings. `environ` defaults to the process's environment."""
    return KeyRing(shared=settings.registry is not None, project=settings.trusted_keys, environ=environ)


class Session(Struct, frozen=True, kw_only=True):
    """The services of a command while the chain registry is running."""

    settings: Settings
    registries: Registries
    records: RecordStore
    local: LocalStore
    emit: Emit
    driver: SessionDriver
    backends: Backends = field(default_factory=current_backends)

    @property
    def chain(self) -> ChainRegistry:
        """Return the chain registry's address."""
        return self.settings.chain

    def warn(self, text: str) -> None:
        """Emit a warning."""
        self.emit(Message(level="warning", text=text))

    def builder_platform(self, platform: Platform) -> Platform:
        """Return the platform of the machine on which the builder builds for a platform: the value of `BUILDPLATFORM`.

        If the builder does not answer, which is reported where it is used, it is this machine's.
        """
        here = self.backends.build_platform()
        try:
            return self.driver.inspect(platform).machine_for(platform, here)
        except (ChainbuildError, OSError):
            return here

    def finder(self, *, copying: bool = True) -> ImageResolver:
        """Return a resolver for images that the run does not build.

        `copying`: copy images that only the local image store has to the chain registry.
        """
        hand_over = self.backends.hand_over if copying else None
        return ImageResolver(self.records, self.local, self.emit, hand_over=hand_over)


@contextmanager
def open_session(
    settings: Settings, emit: Emit, *, building: bool = False, backends: Backends | None = None
) -> Iterator[Session]:
    """Keep the chain registry running for the duration of the `with` block.

    If `building`, import the registry data that earlier versions kept in the tree. `backends` defaults to
    `current_backends()`.

    Errors: `NotReadyError` if the managed registry cannot start; `BusyError` if another user's run has its port.
    """
    backends = backends or current_backends()
    managed: ChainService | None = None
    if settings.registry is None:
        managed = backends.managed() if backends.managed else managed_registry(settings)
    if managed is not None and building:
        _prepare_for_building(settings.root, emit)
    lease = managed.lease(emit) if managed is not None else nullcontext()
    credentials = backends.credentials or (managed.credentials if managed is not None else from_docker_config)

    def notice(text: str) -> None:
        emit(Message(level="warning", text=text))

    with (
        lease,
        Registries(
            transport=backends.transport, credentials=credentials, pace=backends.pace, notice=notice
        ) as registries,
    ):
        if managed is not None and building:
            _take_over(settings.root, managed, emit)
        keyring = keyring_of(settings, backends.environ)
        yield Session(
            settings=settings,
            registries=registries,
            records=RecordStore(registries, keyring, settings.chain, backends.seen(settings.chain)),
            local=backends.local,
            emit=emit,
            driver=backends.driver(settings.builders, settings.no_cache),
            backends=backends,
        )


def _take_over(root: Path, managed: ChainService, emit: Emit) -> None:
    # Check first: most trees have no such folder, and the import below is slow.
    if managed.is_own and (root / "registry" / "docker").is_dir():
        from chainbuild.local_registry.tree_data import take_over

        take_over(root, managed.data, emit, shown="registry/ of this tree")


def _prepare_for_building(root: Path, emit: Emit) -> None:
    if ignored := differing_compose_file(root):
        text = f"{ignored.name} of this tree is ignored (use it with --registry-compose {ignored.name})"
        emit(Message(text=text))


def environment() -> Mapping[str, str]:
    """Return the environment, for bare keys of args files and `--secret env=`."""
    return dict(os.environ)
