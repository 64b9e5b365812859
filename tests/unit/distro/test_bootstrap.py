"""The settings and commands of a bootstrap; tests/engine/test_bootstrap.py creates real roots."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import pytest

from chainbuild.distro import bootstrap as bootstrap_module
from chainbuild.distro import debian, mmdebstrap
from chainbuild.distro import oci_layout as local
from chainbuild.distro.architectures import debian_architecture
from chainbuild.distro.bootstrap import bootstrap
from chainbuild.distro.debian import INPUTS_LABEL, PackageRequest, parse_name, sources_for
from chainbuild.distro.layer_tar import PackedLayer, pack_layer
from chainbuild.distro.mmdebstrap import mmdebstrap_argv
from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.events import Event
from chainbuild.references import ImageReference, Platform
from chainbuild.registry import images
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.pool import Registries
from chainbuild.values import replace
from tests.support.fake_registry import FakeRegistry
from tests.support.keys import record_store

AMD64, ARM64 = Platform.parse("amd64"), Platform.parse("aarch64")
MIRROR = [
    ("http://mirror.example/debian/", "bookworm", "Debian"),
    ("http://mirror.example/debian/", "bookworm-updates", "Debian"),
    ("http://mirror.example/debian-security/", "bookworm-security", "Debian"),
]
REQUEST = PackageRequest(
    distribution="debian",
    suite="bookworm",
    variant="slim",
    include=("usr-is-merged",),
    sources=("deb http://mirror.example/debian bookworm main",),
    apt=('Acquire::Languages "none"',),
    certificates=(("own.crt", b"PEM"),),
)


@pytest.mark.parametrize(
    ("name", "suite", "expected"),
    [
        ("debian:bookworm-slim", None, ("debian", "bookworm", True)),
        ("debian:trixie", None, ("debian", "trixie", False)),
        ("debian:12-slim", None, ("debian", "bookworm", True)),
        ("ubuntu:24.04", None, ("ubuntu", "noble", False)),
        ("team/base:1", "bookworm", ("debian", "bookworm", True)),
        ("team/base:1", "13", ("debian", "trixie", True)),
    ],
)
def test_name_selects_distribution_and_suite(name: str, suite: str | None, expected: tuple[str, str, bool]) -> None:
    assert parse_name(ImageReference.parse(name), suite, "debian") == expected


@pytest.mark.parametrize("name", ["debian", "debian:latest", "fedora:40", "team/base:1", "debian:9"])
def test_name_without_distribution_is_rejected(name: str) -> None:
    with pytest.raises(WrongUseError):
        parse_name(ImageReference.parse(name), None, "debian")


def test_sources_for_another_suite_use_mirrors_of_the_machine() -> None:
    assert sources_for("trixie", "bookworm", MIRROR) == (
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/debian-security trixie-security main",
    )
    assert sources_for("sid", "bookworm", MIRROR) == ("deb http://mirror.example/debian sid main",)
    # Only mirrors for this suite, not for other releases.
    assert sources_for("bookworm", "bookworm", [MIRROR[0], ("http://x/", "trixie", "Debian")]) == (
        "deb http://mirror.example/debian bookworm main",
    )
    with pytest.raises(NotReadyError, match="no mirror"):
        sources_for("bookworm", "bookworm", [])


def test_inputs_change_with_each_setting_of_the_image() -> None:
    same = REQUEST.inputs(AMD64)
    assert same == replace(REQUEST, include=("usr-is-merged",)).inputs(Platform.parse("x86_64"))
    others = [
        REQUEST.inputs(ARM64),
        replace(REQUEST, suite="trixie").inputs(AMD64),
        replace(REQUEST, variant="full").inputs(AMD64),
        replace(REQUEST, include=("usr-is-merged", "git")).inputs(AMD64),
        replace(REQUEST, sources=()).inputs(AMD64),
        replace(REQUEST, certificates=(("own.crt", b"OTHER"),)).inputs(AMD64),
    ]
    assert len({same, *others}) == 7


def test_mmdebstrap_command_has_all_settings() -> None:
    argv = mmdebstrap_argv(REQUEST, ARM64, Path("/t/root.tar"), Path("/t/st age"))
    assert argv[0] == "mmdebstrap"
    assert "--architectures=arm64" in argv
    assert argv[-3:] == ["bookworm", "/t/root.tar", "deb http://mirror.example/debian bookworm main"]
    assert "--extract-hook=sync-in '/t/st age/early' /" in argv
    assert any("rm -rf info man" in word for word in argv)
    assert "--variant=minbase" in argv
    assert "--include=usr-is-merged" in argv
    assert "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr" in argv
    full = mmdebstrap_argv(replace(REQUEST, variant="full"), ARM64, Path("/t/root.tar"), Path("/t/stage"))
    assert not any("rm -rf" in word for word in full)


@pytest.mark.parametrize(("name", "expected"), [("aarch64", "arm64"), ("armv7", "armhf"), ("x86_64", "amd64")])
def test_debian_architecture_names_are_used(name: str, expected: str) -> None:
    assert debian_architecture(Platform.parse(name)) == expected


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("tar: x: Cannot write: No space left on device", "not enough disk space"),
        ("E: Unable to locate package gti\nE: Unable to locate package gti", "no package gti for"),
        ("E: mmdebstrap failed to run", "E: mmdebstrap failed to run"),
    ],
)
def test_mmdebstrap_failure_has_a_clear_message(log: str, says: str) -> None:
    assert says in str(mmdebstrap._why(log, AMD64))


@pytest.mark.parametrize("package", ["git;reboot", "--x", "a b", "UPPER", ""])
def test_invalid_package_name_is_rejected(package: str) -> None:
    with pytest.raises(WrongUseError, match="invalid package name"):
        debian.read_request(ImageReference.parse("debian:bookworm-slim"), include=[package])


# ---- the same packages as on Docker Hub ------------------------------------------------------------------------------

LISTS = sorted((Path(__file__).parents[2] / "cases/base-images").glob("*.txt"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Simulate a Debian 12 machine; return its folder of additional CA certificates."""
    monkeypatch.setattr(debian, "_os_release", lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"})
    monkeypatch.setattr(debian, "_need_tools", lambda: None)
    monkeypatch.setattr(debian, "_apt_targets", lambda machine: tuple(MIRROR))
    monkeypatch.setattr(debian, "_inherited_settings", lambda: ())
    monkeypatch.setattr(debian, "_EXTRA_CERTIFICATES", tmp_path)
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy/own.crt").write_bytes(b"PEM")
    return tmp_path


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_bootstrap_adds_only_packages_of_the_public_list(machine: Path, path: Path) -> None:
    """A library that is missing in Docker Hub's image must not be in the test base: it would hide faults of a chain."""
    listed = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert listed == sorted(set(listed))
    assert not {"ca-certificates", "openssl", "libssl3", "perl", "usrmerge"} & set(listed)
    name = ImageReference.parse(path.stem.replace("-", ":", 1))
    request = debian.read_request(name)
    assert set(request.include) <= set(listed)
    assert request.certificates == ()
    argv = mmdebstrap_argv(request, AMD64, Path("/t/root.tar"), Path("/t/stage"))
    assert [word for word in argv if word.startswith("--include=")] == [
        f"--include={','.join(request.include)}" for _ in request.include
    ]
    page = (Path(__file__).parents[3] / "docs/registry.md").read_text()
    assert f"| `{name}` | {len(listed)} |" in page


def test_machine_certificates_are_listed_in_labels_and_history(machine: Path, tmp_path: Path) -> None:
    request = debian.read_request(ImageReference.parse("debian:bookworm-slim"), include=["git"], certificates=True)
    assert request.certificates == (("proxy/own.crt", b"PEM"),)
    tar = tmp_path / "root.tar"
    tar.write_bytes(b"root")
    config = mmdebstrap._config(request, AMD64, pack_layer(tar, tmp_path / "layer.gz"), 0)
    assert config.label("org.chainbuild.bootstrap.certificates") == "proxy/own.crt"
    assert b"chainbuild bootstrap debian bookworm --package git --machine-certificates" in config.raw


@pytest.mark.parametrize(
    ("uri", "include", "expected"),
    [
        ("http://mirror.example/debian", (), False),
        ("https://mirror.example/debian", (), True),
        ("https://mirror.example/debian", ("ca-certificates",), False),
    ],
)
def test_mirror_with_tls_needs_certificates(uri: str, include: tuple[str, ...], expected: bool) -> None:
    request = replace(REQUEST, include=include, sources=(f"deb {uri} bookworm main",))
    assert request.mirror_needs_certificates is expected


# ---- the flow, with fake roots --------------------------------------------------------------------------------------


class FakeWorkshop:
    made: ClassVar[list[str]] = []
    folder = Path()

    def __init__(self, emit: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def make(
        self, request: PackageRequest, platforms: tuple[Platform, ...]
    ) -> dict[str, tuple[PackedLayer, ImageConfig, float]]:
        results = {}
        for platform in platforms:
            self.made.append(platform.oci)
            tar = self.folder / "root.tar"
            tar.write_bytes(platform.oci.encode())
            layer = pack_layer(tar, self.folder / f"{platform.architecture}.gz")
            config = ImageConfig.make(platform, (layer.diff_id,)).with_changes(
                labels={INPUTS_LABEL: request.inputs(platform)}
            )
            results[platform.oci] = (layer, config, 1.0)
        return results


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeWorkshop]:
    monkeypatch.setattr(FakeWorkshop, "made", [])
    monkeypatch.setattr(FakeWorkshop, "folder", tmp_path)
    monkeypatch.setattr(bootstrap_module, "Workshop", FakeWorkshop)
    monkeypatch.setattr(bootstrap_module, "read_request", lambda *_, **__: REQUEST)
    monkeypatch.setattr(Platform, "of_this_machine", staticmethod(lambda: AMD64))
    monkeypatch.setattr(local, "label", lambda name, key: "")
    monkeypatch.setattr(local, "pull", lambda source, name, platforms: None)
    return FakeWorkshop


def ignore(event: Event) -> None:
    pass


def test_platforms_share_an_index_and_are_built_once(workshop: type[FakeWorkshop]) -> None:
    fake = FakeRegistry()
    name = ImageReference.parse("debian:bookworm-slim")
    with Registries(transport=fake.transport, credentials=lambda host: None) as registries:

        def go(*platforms: Platform, refresh: bool = False, load: bool = True) -> list[tuple[str, bool]]:
            done = bootstrap(
                name,
                platforms,
                records=record_store(registries),
                emit=ignore,
                refresh=refresh,
                load=load,
            )
            return [(str(one.platform), one.made) for one in done]

        # The platform of this machine is added, because the local store gets it.
        assert go(ARM64) == [("aarch64", True), ("amd64", True)]
        target = ImageReference.parse("localhost:5000/debian:bookworm-slim")
        index = images.read_index(registries, target)
        assert index is not None
        assert index.platforms == (AMD64, ARM64)
        assert go(ARM64, AMD64) == [("aarch64", False), ("amd64", False)]
        assert workshop.made == ["linux/arm64", "linux/amd64"]
        # A rebuild with the same content gives the same index.
        assert go(ARM64, refresh=True, load=False) == [("aarch64", True)]
        assert images.read_index(registries, target) == index


def test_platform_is_added_to_existing_index(workshop: type[FakeWorkshop]) -> None:
    fake = FakeRegistry()
    name = ImageReference.parse("debian:bookworm-slim")
    with Registries(transport=fake.transport, credentials=lambda host: None) as registries:
        for platform in (AMD64, ARM64):
            bootstrap(name, [platform], records=record_store(registries), emit=ignore, load=False)
        found = images.platforms_of(registries, ImageReference.parse("localhost:5000/debian:bookworm-slim"))
    assert found == (AMD64, ARM64)
    assert workshop.made == ["linux/amd64", "linux/arm64"]
