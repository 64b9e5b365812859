"""The address of a repository: without a login, and never a path of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.host.git_origin import origin_address, public_address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://github.com/acme/images.git", "https://github.com/acme/images.git"),
        ("https://me:secret@github.com/acme/images", "https://github.com/acme/images"),
        ("https://token@github.com/acme/images?key=secret#x", "https://github.com/acme/images"),
        ("https://a:b@c@github.com/acme", "https://github.com/acme"),
        ("https://me:se/cret@github.com/acme", ""),
        ("ssh://git@example.com:2222/acme/images", "ssh://example.com:2222/acme/images"),
        ("git@github.com:acme/images.git", "ssh://github.com/acme/images.git"),
        ("github.com:/acme/images", "ssh://github.com/acme/images"),
        ("/srv/git/images", ""),
        ("../images", ""),
        ("file:///srv/git/images", ""),
        ("C:/images", ""),
        ("ext::sh -c id", ""),
        ("", ""),
    ],
)
def test_public_address_has_no_login_and_is_no_path(address: str, expected: str) -> None:
    assert public_address(address) == expected


@given(st.text())
def test_public_address_of_any_text_has_no_user(text: str) -> None:
    assert "@" not in public_address(f"https://user:{text}@host/path")


def repository(root: Path, config: str) -> Path:
    for name in ("objects", "refs"):
        (root / ".git" / name).mkdir(parents=True)
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (root / ".git" / "config").write_text(config)
    return root


def test_origin_is_read_as_text(tmp_path: Path) -> None:
    config = (
        '[remote "other"]\n\turl = https://example.com/other\n[remote "origin"]\n'
        "\tfetch = +refs/heads/*:refs/remotes/origin/*\n\turl = https://me@example.com/images\n"
        '[branch "main"]\n\turl = https://example.com/branch\n'
    )
    root = repository(tmp_path, config)
    assert origin_address(root) == "https://example.com/images"
    (root / "below").mkdir()
    assert origin_address(root / "below") == "https://example.com/images"


def test_folder_without_origin_has_no_address(tmp_path: Path) -> None:
    assert origin_address(tmp_path / "none") == ""
    assert origin_address(repository(tmp_path / "git", "[core]\n\tbare = false\n")) == ""
