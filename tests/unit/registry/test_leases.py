"""Leases within one process: a lock of another descriptor counts like one of another process (flock(2))."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chainbuild.errors import NotReadyError
from chainbuild.registry.leases import Leases, Mark, shown_command


def test_a_lease_is_held_until_it_is_given_back(tmp_path: Path) -> None:
    leases = Leases(5000, tmp_path / "shared")
    with leases.exclusive():
        one, other = leases.take(), leases.take()
        assert [holder.pid for holder in leases.holders()] == [os.getpid()] * 2
        one.release()
        one.release()
        assert len(leases.holders()) == 1
        other.release()
        assert leases.holders() == ()


def test_a_lease_of_the_dead_is_void_and_swept(tmp_path: Path) -> None:
    leases = Leases(5000, tmp_path)
    with leases.exclusive():
        left = tmp_path / "5000" / "lease-1-1"
        left.write_text('{"pid": 1, "command": "x", "started": 0}', encoding="utf-8")
        assert leases.holders() == ()
        assert not left.exists()


def test_ports_do_not_share_leases(tmp_path: Path) -> None:
    one, other = Leases(5000, tmp_path), Leases(5001, tmp_path)
    with one.exclusive(), other.exclusive():
        lease = one.take()
        assert other.holders() == ()
        lease.release()


def test_the_mutex_lets_one_in_at_a_time(tmp_path: Path) -> None:
    import threading

    entered: list[int] = []
    waited: list[None] = []

    def enter(number: int) -> None:
        with Leases(5000, tmp_path).exclusive(lambda: waited.append(None)):
            entered.append(number)
            assert len(entered) == 1
            entered.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered == []


def test_a_mark_is_kept_until_it_is_taken_away(tmp_path: Path) -> None:
    leases = Leases(5000, tmp_path)
    with leases.exclusive():
        assert leases.marked() is None
        leases.mark(Mark(container="abc", data="/data"))
        assert Leases(5000, tmp_path).marked() == Mark(container="abc", data="/data")
        leases.unmark()
        leases.unmark()
        assert leases.marked() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"container": "x"}'])
def test_half_a_mark_is_none(tmp_path: Path, text: str) -> None:
    leases = Leases(5000, tmp_path)
    with leases.exclusive():
        (tmp_path / "5000" / "mark").write_text(text, encoding="utf-8")
        assert leases.marked() is None


def test_a_symlink_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "shared").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotReadyError, match="in the way"), Leases(5000, tmp_path / "shared").exclusive():
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_others_see_a_command_without_its_values() -> None:
    argv = ["/usr/bin/chainbuild", "amd64", "--build-arg", "TOKEN=hunter2", "--secret=id=x,src=y"]
    assert shown_command(argv) == "chainbuild amd64 --build-arg TOKEN=… --secret=…"
    assert len(shown_command(["x"] * 1000)) == 200
