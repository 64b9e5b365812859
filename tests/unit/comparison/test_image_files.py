"""Files of an image are found in the layers that have them, and in no more layers than are needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.comparison.contents import LayeredRoot, read_layers
from chainbuild.comparison.image_files import ImageFiles
from chainbuild.errors import RegistryError
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries
from tests.support.fake_registry import FakeRegistry
from tests.unit.comparison.layers import Content, add

BASE: Mapping[str, Content] = {
    "/usr": None,
    "/usr/bin": None,
    "/usr/bin/dash": b"\x7fELF dash",
    "/bin": "usr/bin",
    "/usr/bin/sh": "dash",
    "/etc": None,
    "/etc/hosts": b"localhost",
    "/etc/mtab": "../proc/mounts",
}
STEP: Mapping[str, Content] = {"/opt": None, "/opt/tool": b"tool", "/etc": None, "/etc/.wh.hosts": b""}


class Place:
    def __init__(self, *layers: Mapping[str, Content]) -> None:
        self.fake = FakeRegistry()
        self.registries = Registries(transport=self.fake.transport, credentials=lambda host: None)
        self.image: RemoteImage = add(self.fake, "team/app:1", *layers)
        self.files = ImageFiles(self.registries, self.image)

    @property
    def reads(self) -> int:
        return self.fake.counted("GET", "/blobs/") - 1  # the config

    def path(self, path: str) -> str | None:
        found = self.files.find(path)
        return found.path if found else None

    def content(self, path: str, folder: Path) -> bytes:
        found = self.files.find(path)
        assert found is not None
        self.files.save(found, folder / "saved")
        return (folder / "saved").read_bytes()


@pytest.fixture
def place() -> Place:
    made = Place(BASE, STEP)
    made.fake.log.clear()
    return made


def blobs(place: Place) -> int:
    return place.fake.counted("GET", "/blobs/")


def test_file_of_top_layer_reads_that_layer_only(place: Place, tmp_path: Path) -> None:
    assert place.path("/opt/tool") == "/opt/tool"
    assert blobs(place) == 1
    assert place.content("/opt/tool", tmp_path) == b"tool"
    assert blobs(place) == 2


def test_layers_are_listed_once(place: Place) -> None:
    for path in ("/usr/bin/sh", "/etc/hosts", "/bin/sh", "/nothing"):
        place.path(path)
    place.files.whole()
    assert blobs(place) == 2


def test_links_are_followed_within_the_image(place: Place, tmp_path: Path) -> None:
    assert place.path("/bin/sh") == "/usr/bin/dash"
    assert place.path("/opt/../bin/./sh") == "/usr/bin/dash"
    assert place.content("/bin/sh", tmp_path) == b"\x7fELF dash"
    assert place.path("/etc/mtab") is None
    link = place.files.find("/etc/mtab", follow=False)
    assert link is not None
    assert (link.entry.kind, link.entry.target) == ("link", "../proc/mounts")


def test_deleted_file_does_not_exist(place: Place) -> None:
    assert place.path("/etc/hosts") is None


def test_file_below_a_link_of_a_lower_layer_is_found(tmp_path: Path) -> None:
    """The layer has no entry for `/lib`, so only the layers below say where its file is."""
    place = Place({"/usr": None, "/usr/lib": None, "/lib": "usr/lib"}, {"/lib/x": b"1"})
    assert place.path("/usr/lib/x") == "/usr/lib/x"


def test_hard_link_to_a_lower_layer_has_its_content(tmp_path: Path) -> None:
    place = Place({"/a": b"content"}, {"/b": "=/a"})
    found = place.files.find("/b")
    assert found is not None
    assert (found.entry.kind, found.entry.size) == ("file", 7)
    assert place.content("/b", tmp_path) == b"content"


def test_damaged_layer_is_an_error() -> None:
    fake = FakeRegistry()
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    image = fake.add_image("team/app:1", layers=[b"no tar"])
    with pytest.raises(RegistryError):
        ImageFiles(registries, image).find("/x")


# Against the layers applied one after another -------------------------------------------------------------------------

NAMES = st.sampled_from(["/a", "/a/b", "/a/b/c", "/a/d", "/e", "/e/b"])
CONTENT = st.one_of(
    st.binary(max_size=2),
    st.none(),
    NAMES.map(lambda path: path.lstrip("/")),
    NAMES,
    NAMES.map(lambda path: f"={path}"),
)
WHITEOUTS = st.sampled_from(["/.wh.a", "/a/.wh.b", "/a/.wh..wh..opq", "/a/b/.wh.c", "/.wh..wh..opq"])
LAYERS = st.lists(
    st.builds(
        lambda files, gone: {**dict.fromkeys(gone, b""), **files},
        st.dictionaries(NAMES, CONTENT, max_size=5),
        st.lists(WHITEOUTS, max_size=2, unique=True),
    ),
    min_size=1,
    max_size=4,
)


def linked(files: Mapping[str, Content]) -> dict[str, Content]:
    """Return the members without hard links to anything but a regular file that comes before."""
    result: dict[str, Content] = {}
    for path, content in files.items():
        target = content[1:] if isinstance(content, str) and content.startswith("=") else ""
        if not target or isinstance(result.get(target), bytes):
            result[path] = content
    return result


def with_folders(files: Mapping[str, Content]) -> dict[str, Content]:
    """Return the members of a layer as builders write them: every folder comes before what is in it."""
    result: dict[str, Content] = {}
    for path in sorted(files):
        parts = path.split("/")[1:-1]
        above = ["/" + "/".join(parts[: end + 1]) for end in range(len(parts))]
        if any(folder in result and result[folder] is not None for folder in above):
            continue
        result |= {folder: None for folder in above if folder not in result}
        result[path] = files[path]
    return linked(result)


@given(layers=LAYERS, complete=st.booleans())
def test_found_entries_are_those_of_the_applied_layers(layers: list[dict[str, Content]], complete: bool) -> None:
    place = Place(*(with_folders(layer) if complete else linked(layer) for layer in layers))
    root = LayeredRoot(read_layers(place.registries, place.image, range(len(layers))))
    for path in ("/", "/a", "/a/b", "/a/b/c", "/a/d", "/e", "/e/b", "/zzz"):
        expected, found = root.resolve(path), place.files.find(path)
        assert (found.path if found else None) == expected, path
        if found and expected:
            entry = root.files[expected]
            assert (found.entry.kind, found.entry.size, found.entry.target) == (entry.kind, entry.size, entry.target)
