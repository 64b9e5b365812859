"""Leases within one process: the lock of another descriptor counts like one of another process (flock(2))."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from chainbuild.errors import BusyError, NotReadyError
from chainbuild.local_registry import leases as module
from chainbuild.local_registry.leases import Leases, Mark, all_leases, default_folder, shown_command


def test_lease_is_held_until_it_is_released(tmp_path: Path) -> None:
    leases = Leases(5000, tmp_path / "leases")
    with leases.exclusive():
        one, other = leases.take(Path("/data")), leases.take()
        assert [holder.pid for holder in leases.holders()] == [os.getpid()] * 2
        assert [holder.data for holder in leases.holders()] == ["/data", ""]
        one.release()
        one.release()
        assert len(leases.holders()) == 1
        other.release()
        assert leases.holders() == ()


def test_lease_of_dead_process_is_removed(tmp_path: Path) -> None:
    leases = Leases(5000, tmp_path)
    with leases.exclusive():
        left = tmp_path / "5000" / "lease-1-1"
        left.write_text('{"pid": 1, "command": "x", "started": 0}', encoding="utf-8")
        assert leases.holders() == ()
        assert not left.exists()


def test_lease_of_another_port_is_another_lease(tmp_path: Path) -> None:
    one, other = Leases(5000, tmp_path), Leases(5001, tmp_path)
    with one.exclusive(), other.exclusive():
        lease = one.take()
        assert other.holders() == ()
        assert sorted(leases.port for leases in all_leases(tmp_path)) == [5000, 5001]
        lease.release()


def test_lease_files_are_closed_to_other_users(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        leases = Leases(5000, tmp_path / "leases")
        with leases.exclusive():
            leases.take()
            leases.mark(Mark(container="abc", data="/data"))
            modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "leases" / "5000").iterdir()}
            assert modes == {0o600}
            assert stat.S_IMODE((tmp_path / "leases" / "5000").stat().st_mode) == 0o700
    finally:
        os.umask(old)


def test_lease_folder_is_per_machine_below_state_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_folder() == Path("/state/chainbuild/registry") / os.uname().nodename
    # Where earlier versions put them is not looked at: everybody can write there.
    assert "/tmp" not in str(default_folder())


def test_mutex_lets_one_thread_in_at_a_time(tmp_path: Path) -> None:
    import threading

    entered: list[int] = []

    def enter(number: int) -> None:
        with Leases(5000, tmp_path).exclusive():
            entered.append(number)
            assert len(entered) == 1
            entered.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered == []


def test_mutex_held_too_long_is_busy_and_names_the_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAY_SO_AFTER", 0.0)
    said: list[str] = []
    with Leases(5000, tmp_path).exclusive():
        with (
            pytest.raises(BusyError, match=f"pid {os.getpid()} since") as caught,
            Leases(5000, tmp_path).exclusive(said.append, seconds=0.05),
        ):
            pass
        assert "end it" in caught.value.hint
    assert len(said) == 1
    assert said[0].startswith(f"pid {os.getpid()} since")


def test_mark_is_kept_until_it_is_removed(tmp_path: Path) -> None:
    leases = Leases(5000, tmp_path)
    with leases.exclusive():
        assert leases.marked() is None
        leases.mark(Mark(container="abc", data="/data"))
        assert Leases(5000, tmp_path).marked() == Mark(container="abc", data="/data")
        leases.unmark()
        leases.unmark()
        assert leases.marked() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"container": "x"}', "x" * 5000, "[" * 4000])
def test_mark_damaged_is_no_mark(tmp_path: Path, text: str) -> None:
    leases = Leases(5000, tmp_path)
    with leases.exclusive():
        (tmp_path / "5000" / "mark").write_text(text, encoding="utf-8")
        assert leases.marked() is None


def test_mark_symlink_is_replaced_not_followed(tmp_path: Path) -> None:
    """A local user plants links in the folder of the leases to have files of the victim overwritten."""
    (tmp_path / "victim").write_text("mine", encoding="utf-8")
    leases = Leases(5000, tmp_path / "leases")
    with leases.exclusive():
        for name in ("mark", f"mark.{os.getpid()}", "lease-1-1"):
            (tmp_path / "leases" / "5000" / name).symlink_to(tmp_path / "victim")
        assert leases.marked() is None
        assert leases.holders() == ()
        leases.mark(Mark(container="abc", data="/data"))
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["mutex", "mark", "lease-1-1"])
def test_fifo_among_lease_files_does_not_block(tmp_path: Path, name: str) -> None:
    """A FIFO that nobody writes to hangs whoever opens it."""
    leases = Leases(5000, tmp_path)
    (tmp_path / "5000").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "5000" / name, 0o600)
    if name == "mutex":
        with pytest.raises(NotReadyError, match="not a regular file"), leases.exclusive():
            pass
        return
    with leases.exclusive():
        assert leases.marked() is None
        assert leases.holders() == ()


def test_lease_folder_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "leases").mkdir(mode=0o700)
    (tmp_path / "leases" / "5000").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotReadyError, match="symbolic link"), Leases(5000, tmp_path / "leases").exclusive():
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_lease_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "5000").mkdir()
    (tmp_path / "5000").chmod(0o1777)
    with pytest.raises(NotReadyError, match="can be changed by other users"), Leases(5000, tmp_path).exclusive():
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_lease_on_unwritable_disk_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    leases = Leases(5000, tmp_path)
    with leases.exclusive():

        def fail(*_: object, **__: object) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", fail)
        with pytest.raises(NotReadyError, match=os.strerror(number)) as caught:
            leases.take()
        assert "XDG_STATE_HOME" in caught.value.hint


def test_lease_on_full_disk_counts_without_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file can still be created on a full disk: the lock counts, not the text."""
    leases = Leases(5000, tmp_path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with leases.exclusive():
        leases.take()
        assert [holder.command for holder in leases.holders()] == ["(a process that is just starting)"]


def test_command_for_others_has_no_values_and_no_escapes() -> None:
    argv = ["/usr/bin/chainbuild", "amd64", "--build-arg", "TOKEN=hunter2", "--secret=id=x,src=y", "\x1b[31m"]
    assert shown_command(argv) == "chainbuild amd64 --build-arg TOKEN=… --secret=… ?[31m"
    assert len(shown_command(["x"] * 1000)) == 200
