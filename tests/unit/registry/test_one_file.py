"""One file of an image, as its layers leave it."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from chainbuild.errors import DamagedContentError, NotAnImageError, NotFoundInRegistryError
from chainbuild.registry.contents import save_file
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries
from tests.support.fake_registry import FakeRegistry

Entry = tuple[str, str, str]
"""(kind, path, the content or the target of a link)"""


def layer(entries: Sequence[Entry]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for kind, path, text in entries:
            member = tarfile.TarInfo(path)
            if kind == "file":
                member.size = len(text)
            else:
                member.type = {"hard": tarfile.LNKTYPE, "link": tarfile.SYMTYPE, "dir": tarfile.DIRTYPE}[kind]
                member.linkname = text
            archive.addfile(member, io.BytesIO(text.encode()) if kind == "file" else None)
    return gzip.compress(raw.getvalue(), mtime=0)


class Store:
    def __init__(self, folder: Path) -> None:
        self.fake = FakeRegistry()
        self.registries = Registries(transport=self.fake.transport, credentials=lambda host: None)
        self.target = folder / "saved"

    def image(self, *layers: Sequence[Entry]) -> RemoteImage:
        return self.fake.add_image("team/app:1", layers=[layer(entries) for entries in layers])

    def saved(self, *layers: Sequence[Entry], path: str = "/out.tar") -> str:
        save_file(self.registries, self.image(*layers), path, self.target)
        return self.target.read_text()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_file_of_any_layer_is_saved(store: Store) -> None:
    low, high = [("file", "out.tar", "one")], [("file", "etc/other", "x")]
    assert store.saved(low, high) == "one"
    assert store.saved(high, low) == "one"
    assert store.saved([("file", "./srv/a/out.tar", "deep")], path="/srv/a/out.tar") == "deep"


def test_upper_layer_counts(store: Store) -> None:
    assert store.saved([("file", "out.tar", "old")], [("file", "out.tar", "new")]) == "new"


def test_last_entry_of_a_layer_counts(store: Store) -> None:
    assert store.saved([("file", "out.tar", "old"), ("file", "./out.tar", "new")]) == "new"


def test_hard_link_leads_to_its_file(store: Store) -> None:
    assert store.saved([("file", "a/real", "it"), ("hard", "out.tar", "a/real")]) == "it"
    assert store.saved([("file", "a/real", "it")], [("hard", "out.tar", "a/real")]) == "it"


@pytest.mark.parametrize(
    "layers",
    [
        [[("file", "other", "x")]],
        [[("file", "out.tar", "x")], [("file", ".wh.out.tar", "")]],
        [[("file", "out.tar", "x")], [("file", ".wh..wh..opq", "")]],
        [[("hard", "out.tar", "nowhere")]],
        [[("hard", "out.tar", "out.tar")]],
    ],
)
def test_missing_or_deleted_file_is_not_found(store: Store, layers: list[list[Entry]]) -> None:
    with pytest.raises(NotFoundInRegistryError) as caught:
        store.saved(*layers)
    assert "has no file /out.tar" in caught.value.message


def test_file_that_a_layer_deletes_and_writes_again_is_saved(store: Store) -> None:
    assert store.saved([("file", "out.tar", "old")], [("file", "out.tar", "new"), ("file", ".wh.out.tar", "")]) == "new"


def test_deleted_folder_takes_its_files_along(store: Store) -> None:
    with pytest.raises(NotFoundInRegistryError):
        store.saved([("file", "srv/out.tar", "old")], [("file", ".wh.srv", "")], path="/srv/out.tar")


@pytest.mark.parametrize(("kind", "word"), [("link", "symbolic link"), ("dir", "folder")])
def test_anything_but_a_file_is_refused(store: Store, kind: str, word: str) -> None:
    with pytest.raises(NotAnImageError) as caught:
        store.saved([(kind, "out.tar", "/elsewhere")])
    assert word in caught.value.message


def test_damaged_layer_is_an_error(store: Store) -> None:
    image = store.image([("file", "out.tar", "x" * 5000)])
    store.fake.host().damage(image.layers[0].digest)
    with pytest.raises(DamagedContentError):
        save_file(store.registries, image, "/out.tar", store.target)
