"""Images loaded from a registry into the engine's local store keep their names, whichever tags an engine removes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from chainbuild.errors import RegistryError
from chainbuild.images.local_store import LocalStore
from chainbuild.references import Digest
from tests.support.world import AMD64

DIGEST = Digest("sha256:" + "a" * 64)
PINNED = f"localhost:5000/acme/tools@{DIGEST}"


class Engine:
    """Docker's image commands, on a containerd store: names are references to one image.

    `docker rmi REPO@DIGEST` removes the repository's tag of the image as well, if there is only one. `takes_all` makes it
    remove every name.
    """

    def __init__(self, *names: str, takes_all: bool = False) -> None:
        self.names = set(names)
        self.takes_all = takes_all
        self.pulls = 0

    def run(self, argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        match argv[1:]:
            case ["image", "inspect", name]:
                return self._inspect(argv, name)
            case ["pull", "--quiet", "--platform", "linux/amd64", name]:
                self.pulls += 1
                self.names.add(name)
            case ["tag", source, name]:
                if source not in self.names:
                    return subprocess.CompletedProcess(argv, 1, "", "no such image")
                self.names.add(name)
            case ["rmi", name]:
                self._remove(name)
        return subprocess.CompletedProcess(argv, 0, "", "")

    def _inspect(self, argv: list[str], name: str) -> subprocess.CompletedProcess[str]:
        if name not in self.names:
            return subprocess.CompletedProcess(argv, 1, "", "no such image")
        image = {
            "Id": str(DIGEST),
            "Os": "linux",
            "Architecture": "amd64",
            "RepoTags": sorted(name for name in self.names if "@" not in name),
            "RepoDigests": sorted(name for name in self.names if "@" in name),
        }
        return subprocess.CompletedProcess(argv, 0, json.dumps([image]), "")

    def _remove(self, name: str) -> None:
        repository = name.partition("@")[0]
        tags = {other for other in self.names if other.startswith(f"{repository}:")}
        self.names -= {name}
        if self.takes_all:
            self.names.clear()
        elif len(tags) == 1:
            self.names -= tags


def use(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Engine:
    monkeypatch.setattr(subprocess, "run", engine.run)
    return engine


@pytest.mark.parametrize("takes_all", [False, True])
@pytest.mark.parametrize("name", ["localhost:5000/acme/tools:v1-stock-amd64", "acme/tools:v1-stock-amd64"])
def test_loaded_image_has_its_name(name: str, takes_all: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = use(monkeypatch, Engine(takes_all=takes_all))
    LocalStore().load(PINNED, DIGEST, AMD64, name)
    assert name in engine.names


def test_load_under_another_repository_leaves_no_untagged_image(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = use(monkeypatch, Engine())
    LocalStore().load(PINNED, DIGEST, AMD64, "acme/tools:v1")
    assert engine.names == {"acme/tools:v1"}


def test_load_keeps_other_tags_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = use(monkeypatch, Engine(PINNED, "localhost:5000/acme/tools:mine"))
    LocalStore().load(PINNED, DIGEST, AMD64, "acme/tools:v1")
    assert {"localhost:5000/acme/tools:mine", "acme/tools:v1"} <= engine.names
    assert engine.pulls == 0


def test_load_of_an_image_under_its_name_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = use(monkeypatch, Engine("acme/tools:v1"))
    LocalStore().load(PINNED, DIGEST, AMD64, "acme/tools:v1")
    assert (engine.names, engine.pulls) == ({"acme/tools:v1"}, 0)


def test_failed_pull_reports_message_of_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, 1, "", "disk full\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(RegistryError, match=r"could not pull .*: disk full"):
        LocalStore().load(PINNED, DIGEST, AMD64, "acme/tools:v1")
