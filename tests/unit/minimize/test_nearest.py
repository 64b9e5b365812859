"""Suggestions for a pattern that matches nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize import nearest as module
from chainbuild.minimize.nearest import MOST, nearest
from chainbuild.minimize.root import RootFileSystem
from tests.support.elf_builder import plant

TREE: dict[str, bytes | str | None] = {
    "/usr/share/magic/magic.mgc": b"",
    "/usr/lib/file/magic.mgc": b"",
    "/usr/lib/x86_64-linux-gnu/sasl2/libplain.so": b"",
    "/usr/lib/x86_64-linux-gnu/sasl2/libplain.so.2": b"",
    "/usr/bin/git": b"",
    "/usr/bin/gitk": b"",
    "/srv/link": "/usr/share",
    "/srv/odd/[a]/file": b"",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return RootFileSystem(plant(tmp_path_factory.mktemp("nearest"), TREE))


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("/usr/bin/gti", ("/usr/bin/git",)),
        ("/usr/bin/GIT", ("/usr/bin/git", "/usr/bin/gitk")),
        ("/usr/share/misc/magic.mgc", ("/usr/share/magic/magic.mgc", "/usr/lib/file/magic.mgc")),
        ("/srv/link/magick/magic.mgc", ("/usr/share/magic/magic.mgc", "/usr/lib/file/magic.mgc")),
        (
            "/usr/lib/*/sasl/libplain*",
            ("/usr/lib/x86_64-linux-gnu/sasl2/libplain.so", "/usr/lib/x86_64-linux-gnu/sasl2/libplain.so.2"),
        ),
        ("/usr/lib/arm-linux-gnueabihf/x", ("/usr/lib",)),
        ("/srv/od/\\[a\\]/file", ("/srv/odd/[a]/file", "/usr/lib/file")),
        ("/none/at/all", ("/",)),
        ("/none/*", ("/",)),
    ],
)
def test_nearest_of_unmatched_pattern_returns_similar_paths(tree, pattern, paths):
    assert nearest(tree, [pattern]) == {pattern: paths}


def test_nearest_of_several_patterns_answers_each(tree):
    found = nearest(tree, ["/usr/bin/gti", "/none/gitk"])
    assert [found["/usr/bin/gti"][0], found["/none/gitk"][0]] == ["/usr/bin/git", "/usr/bin/gitk"]


def test_nearest_in_large_tree_stops_at_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_ENTRIES", 5)
    tree = RootFileSystem(plant(tmp_path, {f"/a/{number}": b"" for number in range(9)} | {"/z/wanted": b""}))
    assert "/z/wanted" not in nearest(tree, ["/b/wanted"])["/b/wanted"]
    monkeypatch.setattr(module, "_MOST_ENTRIES", 50)
    assert "/z/wanted" in nearest(tree, ["/b/wanted"])["/b/wanted"]


@given(st.text(alphabet="/abgit*?[]\\.é\udc80\n", max_size=30))
def test_nearest_of_arbitrary_pattern_returns_paths_of_tree(tree, pattern):
    (paths,) = nearest(tree, [pattern]).values()
    assert len(paths) <= MOST
    assert all(tree.entry(path) is not None for path in paths)
