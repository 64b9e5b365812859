"""Publishing SIF files: the order of uploads, and interrupted uploads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from chainbuild import events, limits
from chainbuild.errors import (
    ChainbuildError,
    LoginNeededError,
    NotReadyError,
    RegistryBusyError,
    RegistryError,
    WrongUseError,
)
from chainbuild.registry.http.auth import Credentials
from chainbuild.registry.http.transport import HttpRequest, HttpResponse
from chainbuild.registry.oci import Manifest
from chainbuild.registry.pool import Registries
from chainbuild.singularity.collection import Collection, Sif
from chainbuild.singularity.places.address import parse_address
from chainbuild.singularity.places.destination import Told
from chainbuild.singularity.places.folder import FolderPlace
from chainbuild.singularity.places.oras import SIF_CONFIG, SIF_LAYER, OrasPlace
from chainbuild.singularity.places.webdav import WebdavPlace
from chainbuild.singularity.publishing import compare, publish
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.fake_registry import Answer, FakeRegistry, FakeResponse
from tests.unit.singularity.conftest import sif_of


@pytest.fixture
def shelf(tmp_path: Path) -> Collection:
    """Return a shelf with three files."""
    made = Collection(tmp_path / "shelf")
    made.folder.mkdir()
    for name in ("a", "b", "c"):
        path = made.folder / ".made"
        path.write_bytes(name.encode() * 10)
        made.put(path, sif_of(path, f"team/{name}:v1"))
    return made


class FakePlace:
    def __init__(self) -> None:
        self.there: dict[str, str] = {}
        self.fails: dict[str, ChainbuildError] = {}
        self.put_there: list[str] = []

    def checksums(self, sifs: Sequence[Sif]) -> Mapping[str, str]:
        return {sif.file: self.there[sif.file] for sif in sifs if sif.file in self.there}

    def files(self) -> tuple[str, ...] | None:
        return tuple(self.there)

    def put(self, sif: Sif, path: Path, told: Told) -> None:
        if sif.file in self.fails:
            raise self.fails[sif.file]
        self.put_there.append(sif.file)

    def close(self) -> None:
        """Nothing."""


def ignore(here: int, total: int) -> None:
    assert here <= total


def test_publish_uploads_differing_files_despite_a_failure(shelf: Collection) -> None:
    place, told = FakePlace(), list[events.Event]()
    first, second, third = shelf.all()
    place.there = {first.file: first.sha256, second.file: "0" * 64}
    compared = compare(place, shelf.all())
    assert [one.state for one in compared] == ["published", "differs", "not published"]
    place.fails[second.file] = RegistryError("no")
    published = publish(place, shelf, compared, told.append)
    assert (place.put_there, published.uploaded) == ([third.file], (third,))
    assert list(published.failures) == [StepId.parse(f"singularity/{second.file}")]


def test_file_with_wrong_checksum_is_not_published(shelf: Collection) -> None:
    place = FakePlace()
    first = shelf.all()[0]
    shelf.path(first.name).write_bytes(b"x" * first.size)
    published = publish(place, shelf, compare(place, [first]), lambda _: None)
    assert place.put_there == []
    (failure,) = published.failures.values()
    assert isinstance(failure, NotReadyError)
    assert "does not match its checksum" in str(failure)


def test_interrupted_upload_to_folder_leaves_no_checksum(shelf: Collection, tmp_path: Path) -> None:
    there = tmp_path / "there"
    place, first = FolderPlace(there), shelf.all()[0]
    assert place.checksums([first]) == {}
    place.put(first, shelf.path(first.name), ignore)
    assert place.checksums([first]) == {first.file: first.sha256}
    assert place.files() == (first.file,)
    # A folder in the place of the facts cannot be replaced by a file, so the upload fails there.
    (there / f"{first.file}.json").unlink()
    (there / f"{first.file}.json").mkdir()
    with pytest.raises(NotReadyError):
        place.put(first, shelf.path(first.name), ignore)
    assert place.checksums([first]) == {}
    assert not [path for path in there.iterdir() if path.name.startswith(".")]


# An OCI registry ------------------------------------------------------------------------------------------------------


def test_oras_artifact_has_the_format_of_apptainer(
    shelf: Collection, fake: FakeRegistry, registries: Registries
) -> None:
    place, first = OrasPlace(parse_address("oras://localhost:5000/sif"), registries), shelf.all()[0]
    assert str(place.reference(first.name)) == "localhost:5000/sif/team/a:v1"
    place.put(first, shelf.path(first.name), ignore)
    raw = registries.client("localhost:5000").manifest("sif/team/a", "v1")
    manifest = Manifest.parse(raw.raw)
    assert manifest.config.media_type == SIF_CONFIG
    assert [(layer.media_type, layer.digest.hex) for layer in manifest.layers] == [(SIF_LAYER, first.sha256)]
    assert manifest.layers[0].annotation("org.opencontainers.image.title") == first.file
    # The tag makes the artifact visible, so it is pushed last.
    assert [path for method, path in fake.log if method == "PUT"][-1].endswith("/manifests/v1")
    assert place.checksums(shelf.all()) == {first.file: first.sha256}
    assert place.files() is None


def test_oras_upload_does_not_overwrite_an_image(shelf: Collection, fake: FakeRegistry, registries: Registries) -> None:
    image = fake.add_image("team/a:v1")
    place, first = OrasPlace(parse_address("oras://localhost:5000"), registries), shelf.all()[0]
    for ask in (lambda: place.checksums([first]), lambda: place.put(first, shelf.path(first.name), ignore)):
        with pytest.raises(WrongUseError, match="was not overwritten"):
            ask()
    assert registries.client("localhost:5000").manifest("team/a", "v1").digest == image.digest


# WebDAV ---------------------------------------------------------------------------------------------------------------


class FakeDav:
    """A server with files by path; `answers` maps methods to the status to return instead."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folders = {"/"}
        self.answers: dict[str, int] = {}
        self.log: list[str] = []
        self.logins: set[str] = set()

    def send(self, request: HttpRequest) -> HttpResponse:
        path = request.url.partition("//")[2].partition("/")[2]
        self.log.append(f"{request.method} /{path}")
        self.logins.add(request.headers.get("Authorization", ""))
        body = b"".join(request.body.chunks()) if request.body else b""
        return FakeResponse(self._answer(request, f"/{path}", body))

    def close(self) -> None:
        """Nothing."""

    def _answer(self, request: HttpRequest, path: str, body: bytes) -> Answer:
        if request.method in self.answers:
            return Answer(self.answers[request.method], b"", {})
        match request.method:
            case "PUT":
                self.files[path] = body
                return Answer(201, b"", {})
            case "MOVE":
                self.files["/" + request.headers["Destination"].split("/", 3)[3]] = self.files.pop(path)
                return Answer(204, b"", {})
            case "DELETE":
                return Answer(204 if self.files.pop(path, None) is not None else 404, b"", {})
            case "MKCOL":
                self.folders.add(path)
                return Answer(201, b"", {})
            case "PROPFIND":
                return Answer(207 if path in self.folders else 404, b"", {})
            case _:
                return Answer(200, self.files[path], {}) if path in self.files else Answer(404, b"", {})


def dav(server: FakeDav, address: str = "https://dav.example/a/b", login: Credentials | None = None) -> WebdavPlace:
    return WebdavPlace(parse_address(address), server, login or Credentials(user="me", password="secret"))


def test_webdav_upload_moves_complete_files_and_checksum_last(shelf: Collection) -> None:
    server, first = FakeDav(), shelf.all()[0]
    place = dav(server)
    place.put(first, shelf.path(first.name), ignore)
    assert sorted(server.files) == [f"/a/b/{first.file}{suffix}" for suffix in ("", ".json", ".sha256")]
    assert {"MKCOL /a/", "MKCOL /a/b/"} <= set(server.log)
    assert place.checksums(shelf.all()) == {first.file: first.sha256}
    server.log.clear()
    place.put(first, shelf.path(first.name), ignore)
    verbs = [line.split()[0] for line in server.log]
    assert verbs == ["PROPFIND", "PUT", "DELETE", "MOVE", "PUT", "MOVE", "PUT", "MOVE"]
    assert server.log[-2].startswith(f"PUT /a/b/.{first.file}.sha256")


def test_webdav_server_without_move_is_reported_and_left_clean(shelf: Collection) -> None:
    server, first = FakeDav(), shelf.all()[0]
    server.answers["MOVE"] = 405
    with pytest.raises(RegistryError, match="405") as caught:
        dav(server).put(first, shelf.path(first.name), ignore)
    assert "Check that WebDAV is enabled" in str(caught.value)
    assert server.files == {}


def test_webdav_login_is_sent_over_tls_or_to_localhost_only(shelf: Collection) -> None:
    for address, sent in (
        ("https://dav.example/a", True),
        ("http://dav.example/a", False),
        ("http://localhost:8080/a", True),
    ):
        server = FakeDav()
        dav(server, address).checksums(shelf.all())
        assert server.logins == {"Basic bWU6c2VjcmV0" if sent else ""}
    server.answers["GET"] = 401
    with pytest.raises(LoginNeededError, match=r"machine localhost login USER") as caught:
        dav(server, "http://localhost:8080/a").checksums(shelf.all())
    assert "secret" not in str(caught.value)


def test_webdav_file_list_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server can send an endless list in pieces of a few bytes."""
    monkeypatch.setattr(limits, "WEBDAV", replace(limits.WEBDAV, value=2000))

    class Endless(FakeDav):
        def _answer(self, request: HttpRequest, path: str, body: bytes) -> Answer:
            return Answer(207, b"<href>/a/one.sif</href>" + b"x" * 1_000_000 + b"<href>/a/two.sif</href>")

    assert dav(Endless()).files() == ("one.sif",)


@pytest.mark.parametrize("status", [429, 503])
def test_checksums_of_busy_server_raise_busy_error(shelf: Collection, status: int) -> None:
    """If a failed query counted as not published, every file would be uploaded again."""
    server = FakeDav()
    server.answers["GET"] = status
    with pytest.raises(RegistryBusyError, match=str(status)):
        dav(server).checksums(shelf.all())


def test_checksum_that_is_a_pipe_is_ignored(shelf: Collection, tmp_path: Path) -> None:
    first = shelf.all()[0]
    path = shelf.path(first.name)
    checksum = path.with_name(path.name + ".sha256")
    checksum.unlink()
    os.mkfifo(checksum)
    assert first.file not in {one.file for one in shelf.all()}
