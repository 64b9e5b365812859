"""The user's own folders: where they are, and that nobody else can read or replace what is in them."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

import pytest

from chainbuild.errors import NotReadyError
from chainbuild.host import user_folders as userdirs
from chainbuild.host.user_folders import private_folder, read_private, write_private

FOLDERS = {
    "XDG_DATA_HOME": (userdirs.data_home, ".local/share/chainbuild"),
    "XDG_STATE_HOME": (userdirs.state_home, ".local/state/chainbuild"),
    "XDG_CACHE_HOME": (userdirs.cache_home, ".cache/chainbuild"),
    "XDG_CONFIG_HOME": (userdirs.config_home, ".config/chainbuild"),
}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("variable", FOLDERS)
def test_user_folder_default_is_below_home(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    folder, below_home = FOLDERS[variable]
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    assert folder() == Path("/home/ada") / below_home
    monkeypatch.setenv(variable, "/elsewhere")
    assert folder() == Path("/elsewhere/chainbuild")
    # The specification: "all paths must be absolute; an implementation should ignore a relative path".
    monkeypatch.setenv(variable, "relative")
    assert folder() == Path("/home/ada") / below_home


@pytest.mark.parametrize("value", [None, "", "relative"])
def test_home_unset_comes_from_account_database(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    if value is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", value)
    account = pwd.getpwuid(os.geteuid())
    assert userdirs.data_home() == Path(account.pw_dir) / ".local/share/chainbuild"


def test_home_of_unknown_user_is_an_error_with_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    with pytest.raises(NotReadyError, match="HOME") as caught:
        userdirs.home()
    assert "Set HOME" in caught.value.hint


def test_private_folder_missing_is_created_closed(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert private_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    finally:
        os.umask(old)
    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o700, 0o700)
    # A second time changes nothing.
    private_folder(tmp_path / "a" / "b")


def test_private_folder_readable_by_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o755)
    private_folder(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o700


@pytest.mark.parametrize("open_mode", [0o770, 0o777, 0o1777, 0o702])
def test_private_folder_writable_by_others_is_refused(tmp_path: Path, open_mode: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(open_mode)
    with pytest.raises(NotReadyError, match="can be changed by other users") as caught:
        private_folder(tmp_path / "a")
    assert f"chmod 700 {tmp_path / 'a'}" in caught.value.hint


def test_private_folder_in_open_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(NotReadyError, match="can be replaced by other users"):
        private_folder(tmp_path / "open" / "a")
    # Like /tmp: only the owner may rename what is in it.
    (tmp_path / "open").chmod(0o1777)
    private_folder(tmp_path / "open" / "a")


def test_private_folder_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(mode=0o755)
    (tmp_path / "target").chmod(0o755)
    (tmp_path / "a").symlink_to(tmp_path / "target")
    with pytest.raises(NotReadyError, match="symbolic link"):
        private_folder(tmp_path / "a")
    assert mode(tmp_path / "target") == 0o755
    # A link around it is the user's own arrangement.
    (tmp_path / "target").chmod(0o700)
    private_folder(tmp_path / "a" / "b")
    assert (tmp_path / "target" / "b").is_dir()


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_private_folder_file_in_its_place_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(tmp_path / "a")
    else:
        (tmp_path / "a").touch()
    with pytest.raises(NotReadyError, match="not a folder"):
        private_folder(tmp_path / "a")
    with pytest.raises(NotReadyError):
        private_folder(tmp_path / "a" / "b")


def test_private_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(NotReadyError, match="belongs to") as caught:
        private_folder(tmp_path / "a")
    assert "chown" in caught.value.hint


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_private_folder_on_unwritable_disk_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(NotReadyError, match=os.strerror(number)) as caught:
        private_folder(tmp_path / "a")
    assert caught.value.where == str(tmp_path / "a")


def test_private_file_is_written_whole_and_closed(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_private(tmp_path / "key", b"secret")
        write_private(tmp_path / "key", b"another")
    finally:
        os.umask(old)
    assert ((tmp_path / "key").read_bytes(), mode(tmp_path / "key")) == (b"another", 0o600)
    assert read_private(tmp_path / "key") == b"another"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_private_file_symlink_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "key").symlink_to(tmp_path / "victim")
    with pytest.raises(NotReadyError, match="symbolic link"):
        read_private(tmp_path / "key")
    write_private(tmp_path / "key", b"secret")
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert not (tmp_path / "key").is_symlink()


def test_private_file_on_full_disk_keeps_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_private(tmp_path / "key", b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotReadyError, match="No space left"):
        write_private(tmp_path / "key", b"new")
    assert read_private(tmp_path / "key") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_private_file_missing_is_none(tmp_path: Path) -> None:
    assert read_private(tmp_path / "key") is None


def test_private_file_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(NotReadyError, match="regular file"):
        read_private(tmp_path / "key")


def test_private_file_too_long_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"12345")
    assert read_private(tmp_path / "key", limit=5) == b"12345"
    with pytest.raises(NotReadyError, match="longer than 4 bytes"):
        read_private(tmp_path / "key", limit=4)


def test_private_file_writable_by_others_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"x")
    (tmp_path / "key").chmod(0o620)
    with pytest.raises(NotReadyError, match="can be changed by other users"):
        read_private(tmp_path / "key")
