"""What a tree is called by, beside what a builder's cache looks at: its times and hard links."""

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


def test_the_same_tree_has_the_same_stamp_wherever_it_lies(tree, tmp_path):
    assert stamp(str(tree)) == stamp(str(planted(tmp_path / "another, longer")))
    assert len(stamp(str(tree))) == 64


@pytest.mark.parametrize("path", [".", "folder", "folder/file", "link"])
def test_a_time_counts(tree, path):
    before = stamp(str(tree))
    os.utime(tree / path, (5, 5), follow_symlinks=False)
    assert stamp(str(tree)) != before


def test_less_than_a_second_does_not(tree):
    before = stamp(str(tree))
    os.utime(tree / "folder" / "file", ns=(0, 1_000_000_000 * 10**9 + 999))
    assert stamp(str(tree)) == before


def test_hard_links_count(tree):
    before = stamp(str(tree))
    (tree / "hard").unlink()
    (tree / "hard").write_bytes(b"content")
    touch(tree)
    assert stamp(str(tree)) != before


def test_what_is_gone_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        stamp(str(tmp_path / "none"))
