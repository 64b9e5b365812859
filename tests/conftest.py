"""What all tests share: unit tests start no process and open no socket; engine tests get a real engine and registry."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import pytest
from hypothesis import settings

# This machine is shared: an example that took long is no finding.
settings.register_profile("chainbuild", deadline=None)
settings.load_profile("chainbuild")

ENGINE_FIXTURES = {"engine", "registry_host"}
STOCKED = {"test_atom_option", "test_extras", "test_graphics"}
"""The files of tests that stand on the option `stock`, which is built once for all of them."""
BASE = "debian:bookworm-slim"
NEWER_BASE = "debian:trixie-slim"
"""A base whose compilers have native tools."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-engine", action="store_true", help="a missing Docker Engine is a failure, not a reason to skip"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Several workers (script/test): a file of engine tests is one worker's, and so is all that stands on the built options."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if "tests/engine/" not in file:
                return nodeid
            return "stocked" if Path(file).stem in STOCKED else file

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        names = getattr(item, "fixturenames", ())
        if ENGINE_FIXTURES.intersection(names):
            item.add_marker("engine")
    if not os.environ.get("CHAINBUILD_TEST_LONG"):
        slow = [item for item in items if "long" in item.keywords]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)
    # What takes the engine or its cache away from everybody on this machine runs where it is asked for (by .ci/run), last.
    gone = [item for item in items if "disturbs_engine" in item.keywords]
    items[:] = [item for item in items if item not in gone]
    if os.environ.get("CHAINBUILD_TEST_DISTURB_ENGINE"):
        items += gone
    else:
        config.hook.pytest_deselected(items=gone)


# ---- several workers, one engine ------------------------------------------------------------------------------------

_LOCKS: Final = Path(tempfile.gettempdir()) / f"chainbuild-tests-{os.getuid()}"
_engine_lock: dict[int, IO[bytes]] = {}
"""The lock that this worker holds while it is in a file of engine tests, by its kind."""


def _lock(name: str, operation: int) -> IO[bytes]:
    """Open a file of that name that is locked until it is closed; waits for it."""
    _LOCKS.mkdir(mode=0o700, exist_ok=True)
    file = (_LOCKS / name).open("ab")
    fcntl.flock(file, operation)
    return file


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Do what is between this with no other worker doing it."""
    with _lock(name, fcntl.LOCK_EX):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Let nobody disturb the engine while another worker is in a file of engine tests."""
    if "tests/engine/" not in item.nodeid:
        return (yield)
    kind = fcntl.LOCK_EX if "disturbs_engine" in item.keywords else fcntl.LOCK_SH
    if not {kind, fcntl.LOCK_EX} & _engine_lock.keys():
        _leave_engine()
        _engine_lock[kind] = _lock("engine", kind)
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path != item.path:
            _leave_engine()


def _leave_engine() -> None:
    while _engine_lock:
        _engine_lock.popitem()[1].close()


@pytest.fixture(autouse=True)
def _unit_tests_touch_nothing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "tests/unit/" not in request.node.nodeid:
        return

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a unit test tried to start a process or open a socket: {args!r}")

    # Not the name: whoever imports it while a unit test runs would keep what stands in for it.
    monkeypatch.setattr(subprocess.Popen, "__init__", forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)


@pytest.fixture(autouse=True)
def _own_folders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    """Keep unit tests away from the keys and settings of whoever runs them."""
    if "tests/unit/" in request.node.nodeid:
        for name in ("CONFIG", "DATA", "STATE", "CACHE"):
            monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path_factory.getbasetemp() / "xdg" / name.lower()))
        for name in ("CHAINBUILD_SIGNING_KEY", "CHAINBUILD_TRUSTED_KEYS"):
            monkeypatch.delenv(name, raising=False)
        for name in [name for name in os.environ if name.startswith("CHAINBUILD_REGISTRY")]:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """The server version of a Docker Engine that answers, with buildx."""
    why = "no docker command found"
    if shutil.which("docker"):
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
        )
        buildx = subprocess.run(["docker", "buildx", "version"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and buildx.returncode == 0:
            return done.stdout.strip()
        why = (done.stderr or buildx.stderr).strip()
    if request.config.getoption("--require-engine"):
        pytest.fail(f"no Docker Engine: {why}")
    pytest.skip(f"no Docker Engine: {why}")


@pytest.fixture(scope="session")
def registry_image(engine: str) -> str:
    """The registry's image, pulled or built from the distribution's package, as the product makes it."""
    from chainbuild.local_registry.service import REGISTRY_IMAGE, ensure_image

    with _alone("registry-image"):
        ensure_image(lambda event: None)
    return REGISTRY_IMAGE


@pytest.fixture(scope="session")
def registry_host(registry_image: str) -> Iterator[str]:
    """`localhost:PORT` of a registry of the tests' own."""
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import HttpWaitStrategy

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    # A port of ours and a restart policy: it is there again, at its place, when the engine has been restarted.
    container = (
        DockerContainer(registry_image)
        .with_env("REGISTRY_STORAGE_DELETE_ENABLED", "true")
        .with_bind_ports(5000, port)
        .with_kwargs(restart_policy={"Name": "unless-stopped"})
        .waiting_for(HttpWaitStrategy(5000, "/v2/"))
    )
    with container:
        yield f"localhost:{port}"


@pytest.fixture(scope="session")
def base_images(registry_host: str) -> str:
    """`HOST/debian:bookworm-slim` in the registry of the tests, for amd64 and aarch64."""
    return _base_images(BASE, registry_host)


@pytest.fixture(scope="session")
def newer_base_images(registry_host: str) -> str:
    """`HOST/debian:trixie-slim`, as `base_images`."""
    return _base_images(NEWER_BASE, registry_host)


def _base_images(base: str, registry_host: str) -> str:
    """Put a base into the registry of the tests, for amd64 and aarch64, and return its name there.

    A pulled image of the local store is handed over; what a registry has is copied; else both are made from packages,
    side by side, and stay in the local store under a name of the tests, so that only a machine's first session waits
    for them. One that `chainbuild bootstrap` left under the real name may be of an earlier version, and is not taken.
    """
    from chainbuild.distro import oci_layout as local
    from chainbuild.distro.bootstrap import bootstrap
    from chainbuild.distro.debian import INPUTS_LABEL
    from chainbuild.errors import ChainbuildError
    from chainbuild.references import ImageReference, Platform
    from chainbuild.registry.images import copy_image, resolve
    from chainbuild.registry.pool import Registries
    from tests.support.keys import record_store

    name = ImageReference.parse(base)
    place = ImageReference.parse(f"{registry_host}/{base}")
    platforms = (Platform.parse("amd64"), Platform.parse("aarch64"))
    local_base = f"chainbuild-test/{base}"
    with _alone("base-images"), Registries() as registries:
        if not local.label(base, INPUTS_LABEL):
            if _handed_over(registries, base, place, platforms):
                return str(place)
            try:
                copy_image(registries, name, place)
                for platform in platforms:
                    resolve(registries, place, platform)
                return str(place)
            except ChainbuildError as error:
                sys.stderr.write(f"no registry gives {base}: {error}\n")
        request = _base_request(local_base)
        if local.label(local_base, INPUTS_LABEL) == request.inputs(Platform.of_this_machine()) and _handed_over(
            registries, local_base, place, platforms
        ):
            _name_like_the_real_one(base, local_base)
            return str(place)
        bootstrap(
            ImageReference.parse(local_base),
            platforms,
            records=record_store(registries, registry_host),
            emit=print,
            suite=request.suite,
            certificates=True,
        )
        copy_image(registries, ImageReference.parse(f"{registry_host}/{local_base}"), place)
        _name_like_the_real_one(base, local_base)
    return str(place)


def _name_like_the_real_one(base: str, local_base: str) -> None:
    """Let the local store have the base under its real name, if it has none: the stages run in it, and no registry gives it."""
    if subprocess.run(["docker", "image", "inspect", base], capture_output=True, check=False).returncode:
        subprocess.run(["docker", "image", "tag", local_base, base], capture_output=True, check=True)


def _base_request(local_base: str) -> Any:
    from chainbuild.distro.debian import read_request
    from chainbuild.references import ImageReference

    suite = local_base.rpartition(":")[2].removesuffix("-slim")
    # The certificates of a machine whose proxy needs them: what is fetched in containers goes through it, too.
    return read_request(ImageReference.parse(local_base), suite=suite, certificates=True)


def _handed_over(registries: Any, local_name: str, place: Any, platforms: Any) -> bool:
    """Whether the local store has the image for all platforms; then they are in the registry, under one index."""
    from chainbuild.builder.buildx import hand_over
    from chainbuild.errors import ChainbuildError
    from chainbuild.registry.images import put_index, resolve

    found = {}
    for platform in platforms:
        single = place.with_tag(f"base-{platform}")
        try:
            hand_over(local_name, platform, str(single))
            found[platform] = resolve(registries, single, platform).descriptor
        except ChainbuildError as error:
            sys.stderr.write(f"the local store gives no {local_name} for {platform}: {error}\n")
            return False
        finally:
            subprocess.run(["docker", "image", "rm", str(single)], capture_output=True, check=False)
    put_index(registries, place, found)
    return True


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The top of the checkout."""
    return Path(__file__).resolve().parent.parent
