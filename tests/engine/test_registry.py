"""The client with a real registry, and the managed registry with real processes, containers and ports."""

from __future__ import annotations

import gzip
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chainbuild.distro import oci_layout as local
from chainbuild.distro.layer_tar import pack_layer
from chainbuild.errors import BusyError, NotFoundInRegistryError, NotReadyError, RegistryError, UnreachableError
from chainbuild.events import Event, Message
from chainbuild.local_registry import containers
from chainbuild.local_registry.ports import ask
from chainbuild.local_registry.service import ManagedRegistry, RegistryStatus, shipped_compose_file
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.artifacts import put_artifact, read_artifact
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import (
    RemoteImage,
    copy_image,
    put_image,
    put_index,
    put_tag,
    read_index,
    replace_config,
    resolve,
)
from chainbuild.registry.oci import OCI_LAYER_GZIP, Descriptor, digest_of
from chainbuild.registry.pool import Registries

AMD64, ARM64 = Platform.parse("amd64"), Platform.parse("aarch64")


@pytest.fixture
def registries() -> Iterator[Registries]:
    with Registries(credentials=lambda host: None) as pool:
        yield pool


@pytest.fixture
def repository(registry_host: str) -> str:
    """A repository that no other test uses."""
    return f"{registry_host}/test/{uuid.uuid4().hex}"


def push(registries: Registries, name: str, platform: Platform, content: bytes) -> RemoteImage:
    reference = ImageReference.parse(name)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        member = tarfile.TarInfo("content")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    packed = gzip.compress(tar.getvalue(), mtime=0)
    registries.client(reference).put_blob(reference.repository, packed)
    config = ImageConfig.make(platform, [digest_of(tar.getvalue())]).with_changes(cmd=["cat", "/content"])
    return put_image(registries, reference, config, [Descriptor.of(packed, OCI_LAYER_GZIP)])


# ---- the client -------------------------------------------------------------------------------------------------------


def test_image_pushed_is_resolved_unchanged(registries: Registries, repository: str) -> None:
    made = push(registries, f"{repository}:1", AMD64, b"x" * 3_000_000)
    found = resolve(registries, ImageReference.parse(f"{repository}:1"), AMD64)
    assert found == made
    with pytest.raises(NotFoundInRegistryError, match="exists, but not for aarch64; it has: amd64"):
        resolve(registries, ImageReference.parse(f"{repository}:1"), ARM64)
    with pytest.raises(NotFoundInRegistryError, match="is not in"):
        resolve(registries, ImageReference.parse(f"{repository}:2"), AMD64)


def test_index_merges_platforms_and_is_copied_completely(registries: Registries, repository: str) -> None:
    images = {
        platform: push(registries, f"{repository}:{platform}", platform, platform.oci.encode())
        for platform in (AMD64, ARM64)
    }
    name = ImageReference.parse(f"{repository}:all")
    put_index(registries, name, {AMD64: images[AMD64].descriptor})
    index = put_index(registries, name, {ARM64: images[ARM64].descriptor}, merge=True)
    assert index.platforms == (AMD64, ARM64)
    copy = ImageReference.parse(f"{repository}-copy:all")
    assert copy_image(registries, name, copy) == index.digest
    assert read_index(registries, copy) == index
    assert resolve(registries, copy, ARM64).config == images[ARM64].config


def test_image_with_replaced_config_is_tagged(registries: Registries, repository: str) -> None:
    image = push(registries, f"{repository}:1", AMD64, b"content")
    config = image.config.with_changes(labels={"a": "b"}, env=[("X", "1")])
    changed = replace_config(registries, image, config, ImageReference.parse(f"{repository}-other:2"))
    put_tag(registries, ImageReference.parse(f"{repository}-other:3"), changed.digest)
    assert resolve(registries, ImageReference.parse(f"{repository}-other:3"), AMD64).config.label("a") == "b"


@pytest.mark.parametrize("size", [2, 100_000])
def test_artifact_is_stored_by_registry_older_than_oci_1_1(registries: Registries, repository: str, size: int) -> None:
    name = ImageReference.parse(f"{repository}:k1-{'0' * 64}")
    digest = put_artifact(registries, name, artifact_type="application/vnd.example", content=b"x" * size)
    found = read_artifact(registries, name, "application/vnd.example")
    assert found is not None
    assert (found.digest, found.content) == (digest, b"x" * size)
    client = registries.client(name)
    assert client.delete_manifest(name.repository, digest)
    assert not client.delete_manifest(name.repository, digest)
    assert read_artifact(registries, name) is None


def test_tag_and_repository_lists_follow_all_pages(
    registries: Registries, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chainbuild.registry.client._PAGE", 2)
    image = push(registries, f"{repository}:0", AMD64, b"content")
    for number in range(1, 5):
        put_tag(registries, ImageReference.parse(f"{repository}:{number}"), image.digest)
    client = registries.client(image.reference)
    assert sorted(client.tags(image.reference.repository)) == list("01234")
    assert image.reference.repository in client.repositories()
    assert client.tags("test/nothing-of-that-name") == ()


def test_image_pushed_by_client_is_pulled_by_engine(registries: Registries, repository: str) -> None:
    own = Platform.of_this_machine()
    push(registries, f"{repository}:1", own, b"hello")
    done = subprocess.run(["docker", "pull", "--quiet", f"{repository}:1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    subprocess.run(["docker", "rmi", f"{repository}:1"], capture_output=True, check=True)


def test_client_works_with_many_threads_and_after_close(registries: Registries, repository: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    image = push(registries, f"{repository}:1", AMD64, b"content")
    client, name = registries.client(image.reference), image.reference.repository
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: client.head(name, "1"), range(64)))
    assert {one.digest for one in found if one} == {image.digest}
    assert len([one for one in found if one]) == 64
    client.close()
    assert client.head(name, "1") is not None


def test_unreachable_registry_raises_at_once(engine: str, registries: Registries) -> None:
    with pytest.raises(UnreachableError, match="refuses connections"):
        registries.client(f"localhost:{free_port()}").ping()


def test_local_store_load_push_and_pull_keep_the_image(registries: Registries, repository: str, tmp_path: Path) -> None:
    own = Platform.of_this_machine()
    with tarfile.open(tmp_path / "root.tar", "w") as archive:
        archive.add(__file__, "content")
    layer = pack_layer(tmp_path / "root.tar", tmp_path / "layer.gz")
    config = ImageConfig.make(own, [layer.diff_id]).with_changes(labels={"made-by": "test"})
    name = f"chainbuild-test/{uuid.uuid4().hex}:1"
    target = ImageReference.parse(f"{repository}:1")
    local.load(layer, config, ImageReference.parse(name))
    try:
        assert local.label(name, "made-by") == "test"
        assert local.label(name, "other") == ""
        local.push(name, target)
        assert resolve(registries, target, own).config.content_identity == config.content_identity
        local.pull(target, name, [own])
        assert local.label(name, "made-by") == "test"
    finally:
        subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False)
    assert local.label(name, "made-by") == ""


# ---- the managed registry ---------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quiet(event: Event) -> None:
    assert isinstance(event, Message)


PROGRAM = """
import sys
from pathlib import Path
from chainbuild.local_registry.service import ManagedRegistry
port, data, leases = sys.argv[1:4]
lease = ManagedRegistry(int(port), Path(data), leases_folder=Path(leases)).lease(lambda event: None)
"""
HOLD = (
    PROGRAM
    + """
with lease as endpoint:
    print(endpoint, 'subprocess' in sys.modules, flush=True)
    sys.stdin.read()
"""
)


class Place:
    """A port and folders of one test, and runs that hold leases on the registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.endpoint = f"localhost:{self.port}"
        self.runs: list[subprocess.Popen[str]] = []
        self.spawned: list[bool] = []

    def managed(self, data: str = "registry") -> ManagedRegistry:
        return ManagedRegistry(self.port, self.folder / data, leases_folder=self.folder / "leases")

    def start(self, program: str, data: str = "registry", **how: Any) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", program, str(self.port), str(self.folder / data), str(self.folder / "leases")]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.Popen(argv, stdin=subprocess.PIPE, text=True, env=environment, **how)

    def run(self, data: str = "registry") -> subprocess.Popen[str]:
        """Return a process that holds a lease and releases it when its stdin is closed."""
        started = self.start(HOLD, data, stdout=subprocess.PIPE)
        self.runs.append(started)
        assert started.stdout is not None
        said = started.stdout.readline().split()
        assert said[:1] == [self.endpoint]
        self.spawned.append(said[1] == "True")
        return started

    def end(self, run: subprocess.Popen[str]) -> None:
        run.communicate(timeout=60)
        assert run.returncode == 0

    def status(self) -> RegistryStatus:
        return self.managed().status()


@pytest.fixture
def place(registry_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name, folder in (("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "state"), ("DOCKER_CONFIG", "docker")):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(name, str(tmp_path / folder))
    there = Place(tmp_path)
    yield there
    for run in there.runs:
        run.kill()
        run.communicate()
    if (found := containers.container_on(there.port)) and found.ours:
        there.managed().down(quiet, force=True)
    assert containers.container_on(there.port) is None, "a registry is left"
    assert networks(there.port) == [], "a network is left"


def networks(port: int) -> list[str]:
    argv = ["docker", "network", "ls", "--filter", f"name=chainbuild-registry-{port}_", "--format", "{{.Name}}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def test_run_starts_and_stops_the_registry(place: Place) -> None:
    run = place.run()
    status = place.status()
    assert (status.kind, len(status.holders), status.holders[0].pid) == ("run", 1, run.pid)
    assert status.data == str(place.folder / "registry")
    place.end(run)
    assert place.status() == RegistryStatus(endpoint=place.endpoint, kind="none")
    assert (place.folder / "registry").is_dir()


def test_registry_is_published_on_loopback_only(place: Place) -> None:
    place.run()
    ports = subprocess.run(
        ["docker", "ps", "--filter", f"publish={place.port}", "--format", "{{.Ports}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    published = {text.split("->")[0].strip() for text in ports.stdout.split(",")}
    assert f"127.0.0.1:{place.port}" in published
    assert published <= {f"127.0.0.1:{place.port}", f"[::1]:{place.port}"}


def test_registry_stays_up_until_the_last_run_ends(place: Place) -> None:
    first = place.run()
    second = place.run("another-checkout")
    # The registry was up: no process was started for the second run.
    assert place.spawned == [True, False]
    place.end(first)
    assert ask(place.endpoint) == "registry"
    assert place.status().data == str(place.folder / "registry")
    place.end(second)
    assert place.status().kind == "none"


def test_concurrent_runs_share_the_registry(place: Place) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as threads:
        runs = list(threads.map(lambda _: place.run(), range(4)))
    assert len(place.status().holders) == 4
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(place.end, runs))
    assert place.status().kind == "none"


def test_registry_of_killed_run_is_stopped_by_the_next_run(place: Place) -> None:
    killed = place.run()
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    status = place.status()
    assert (status.kind, status.holders) == ("run", ())
    place.end(place.run())
    assert place.status().kind == "none"
    assert not list((place.folder / "leases").rglob("lease-*"))


def test_run_killed_during_registry_start_is_cleaned_up_by_next_run(place: Place) -> None:
    for wait in (0.15, 0.3, 0.45, 0.6):
        started = place.start(PROGRAM + "lease.__enter__()", stderr=subprocess.DEVNULL)
        time.sleep(wait)
        started.kill()
        started.communicate()
    place.end(place.run())
    assert place.status().kind == "none"


def linger(place: Place, seconds: float) -> ManagedRegistry:
    """Return the registry for a run after which it stays up."""
    return ManagedRegistry(place.port, place.folder / "registry", leases_folder=place.folder / "leases", linger=seconds)


def clocks(container: str) -> int:
    """Return how many clocks run in a registry's container."""
    argv = ["docker", "top", container, "-eo", "pid,args"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.count(" clock ")


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    limit = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < limit:
        time.sleep(0.2)
    return done


def test_registry_stays_up_for_the_next_run_and_stops_by_itself(place: Place) -> None:
    with linger(place, 600).lease(quiet):
        pass
    container = containers.container_on(place.port)
    assert container is not None
    status = place.status()
    assert (status.kind, status.holders) == ("run", ())
    assert 0 < status.until - time.time() <= 600
    with linger(place, 12).lease(quiet):
        assert containers.container_on(place.port) == container, "the same registry"
        assert place.status().until == 0
        # The first run's clock ends without stopping the registry.
        assert until(lambda: clocks(container.id) == 0)
        assert ask(place.endpoint) == "registry"
    assert until(lambda: containers.container_on(place.port) is None), "it does not stop"
    assert place.status().kind == "none"
    place.end(place.run())
    assert place.status().kind == "none"


def test_lingering_registry_is_stopped_by_down(place: Place) -> None:
    with linger(place, 600).lease(quiet):
        pass
    assert place.managed().down(quiet)
    assert place.status() == RegistryStatus(endpoint=place.endpoint, kind="none")
    assert not place.managed().down(quiet)


def test_lingering_registry_whose_container_restarts_is_dealt_with(place: Place) -> None:
    """A restart of the container, or of the machine, ends the clock."""
    with linger(place, 12).lease(quiet):
        pass
    container = containers.container_on(place.port)
    assert container is not None
    containers.restart(container.id)
    assert clocks(container.id) == 0
    place.end(place.run())
    assert place.status().kind == "none"


def test_registry_started_by_the_user_stays_up(place: Place) -> None:
    place.managed().up(quiet)
    assert place.status().kind == "person"
    place.end(place.run())
    assert place.status().kind == "person"
    assert place.managed().down(quiet)
    assert not place.managed().down(quiet)


def test_registry_started_by_compose_stays_up(place: Place) -> None:
    environment = {**os.environ, "CHAINBUILD_REGISTRY_PORT": str(place.port)}
    environment["CHAINBUILD_REGISTRY_DATA"] = str(place.folder / "by-hand")
    argv = ["docker", "compose", "--file", str(shipped_compose_file())]
    subprocess.run([*argv, "up", "--detach", "--wait"], env=environment, capture_output=True, check=True)
    try:
        place.end(place.run())
        assert place.status().kind == "person"
    finally:
        subprocess.run([*argv, "down"], env=environment, capture_output=True, check=True)
    assert place.status().kind == "none"


def test_down_during_a_run_is_refused_without_force(place: Place) -> None:
    run = place.run()
    with pytest.raises(BusyError, match=f"pid {run.pid} since"):
        place.managed().down(quiet)
    assert place.managed().down(quiet, force=True)
    place.end(run)


def test_foreign_registry_is_used_and_never_stopped(place: Place, registry_image: str) -> None:
    name = f"chainbuild-test-{uuid.uuid4().hex[:8]}"
    argv = ["docker", "run", "--detach", "--rm", "--name", name, "--publish", f"127.0.0.1:{place.port}:5000"]
    subprocess.run([*argv, registry_image], capture_output=True, check=True)
    try:
        limit = time.monotonic() + 30
        while ask(place.endpoint) != "registry":
            assert time.monotonic() < limit
            time.sleep(0.05)
        place.end(place.run())
        status = place.status()
        assert (status.kind, status.holder) == ("foreign", f"container {name}")
        with pytest.raises(NotReadyError, match=f"container {name}"):
            place.managed().down(quiet, force=True)
    finally:
        subprocess.run(["docker", "stop", "--time", "0", name], capture_output=True, check=True)
    limit = time.monotonic() + 30
    while containers.container_on(place.port) is not None:
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_port_in_use_is_reported_with_process_and_flag(place: Place) -> None:
    argv = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(place.port)]
    web = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place.folder)
    try:
        limit = time.monotonic() + 30
        while ask(place.endpoint) == "nothing":
            assert time.monotonic() < limit
            time.sleep(0.05)
        with pytest.raises(NotReadyError, match=rf"port {place.port}.*\(pid {web.pid}\)") as told:
            place.managed().lease(quiet).__enter__()
        assert "--registry-port" in told.value.hint
        assert place.status().kind == "blocked"
    finally:
        web.kill()
        web.wait()


def test_pushed_image_survives_registry_restart(place: Place) -> None:
    managed = place.managed()
    with Registries(credentials=managed.credentials) as registries:
        with managed.lease(quiet) as endpoint:
            made = push(registries, f"{endpoint}/test/app:1", AMD64, b"content")
        with pytest.raises(RegistryError):
            registries.client(place.endpoint).ping()
        with managed.lease(quiet) as endpoint:
            assert resolve(registries, ImageReference.parse(f"{endpoint}/test/app:1"), AMD64) == made
