"""The search of a tree ends, follows no links into the tree, and has a fixed order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chainbuild import limits
from chainbuild.errors import LimitError
from chainbuild.layouts.tree_search import files_below, folders_below
from chainbuild.limits import Limit


def shown(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in folders_below(root)]


def test_folders_are_found_in_order_without_those_of_tools(tmp_path: Path) -> None:
    for name in ("b/c", "a", ".git/x", "node_modules/y", "a/__pycache__"):
        (tmp_path / name).mkdir(parents=True)
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    assert shown(tmp_path) == [".", "a", "b", "b/c"]


def test_links_are_followed_only_out_of_the_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside/deep"
    (root / "a").mkdir(parents=True)
    outside.mkdir(parents=True)
    (root / "a/again").symlink_to(root)
    (root / "same").symlink_to(root / "a")
    (root / "a/far").symlink_to(outside.parent)
    (root / "out").symlink_to(outside.parent)
    assert shown(root) == [".", "out", "a"]


def test_search_of_too_many_folders_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FOLDERS", Limit("the folders of a tree", 2, "entries"))
    (tmp_path / "a/b").mkdir(parents=True)
    with pytest.raises(LimitError, match="the folders of a tree"):
        list(files_below(tmp_path))


def test_search_of_too_deep_folders_ends_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "/".join(["d"] * 150)).mkdir(parents=True)
    with pytest.raises(LimitError, match="the depth of folders") as caught:
        list(folders_below(tmp_path))
    assert "Run it in the folder" in caught.value.hint


def test_folders_with_too_long_paths_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(20):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    assert 10 < len(shown(tmp_path)) < 20
    os.chdir(tmp_path)
