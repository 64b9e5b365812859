"""Layers laid on each other: whiteouts, links, and whose the files are, without anything being unpacked."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.comparison.contents import Contents, Entry, LayeredRoot, read_contents
from chainbuild.errors import RegistryError
from chainbuild.registry.pool import Registries
from tests.unit.comparison.layers import Content, add, dpkg, layer, status_d
from tests.unit.registry.fake_registry import FakeRegistry


def read(*layers: Mapping[str, Content]) -> Contents:
    fake = FakeRegistry()
    image = add(fake, "team/app:1", *layers)
    (contents,) = read_contents(Registries(transport=fake.transport, credentials=lambda host: None), image)
    return contents


def paths(contents: Contents) -> list[str]:
    return sorted(path for path, entry in contents.files.items() if entry.kind != "dir")


def test_a_whiteout_takes_away_what_lower_layers_have_and_nothing_of_its_own() -> None:
    lower: dict[str, Content] = {"/a": b"1", "/b/c": b"2", "/b/d/e": b"3", "/keep": b"4"}
    assert paths(read(lower, {"/.wh.a": b"", "/b/.wh.d": b""})) == ["/b/c", "/keep"]
    assert paths(read(lower, {"/a": b"new", "/.wh.a": b""})) == ["/a", "/b/c", "/b/d/e", "/keep"]
    assert paths(read(lower, {"/b/new": b"x", "/b/.wh..wh..opq": b""})) == ["/a", "/b/new", "/keep"]


def test_a_file_where_a_folder_was_takes_its_place_and_a_folder_over_a_folder_does_not() -> None:
    assert paths(read({"/a/b": b"1"}, {"/a": b"2"})) == ["/a"]
    assert paths(read({"/a/b": b"1"}, {"/a": None})) == ["/a/b"]
    assert paths(read({"/a": b"1"}, {"/a": None, "/a/b": b"2"})) == ["/a/b"]


def test_what_is_written_through_a_link_lies_where_that_leads() -> None:
    assert paths(read({"/usr/lib": None, "/lib": "usr/lib"}, {"/lib/x": b"1"})) == ["/lib", "/usr/lib/x"]


def test_a_hard_link_is_the_file_that_it_links_to_wherever_that_is() -> None:
    contents = read({"/a": b"same"}, {"/b": "=/a", "/c": b"x", "/d": "=/c"})
    assert contents.files["/b"] == contents.files["/a"]
    assert contents.files["/d"].content == contents.files["/c"].content


def test_what_is_read_of_packages_is_what_their_records_say() -> None:
    contents = read(
        {"/var/lib/dpkg/status": dpkg(libc6="2.36-9"), "/var/lib/dpkg/info/libc6.list": b"/lib/libc.so\n",
         "/lib/libc.so": b"elf"},
        status_d("zlib1g", "1.2", "/lib/libz.so") | {"/lib/libz.so": b"z"},
    )  # fmt: skip
    assert {key: one.version for key, one in contents.ownership.packages.items()} == {
        "deb:libc6:amd64": "2.36-9", "deb:zlib1g:amd64": "1.2",
    }  # fmt: skip
    assert contents.ownership.owner("/lib/libc.so") == "deb:libc6:amd64"
    assert contents.ownership.owner("/lib/libz.so") == "deb:zlib1g:amd64"


def test_a_layer_that_both_images_have_is_read_once() -> None:
    fake = FakeRegistry()
    images = [add(fake, f"team/app:{n}", {"/base": b"1"}, {"/own": str(n).encode()}) for n in (1, 2)]
    read_contents(Registries(transport=fake.transport, credentials=lambda host: None), *images)
    assert fake.counted("GET", "/blobs/") == 3


def test_a_damaged_layer_counts_for_nothing() -> None:
    fake = FakeRegistry()
    image = add(fake, "team/app:1", {"/a": b"1"})
    fake.host().damage(image.layers[0].digest)
    with pytest.raises(RegistryError):
        read_contents(Registries(transport=fake.transport, credentials=lambda host: None), image)


def test_a_layer_that_is_no_tar_is_told() -> None:
    fake = FakeRegistry()
    image = fake.add_image("team/app:1", layers=[layer({"/a": bytes(2000)})[:-30]])
    with pytest.raises(RegistryError, match="cannot be read"):
        read_contents(Registries(transport=fake.transport, credentials=lambda host: None), image)


NAMES = st.sampled_from(["a", "b", ".wh.a", ".wh.b", ".wh..wh..opq", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
ENTRIES = st.sampled_from(
    [Entry(kind="file", size=1), Entry(kind="dir"), Entry(kind="hard", target="/a"), Entry(kind="link", target="/c")]
)


@given(st.lists(st.lists(st.tuples(PATHS, ENTRIES), max_size=6), max_size=4))
def test_whatever_layers_say_the_result_is_a_tree(layers: list[list[tuple[str, Entry]]]) -> None:
    root = LayeredRoot(layers)
    for path, entry in root.files.items():
        above = path.rpartition("/")[0] or "/"
        assert root.files[above].kind == "dir" or path == "/", "what has something below it is a folder"
        assert entry.kind != "hard"
        assert path == "/" or path.rpartition("/")[2] in root.names(above)
