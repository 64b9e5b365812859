"""The managed registry's decisions, with containers and the port played by a fake; real ones are in tests/engine."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chainbuild.errors import BusyError, NotReadyError
from chainbuild.events import Event, Message
from chainbuild.local_registry import arrival, compose, containers, linger, ports
from chainbuild.local_registry import login as logins
from chainbuild.local_registry import ports as knock
from chainbuild.local_registry import ports as neighbours
from chainbuild.local_registry import service as managed
from chainbuild.local_registry.containers import Container
from chainbuild.local_registry.leases import Leases
from chainbuild.local_registry.ports import Reply
from chainbuild.local_registry.service import ManagedRegistry
from chainbuild.registry.http.answers import is_registry
from chainbuild.values import replace

_sleep = time.sleep
BOB = "bob (uid 1002)"
BOBS_REALM = 'Basic realm="chainbuild registry of bob (uid 1002), login 0123456789abcdef"'
LONG_AGO = "2026-11-26 10:26:13 +0000 UTC"
BOBS = Container(
    created=LONG_AGO,
    id="b1",
    name="reg-1",
    ours=True,
    owner=BOB,
    data="/home/bob/data",
    started_by="run",
    command="chainbuild build",
)


@dataclass
class World:
    """One port of a machine: what answers, which container that is, and who is connected to it."""

    answer: knock.Answer = "nothing"
    challenge: str | None = None
    container: Container | None = None
    connections: int | None = 0
    listeners: frozenset[int] = frozenset()
    started: int = 0
    calls: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    fails: str = ""
    image: bool = True
    clocks: list[tuple[str, str]] = field(default_factory=list)
    """The container and the seconds of each clock that was started."""
    exec_fails: str = ""
    waits: int = 0
    on_wait: Callable[[], None] = lambda: None

    def own(self, started_by: str = "run", data: Path = Path("/data")) -> None:
        """A registry of this user's appears."""
        self.started += 1
        self.answer = "registry"
        self.challenge = f'Basic realm="{logins.ensure_login().realm}"'
        self.container = Container(
            id=f"c{self.started}", name="reg-1", ours=True, owner=logins.owner(), data=str(data), started_by=started_by
        )

    def bobs(self, **changes: object) -> None:
        """A registry of another user appears."""
        self.answer, self.challenge = "registry", BOBS_REALM
        self.container = replace(BOBS, **changes)  # type: ignore[arg-type]

    def up(self, started_by: str, data: Path) -> None:
        self.calls.append(f"up {started_by}")
        if not self.image:
            raise compose.ImageMissingError
        if self.fails:
            raise NotReadyError(self.fails)
        self.own(started_by, data)

    def remove(self, container: str) -> None:
        self.calls.append(f"remove {container}")
        if self.container is not None and self.container.id == container:
            self.answer, self.challenge, self.container = "nothing", None, None

    def rename(self, container: str, name: str) -> bool:
        self.calls.append(f"rename {container} {name}")
        if self.container is None or self.container.id != container:
            return False
        self.container = replace(self.container, name=name)
        return True

    def emit(self, event: Event) -> None:
        assert isinstance(event, Message)
        self.told.append(event.text)

    def run_docker(self, argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert argv[:3] == ["docker", "exec", "--detach"]
        self.clocks.append((argv[3], argv[-3]))
        return subprocess.CompletedProcess(argv, bool(self.exec_fails), "", self.exec_fails)

    def get_image(self, emit: object) -> None:
        self.calls.append("image")
        self.image = True

    def sleep(self, seconds: float) -> None:
        self.waits += 1
        assert self.waits < 1000, "waits without a limit"
        _sleep(seconds / 100)
        self.on_wait()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    there = World()
    for name in ("DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setattr(knock, "knock", lambda *_: Reply(answer=there.answer, challenge=there.challenge))
    monkeypatch.setattr(time, "sleep", there.sleep)
    monkeypatch.setattr(managed, "ensure_image", there.get_image)
    monkeypatch.setattr(ports, "listening_users", lambda port: there.listeners)
    monkeypatch.setattr(ports, "holder_of", lambda port: "nginx (pid 7)")
    monkeypatch.setattr(containers, "container_on", lambda port: there.container)
    monkeypatch.setattr(containers, "connections", lambda container: there.connections)
    monkeypatch.setattr(containers, "name_of", lambda container: there.container.name if there.container else "")
    monkeypatch.setattr(containers, "rename", there.rename)
    monkeypatch.setattr(containers, "remove", there.remove)
    monkeypatch.setattr(linger, "run_docker", there.run_docker)
    monkeypatch.setattr(compose.Compose, "up", lambda self, by, owner, command, emit: there.up(by, self._data))
    monkeypatch.setattr(compose.Compose, "down", lambda self, container: there.remove(container))
    monkeypatch.setattr(compose.Compose, "clear", lambda self, owner: there.calls.append("clear"))
    return there


@pytest.fixture
def registry(tmp_path: Path) -> ManagedRegistry:
    return ManagedRegistry(5000, tmp_path / "registry", leases_folder=tmp_path / "leases", docker_login=False)


def kill(tmp_path: Path) -> None:
    """Leave what kill -9 leaves: the mark and the file of a lease, without its lock."""
    for path in (tmp_path / "leases" / "5000").glob("lease-*"):
        path.unlink()
        path.write_text("{}", encoding="utf-8")


# ---- who starts it, who stops it ----------------------------------------------------------------------------------------


def test_run_starts_registry_and_stops_it(world: World, registry: ManagedRegistry, tmp_path: Path) -> None:
    with registry.lease(world.emit) as endpoint:
        assert endpoint == "localhost:5000"
        assert (tmp_path / "registry").stat().st_mode & 0o777 == 0o700
        status = registry.status()
        assert (status.kind, len(status.holders), status.login) == ("run", 1, True)
    assert world.calls == ["up run", "remove c1"]
    assert registry.status().kind == "none"


def test_last_of_two_runs_stops_registry(world: World, registry: ManagedRegistry) -> None:
    with registry.lease(world.emit):
        with registry.lease(world.emit):
            pass
        assert world.calls == ["up run"]
    assert world.calls == ["up run", "remove c1"]


def test_last_run_stops_registry_that_another_run_started(world: World, registry: ManagedRegistry) -> None:
    first, second = registry.lease(world.emit), registry.lease(world.emit)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert world.calls == ["up run"]
    second.__exit__(None, None, None)
    assert world.calls == ["up run", "remove c1"]


def test_interrupted_run_stops_registry(world: World, registry: ManagedRegistry) -> None:
    with pytest.raises(KeyboardInterrupt), registry.lease(world.emit):
        raise KeyboardInterrupt
    assert world.calls == ["up run", "remove c1"]


def test_registry_of_a_person_stays_up(world: World, registry: ManagedRegistry) -> None:
    registry.up(world.emit)
    assert registry.status().kind == "person"
    with registry.lease(world.emit):
        pass
    assert world.calls == ["up person"]
    assert registry.down(world.emit)
    assert not registry.down(world.emit)


def test_up_during_a_run_keeps_registry_and_says_so_to_others(world: World, registry: ManagedRegistry) -> None:
    with registry.lease(world.emit):
        registry.up(world.emit)
    assert world.calls == ["up run", "rename c1 reg-1-kept"]
    assert world.container is not None
    assert world.container.kept


def test_registry_of_killed_run_is_adopted(world: World, registry: ManagedRegistry, tmp_path: Path) -> None:
    killed = registry.lease(world.emit)
    killed.__enter__()
    kill(tmp_path)
    with registry.lease(world.emit):
        assert world.calls == ["up run"]
    assert world.calls == ["up run", "remove c1"]
    assert not list((tmp_path / "leases" / "5000").glob("lease-*"))


def test_run_never_stops_a_later_container(world: World, registry: ManagedRegistry) -> None:
    with registry.lease(world.emit):
        world.container = Container(id="later", name="reg-1", ours=True, owner=logins.owner(), started_by="person")
    assert world.calls == ["up run", "remove c1"]
    assert registry.status().kind == "person"


def test_registry_that_does_not_start_leaves_no_lease(world: World, registry: ManagedRegistry, tmp_path: Path) -> None:
    world.fails = "the registry does not start"
    with pytest.raises(NotReadyError, match="does not start"), registry.lease(world.emit):
        pass
    leases = Leases(5000, tmp_path / "leases")
    with leases.exclusive():
        assert (leases.holders(), leases.marked()) == ((), None)


def test_engine_that_cannot_be_used_is_reported_once(
    world: World, registry: ManagedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clear(*_: object) -> None:
        raise NotReadyError(world.fails)

    monkeypatch.setattr(compose.Compose, "clear", clear)
    world.fails = "no permission to use the Docker Engine"
    with pytest.raises(NotReadyError, match="no permission"), registry.lease(world.emit):
        pass
    assert not any("was not stopped" in text for text in world.told)


def test_missing_image_is_made_without_the_mutex(
    world: World, registry: ManagedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building the image takes minutes, for which another run would wait without knowing why."""
    world.image = False

    def get_image(emit: object) -> None:
        with Leases(5000, tmp_path / "leases").exclusive(seconds=0):
            world.get_image(emit)

    monkeypatch.setattr(managed, "ensure_image", get_image)
    with registry.lease(world.emit):
        assert world.calls == ["up run", "image", "up run"]


def test_down_while_a_run_needs_registry_is_busy(world: World, registry: ManagedRegistry) -> None:
    with registry.lease(world.emit):
        with pytest.raises(BusyError, match="pid "):
            registry.down(world.emit)
        assert registry.down(world.emit, force=True)
    assert world.calls[:2] == ["up run", "remove c1"]


def test_registry_with_other_data_is_reported(world: World, registry: ManagedRegistry, tmp_path: Path) -> None:
    other = ManagedRegistry(5000, tmp_path / "other", leases_folder=tmp_path / "leases", docker_login=False)
    registry.up(world.emit)
    with other.lease(world.emit):
        assert f"with its data in {tmp_path / 'registry'}" in world.told[-1]
    registry.down(world.emit)
    world.told.clear()
    with registry.lease(world.emit), other.lease(world.emit):
        assert f"with its data in {tmp_path / 'registry'}" in world.told[-1]
    world.told.clear()
    other.up(world.emit)
    with other.lease(world.emit):
        assert not [text for text in world.told if "its data in" in text]


def test_registry_of_killed_run_with_other_data_is_started_again(
    world: World, registry: ManagedRegistry, tmp_path: Path
) -> None:
    killed = registry.lease(world.emit)
    killed.__enter__()
    kill(tmp_path)
    other = ManagedRegistry(5000, tmp_path / "other", leases_folder=tmp_path / "leases", docker_login=False)
    with other.lease(world.emit):
        assert world.calls == ["up run", "remove c1", "up run"]
        assert other.status().data == str(tmp_path / "other")


def test_own_registry_with_an_earlier_login_is_reported_to_restart(world: World, registry: ManagedRegistry) -> None:
    """The file of the login was deleted while the registry was up."""
    registry.up(world.emit)
    logins.login_path().unlink()
    fresh = ManagedRegistry(5000, registry.data, leases_folder=registry._private, docker_login=False)
    with pytest.raises(NotReadyError, match="its login differs") as caught, fresh.lease(world.emit):
        pass
    assert "registry down" in caught.value.hint
    assert fresh.down(world.emit)


# ---- staying up for a while ---------------------------------------------------------------------------------------------


@pytest.fixture
def lingering(tmp_path: Path) -> ManagedRegistry:
    """The same registry, for runs after which it stays up for ten minutes."""
    folders = {"data_folder": tmp_path / "registry", "leases_folder": tmp_path / "leases"}
    return ManagedRegistry(5000, **folders, docker_login=False, linger=600)


def token(tmp_path: Path) -> Path:
    return tmp_path / "registry" / "chainbuild" / "linger-5000"


def test_lingering_registry_is_used_by_next_run(world: World, lingering: ManagedRegistry, tmp_path: Path) -> None:
    with lingering.lease(world.emit):
        assert lingering.status().until == 0
    assert (world.calls, world.clocks) == (["up run"], [("c1", "600")])
    status = lingering.status()
    assert (status.kind, status.holders) == ("run", ())
    assert 590 < status.until - time.time() <= 600
    first = token(tmp_path).read_text()
    with lingering.lease(world.emit):
        assert not token(tmp_path).exists(), "the clock of the first run still counts"
        assert lingering.status().until == 0
    assert (world.calls, world.clocks) == (["up run"], [("c1", "600")] * 2)
    assert token(tmp_path).read_text() != first


def test_run_without_linger_stops_lingering_registry(
    world: World, registry: ManagedRegistry, lingering: ManagedRegistry
) -> None:
    with lingering.lease(world.emit):
        pass
    with registry.lease(world.emit):
        pass
    assert world.calls == ["up run", "remove c1"]
    assert registry.status().kind == "none"


def test_down_stops_lingering_registry_at_once(world: World, lingering: ManagedRegistry, tmp_path: Path) -> None:
    with lingering.lease(world.emit):
        pass
    assert lingering.down(world.emit)
    assert world.calls == ["up run", "remove c1"]
    assert not token(tmp_path).exists()
    with Leases(5000, tmp_path / "leases").exclusive():
        assert Leases(5000, tmp_path / "leases").marked() is None


def test_registry_in_its_last_seconds_is_replaced(
    world: World, lingering: ManagedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lingering.lease(world.emit):
        pass
    monkeypatch.setattr(linger, "LAST_SECONDS", 601)
    with lingering.lease(world.emit):
        assert world.calls == ["up run", "remove c1", "up run"]


def test_registry_that_stopped_by_itself_is_started_again(world: World, lingering: ManagedRegistry) -> None:
    with lingering.lease(world.emit):
        pass
    world.answer, world.challenge, world.container = "nothing", None, None
    assert lingering.status().kind == "none"
    with lingering.lease(world.emit):
        assert world.calls == ["up run", "up run"]
        assert lingering.status().until == 0


def test_run_killed_before_its_clock_starts_is_dealt_with(
    world: World, registry: ManagedRegistry, lingering: ManagedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark says that the registry stops by itself, but nothing stops it."""

    class KilledError(BaseException):
        pass

    now = time.time()

    def kill_run(*_: object, **__: object) -> None:
        raise KilledError

    monkeypatch.setattr(linger, "run_docker", kill_run)
    with pytest.raises(KilledError), lingering.lease(world.emit):
        pass
    assert lingering.status().until > 0
    monkeypatch.setattr(time, "time", lambda: now + 601)
    assert lingering.status().until == 0, "it should have stopped by now"
    with registry.lease(world.emit):
        assert world.calls == ["up run", "remove c1", "up run"]
    assert world.calls[3:] == ["remove c2"]


def test_registry_whose_clock_does_not_start_stops_at_once(
    world: World, lingering: ManagedRegistry, tmp_path: Path
) -> None:
    world.exec_fails = "no such command"
    with lingering.lease(world.emit):
        pass
    assert world.calls == ["up run", "remove c1"]
    assert any("stops now: the registry cannot stay up for a while: no such command" in text for text in world.told)
    assert not token(tmp_path).exists()


def test_up_keeps_lingering_registry(world: World, lingering: ManagedRegistry, tmp_path: Path) -> None:
    with lingering.lease(world.emit):
        pass
    lingering.up(world.emit)
    assert not token(tmp_path).exists()
    status = lingering.status()
    assert (status.kind, status.until) == ("person", 0)


def test_lingering_registry_gives_way_to_other_data(world: World, lingering: ManagedRegistry, tmp_path: Path) -> None:
    with lingering.lease(world.emit):
        pass
    other = ManagedRegistry(5000, tmp_path / "other", leases_folder=tmp_path / "leases", docker_login=False)
    with other.lease(world.emit):
        assert world.calls == ["up run", "remove c1", "up run"]
        assert not token(tmp_path).exists()


def test_registry_of_own_compose_file_does_not_linger(world: World, tmp_path: Path) -> None:
    compose_file = tmp_path / "compose.yml"
    compose_file.touch()
    folders = {"data_folder": tmp_path / "registry", "leases_folder": tmp_path / "leases", "compose_file": compose_file}
    own = ManagedRegistry(5000, **folders, docker_login=False, linger=600)
    with own.lease(world.emit):
        pass
    assert (world.calls, world.clocks) == (["up run", "remove c1"], [])
    assert any("has no effect" in text for text in world.told)


def test_sweep_stops_lingering_registry_of_another_port(
    world: World, lingering: ManagedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart, by which a registry frees its blobs, also ends its clock."""
    monkeypatch.setattr(containers, "collect_blobs", lambda container: world.calls.append(f"collect {container}"))
    monkeypatch.setattr(containers, "containers_with", lambda data: ())
    with lingering.lease(world.emit):
        pass
    world.answer, world.challenge, world.container = "nothing", None, None
    second = ManagedRegistry(5001, tmp_path / "registry", leases_folder=tmp_path / "leases", docker_login=False)
    with second.lease(world.emit):
        second.sweep(world.emit, lambda: None)
        assert world.calls == ["up run", "up run", "remove c1", "collect c2"]


# ---- the login ----------------------------------------------------------------------------------------------------------


def test_started_registry_gets_the_users_login(world: World, registry: ManagedRegistry, tmp_path: Path) -> None:
    with registry.lease(world.emit) as endpoint:
        login = logins.ensure_login()
        assert (tmp_path / "registry/chainbuild/htpasswd").read_text() == f"chainbuild:{login.hashed}\n"
        assert registry.credentials(endpoint) == login.credentials
    for text in (*world.told, *world.calls):
        assert login.password not in text


@pytest.mark.parametrize("challenge", [None, 'Basic realm="Registry"', 'Bearer realm="https://x/token"'])
def test_foreign_registry_never_gets_the_login(
    world: World, registry: ManagedRegistry, monkeypatch: pytest.MonkeyPatch, challenge: str | None
) -> None:
    monkeypatch.setattr(managed, "from_docker_config", lambda host: None)
    world.answer, world.challenge = "registry", challenge
    with registry.lease(world.emit) as endpoint:
        assert registry.credentials(endpoint) is None
        assert registry.status().kind == "foreign"
    assert world.calls == []
    world.container = Container(id="x", name="their-registry", ours=False)
    with pytest.raises(NotReadyError, match="not started by you"):
        registry.down(world.emit, force=True)
    assert world.calls == []


def test_impostor_of_another_user_gets_nothing(
    world: World, registry: ManagedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the registry is down, any local user can listen on the port and repeat the realm that they once saw."""
    world.own()
    world.listeners = frozenset({0, 65_000})
    asked: list[str] = []
    monkeypatch.setattr(knock, "knock", asked.append)
    with pytest.raises(NotReadyError, match="a program of user uid 65000"), registry.lease(world.emit):
        pass
    assert asked == []
    assert registry.status().kind == "blocked"


def test_started_registry_without_login_is_refused(
    world: World, registry: ManagedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine sees another folder under that path, and a registry that is open to everybody would serve it."""

    def up(started_by: str, data: Path) -> None:
        world.own(started_by, data)
        world.challenge = None

    monkeypatch.setattr(world, "up", up)
    with pytest.raises(NotReadyError, match="without a login") as caught, registry.lease(world.emit):
        pass
    assert "CHAINBUILD_REGISTRY_DATA" in caught.value.hint


def test_own_registry_of_another_engine_is_used(
    world: World, registry: ManagedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's context was changed since the run that was killed: its container cannot be seen, but it answers."""
    killed = registry.lease(world.emit)
    killed.__enter__()
    kill(tmp_path)
    monkeypatch.setattr(containers, "container_on", lambda port: None)
    with registry.lease(world.emit):
        assert world.calls == ["up run"]


def test_registry_without_login_is_used_and_told(world: World, registry: ManagedRegistry) -> None:
    world.answer = "registry"
    world.container = Container(id="x", name="by-hand", ours=True, data=str(registry.data), started_by="hand")
    with registry.lease(world.emit):
        pass
    assert "has no login" in world.told[0]
    assert registry.down(world.emit)


def test_registry_of_earlier_version_is_reported_as_open_to_builds(world: World, registry: ManagedRegistry) -> None:
    world.answer = "registry"
    world.container = Container(id="x", name="old", ours=True)
    with registry.lease(world.emit):
        pass
    assert "every build can write to it" in world.told[0]


def test_docker_gets_the_login_while_a_lease_is_held(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def docker_login(endpoint: str, password: str) -> str:
        calls.append(endpoint)
        return ""

    monkeypatch.setattr("chainbuild.local_registry.login.run_docker_login", docker_login)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    registry = ManagedRegistry(5000, tmp_path / "registry", leases_folder=tmp_path / "leases")
    with registry.lease(world.emit):
        assert calls == ["localhost:5000"]
    assert any("stored the login" in text for text in world.told)
    # A registry that is not chainbuild's has logins of its own.
    world.answer, world.challenge = "registry", None
    with registry.lease(world.emit):
        assert calls == ["localhost:5000"]


# ---- other users --------------------------------------------------------------------------------------------------------


def test_other_users_registry_in_use_is_awaited_then_busy(
    world: World, registry: ManagedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.bobs()
    world.connections = 1
    monkeypatch.setattr(arrival, "NEIGHBOUR_SECONDS", 0.02)
    with pytest.raises(BusyError, match=r"port 5000 .*bob \(uid 1002\): chainbuild build") as caught:
        registry.lease(world.emit).__enter__()
    assert "--registry-port 5050" in caught.value.hint
    assert "CHAINBUILD_REGISTRY_PORT" in caught.value.hint
    assert [text for text in world.told if "bob" in text and "waiting" in text] == world.told
    assert len(world.told) == 1
    assert world.calls == []


def test_other_users_registry_that_stops_makes_room(world: World, registry: ManagedRegistry) -> None:
    world.bobs()
    world.connections = 2

    def stop() -> None:
        world.answer, world.challenge, world.container = "nothing", None, None

    world.on_wait = stop
    with registry.lease(world.emit):
        assert world.calls == ["up run"]


def test_other_users_registry_without_runs_is_taken_over(world: World, registry: ManagedRegistry) -> None:
    """Its owner's run was killed, and the owner may never come back."""
    world.bobs()
    with registry.lease(world.emit):
        assert [call.split()[0] for call in world.calls] == ["rename", "remove", "up"]
        assert world.calls[1] == "remove b1"
    assert any("bob" in text and "has ended" in text for text in world.told)


@pytest.mark.parametrize("changes", [{"started_by": "person"}, {"name": "reg-1-kept"}, {"started_by": "hand"}])
def test_other_users_registry_that_stays_up_is_busy_at_once(
    world: World, registry: ManagedRegistry, changes: dict[str, str]
) -> None:
    world.bobs(**changes)
    with pytest.raises(BusyError, match="runs until they stop it"), registry.lease(world.emit):
        pass
    assert (world.calls, world.waits) == ([], 0)


def test_other_users_registry_is_not_stopped_by_down(world: World, registry: ManagedRegistry) -> None:
    world.bobs()
    with pytest.raises(NotReadyError, match="bob"):
        registry.down(world.emit, force=True)
    status = registry.status()
    assert (status.kind, status.owner, status.holders) == ("other-user", BOB, ())
    assert world.calls == []


def test_registry_just_started_is_never_removed(world: World) -> None:
    """Its owner's run may not be connected yet; two users who start at once would take it from each other."""
    now = time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime())
    world.bobs(created=now)
    assert world.container is not None
    assert not neighbours.take_away(world.container)
    assert world.calls == []


@pytest.mark.parametrize("connections", [1, None])
def test_registry_with_connections_is_never_removed(world: World, connections: int | None) -> None:
    """None: the container does not let anybody look, so it counts as in use."""
    world.bobs()
    world.connections = connections
    assert not neighbours.take_away(BOBS)
    assert world.calls == []


def test_run_between_check_and_removal_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.bobs()

    def rename(container: str, name: str) -> bool:
        world.connections = 1
        return world.rename(container, name)

    monkeypatch.setattr(containers, "rename", rename)
    assert not neighbours.take_away(BOBS)
    assert world.container == BOBS
    assert not any(call.startswith("remove") for call in world.calls)


def test_registry_is_taken_by_the_last_of_two_users_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.bobs()
    monkeypatch.setattr(containers, "name_of", lambda container: "reg-1-taken-by-1003-7")
    assert not neighbours.take_away(BOBS)
    assert not any(call.startswith("remove") for call in world.calls)


def test_interrupt_while_taking_gives_the_name_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.bobs()

    def interrupted(container: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(containers, "name_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        neighbours.take_away(BOBS)
    assert world.container == BOBS


def test_own_registry_that_another_user_looks_at_is_waited_for(
    world: World, registry: ManagedRegistry, tmp_path: Path
) -> None:
    """A run of the owner must not start work on a registry that is just being removed."""
    killed = registry.lease(world.emit)
    killed.__enter__()
    kill(tmp_path)
    assert world.container is not None
    there = world.container
    world.container = replace(there, name="reg-1-taken-by-1002-9")

    def decide() -> None:
        world.container = there

    world.on_wait = decide
    with registry.lease(world.emit):
        assert world.waits == 1
    assert world.calls == ["up run", "remove c1"]


def test_own_registry_that_another_user_removed_is_started_again(
    world: World, registry: ManagedRegistry, tmp_path: Path
) -> None:
    killed = registry.lease(world.emit)
    killed.__enter__()
    kill(tmp_path)
    assert world.container is not None
    world.container = replace(world.container, name="reg-1-taken-by-1002-9")
    world.on_wait = lambda: world.remove("c1")
    with registry.lease(world.emit):
        assert world.calls == ["up run", "remove c1", "up run"]


def test_own_registry_of_a_dead_taker_is_started_again(
    world: World, registry: ManagedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "_TAKING_SECONDS", 0.01)
    killed = registry.lease(world.emit)
    killed.__enter__()
    kill(tmp_path)
    assert world.container is not None
    world.container = replace(world.container, name="reg-1-taken-by-1002-9")
    with registry.lease(world.emit):
        assert world.calls == ["up run", "remove c1", "up run"]


def test_quicker_start_of_another_user_is_no_failure(
    world: World, registry: ManagedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def up(*_: object) -> None:
        monkeypatch.setattr(compose.Compose, "up", lambda self, by, owner, command, emit: world.up(by, self._data))
        world.on_wait = world.bobs
        raise compose.PortTakenError("port is already allocated")

    monkeypatch.setattr(compose.Compose, "up", up)
    with registry.lease(world.emit):
        assert world.calls[-1] == "up run"


def test_port_held_by_a_program_is_reported_with_the_setting(world: World, registry: ManagedRegistry) -> None:
    world.answer = "something else"
    with pytest.raises(NotReadyError, match=r"port 5000.*nginx \(pid 7\)") as caught, registry.lease(world.emit):
        pass
    assert "--registry-port" in caught.value.hint
    assert "CHAINBUILD_REGISTRY_PORT" in caught.value.hint
    with pytest.raises(NotReadyError):
        registry.up(world.emit)
    assert registry.status().kind == "blocked"
    assert registry.status().holders == ()
    assert world.calls == []


# ---- garbage ------------------------------------------------------------------------------------------------------------


def test_sweep_while_another_port_serves_the_data_is_busy(world: World, tmp_path: Path) -> None:
    """The data is one place for all ports: what a run on another port has just pushed must not be collected."""
    one = ManagedRegistry(5000, tmp_path / "registry", leases_folder=tmp_path / "leases", docker_login=False)
    leases = Leases(5001, tmp_path / "leases")
    with leases.exclusive():
        lease = leases.take(one.data)
    with pytest.raises(BusyError, match="in use"):
        one.sweep(world.emit, lambda: pytest.fail("collected"))
    lease.release()
    with leases.exclusive():
        lease = leases.take(Path("/other/data"))
    collected: list[int] = []
    one.sweep(world.emit, lambda: collected.append(1))
    assert collected == [1]
    lease.release()


def test_sweep_restarts_every_registry_of_the_data(
    world: World, registry: ManagedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each registry remembers which blobs there were."""
    restarted: list[str] = []
    other = Container(id="other", name="reg-2", ours=True, owner=logins.owner(), data=str(registry.data))
    monkeypatch.setattr(containers, "collect_blobs", restarted.append)
    monkeypatch.setattr(containers, "restart", restarted.append)
    with registry.lease(world.emit):
        assert world.container is not None
        there = (world.container, other)
        monkeypatch.setattr(containers, "containers_with", lambda data: there)
        registry.sweep(world.emit, lambda: None)
        assert restarted == ["c1", "other"]
    # It is still the run's: the run stops it.
    assert world.calls == ["up run", "remove c1"]


# ---- what is read -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (200, {"docker-distribution-api-version": "registry/2.0"}, b"", True),
        (200, {}, b"{}", True),
        (401, {"docker-distribution-api-version": "registry/2.0"}, b"", True),
        (401, {}, b'{"errors":[]}', True),
        (200, {}, b"<html>", False),
        (200, {}, b'{"hello": 1}', False),
        (200, {}, b"[]", False),
        (404, {"docker-distribution-api-version": "registry/2.0"}, b"{}", False),
        (403, {"server": "AirTunes"}, b"", False),
        (401, {}, b"", False),
    ],
)
def test_answer_of_a_registry_is_recognised(status: int, headers: dict[str, str], body: bytes, expected: bool) -> None:
    assert is_registry(status, headers, body) == expected


def test_listeners_are_read_from_kernel_table() -> None:
    table = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1388 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 0100007F:1389 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
"""
    assert list(ports.listeners(table, 5000)) == ["4711"]
    assert list(ports.listeners("", 5000)) == []


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 4711 1 0 100 0 0 10 0
   1: 0200007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 4711 1 0 100 0 0 10 0
   2: 0100007F:1389 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1003        0 4713 1 0 100 0 0 10 0
   3: 0100007F:1388 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1004        0 4712 1 0 100 0 0 10 0
"""
TCP6 = """  sl  local_address                         remote_address                        st ... uid
   0: 00000000000000000000000001000000:1388 00000000000000000000000000000000:0000 0A 0:0 00:0 0  1005 0 1 1 0
"""


def test_listening_users_are_of_both_loopbacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Most programs try ::1 before 127.0.0.1 if they are told `localhost`."""
    (tmp_path / "tcp").write_text(TCP, encoding="ascii")
    (tmp_path / "tcp6").write_text(TCP6, encoding="ascii")
    tables = tuple((str(tmp_path / Path(name).name), addresses) for name, addresses in ports._LISTENING)
    monkeypatch.setattr(ports, "_LISTENING", tables)
    monkeypatch.setattr(ports, "_ALL_USERS", re.compile(""))
    assert ports.listening_users(5000) == {1001, 1005}
    assert ports.listening_users(5002) == frozenset()
    (tmp_path / "tcp").unlink()
    assert ports.listening_users(5000) == {1005}


def test_listening_users_in_a_user_namespace_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_ALL_USERS", re.compile("never"))
    assert ports.listening_users(5000) == frozenset()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0: 020012AC:1388 010012AC:C350 01", 1),
        ("0: 020012AC:1388 7F0012AC:C350 01", 1),
        ("0: 0000000000000000FFFF0000020012AC:1388 0000000000000000FFFF0000010012AC:C350 01", 1),
        ("0: 0000000000000000FFFF00000100007F:1388 0000000000000000FFFF00000100007F:C350 01", 0),
        ("0: 00000000000000000000000001000000:1388 00000000000000000000000001000000:C350 01", 0),
        ("0: 0100007F:1388 0100007F:C350 01", 0),
        ("0: 020012AC:1388 010012AC:C350 06", 0),
        ("0: 00000000:1388 00000000:0000 0A", 0),
        ("0: 020012AC:C350 010012AC:1388 01", 0),
        ("", 0),
    ],
)
@pytest.mark.skipif(sys.byteorder != "little", reason="the lines are those of a little-endian machine")
def test_connections_are_counted_from_outside_only(line: str, expected: int) -> None:
    assert containers.count_connections(f"  sl  local_address rem_address   st\n   {line}\n") == expected


@pytest.mark.parametrize(
    ("state", "owner", "age", "expected"),
    [
        ("exited", BOB, 1, True),
        ("dead", BOB, 1, True),
        ("created", "me", 1, True),
        # Another user's compose is just starting it.
        ("created", BOB, 1, False),
        ("created", BOB, 120, True),
        ("running", "me", 120, False),
        ("paused", BOB, 120, False),
    ],
)
def test_container_that_another_user_starts_is_not_left_over(
    state: str, owner: str, age: float, expected: bool
) -> None:
    created = time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(time.time() - age))
    container = Container(id="x", name="y", ours=True, state=state, owner=owner, created=created)
    assert container.is_left_over("me") == expected


def test_container_of_unreadable_age_is_not_left_over() -> None:
    assert not Container(id="x", name="y", ours=True, state="created", owner=BOB, created="soon").is_left_over("me")
