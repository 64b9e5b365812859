"""What earlier versions kept in a tree is taken over once, and nothing in it is believed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chainbuild.events import Event, Message
from chainbuild.local_registry import tree_data
from chainbuild.local_registry.tree_data import TakenOver, repositories_from_trees, take_over
from chainbuild.local_registry.untrusted_folder import UntrustedFolder


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Store:
    """A registry's folder, in the layout of the distribution project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.v2 = folder / "docker" / "registry" / "v2"
        (self.v2 / "repositories").mkdir(parents=True)
        (self.v2 / "blobs" / "sha256").mkdir(parents=True)
        folder.chmod(0o700)

    def blob(self, content: bytes, digest: str = "") -> str:
        digest = digest or digest_of(content)
        path = self.blob_path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return digest

    def blob_path(self, digest: str) -> Path:
        return self.v2 / "blobs" / "sha256" / digest[:2] / digest / "data"

    def link(self, repository: str, place: str, digest: str) -> None:
        path = self.v2 / "repositories" / repository / place / "link"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"sha256:{digest}", encoding="ascii")

    def image(self, repository: str, tag: str, content: bytes) -> str:
        layer, manifest = self.blob(b"layer of " + content), self.blob(content)
        self.link(repository, f"_layers/sha256/{layer}", layer)
        self.link(repository, f"_manifests/revisions/sha256/{manifest}", manifest)
        if tag:
            self.link(repository, f"_manifests/tags/{tag}/current", manifest)
            self.link(repository, f"_manifests/tags/{tag}/index/sha256/{manifest}", manifest)
        return manifest

    def tag(self, repository: str, tag: str) -> str:
        path = self.v2 / "repositories" / repository / "_manifests" / "tags" / tag / "current" / "link"
        return path.read_text(encoding="ascii").removeprefix("sha256:") if path.exists() else ""

    def files(self) -> set[str]:
        return {str(path.relative_to(self.v2)) for path in self.v2.rglob("*") if path.is_file()}


class World:
    def __init__(self, tmp_path: Path) -> None:
        self.tree = tmp_path / "tree"
        self.old = Store(self.tree / "registry")
        self.new = Store(tmp_path / "data")
        self.told: list[str] = []

    def emit(self, event: Event) -> None:
        assert isinstance(event, Message)
        self.told.append(f"{event.level}: {event.text}")

    def run(self) -> TakenOver | None:
        return take_over(self.tree, self.new.folder, self.emit)

    def warnings(self) -> list[str]:
        return [text for text in self.told if text.startswith("warning")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_take_over_adds_images_and_leaves_the_tree_alone(world: World) -> None:
    manifest = world.old.image("team/atom", "v1-stock", b"image")
    untagged = world.old.image("team/atom", "", b"a parent without a tag")
    world.old.image("team/deep/name", "k1-" + "a" * 64, b"record")
    before = world.old.files()
    done = world.run()
    assert done is not None
    assert (done.tags, done.blobs, done.damaged) == (2, 6, 0)
    assert world.new.files() == before == world.old.files()
    assert world.new.tag("team/atom", "v1-stock") == manifest
    assert world.new.blob_path(untagged).read_bytes() == b"a parent without a tag"
    assert any("no longer used" in text and "rm -r" in text for text in world.told)
    (marker,) = (world.new.folder / "chainbuild" / "taken-over").iterdir()
    document = json.loads(marker.read_text(encoding="utf-8"))
    assert (document["from"], document["repositories"]) == (str(world.old.folder), ["team/atom", "team/deep/name"])
    assert not world.warnings()


def test_repositories_from_trees_are_listed_with_their_folder(world: World) -> None:
    """Signing "all records of earlier versions" must not sign what a foreign tree brought along."""
    assert repositories_from_trees(world.new.folder) == {}
    world.old.image("team/atom", "v1", b"image")
    world.run()
    (marker,) = (world.new.folder / "chainbuild" / "taken-over").iterdir()
    marker.with_name("damaged").write_text("{")
    marker.with_name("other").write_text('["no object"]')
    assert repositories_from_trees(world.new.folder) == {"team/atom": str(world.old.folder)}


def test_take_over_happens_once(world: World) -> None:
    world.old.image("team/atom", "v1", b"image")
    assert world.run() is not None
    world.old.image("team/atom", "v2", b"later, by an old version")
    world.told.clear()
    assert world.run() is None
    assert world.told == []
    assert not world.new.tag("team/atom", "v2")


def test_take_over_never_changes_what_a_tag_means(world: World) -> None:
    mine = world.new.image("team/atom", "v1", b"mine")
    world.old.image("team/atom", "v1", b"of the tree")
    other = world.old.image("team/atom", "v2", b"of the tree, too")
    world.run()
    assert world.new.tag("team/atom", "v1") == mine
    assert world.new.tag("team/atom", "v2") == other


def test_take_over_of_two_trees_merges_them(world: World, tmp_path: Path) -> None:
    first = world.old.image("team/atom", "v1", b"one")
    world.run()
    other = Store(tmp_path / "other" / "registry")
    second = other.image("team/atom", "v2", b"two")
    take_over(tmp_path / "other", world.new.folder, world.emit)
    assert (world.new.tag("team/atom", "v1"), world.new.tag("team/atom", "v2")) == (first, second)


@pytest.mark.parametrize("name", ["debian", "library/debian"])
def test_take_over_leaves_out_names_of_docker_hubs_own_images(world: World, name: str) -> None:
    """Another tree that is built on `debian` would get what this tree brought along."""
    world.old.image(name, "bookworm-slim", b"prepared")
    done = world.run()
    assert done is not None
    assert done.left_out == {name}
    assert not world.new.tag(name, "bookworm-slim")
    assert any(name in text for text in world.told)


def test_take_over_drops_blobs_that_are_not_their_digest(world: World) -> None:
    manifest = world.old.image("team/atom", "v1", b"image")
    world.old.blob(b"something else", manifest)
    good = world.old.image("team/atom", "v2", b"good")
    done = world.run()
    assert done is not None
    assert done.damaged == 1
    assert not world.new.blob_path(manifest).exists()
    assert (world.new.tag("team/atom", "v1"), world.new.tag("team/atom", "v2")) == ("", good)
    assert "did not match the digest" in world.warnings()[0]


def test_take_over_keeps_existing_blobs(world: World) -> None:
    manifest = world.new.image("team/atom", "v1", b"image")
    world.old.image("team/atom", "v1", b"image")
    inode = world.new.blob_path(manifest).stat().st_ino
    world.run()
    assert world.new.blob_path(manifest).stat().st_ino == inode


Prepare = Callable[[World, Path], None]


def linked_blob(world: World, secret: Path) -> None:
    path = world.old.blob_path(digest_of(secret.read_bytes()))
    path.parent.mkdir(parents=True)
    path.symlink_to(secret)


def linked_blob_folder(world: World, secret: Path) -> None:
    digest = digest_of(secret.read_bytes())
    (secret.parent / "data").write_bytes(secret.read_bytes())
    path = world.old.blob_path(digest).parent
    path.parent.mkdir()
    path.symlink_to(secret.parent)


def linked_store(world: World, secret: Path) -> None:
    shutil.rmtree(world.old.v2 / "blobs")
    other = Store(secret.parent / "else")
    other.blob(secret.read_bytes())
    (world.old.v2 / "blobs").symlink_to(other.v2 / "blobs")


def linked_top(world: World, secret: Path) -> None:
    other = Store(secret.parent / "else")
    other.blob(secret.read_bytes())
    shutil.rmtree(world.old.folder)
    world.old.folder.symlink_to(other.folder)


def fifo_blob(world: World, secret: Path) -> None:
    path = world.old.blob_path("a" * 64)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)


def fifo_link(world: World, secret: Path) -> None:
    manifest = world.old.image("team/atom", "v1", b"x")
    path = world.old.v2 / "repositories/team/atom/_manifests/revisions/sha256" / manifest / "link"
    path.unlink()
    os.mkfifo(path)


def odd_names(world: World, secret: Path) -> None:
    for name in (
        "UPPER/case",
        "a b/c",
        "..x/y",
        "\x1b[31m/x",
        "_uploads/x",
        "a//b",
        "x" * 240 + "/" + "y" * 30,
        "\udcff/x",
    ):
        with_tag = world.old.v2 / "repositories" / name / "_manifests" / "tags" / "v1" / "current"
        with_tag.mkdir(parents=True)
        (with_tag / "link").write_text(f"sha256:{'a' * 64}", encoding="ascii")
    (world.old.v2 / "blobs" / "sha256" / "zz").mkdir()
    (world.old.v2 / "blobs" / "sha256" / "..data").mkdir()
    (world.old.v2 / "blobs" / "sha256" / "aa").write_bytes(b"no folder")


def odd_links(world: World, secret: Path) -> None:
    for number, text in enumerate(
        ["", "sha256:", "sha256:../../../x", "sha512:" + "a" * 64, "sha256:" + "A" * 64, "x" * 10**6]
    ):
        place = world.old.v2 / f"repositories/team/a{number}/_manifests/tags/v1/current"
        place.mkdir(parents=True)
        (place / "link").write_text(text, encoding="ascii")


def dangling_tag(world: World, secret: Path) -> None:
    world.old.link("team/atom", "_manifests/tags/v1/current", "a" * 64)


@pytest.mark.parametrize(
    "prepare",
    [
        linked_blob,
        linked_blob_folder,
        linked_store,
        linked_top,
        fifo_blob,
        fifo_link,
        odd_names,
        odd_links,
        dangling_tag,
    ],
)
def test_take_over_of_prepared_folder_adds_nothing_and_ends(world: World, tmp_path: Path, prepare: Prepare) -> None:
    """A foreign tree may bring a folder that was made to lead elsewhere, to hang, or to confuse."""
    (tmp_path / "private").mkdir()
    secret = tmp_path / "private" / "key"
    secret.write_bytes(b"the user's own secret")
    prepare(world, secret)
    world.run()
    assert [name for name in world.new.files() if "tags" in name or digest_of(secret.read_bytes()) in name] == []
    assert secret.read_bytes() == b"the user's own secret"


def test_take_over_that_was_interrupted_is_completed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        world.old.image("team/atom", f"v{number}", b"%d" % number)
    original = UntrustedFolder.copy
    count = 0

    def copy(self: UntrustedFolder, name: str, target: Path) -> str:
        nonlocal count
        count += 1
        if count == 4:
            target.write_bytes(b"half")
            raise KeyboardInterrupt
        return original(self, name, target)

    monkeypatch.setattr(UntrustedFolder, "copy", copy)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    assert not any(world.new.tag("team/atom", f"v{number}") for number in range(5))
    for path in world.new.v2.glob("blobs/sha256/*/*/data"):
        assert digest_of(path.read_bytes()) == path.parent.name
    done = world.run()
    assert done is not None
    assert (done.blobs, done.tags) == (7, 5)
    assert not list((world.new.folder / "chainbuild").glob("taking-over/*"))


def test_take_over_without_space_is_a_warning_and_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.old.image("team/atom", "v1", b"image")
    with monkeypatch.context() as patch:
        patch.setattr(tree_data.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
        assert world.run() is None
    assert "required" in world.warnings()[0]
    assert world.run() is not None


def test_take_over_on_full_disk_is_a_warning(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.old.image("team/atom", "v1", b"image")

    def full(self: object, name: str, target: Path) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(UntrustedFolder, "copy", full)
    assert world.run() is None
    assert "No space left" in world.warnings()[0]


def test_take_over_of_endless_folder_is_a_warning(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_data, "_MOST_ENTRIES", 3)
    for number in range(5):
        world.old.blob(b"%d" % number)
    assert world.run() is None
    assert "more than 3 entries" in world.warnings()[0]


def test_take_over_of_the_registrys_own_folder_is_nothing(world: World) -> None:
    """The user, or chainbuild.yaml, may have chosen this very folder for the data."""
    world.old.image("team/atom", "v1", b"image")
    assert take_over(world.tree, world.old.folder, world.emit) is None
    assert world.told == []


@pytest.mark.parametrize("name", ["", "registry", "registry/docker", "registry/docker/registry/v2/manifest"])
def test_take_over_of_tree_without_such_a_folder_is_nothing(tmp_path: Path, name: str) -> None:
    """`registry` may be a folder of the user's sources."""
    tree = tmp_path / "tree"
    (tree / name).mkdir(parents=True)
    (tmp_path / "data").mkdir(mode=0o700)
    take_over(tree, tmp_path / "data", lambda event: pytest.fail(str(event)))
    assert not (tmp_path / "data" / "docker").exists()


def test_take_over_by_two_runs_at_once_is_done_once(world: World) -> None:
    import threading

    world.old.image("team/atom", "v1", b"image")
    results: list[TakenOver | None] = []
    threads = [threading.Thread(target=lambda: results.append(world.run())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([one for one in results if one is not None]) == 1
