"""`chainbuild bootstrap` with a real mirror, registry and engine."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainbuild.distro import oci_layout as local
from chainbuild.distro.architectures import debian_architecture, is_emulated
from chainbuild.distro.bootstrap import Bootstrapped, bootstrap
from chainbuild.distro.debian import read_request
from chainbuild.distro.mmdebstrap import Workshop
from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.events import Event, Message
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.images import read_index, resolve
from chainbuild.registry.pool import Registries
from tests.support.keys import record_store

from .conftest import CASES, container_output

OWN = Platform.of_this_machine()
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def needs_mmdebstrap(engine: str, request: pytest.FixtureRequest) -> None:
    missing = [tool for tool in ("mmdebstrap", "arch-test") if not shutil.which(tool)]
    if missing and request.config.getoption("--require-engine"):
        pytest.fail(f"not installed: {missing}")
    if missing:
        pytest.skip(f"not installed: {missing}")


@pytest.fixture
def name(needs_mmdebstrap: None) -> Iterator[ImageReference]:
    """An image name of this test only; the image is removed from the local store afterwards."""
    reference = ImageReference.parse(f"chainbuild-test/base-{uuid.uuid4().hex[:8]}:1")
    yield reference
    subprocess.run(["docker", "rmi", "--force", str(reference)], capture_output=True, check=False)


def suite() -> str:
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    return ""


def make(name: ImageReference, registry: str, said: list[str], *, refresh: bool = False) -> Bootstrapped:
    def emit(event: Event) -> None:
        assert isinstance(event, Message)
        said.append(event.text)

    with Registries(credentials=lambda host: None) as registries:
        done = bootstrap(
            name,
            [OWN],
            records=record_store(registries, registry),
            emit=emit,
            suite=suite(),
            refresh=refresh,
            certificates=True,
        )
    assert len(done) == 1
    return done[0]


def test_bootstrap_builds_working_base_only_once(name: ImageReference, registry_host: str) -> None:
    said: list[str] = []
    made = make(name, registry_host, said)
    assert made.made
    assert any("packages" in line for line in said)

    # apt works in the image with this machine's mirror, and this machine's certificates are installed.
    script = (
        "set -e; apt-get update -qq; apt-get install -qq --yes file >/dev/null; file --version | head -n 1; echo $PATH"
    )
    argv = ["docker", "run", "--rm", str(name), "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "file-" in done.stdout
    assert "/usr/local/sbin:/usr/local/bin" in done.stdout
    own = sorted(path.name for path in Path("/usr/local/share/ca-certificates").glob("*.crt"))
    listed = subprocess.run(
        ["docker", "run", "--rm", str(name), "ls", "/usr/local/share/ca-certificates", "/usr/share/man"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(own) <= set(listed.stdout.split())

    again = make(name, registry_host, said)
    assert (again.made, again.digest) == (False, made.digest)

    with Registries(credentials=lambda host: None) as registries:
        target = ImageReference.parse(made.registry_name)
        index = read_index(registries, target)
        assert index is not None
        assert index.platforms == (OWN,)
        assert resolve(registries, target, OWN).config.cmd == ("bash",)
    assert local.label(str(name), "org.chainbuild.bootstrap.inputs")


@pytest.mark.parametrize("platform", ["amd64", "aarch64"])
def test_base_has_the_packages_of_the_public_image(base_images: str, platform: str) -> None:
    """Catch a base that has more than Docker Hub's image and so hides a dependency that a chain lacks."""
    listed = (CASES / "base-images/debian-bookworm-slim.txt").read_text().splitlines()
    found = container_output(base_images, "dpkg-query", "-W", "-f", "${Package}\n", platform=platform).split()
    assert found == [line for line in listed if not line.startswith("#")]


def test_bootstrap_with_same_inputs_gives_same_digest(name: ImageReference, registry_host: str) -> None:
    first = make(name, registry_host, [])
    second = make(name, registry_host, [], refresh=True)
    assert second.made
    assert second.digest == first.digest


def contents(tar: Path) -> list[tuple[object, ...]]:
    """Return everything about each member, in order."""
    with tarfile.open(tar) as file:
        return [
            (
                member.name,
                member.type,
                oct(member.mode),
                member.uid,
                member.gid,
                member.linkname,
                member.mtime,
                sorted(member.pax_headers.items()),
                hashlib.sha256(data.read()).hexdigest()
                if member.isreg() and (data := file.extractfile(member))
                else "",
            )
            for member in file
        ]


@pytest.fixture
def foreign(needs_mmdebstrap: None, request: pytest.FixtureRequest) -> Platform:
    """A platform that this machine emulates."""
    for name in ("aarch64", "amd64"):
        platform = Platform.parse(name)
        runs = subprocess.run(["arch-test", debian_architecture(platform)], capture_output=True, check=False)
        if is_emulated(platform) and runs.returncode == 0:
            return platform
    if request.config.getoption("--require-engine"):
        pytest.fail("this machine emulates no platform")
    pytest.skip("this machine emulates no platform")


@pytest.mark.long
@pytest.mark.parametrize("packages", [(), ("liblocale-gettext-perl", "adduser")], ids=["minimal", "perl modules"])
def test_native_programs_give_the_root_of_emulation_only(
    foreign: Platform, tmp_path: Path, packages: tuple[str, ...]
) -> None:
    """liblocale-gettext-perl is a perl module in machine code, which only the foreign perl can load."""
    request = read_request(ImageReference.parse(f"debian:{suite()}-slim"), include=packages)
    roots: dict[bool, list[tuple[object, ...]]] = {}
    made: dict[bool, tuple[Digest, bytes]] = {}
    said: list[str] = []

    def emit(event: Event) -> None:
        assert isinstance(event, Message)
        said.append(event.text)

    for emulate_all in (False, True):
        with Workshop(emit, emulate_all=emulate_all) as workshop:
            layer, config, _ = workshop.make(request, (foreign,))[foreign.oci]
            made[emulate_all] = layer.diff_id, config.raw
            roots[emulate_all] = contents(layer.path)
    assert f"{foreign}: installed with native programs" in said
    assert [pair for pair in zip(roots[False], roots[True], strict=False) if pair[0] != pair[1]] == []
    assert made[False] == made[True]
    assert not any("chainbuild" in str(row[0]) and "90-chainbuild" not in str(row[0]) for row in roots[False])


def test_unknown_suite_is_reported(needs_mmdebstrap: None, registry_host: str) -> None:
    with Registries(credentials=lambda host: None) as registries, pytest.raises(NotReadyError, match="nonesuch"):
        bootstrap(
            ImageReference.parse("debian:nonesuch"), [OWN], records=record_store(registries, registry_host), emit=print
        )


def test_unknown_package_is_reported(name: ImageReference, registry_host: str) -> None:
    with Registries(credentials=lambda host: None) as registries, pytest.raises(WrongUseError, match="no-such-package"):
        bootstrap(
            name,
            [OWN],
            records=record_store(registries, registry_host),
            emit=lambda event: None,
            suite=suite(),
            include=["no-such-package"],
            load=False,
        )


def test_unsupported_platform_is_reported_with_package_to_install(needs_mmdebstrap: None, registry_host: str) -> None:
    missing = [
        name
        for name in ("riscv64", "s390x", "ppc64le")
        if subprocess.run(
            ["arch-test", {"ppc64le": "ppc64el"}.get(name, name)], capture_output=True, check=False
        ).returncode
    ]
    if not missing:
        pytest.skip("every platform runs here")
    with (
        Registries(credentials=lambda host: None) as registries,
        pytest.raises(NotReadyError, match=missing[0]) as told,
    ):
        bootstrap(
            ImageReference.parse(f"debian:{suite()}-slim"),
            [Platform.parse(missing[0])],
            records=record_store(registries, registry_host),
            emit=lambda event: None,
            load=False,
        )
    assert "qemu-user-static" in told.value.hint
