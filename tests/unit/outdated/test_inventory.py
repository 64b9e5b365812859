"""The packages of an image, from layers that are real tars: databases, settings, deletions, and what is kept of a layer."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild import limits
from chainbuild.errors import DamagedContentError, LimitError
from chainbuild.limits import Limit
from chainbuild.outdated.apk_repositories import Repository
from chainbuild.outdated.fetching import Store
from chainbuild.outdated.inventory import Inventory, InventoryReader
from chainbuild.outdated.layers import LayerReader, reduced
from chainbuild.outdated.model import Installed
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries
from tests.support.fake_registry import FakeRegistry
from tests.support.tars import tar

STATUS = b"""Package: libssl3
Status: install ok installed
Priority: optional
Architecture: amd64
Source: openssl (3.0.15)
Version: 3.0.15-1
Description: x
 y

Package: curl
Status: hold ok installed
Architecture: amd64
Version: 7-1

Package: gone
Status: deinstall ok config-files
Version: 1
"""
INSTALLED = b"""C:Q1x=
P:busybox
V:1.37.0-r19
A:x86_64
o:busybox
F:bin
R:busybox

P:py3-requests
V:2.32-r0
A:x86_64
o:py3-requests
F:usr/lib/python3.12/site-packages/requests-2.32.dist-info
R:METADATA
"""
SITE = "usr/lib/python3.12/site-packages"


def dist(name: str, version: str, installer: str = "pip", place: str = SITE, **more: bytes) -> dict[str, bytes]:
    folder = f"{place}/{name}-{version}.dist-info"
    metadata = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: idna<4\nLicense: x\n\nName: no\n"
    )
    files = {f"{folder}/METADATA": metadata.encode(), f"{folder}/INSTALLER": installer.encode()}
    return files | {f"{folder}/{key.replace('_json', '.json')}": content for key, content in more.items()}


class Place:
    """A registry with images of layers, and a reader with a cache folder."""

    def __init__(self, folder: Path) -> None:
        self.fake = FakeRegistry()
        self.registries = Registries(transport=self.fake.transport, credentials=lambda host: None)
        self.store = Store(lambda: folder / "extracts")

    def image(self, *layers: Mapping[str, bytes | str | None], **config: Any) -> RemoteImage:
        packed = [gzip.compress(tar(layer), mtime=0) for layer in layers]
        return self.fake.add_image("team/app:1", "amd64", layers=packed, **config)

    def reader(self) -> InventoryReader:
        return InventoryReader(LayerReader(self.registries, self.store))

    def read(self, *layers: Mapping[str, bytes | str | None], **config: Any) -> Inventory:
        return self.reader().read(self.image(*layers, **config))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def names(inventory: Inventory) -> list[str]:
    return [f"{package.kind}:{package.name}={package.version}" for package in inventory.packages]


@pytest.mark.parametrize("state", ["triggers-pending", "triggers-awaited", "half-configured", "unpacked", "Installed"])
def test_package_whose_configuration_is_pending_counts(place: Place, state: str) -> None:
    inventory = place.read(
        {"var/lib/dpkg/status": STATUS.replace(b"install ok installed", f"install ok {state}".encode())}
    )
    assert names(inventory) == ["deb:libssl3=3.0.15-1", "deb:curl=7-1"]


def test_dpkg_packages_have_source_and_hold(place: Place) -> None:
    inventory = place.read({"var/lib/dpkg/status": STATUS})
    assert names(inventory) == ["deb:libssl3=3.0.15-1", "deb:curl=7-1"]
    assert [(package.source, package.held) for package in inventory.packages] == [
        ("openssl (3.0.15)", False),
        ("", True),
    ]


def test_files_of_packages_in_a_slim_image_are_known(place: Place) -> None:
    record = b"Package: zlib1g\nVersion: 1-1\nArchitecture: amd64\n"
    files = {"var/lib/dpkg/status": STATUS, "var/lib/dpkg/status.d/zlib1g": record}
    files["var/lib/dpkg/status.d/zlib1g.md5sums"] = b"0  usr/lib/libz.so\n"
    inventory = place.read(files)
    assert [package.name for package in inventory.packages if package.only_files] == ["zlib1g"]


def test_upper_layers_replace_and_delete(place: Place) -> None:
    lower = {"var/lib/dpkg/status": STATUS, **dist("a", "1"), **dist("b", "1")}
    upper: dict[str, bytes | str | None] = {
        "var/lib/dpkg/status": STATUS.replace(b"3.0.15-1", b"3.0.17-1"),
        f"{SITE}/.wh.a-1.dist-info": b"",
        **dist("a", "2"),
    }
    image = place.image(lower, upper)
    reader = place.reader()
    assert names(reader.read(image)) == ["deb:libssl3=3.0.17-1", "deb:curl=7-1", "pypi:a=2", "pypi:b=1"]
    assert names(reader.read(image, 1)) == ["deb:libssl3=3.0.15-1", "deb:curl=7-1", "pypi:a=1", "pypi:b=1"]


def test_machine_id_of_an_image_is_kept(place: Place) -> None:
    files: dict[str, bytes | str | None] = {"var/lib/dpkg/status": STATUS, "etc/machine-id": b"0123\n"}
    assert place.read(files).apt.phasing.machine == "0123"


def test_apk_packages_own_their_distributions(place: Place) -> None:
    files = {"lib/apk/db/installed": INSTALLED, **dist("requests", "2.32"), **dist("flask", "3.0")}
    files["etc/apk/repositories"] = b"https://alpine.test/v3.22/main\n"
    inventory = place.read(files)
    assert names(inventory) == ["apk:busybox=1.37.0-r19", "apk:py3-requests=2.32-r0", "pypi:flask=3.0"]
    assert inventory.apk.repositories == (Repository(address="https://alpine.test/v3.22/main"),)
    assert inventory.python.has_musl


@pytest.mark.parametrize(
    ("files", "known"),
    [
        (dist("a", "1", "uv 0.5"), ["pypi:a=1"]),
        (dist("a", "1", "poetry 1.8"), ["pypi:a=1"]),
        (dist("a", "1", "conda"), []),
        (dist("a", "1", "debian"), []),
        (dist("a", "1", place="usr/lib/python3/dist-packages"), []),
        (dist("a", "1", place="opt/venv/lib/python3.12/site-packages"), ["pypi:a=1"]),
        ({f"{SITE}/a.egg-info/PKG-INFO": b"Name: a\nVersion: 1\n"}, ["pypi:a=1"]),
        ({f"{SITE}/a.egg-info": b"Name: a\nVersion: 1\n"}, ["pypi:a=1"]),
        ({f"{SITE}/a-1.dist-info/METADATA": b"Name: a\n"}, []),
    ],
)
def test_distributions_of_installers_count(place: Place, files: Mapping[str, bytes], known: list[str]) -> None:
    assert names(place.read(files)) == known


def test_distribution_has_requirements_and_its_origin(place: Place) -> None:
    (package,) = place.read(dist("a", "1", direct_url_json=b'{"url": "https://user:secret@x"}')).packages
    expected = Installed(kind="pypi", name="a", version="1", place=f"/{SITE}", requires=("idna<4",), from_url=True)
    assert package == expected


def test_settings_come_through_links(place: Place) -> None:
    files = {"usr/lib/apk/db/installed": INSTALLED, "etc/apt/sources.list": b"deb http://deb.test/debian stable main\n"}
    files["usr/share/keyrings/own.gpg"] = b"key"
    inventory = place.read(files, env=[("PIP_INDEX_URL", "https://index.test/simple")])
    assert [source.uri for source in inventory.apt.sources] == ["http://deb.test/debian"]
    assert inventory.python.indices == ("https://index.test/simple",)


def test_layers_are_read_once_and_remembered(place: Place) -> None:
    first = place.reader()
    first.read(place.image({"var/lib/dpkg/status": STATUS}, dist("a", "1")))
    first.read(place.image({"var/lib/dpkg/status": STATUS}, dist("b", "1")))
    assert first.layers.read_layers == 3
    again = place.reader()
    image = place.image({"var/lib/dpkg/status": STATUS}, dist("a", "1"))
    assert names(again.read(image))[-1] == "pypi:a=1"
    assert (again.layers.read_layers, again.layers.read_bytes) == (0, 0)


def test_damaged_memory_of_a_layer_is_read_again(place: Place, tmp_path: Path) -> None:
    image = place.image({"var/lib/dpkg/status": STATUS})
    place.reader().read(image)
    for path in (tmp_path / "extracts").iterdir():
        path.write_bytes(b"\xc1")
    assert len(place.reader().read(image).packages) == 2


def test_damaged_layer_is_an_error(place: Place) -> None:
    image = place.image({"var/lib/dpkg/status": STATUS})
    place.fake.host("localhost:5000").damage(image.layers[0].digest)
    with pytest.raises(DamagedContentError):
        place.reader().read(image)


def test_large_database_is_an_error_and_a_large_key_is_no_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PACKAGE_SETTINGS", Limit("settings", 10))
    assert place.read({"usr/share/doc/manual.asc": b"x" * 11, "var/lib/dpkg/status": STATUS}).packages
    monkeypatch.setattr(limits, "PACKAGE_FILE", Limit("a file", 10))
    with pytest.raises(LimitError):
        place.read({"var/lib/dpkg/status": STATUS + b"\n"})


PATHS = ("/var/lib/dpkg/status", "/lib/apk/db/installed", f"/{SITE}/a.dist-info/METADATA", "/etc/apt/sources.list")


@given(st.sampled_from(PATHS), st.binary(max_size=200))
def test_reduced_content_never_raises_and_never_grows_twice(path: str, content: bytes) -> None:
    once = reduced(path, content)
    assert reduced(path, once) == once
