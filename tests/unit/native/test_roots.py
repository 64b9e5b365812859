"""The distribution of an image, read from layers that are real tars."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import DamagedContentError
from chainbuild.native.roots import Root, os_release, read_root
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries
from tests.support.fake_registry import FakeRegistry
from tests.support.tars import tar

TRIXIE = b'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nVERSION_CODENAME=trixie\nID=debian\n'
NOBLE = b"ID='ubuntu'\nID_LIKE=debian\nVERSION_CODENAME=noble\n"
SPECS = "usr/lib/gcc/aarch64-linux-gnu/specs"
DEBIAN = Root(distribution="debian", suite="trixie")


# os-release -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("ID=debian", {"ID": "debian"}),
        ('ID="debian"', {"ID": "debian"}),
        ("ID='debian'", {"ID": "debian"}),
        ("  ID=debian  ", {"ID": "debian"}),
        ("ID=debian\r", {"ID": "debian"}),
        ('ID="de"bian', {"ID": "debian"}),
        ("ID=de\\bian", {"ID": "debian"}),
        ("ID=", {"ID": ""}),
        ("# ID=debian", {}),
        ("#ID=debian", {}),
        ("ID", {}),
        ("", {}),
        ("ID=debian\nID=other", {"ID": "other"}),
        ("ID='debian", {}),
        ('NAME="Debian GNU/Linux"', {}),
        ("ID=$(reboot)", {}),
        ("ID=../../etc", {}),
        ("ID=debian:1", {}),
    ],
)
def test_os_release_has_assignments(line: str, values: Mapping[str, str]) -> None:
    assert os_release(line) == values


LETTERS = st.characters() | st.sampled_from("=\"'\\#\n\r\0 $`IDdebian_-.\u2028")


@given(st.text(LETTERS, max_size=300))
def test_os_release_never_raises(text: str) -> None:
    for value in os_release(text).values():
        assert not set(value) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@given(st.binary(max_size=300))
def test_os_release_of_any_bytes_never_raises(raw: bytes) -> None:
    os_release(raw.decode("utf-8", "replace"))


# Layers ---------------------------------------------------------------------------------------------------------------


class Store:
    def __init__(self) -> None:
        self.fake = FakeRegistry()
        self.registries = Registries(transport=self.fake.transport, credentials=lambda host: None)

    def image(self, *layers: Mapping[str, bytes | str | None]) -> RemoteImage:
        return self.fake.add_image("team/app:1", layers=[gzip.compress(tar(files), mtime=0) for files in layers])

    def root(self, *layers: Mapping[str, bytes | str | None]) -> Root:
        return read_root(self.registries, self.image(*layers))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Store()


def test_root_is_that_of_its_os_release(store: Store) -> None:
    root = store.root({"usr/lib/os-release": TRIXIE})
    assert root == DEBIAN
    assert root.name == "debian-trixie"


@pytest.mark.parametrize(
    "name", ["./usr/lib/os-release", "/usr/lib/os-release", "usr//lib/./os-release", "etc/os-release"]
)
def test_root_of_other_spellings_is_read(store: Store, name: str) -> None:
    assert store.root({name: NOBLE}) == Root(distribution="ubuntu", suite="noble")


def test_root_of_the_top_layer_counts(store: Store) -> None:
    low, high = {"usr/lib/os-release": NOBLE}, {"usr/lib/os-release": TRIXIE}
    assert store.root(low, high, {"x": b""}) == DEBIAN
    assert store.root(high, low).suite == "noble"


def test_root_of_usr_lib_counts_more_than_etc(store: Store) -> None:
    assert store.root({"usr/lib/os-release": TRIXIE}, {"etc/os-release": NOBLE}) == DEBIAN


def test_root_ignores_whiteouts_links_and_large_files(store: Store) -> None:
    low = {"usr/lib/os-release": TRIXIE}
    assert store.root(low, {"usr/lib/.wh.os-release": b"", ".wh.usr": b"", "usr/.wh..wh..opq": b""}) == DEBIAN
    assert store.root(low, {"usr/lib/os-release": None}) == DEBIAN
    assert store.root(low, {"x": NOBLE, "usr/lib/os-release": "x"}) == DEBIAN
    assert store.root(low, {"usr/lib/os-release": NOBLE + b"#" * (1 << 16)}) == DEBIAN


def test_root_without_a_distribution_is_unknown(store: Store) -> None:
    assert store.root({"bin/sh": b""}) == Root()
    assert store.root() == Root()
    assert store.root({"usr/lib/os-release": b"\xff\xfe\0=\n"}) == Root()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_specs_of_any_layer_are_seen(store: Store, number: int) -> None:
    layers: list[dict[str, bytes | str | None]] = [{"usr/lib/os-release": TRIXIE}, {"x": b""}, {"y": b""}]
    layers[number][SPECS] = b"*self_spec:\n"
    assert store.root(*layers).own_specs == f"/{SPECS}"


def test_specs_elsewhere_are_not_seen(store: Store) -> None:
    others = ["usr/lib/gcc/specs", "usr/lib/gcc/x/14/specs", "usr/lib/gcc/x/specs.txt", "opt/usr/lib/gcc/x/specs"]
    assert store.root({"usr/lib/os-release": TRIXIE, **dict.fromkeys(others, b"")}) == DEBIAN


def test_root_is_remembered_by_digest(store: Store) -> None:
    image = store.image({"usr/lib/os-release": TRIXIE})
    assert read_root(store.registries, image) == DEBIAN
    store.fake.log.clear()
    assert read_root(store.registries, image) == DEBIAN
    assert store.fake.log == []
    assert store.root({"usr/lib/os-release": NOBLE}).suite == "noble"


def test_damaged_memory_is_read_again(store: Store, tmp_path: Path) -> None:
    image = store.image({"usr/lib/os-release": TRIXIE})
    for text in (b"", b"{", b"[]", b'{"distribution": 5}', b"\xff"):
        read_root(store.registries, image)
        (memory,) = (tmp_path / "cache" / "chainbuild" / "roots").iterdir()
        memory.write_bytes(text)
        assert read_root(store.registries, image) == DEBIAN


def test_unwritable_memory_is_done_without(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert store.root({"usr/lib/os-release": TRIXIE}) == DEBIAN


DAMAGED = {
    "no gzip": b"no gzip",
    "no tar": gzip.compress(b"no tar" * 200, mtime=0),
    "cut": gzip.compress(tar({"x": bytes(range(256)) * 9}), mtime=0)[:200],
}


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_damaged_layer_is_an_error_and_not_remembered(store: Store, tmp_path: Path, raw: bytes) -> None:
    good = gzip.compress(tar({"usr/lib/os-release": TRIXIE}), mtime=0)
    image = store.fake.add_image("team/app:1", layers=[good, raw])
    with pytest.raises(DamagedContentError):
        read_root(store.registries, image)
    assert not (tmp_path / "cache" / "chainbuild" / "roots").exists()
