"""The stamp of a tree: a digest of what a builder's cache ignores, times and hard links."""

from __future__ import annotations

import os

import pytest

from chainbuild.minimize.write import stamp


@pytest.fixture
def tree(tmp_path):
    return planted(tmp_path / "one")


def planted(root):
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_bytes(b"content")
    (root / "link").symlink_to("folder/file")
    os.link(root / "folder" / "file", root / "hard")
    with open(os.fsencode(root) + b"/odd \xff\n name", "wb"):
        pass
    touch(root)
    return root


def touch(root, seconds=1_000_000_000):
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in (*folders, *files, b"."):
            os.utime(os.path.join(folder, name), (seconds, seconds), follow_symlinks=False)


def test_stamp_of_same_tree_is_independent_of_path(tree, tmp_path):
    assert stamp(str(tree)) == stamp(str(planted(tmp_path / "another, longer")))
    assert len(stamp(str(tree))) == 64


@pytest.mark.parametrize("path", [".", "folder", "folder/file", "link"])
def test_stamp_depends_on_times(tree, path):
    before = stamp(str(tree))
    os.utime(tree / path, (5, 5), follow_symlinks=False)
    assert stamp(str(tree)) != before


def test_stamp_ignores_fractions_of_seconds(tree):
    before = stamp(str(tree))
    os.utime(tree / "folder" / "file", ns=(0, 1_000_000_000 * 10**9 + 999))
    assert stamp(str(tree)) == before


def test_stamp_depends_on_hard_links(tree):
    before = stamp(str(tree))
    (tree / "hard").unlink()
    (tree / "hard").write_bytes(b"content")
    touch(tree)
    assert stamp(str(tree)) != before


def test_stamp_of_missing_file_is_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        stamp(str(tmp_path / "none"))
