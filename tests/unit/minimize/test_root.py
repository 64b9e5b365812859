from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild.minimize.overlay import Overlay
from chainbuild.minimize.root import Node, RootFileSystem, shown
from tests.support.elf_builder import plant

TREE: dict[str, bytes | str | None] = {
    "/usr/lib/a.so": b"a",
    "/usr/lib/.hidden": b"h",
    "/lib": "usr/lib",
    "/etc/absolute": "/usr/lib/a.so",
    "/etc/escaping": "../../../../../usr/lib/a.so",
    "/etc/outside": "/../../../secret",
    "/etc/loop": "/etc/pool",
    "/etc/pool": "loop",
    "/etc/self": "self/x",
    "/etc/through": "/lib/../lib/a.so",
    "/etc/dangling": "/nowhere/at/all",
    "/etc/tothefile": "/usr/lib/a.so/",
    "/home/down": "/lib",
}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "secret").write_text("outside")
    return RootFileSystem(plant(tmp_path / "root", TREE))


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/", "/"),
        ("/lib/a.so", "/usr/lib/a.so"),
        ("/lib", "/usr/lib"),
        ("/etc/absolute", "/usr/lib/a.so"),
        ("/etc/escaping", "/usr/lib/a.so"),
        ("/../../../usr/lib/a.so", "/usr/lib/a.so"),
        ("/etc/outside", None),
        ("/etc/loop", None),
        ("/etc/self", None),
        ("/etc/through", "/usr/lib/a.so"),
        ("/etc/dangling", None),
        ("/usr/lib/a.so/x", None),
        ("/home/down/./a.so", "/usr/lib/a.so"),
        ("/home/down/../lib/a.so", "/usr/lib/a.so"),
        ("/nothing", None),
        ("/etc/" + "x" * 5000, None),
        ("/a\0b", None),
    ],
)
def test_links_stay_inside_root(root, path, real):
    assert root.resolve(path) == real


def test_final_link_can_be_kept_unresolved(root):
    assert root.resolve("/home/down", follow=False) == "/home/down"
    assert root.resolve("/lib/../../etc/loop", follow=False) == "/etc/loop"


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/lib/new", "/usr/lib/new"),
        ("/lib/x/y/new", "/usr/lib/x/y/new"),
        ("/etc/dangling/new", "/nowhere/at/all/new"),
        ("/etc/loop/new", None),
        ("/usr/lib/a.so/new", None),
        ("/etc/absolute", "/etc/absolute"),
    ],
)
def test_new_path_is_placed_by_existing_links(root, path, where):
    assert root.place(path) == where


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/usr/lib/*", ["/usr/lib/a.so"]),
        ("/usr/lib/.*", ["/usr/lib/.hidden"]),
        ("/lib/*.so", ["/usr/lib/a.so"]),
        ("/etc/self", ["/etc/self"]),
        ("/etc/[lp]oo[pl]", ["/etc/loop", "/etc/pool"]),
        ("/*/down", ["/home/down"]),
        ("/lib", ["/lib"]),
        ("/no*/x", []),
        ("/", ["/"]),
    ],
)
def test_patterns_match_like_shell(root, pattern, found):
    assert root.glob(pattern) == found


def test_read_accepts_only_regular_files(root, tmp_path):
    os.mkfifo(tmp_path / "root" / "pipe")
    assert root.read("/etc/absolute") == b"a"
    assert [root.read(path) for path in ("/pipe", "/etc", "/etc/outside", "/none")] == [None] * 4


def test_walk_is_sorted_and_follows_no_links(root):
    assert [path for path, _ in root.walk("/usr")] == ["/usr", "/usr/lib", "/usr/lib/.hidden", "/usr/lib/a.so"]
    assert [path for path, _ in root.walk("/", skip=["/etc", "/usr"])] == ["/", "/home", "/home/down", "/lib"]


def test_overlay_shows_future_image(root):
    over = Overlay(root)
    over.add("/usr/lib/new/b.so", Node(kind="file", data=b"b", size=1))
    over.add("/usr/lib/a.so", Node(kind="file", data=b"A", size=1))
    assert over.read("/lib/new/b.so") == b"b"
    assert over.read("/etc/absolute") == b"A"
    assert over.names("/usr/lib") == [".hidden", "a.so", "new"]
    assert over.is_folder("/lib/new")
    over.remove("/usr/lib/a.so")
    assert over.read("/etc/absolute") == b"a"


PARTS = st.lists(st.sampled_from(["..", ".", "a", "b", "c", "", "loop", "up", "top"]), max_size=9)


@settings(max_examples=300, deadline=None)
@given(parts=PARTS, absolute=PARTS)
def test_arbitrary_path_stays_inside_root(tmp_path_factory, parts, absolute):
    base = tmp_path_factory.mktemp("r")
    tree = {"/a/b/up": "../../../" + "/".join(parts), "/a/top": "/" + "/".join(absolute), "/a/loop": "loop"}
    root = RootFileSystem(plant(base / "root", {**tree, "/b/c": b"x"}))
    for path in ("/" + "/".join(parts), "/a/b/up", "/a/top", "/" + "/".join(absolute)):
        found = root.resolve(path)
        if found is not None:
            assert ".." not in found.split("/")
            assert os.path.realpath(root.host + found) == (root.host + found).rstrip("/")


def test_unusual_names_are_shown_on_one_line():
    assert shown("plain") == "plain"
    assert shown("a\nb\x1b[0m") == "a\\nb\\x1b[0m"
    assert "\n" not in shown(os.fsdecode(b"\xff\n"))
    assert "udcff" in shown(os.fsdecode(b"\xff"))
