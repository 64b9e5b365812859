from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from chainbuild.context import link
from chainbuild.context.link import linked_context


def test_old_links_are_removed_and_new_ones_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(link, "_MOST_LINKS", 3)
    folder = tmp_path / "chainbuild" / "contexts"
    folder.mkdir(mode=0o700, parents=True)
    for number in range(5):
        (folder / str(number)).symlink_to(tmp_path)
        when = time.time() - number * 50_000
        os.utime(folder / str(number), (when, when), follow_symlinks=False)
    with linked_context(tmp_path, "sent") as made:
        assert made.resolve() == tmp_path.resolve()
    assert sorted(path.name for path in folder.iterdir()) == sorted(["0", "1", made.name])
