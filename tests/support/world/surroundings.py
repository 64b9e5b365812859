"""The backends of sessions in memory, and real plans and runs with them.

surroundings = Surroundings(tmp_path)
surroundings.external("debian:1", "first")
outcome = surroundings.build(graph)
assert surroundings.driver.built == [...]

Only the backends are replaced (see `chainbuild.execution.backends`): `open_session`, `plan_run` and `build_run` are the real
functions, and so is everything that they call. A command uses these backends within `with use_backends(world.backends)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from chainbuild import limits
from chainbuild.context.remote import RemoteContent
from chainbuild.events import Emit, Event, ImageResult, Message, RunFinished, StepReused, StepSkipped
from chainbuild.execution.backends import Backends
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.pipeline import build_run
from chainbuild.execution.run_plan import PlannedRun, plan_run
from chainbuild.execution.session import Session, Settings, open_session
from chainbuild.limits import Pace
from chainbuild.model import Graph
from chainbuild.native.roots import Root
from chainbuild.records.index import SeenRecords
from chainbuild.records.store import RecordStore
from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.registry.http.auth import Credentials
from chainbuild.registry.http.transport import Transport
from chainbuild.registry.images import resolve
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from chainbuild.trust.keyring import SIGNING_KEY, TRUSTED_KEYS, KeyRing
from chainbuild.trust.keys import PublicKey
from chainbuild.values import replace
from tests.support.fake_registry import FakeHost, FakeRegistry
from tests.support.keys import signing_key
from tests.support.world.builder import FakeDriver
from tests.support.world.store import FakeStore
from tests.support.world.trees import AMD64, ARM64, CHAIN

E = TypeVar("E", bound=Event)
Around = Callable[[Session], None]


class FakeService:
    """The service of the chain registry, which always runs. `leases` counts the sessions that keep it running."""

    data = Path("/nowhere")
    is_own = False

    def __init__(self) -> None:
        self.leases = 0

    @contextmanager
    def lease(self, emit: Emit) -> Iterator[str]:
        self.leases += 1
        try:
            yield CHAIN
        finally:
            self.leases -= 1

    def credentials(self, host: str) -> Credentials | None:
        return None


class Surroundings:
    """Registries in memory, a builder, a local image store and a clock, and the events of the runs among them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fake = FakeRegistry()
        self.fake.host(CHAIN)
        self.transport: Callable[[str], Transport] = self.fake.transport
        self.registries = Registries(transport=self.fake.transport, credentials=lambda host: None, pace=_no_waits())
        """For looking: every session has its own connections."""
        self.driver = FakeDriver(self.registries, self.fake)
        self.store = FakeStore()
        self.service = FakeService()
        self.events: list[Event] = []
        self.now = 1_000_000.0
        self.remotes = RemoteContent(run_git=lambda *_: (1, "", "unit tests ask nobody"))
        self.seen = SeenRecords(None)
        """What the user's machine remembers of records: nothing, unless it gets a file."""
        self.key_variables: dict[str, str] = {}
        """The environment variables with the user's keys, and CI."""
        self.sign_as(1)
        self.checked: list[frozenset[Platform]] = []
        """The platforms that each run checked builders for."""
        self.driver_settings: list[tuple[dict[str, str], bool]] = []
        """`--builder` and `--no-cache` of every session."""
        self.notes: dict[str, str] = {}
        """The notes about the tree in its records."""
        self.handed_over: list[str] = []
        """The names of local images that were copied into the chain registry."""
        self.root_of_images = Root()
        """The distribution of all images; unknown, so that no native tools are made."""
        self.indices: Transport | None = None
        """Where package lists are fetched from, if a test has any."""
        self._stack = ExitStack()

    # The outside ------------------------------------------------------------------------------------------------------

    @property
    def host(self) -> FakeHost:
        """The chain registry."""
        return self.fake.host(CHAIN)

    @property
    def records(self) -> RecordStore:
        """The records of the chain registry as the user sees them."""
        return RecordStore(
            self.registries, KeyRing(shared=True, environ=self.key_variables), ChainRegistry(CHAIN), self.seen
        )

    def sign_as(self, number: int, *, trusts: tuple[PublicKey, ...] = ()) -> None:
        """Make the user one who signs with the key of that number (see `keys.signing_key`), and trusts others besides."""
        keys = " ".join(map(str, trusts))
        self.key_variables = {SIGNING_KEY: signing_key(number).secret_text, TRUSTED_KEYS: keys}

    def drop_indexes(self) -> None:
        """Delete the indexes of records, so that every record is read itself."""
        self.host.tags = {
            place: digest for place, digest in self.host.tags.items() if not place[1].startswith("k1-index-")
        }

    def external(self, name: str, content: str, **config: Any) -> None:
        """Set the content of an external image: `tool:1`, on Docker Hub unless the name has a host."""
        repository, _, tag = name.rpartition(":")
        hosted = "." in repository.partition("/")[0]
        repository = repository if hosted else f"docker.io/library/{repository}"
        images = [
            self.fake.add_image(f"{repository}:{platform.name}", platform, layers=[content.encode()], **config)
            for platform in (AMD64, ARM64)
        ]
        self.fake.add_index(f"{repository}:{tag}", images)

    # Sessions, plans and runs -----------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        return Settings(root=self.root, registry=ChainRegistry(CHAIN))

    @property
    def backends(self) -> Backends:
        """The backends of a session now."""
        return Backends(
            transport=self.transport,
            pace=_no_waits(),
            managed=lambda: self.service,
            credentials=lambda host: None,
            driver=self._driver,
            check_builders=lambda driver, platforms: self.checked.append(frozenset(platforms)),
            hand_over=self._hand_over,
            read_root=lambda registries, image: self.root_of_images,
            local=self.store,
            remotes=self.remotes.fresh(),
            indices=self._indices,
            tree_notes=lambda root: self.notes,
            seen=lambda chain: self.seen,
            environ=self.key_variables,
            build_platform=lambda: AMD64,
            clock=lambda: self.now,
        )

    def _driver(self, builders: Mapping[str, str], no_cache: bool) -> FakeDriver:
        self.driver_settings.append((dict(builders), no_cache))
        return self.driver

    def _indices(self) -> Transport:
        assert self.indices is not None, "unit tests ask no package repository"
        return self.indices

    def _hand_over(self, name: str, platform: Platform, destination: str) -> None:
        """Copy a local image to the chain registry, as the engine's builder does."""
        self.handed_over.append(name)
        self.fake.add_image(destination, platform, layers=[f"{name} of the engine".encode()])

    @contextmanager
    def session(
        self, settings: Settings | None = None, *, on_event: Callable[[Event], None] = lambda _: None
    ) -> Iterator[Session]:
        """Open a real session whose events are added to `events`. `on_event` is called with each."""

        def emit(event: Event) -> None:
            self.events.append(event)
            on_event(event)

        with open_session(settings or self.settings, emit, backends=self.backends) as session:
            yield session

    def opened(self) -> Session:
        """Return a real session that stays open as long as these surroundings."""
        return self._stack.enter_context(self.session())

    def planned(self, graph: Graph, options: ExecutionOptions | None = None) -> PlannedRun:
        """Return what `plan_run` returns."""
        with self.session() as session:
            return plan_run(graph, session, options or ExecutionOptions())

    def build(
        self,
        graph: Graph,
        options: ExecutionOptions | None = None,
        *,
        settings: Settings | None = None,
        before: Around = lambda _: None,
        after: Callable[[Session, RunOutcome], None] = lambda _session, _outcome: None,
        on_event: Callable[[Event], None] = lambda _: None,
        log_path: Callable[[StepId], Path | None] = lambda _: None,
    ) -> RunOutcome:
        """Return what `build_run` returns. `before` and `after` are called around it, as `cli.runner.run_build` does."""
        with self.session(settings, on_event=on_event) as session:
            before(session)
            outcome = build_run(graph, session, options or ExecutionOptions(), log_path=log_path)
            after(session, outcome)
        return outcome

    def begin_again(self) -> None:
        """Forget what happened; the registries keep their content."""
        self.driver.clear()
        self.events.clear()
        self.fake.log.clear()

    # What happened ----------------------------------------------------------------------------------------------------

    def emitted(self, kind: type[E]) -> list[E]:
        """Return the events of a type, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def messages(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message)]

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message) and event.level == "warning"]

    @property
    def reused(self) -> list[StepId]:
        return [event.step for event in self.events if isinstance(event, StepReused)]

    @property
    def skipped(self) -> dict[StepId, str]:
        return {event.step: event.reason for event in self.events if isinstance(event, StepSkipped)}

    @property
    def reported(self) -> tuple[ImageResult, ...]:
        """The results that the last run reported."""
        return [event for event in self.events if isinstance(event, RunFinished)][-1].results

    def resolved(self, name: str, platform: Platform = AMD64) -> Any:
        """Return an image of the chain registry."""
        return resolve(self.registries, ImageReference.parse(f"{CHAIN}/{name}"), platform)


def _no_waits() -> Pace:
    """Return the usual pace, with as many tries and no time between them."""
    return replace(limits.PACE, waits=(0.0,) * len(limits.PACE.waits))


def without_platform(steps: Iterable[StepId]) -> list[str]:
    """Return the ids of steps without their platforms."""
    return [step.in_option for step in steps]
