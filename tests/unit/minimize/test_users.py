"""Users and groups that the production image lacks: which are added, which collide, and which are left unchanged."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize.job import Order, pack
from chainbuild.minimize.overlay import Overlay
from chainbuild.minimize.problems import errors
from chainbuild.minimize.report import minimize_report
from chainbuild.minimize.root import MAX_TEXT, RootFileSystem
from chainbuild.minimize.users import AddedUsers, bring_users, read_users
from tests.support.elf_builder import plant

BASE = {
    "/etc/passwd": b"root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www:/var/www:/usr/sbin/nologin\n",
    "/etc/group": b"root:x:0:\nvideo:x:44:\nwww-data:x:33:\n",
    "/etc/shadow": b"root:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\n",
    "/etc/gshadow": b"root:*::\nvideo:*::\nwww-data:*::\n",
}
CHAIN = {
    "/etc/passwd": BASE["/etc/passwd"] + b"app:x:1000:1000:An app:/home/app:/bin/sh\n",
    "/etc/group": b"root:x:0:\nvideo:x:44:app\nwww-data:x:33:\napp:x:1000:\n",
    "/etc/shadow": BASE["/etc/shadow"] + b"app:$6$hash:19000:0:99999:7:::\n",
}


def brought(
    tmp_path: Path, chain: dict[str, Any], production: dict[str, Any], user: str = "app"
) -> tuple[AddedUsers, dict[str, str]]:
    overlay = Overlay(RootFileSystem(plant(tmp_path / "production", production)))
    result = bring_users(RootFileSystem(plant(tmp_path / "chain", chain)), overlay, user)
    files = {path: (node.data or b"").decode() for path, node in overlay.added.items() if node.kind == "file"}
    return result, files


def test_chain_user_is_appended_and_nothing_else_changes(tmp_path: Path) -> None:
    result, files = brought(tmp_path, CHAIN, BASE)
    assert [one.name for one in result.users] == ["app"]
    assert files == {
        "/etc/passwd": BASE["/etc/passwd"].decode() + "app:x:1000:1000:An app:/home/app:/bin/sh\n",
        "/etc/group": "root:x:0:\nvideo:x:44:app\nwww-data:x:33:\napp:x:1000:\n",
        "/etc/shadow": BASE["/etc/shadow"].decode() + "app:*:::::::\n",
        "/etc/gshadow": "root:*::\nvideo:*::app\nwww-data:*::\napp:!::\n",
    }


def test_users_of_both_images_change_nothing(tmp_path: Path) -> None:
    result, files = brought(tmp_path, BASE, BASE, "www-data")
    assert (result, files) == (AddedUsers(), {})


@pytest.mark.parametrize(
    ("line", "group", "conflict"),
    [
        (
            b"ubuntu:x:1000:1000::/home/ubuntu:/bin/sh\n",
            b"",
            "the id 1000 of user app of the chain's image belongs to ubuntu",
        ),
        (b"app:x:7:7::/:/bin/sh\n", b"", "USER app has the id 1000 in the chain's image and 7 in the production image"),
        (b"", b"ubuntu:x:1000:\n", "the id 1000 of group app of the chain's image belongs to ubuntu"),
    ],
)
def test_image_user_with_taken_id_is_error(tmp_path: Path, line: bytes, group: bytes, conflict: str) -> None:
    production = BASE | {"/etc/passwd": BASE["/etc/passwd"] + line, "/etc/group": BASE["/etc/group"] + group}
    result, files = brought(tmp_path, CHAIN, production)
    assert result.conflicts
    assert result.conflicts[0].startswith(conflict)
    assert files == {}


def test_other_user_with_taken_id_is_left_out(tmp_path: Path) -> None:
    production = BASE | {"/etc/passwd": BASE["/etc/passwd"] + b"ubuntu:x:1000:1000::/home/ubuntu:/bin/sh\n"}
    result, files = brought(tmp_path, CHAIN, production, "")
    assert result.conflicts == []
    (left,) = result.left
    assert "user app is left out" in left[0]
    assert "belongs to ubuntu" in left[0]
    assert "/etc/passwd" not in files


@pytest.mark.parametrize(
    ("user", "names"), [("app", ["root", "app"]), ("1000:1000", ["root", "app"]), ("", []), ("0", []), ("7", [])]
)
def test_image_without_passwd_gets_only_image_user(tmp_path: Path, user: str, names: list[str]) -> None:
    result, files = brought(tmp_path, CHAIN, {"/etc/hostname": b""}, user)
    assert [one.name for one in result.users] == names
    assert ("/etc/passwd" in files) == bool(names)
    assert "/etc/shadow" not in files
    if names:
        assert files["/etc/passwd"] == "root:*:0:0:root:/root:/bin/bash\napp:*:1000:1000:An app:/home/app:/bin/sh\n"


def test_home_of_image_user_is_kept_empty_and_reported(tmp_path: Path) -> None:
    files = CHAIN | {"/home/app/.profile": b"", "/home/app/model": b"m", "/etc/skel/.profile": b""}
    order = Order(
        chain=plant(tmp_path / "chain", files),
        production=plant(tmp_path / "production", BASE),
        output=str(tmp_path / "out"),
        image_user="app",
    )
    (tmp_path / "chain/home/app").chmod(0o700)
    outcome = pack(order)
    report = minimize_report(outcome)
    assert errors(outcome) == []
    home = tmp_path / "out/home/app"
    assert stat.S_IMODE(os.lstat(home).st_mode) == 0o700
    assert list(home.iterdir()) == []
    (warning,) = report["warnings"]
    assert (warning["kind"], warning["fix"]) == ("user", "ADDITIONAL_FILES=/home/app")
    assert warning["text"].endswith("left out: /home/app/model")
    assert report["users"][0]["name"] == "app"
    reasons = {row["path"]: row["reason"] for row in report["files"]}
    assert reasons["/etc/passwd"] == "users of the chain's image: app"


@pytest.mark.parametrize("how", [{"users": False}, {"additional_files": ("/etc/passwd",)}])
def test_users_are_unchanged_if_turned_off_or_kept_as_files(tmp_path: Path, how: dict[str, Any]) -> None:
    order = Order(
        chain=plant(tmp_path / "chain", CHAIN),
        production=plant(tmp_path / "production", BASE),
        output=str(tmp_path / "out"),
        image_user="app",
        **how,
    )
    outcome = pack(order)
    assert outcome.users == AddedUsers()
    assert not (tmp_path / "out/etc/group").exists()


def test_malformed_lines_are_never_copied(tmp_path: Path) -> None:
    """The chain's files are content of an image, so a line may contain anything."""
    odd = (
        b"+::::::\nevil\x1b[2J:x:5:5::/:/\nbig:x:99999999999:5::/:/\nshort:x:5\nneg:x:-1:5::/:/\nok:x:5:5::/:/bin/sh\n"
    )
    result, files = brought(tmp_path, {"/etc/passwd": odd, "/etc/group": b"g\x00:x:6:\n"}, BASE)
    assert [one.name for one in result.users] == ["ok"]
    assert files["/etc/passwd"] == BASE["/etc/passwd"].decode() + "ok:x:5:5::/:/bin/sh\n"
    assert "/etc/group" not in files


@given(chain=st.binary(max_size=300), production=st.binary(max_size=300), user=st.text(max_size=8))
def test_arbitrary_account_files_keep_production_lines(
    tmp_path_factory: pytest.TempPathFactory, chain: bytes, production: bytes, user: str
) -> None:
    folder = tmp_path_factory.mktemp("users")
    overlay = Overlay(RootFileSystem(plant(folder / "production", {"/etc/passwd": production})))
    bring_users(RootFileSystem(plant(folder / "chain", {"/etc/passwd": chain, "/etc/group": chain})), overlay, user)
    after = overlay.read("/etc/passwd") or b""
    assert after.startswith(production)
    assert read_users(overlay).users.items() >= read_users(RootFileSystem(str(folder / "production"))).users.items()


def test_line_cut_at_limit_is_skipped(tmp_path: Path) -> None:
    line = b"u:x:7:7::/:/bin/sh\n"
    long = b"#" * (MAX_TEXT - len(line) - 10) + b"\n" + line + b"app:x:1:12345:::\n"
    result, _ = brought(tmp_path, {"/etc/passwd": long}, BASE)
    assert [one.name for one in result.users] == ["u"]
