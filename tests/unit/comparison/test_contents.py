"""Stacked layers: whiteouts, links and file owners, without unpacking."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild import limits
from chainbuild.comparison.contents import Contents, Entry, LayeredRoot, read_contents
from chainbuild.errors import LimitError, RegistryError
from chainbuild.registry.pool import Registries
from chainbuild.values import replace
from tests.support.fake_registry import FakeRegistry
from tests.unit.comparison.layers import Content, add, dpkg, layer, status_d


def read(*layers: Mapping[str, Content]) -> Contents:
    fake = FakeRegistry()
    image = add(fake, "team/app:1", *layers)
    (contents,) = read_contents(Registries(transport=fake.transport, credentials=lambda host: None), image)
    return contents


def paths(contents: Contents) -> list[str]:
    return sorted(path for path, entry in contents.files.items() if entry.kind != "dir")


def test_whiteout_removes_only_files_of_lower_layers() -> None:
    lower: dict[str, Content] = {"/a": b"1", "/b/c": b"2", "/b/d/e": b"3", "/keep": b"4"}
    assert paths(read(lower, {"/.wh.a": b"", "/b/.wh.d": b""})) == ["/b/c", "/keep"]
    assert paths(read(lower, {"/a": b"new", "/.wh.a": b""})) == ["/a", "/b/c", "/b/d/e", "/keep"]
    assert paths(read(lower, {"/b/new": b"x", "/b/.wh..wh..opq": b""})) == ["/a", "/b/new", "/keep"]


def test_file_replaces_folder_but_folders_merge() -> None:
    assert paths(read({"/a/b": b"1"}, {"/a": b"2"})) == ["/a"]
    assert paths(read({"/a/b": b"1"}, {"/a": None})) == ["/a/b"]
    assert paths(read({"/a": b"1"}, {"/a": None, "/a/b": b"2"})) == ["/a/b"]


def test_file_below_link_is_placed_at_the_target() -> None:
    assert paths(read({"/usr/lib": None, "/lib": "usr/lib"}, {"/lib/x": b"1"})) == ["/lib", "/usr/lib/x"]


def test_hard_link_has_the_content_of_its_target() -> None:
    contents = read({"/a": b"same"}, {"/b": "=/a", "/c": b"x", "/d": "=/c"})
    assert contents.files["/b"] == contents.files["/a"]
    assert contents.files["/d"].content == contents.files["/c"].content


def test_packages_match_their_database_files() -> None:
    contents = read(
        {
            "/var/lib/dpkg/status": dpkg(libc6="2.36-9"),
            "/var/lib/dpkg/info/libc6.list": b"/lib/libc.so\n",
            "/lib/libc.so": b"elf",
        },
        status_d("zlib1g", "1.2", "/lib/libz.so") | {"/lib/libz.so": b"z"},
    )
    assert {key: one.version for key, one in contents.ownership.packages.items()} == {
        "deb:libc6:amd64": "2.36-9",
        "deb:zlib1g:amd64": "1.2",
    }
    assert contents.ownership.owner("/lib/libc.so") == "deb:libc6:amd64"
    assert contents.ownership.owner("/lib/libz.so") == "deb:zlib1g:amd64"


def test_layer_shared_by_both_images_is_read_once() -> None:
    fake = FakeRegistry()
    images = [add(fake, f"team/app:{n}", {"/base": b"1"}, {"/own": str(n).encode()}) for n in (1, 2)]
    read_contents(Registries(transport=fake.transport, credentials=lambda host: None), *images)
    assert fake.counted("GET", "/blobs/") == 3


def test_damaged_layer_is_an_error() -> None:
    fake = FakeRegistry()
    image = add(fake, "team/app:1", {"/a": b"1"})
    fake.host().damage(image.layers[0].digest)
    with pytest.raises(RegistryError):
        read_contents(Registries(transport=fake.transport, credentials=lambda host: None), image)


def test_layer_that_is_not_a_tar_is_an_error() -> None:
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
def test_arbitrary_layers_give_a_tree(layers: list[list[tuple[str, Entry]]]) -> None:
    root = LayeredRoot(layers)
    for path, entry in root.files.items():
        above = path.rpartition("/")[0] or "/"
        assert root.files[above].kind == "dir" or path == "/", "a parent path must be a folder"
        assert entry.kind != "hard"
        assert path == "/" or path.rpartition("/")[2] in root.names(above)


# ---- hostile layers ---------------------------------------------------------------------------------------------------


def smaller(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> str:
    """Lower a limit and return its text in messages."""
    limit = replace(getattr(limits, name), value=value)
    monkeypatch.setattr(limits, name, limit)
    return f"{limit.name}, {limit.shown}"


@pytest.mark.parametrize(
    "path", ["/var/lib/dpkg/status", "/var/lib/dpkg/info/x.list", "/lib/apk/db/installed", "/opt/x.dist-info/RECORD"]
)
def test_contents_with_huge_package_file_report_limit_and_path(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A dpkg status file of four gigabytes compresses to four megabytes."""
    shown = smaller(monkeypatch, "PACKAGE_FILE", 1000)
    with pytest.raises(LimitError, match=re.escape(f"{path} exceeds the limit on {shown}")) as raised:
        read({path: bytes(1001)})
    assert "team/app" in str(raised.value)


def test_contents_with_many_package_files_report_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = smaller(monkeypatch, "PACKAGE_FILES", 1000)
    with pytest.raises(LimitError, match=re.escape(shown)):
        read({f"/var/lib/dpkg/info/{number}.list": bytes(300) for number in range(4)})


def test_contents_with_other_huge_file_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller(monkeypatch, "PACKAGE_FILE", 1000)
    assert read({"/opt/large": bytes(100_000)}).files["/opt/large"].size == 100_000


@pytest.mark.parametrize(
    ("limit", "value", "files"),
    [
        ("FILES", 10, {f"/{number}": b"" for number in range(11)}),
        ("FILES", 10, {"/" + "/".join("abcdefghijkl"): b""}),  # folders that a path implies
        ("PATHS", 1000, {"/" + "/".join("x" * 30 for _ in range(10)): b""}),
        ("ALL_MEMBERS", 10, {f"/{number}": b"" for number in range(11)}),
        ("MEMBERS", 10, {f"/{number}": b"" for number in range(11)}),
        ("UNPACKED", 10_000, {"/a": bytes(20_000)}),
    ],
)
def test_contents_over_a_limit_report_the_limit(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, files: dict[str, Content]
) -> None:
    shown = smaller(monkeypatch, limit, value)
    with pytest.raises(LimitError, match=re.escape(shown)):
        read(files)


def test_files_replaced_by_later_layers_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller(monkeypatch, "FILES", 12)
    layers = [{f"/{number}": str(version).encode() for number in range(10)} for version in range(5)]
    assert len(paths(read(*layers))) == 10


def test_duplicate_packages_read_their_file_list_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a status file lists a package a million times, its file list must not be read a million times."""
    status = b"\n".join([dpkg(x="1")] * 50)
    contents = read({"/var/lib/dpkg/status": status, "/var/lib/dpkg/info/x.list": b"/opt/a\n", "/opt/a": b"1"})
    asked: list[str] = []
    real = LayeredRoot.read

    def counting(self: LayeredRoot, path: str, *limit: int) -> bytes | None:
        asked.append(path)
        return real(self, path, *limit)

    monkeypatch.setattr(LayeredRoot, "read", counting)
    again = read({"/var/lib/dpkg/status": status, "/var/lib/dpkg/info/x.list": b"/opt/a\n", "/opt/a": b"1"})
    assert again.ownership.files == contents.ownership.files == {"/opt/a": "deb:x:amd64"}
    assert asked.count("/var/lib/dpkg/info/x.list") == 1
