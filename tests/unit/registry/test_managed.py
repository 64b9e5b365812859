"""The managed registry's decisions, with the container and the port played by a fake; real ones are in tests/engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chainbuild.errors import BusyError, NotReadyError
from chainbuild.events import Event, Message
from chainbuild.registry import compose, managed, ports
from chainbuild.registry.answers import is_registry
from chainbuild.registry.leases import Leases
from chainbuild.registry.managed import ManagedRegistry


@dataclass
class World:
    """One port of a machine: what answers, and which container that is."""

    answer: managed.Answer = "nothing"
    container: compose.Container | None = None
    started: int = 0
    calls: list[str] = field(default_factory=list)
    fails: bool = False

    def up(self) -> None:
        self.calls.append("up")
        if self.fails:
            raise NotReadyError("the registry does not start")
        self.started += 1
        self.answer = "registry"
        self.container = compose.Container(instance=f"c{self.started}", name="c", ours=True, data="/data")

    def down(self) -> None:
        self.calls.append("down")
        self.answer, self.container = "nothing", None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    there = World()
    monkeypatch.setattr(managed, "ask", lambda endpoint: there.answer)
    monkeypatch.setattr(managed, "_SETTLE_SECONDS", 0)
    monkeypatch.setattr(compose, "container_on", lambda port: there.container)
    monkeypatch.setattr(compose.Compose, "up", lambda self, emit: there.up())
    monkeypatch.setattr(compose.Compose, "down", lambda self: there.down())
    monkeypatch.setattr(ports, "holder_of", lambda port: "nginx (pid 7)")
    return there


@pytest.fixture
def registry(tmp_path: Path) -> ManagedRegistry:
    return ManagedRegistry(port=5000, data_folder=tmp_path / "registry", shared_folder=tmp_path / "shared")


def quiet(event: Event) -> None:
    assert isinstance(event, Message)


def test_a_run_brings_it_up_and_takes_it_down(world: World, registry: ManagedRegistry, tmp_path: Path) -> None:
    with registry.lease(quiet) as endpoint:
        assert endpoint == "localhost:5000"
        assert (tmp_path / "registry").is_dir()
        assert registry.status().kind == "run"
        assert len(registry.status().holders) == 1
    assert world.calls == ["up", "down"]
    assert registry.status().kind == "none"


def test_the_last_of_two_runs_takes_it_down(world: World, registry: ManagedRegistry) -> None:
    with registry.lease(quiet):
        with registry.lease(quiet):
            pass
        assert world.calls == ["up"]
    assert world.calls == ["up", "down"]


def test_whoever_is_last_takes_it_down_also_when_another_brought_it_up(world: World, registry: ManagedRegistry) -> None:
    first, second = registry.lease(quiet), registry.lease(quiet)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert world.calls == ["up"]
    second.__exit__(None, None, None)
    assert world.calls == ["up", "down"]


def test_a_failing_run_takes_it_down_too(world: World, registry: ManagedRegistry) -> None:
    with pytest.raises(KeyboardInterrupt), registry.lease(quiet):
        raise KeyboardInterrupt
    assert world.calls == ["up", "down"]


def test_a_person_s_registry_stays_up(world: World, registry: ManagedRegistry) -> None:
    registry.up(quiet)
    assert registry.status().kind == "person"
    with registry.lease(quiet):
        pass
    assert world.calls == ["up"]
    assert registry.down(quiet)
    assert not registry.down(quiet)


def test_up_makes_a_run_s_registry_the_person_s(world: World, registry: ManagedRegistry) -> None:
    with registry.lease(quiet):
        registry.up(quiet)
    assert world.calls == ["up"]


def test_the_registry_of_a_killed_run_is_adopted(world: World, registry: ManagedRegistry, tmp_path: Path) -> None:
    killed = registry.lease(quiet)
    killed.__enter__()
    # What kill -9 leaves: the mark and the file of a lease, without its lock.
    for path in (tmp_path / "shared" / "5000").glob("lease-*"):
        path.unlink()
        path.write_text("{}", encoding="utf-8")
    with registry.lease(quiet):
        assert world.calls == ["up"]
    assert world.calls == ["up", "down"]
    assert not list((tmp_path / "shared" / "5000").glob("lease-*"))


def test_one_that_a_person_restarted_meanwhile_is_the_person_s(world: World, registry: ManagedRegistry) -> None:
    with registry.lease(quiet):
        world.container = compose.Container(instance="by hand", name="c", ours=True, data="/data")
    assert world.calls == ["up"]
    assert registry.status().kind == "person"


def test_a_foreign_registry_is_used_and_never_stopped(world: World, registry: ManagedRegistry) -> None:
    world.answer = "registry"
    world.container = compose.Container(instance="x", name="their-registry", ours=False, data="")
    with registry.lease(quiet) as endpoint:
        assert endpoint == "localhost:5000"
        assert registry.status().kind == "foreign"
    with pytest.raises(NotReadyError, match="not chainbuild's"):
        registry.down(quiet, force=True)
    assert world.calls == []


def test_a_port_that_something_else_holds_is_told_with_the_setting(world: World, registry: ManagedRegistry) -> None:
    world.answer = "something else"
    with pytest.raises(NotReadyError, match=r"port 5000.*nginx \(pid 7\)") as told, registry.lease(quiet):
        pass
    assert "--registry-port" in told.value.hint
    assert "CHAINBUILD_REGISTRY_PORT" in told.value.hint
    with pytest.raises(NotReadyError):
        registry.up(quiet)
    assert registry.status().kind == "blocked"
    assert registry.status().holders == ()
    assert world.calls == []


def test_down_refuses_while_a_run_needs_it(world: World, registry: ManagedRegistry) -> None:
    with registry.lease(quiet):
        with pytest.raises(BusyError, match="pid "):
            registry.down(quiet)
        assert registry.down(quiet, force=True)
    assert world.calls == ["up", "down"]


def test_a_registry_that_does_not_start_leaves_no_lease(
    world: World, registry: ManagedRegistry, tmp_path: Path
) -> None:
    world.fails = True
    with pytest.raises(NotReadyError, match="does not start"), registry.lease(quiet):
        pass
    leases = Leases(5000, tmp_path / "shared")
    with leases.exclusive():
        assert (leases.holders(), leases.marked()) == ((), None)


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
def test_what_a_registry_answers(status: int, headers: dict[str, str], body: bytes, expected: bool) -> None:
    assert is_registry(status, headers, body) == expected


def test_listeners_are_read_from_the_kernel_s_table() -> None:
    table = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1388 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 0100007F:1389 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
"""
    assert list(ports.listeners(table, 5000)) == ["4711"]
    assert list(ports.listeners("", 5000)) == []
