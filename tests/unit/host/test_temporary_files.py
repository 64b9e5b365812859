"""Scratch folders: there while their maker lives, and swept up after it."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from chainbuild.host.folders import scratch_folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_scratch_folder_is_removed_whatever_happens(place: Path) -> None:
    def fail() -> None:
        with scratch_folder() as folder:
            (folder / "file").write_text("x", encoding="utf-8")
            assert list(place.iterdir()) == [folder]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(place.iterdir()) == []


def test_folders_of_the_dead_are_swept_up_and_those_of_the_living_are_not(place: Path) -> None:
    dead = place / "chainbuild-scratch-dead"
    (dead / "inside").mkdir(parents=True)
    unborn = place / ".chainbuild-scratch-dead"
    unborn.mkdir()
    os.utime(unborn, (time.time() - 3600,) * 2)
    just_made = place / ".chainbuild-scratch-new"
    just_made.mkdir()
    (place / "chainbuild-leases").mkdir()
    (place / "chainbuild-scratch-link").symlink_to(place / "chainbuild-leases")
    (place / "chainbuild-scratch-file").write_text("somebody's", encoding="utf-8")
    with scratch_folder() as living, scratch_folder() as other:
        assert living.is_dir()
        assert other.is_dir()
        assert not dead.exists()
        assert not unborn.exists()
    assert sorted(path.name for path in place.iterdir()) == [
        ".chainbuild-scratch-new",
        "chainbuild-leases",
        "chainbuild-scratch-file",
        "chainbuild-scratch-link",
    ]
