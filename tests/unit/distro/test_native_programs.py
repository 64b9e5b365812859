"""Native programs for foreign roots; tests/engine/test_bootstrap.py compares roots that are made with and without them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from chainbuild.distro import mmdebstrap
from chainbuild.distro import native_programs as native
from chainbuild.distro.debian import PackageRequest
from chainbuild.distro.mmdebstrap import RootFailedError, Workshop, mmdebstrap_argv, programs_argv
from chainbuild.errors import NotReadyError
from chainbuild.events import Event, Message
from chainbuild.references import Platform
from chainbuild.registry.http.transport import CHUNK

AMD64, ARM64 = Platform.parse("amd64"), Platform.parse("aarch64")
REQUEST = PackageRequest(
    distribution="debian",
    suite="bookworm",
    variant="slim",
    include=(),
    sources=("deb http://mirror.example/debian bookworm main",),
    apt=(),
    certificates=(),
)
LOADER = b"/lib64/ld-linux-x86-64.so.2\0"
ARCHIVES = ("dash_0.5.12-2_amd64.deb", "coreutils_9.1-1_amd64.deb", "dpkg_1.21.22_amd64.deb", "libc6_2.36-9_amd64.deb")


def program(text: bytes = b"") -> bytes:
    return b"\x7fELF" + LOADER + text + b"\0"


def write_tar(path: Path, files: dict[str, bytes], links: dict[str, str]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
        for name, link in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            tar.addfile(entry)
    return path


def root_tar(tmp_path: Path, dpkg: bytes = program(b"\x001.21.22 (amd64)\0amd64\0any"), **other: bytes) -> Path:
    names = ("./bin/dash", "./bin/ln", "./bin/mv", "./usr/bin/touch", "./usr/bin/dpkg-deb", "./usr/bin/uname")
    files = {name: program() for name in names} | {
        "./usr/bin/dpkg": dpkg,
        "./usr/bin/dpkg-query": dpkg,
        "./usr/bin/wc": b"#!/bin/sh\n",
        "./lib/x86_64-linux-gnu/libc.so.6": b"libc",
        "./lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": b"loader",
        "./usr/lib/x86_64-linux-gnu/libacl.so.1.1": b"acl",
        "./usr/lib/x86_64-linux-gnu/gconv/UTF-16.so": b"gconv",
        "./usr/lib/x86_64-linux-gnu/perl-base/auto/POSIX/POSIX.so": b"posix",
    }
    links = {"./usr/lib/x86_64-linux-gnu/libacl.so.1": "libacl.so.1.1"}
    return write_tar(tmp_path / "root.tar", files | {f"./usr/bin/{name}": data for name, data in other.items()}, links)


def test_versions_ignore_rebuilds_without_source_change() -> None:
    names = [
        "tar_1.34+dfsg-1.2+deb12u1_arm64.deb",
        "sed_4.9-1+b2_arm64.deb",
        "gzip_1%3a1.12-1_all.deb",
        "lock",
        "a_b.deb",
    ]
    assert native.versions(names) == {"tar": "1.34+dfsg-1.2+deb12u1", "sed": "4.9-1", "gzip": "1%3a1.12-1"}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ("arm64", b"1 (amd64)\0arm64\0any\0"),
        ("i386", b"1 (amd64)\0i386\0\0any\0"),
        # No room for a longer name.
        ("riscv64", b""),
    ],
)
def test_architecture_of_dpkg_is_replaced_in_place(other: str, expected: bytes) -> None:
    assert native.with_architecture(b"1 (amd64)\0amd64\0any\0", "amd64", other) == expected


def test_architecture_that_occurs_twice_is_not_replaced() -> None:
    assert native.with_architecture(b"\0amd64\0any\0amd64\0", "amd64", "arm64") == b""


def test_unpacked_programs_use_libraries_beside_them(tmp_path: Path) -> None:
    target = tmp_path / "native"
    native.unpack_programs(root_tar(tmp_path), target, ARCHIVES, ["arm64", "riscv64"])
    assert (target / "triplet").read_text() == "x86_64-linux-gnu\n"
    assert (target / "packages").read_text() == "coreutils 9.1-1\ndpkg 1.21.22\ndash 0.5.12-2\n"
    libraries = target / "root/lib"
    assert sorted(str(path.relative_to(libraries)) for path in libraries.rglob("*") if not path.is_dir()) == [
        "ld-linux-x86-64.so.2",
        "libacl.so.1",
        "libacl.so.1.1",
        "libc.so.6",
        "perl-base/auto/POSIX/POSIX.so",
    ]
    assert (target / "root/ld").read_bytes() == b"loader"
    changed = (target / "programs/coreutils/bin/mv").read_bytes()
    assert b"/.chainbuild-native/ld\0" in changed
    assert len(changed) == len(program())


def test_unpacked_programs_leave_out_scripts_and_answers_about_the_machine(tmp_path: Path) -> None:
    target = tmp_path / "native"
    native.unpack_programs(root_tar(tmp_path), target, ARCHIVES, ["arm64", "riscv64"])
    assert sorted(path.name for path in (target / "programs/coreutils/bin").iterdir()) == ["ln", "mv", "touch"]
    assert [path.name for path in (target / "programs/dash/replace").iterdir()] == ["dash"]
    # dpkg itself and its queries are for one architecture; dpkg-deb is for all.
    assert [path.name for path in (target / "programs/dpkg").rglob("*") if path.is_file()] == ["dpkg-deb"]
    assert b"\0arm64\0" in (target / "programs-arm64/dpkg/x/dpkg").read_bytes()
    assert (target / "programs-arm64/dpkg/bin/dpkg-query").exists()
    assert not (target / "programs-riscv64").exists()


def test_wrappers_and_hooks_have_no_variable_left(tmp_path: Path) -> None:
    target = tmp_path / "native"
    native.unpack_programs(root_tar(tmp_path), target, ARCHIVES, ["arm64"])
    for name in ("root/replaced", "root/bin/dpkg", "root/bin/dpkg-deb", "enter", "leave"):
        text = (target / name).read_text()
        assert "$folder" not in text
        assert "$$" not in text
    assert (target / "root/bin/dpkg").read_text().startswith("#!/.chainbuild-native/x/dash\n")


def test_root_without_c_library_is_not_usable(tmp_path: Path) -> None:
    with pytest.raises(native.NotUsableError, match="C library"):
        native.unpack_programs(write_tar(tmp_path / "root.tar", {}, {}), tmp_path / "native", (), ["arm64"])


def test_dpkg_without_architecture_is_not_usable(tmp_path: Path) -> None:
    with pytest.raises(native.NotUsableError, match="architecture"):
        native.unpack_programs(root_tar(tmp_path, dpkg=program()), tmp_path / "native", ARCHIVES, ["arm64"])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"x" * (CHUNK - 5) + b"/.chainbuild-native/ld", True),
        (b"/.chainbuild-native", True),
        (b"x" * CHUNK + b"/.chainbuild", False),
    ],
)
def test_traces_are_found_across_chunks(tmp_path: Path, data: bytes, expected: bool) -> None:
    tar = tmp_path / "root.tar"
    tar.write_bytes(data)
    assert native.has_traces(tar) is expected


# ---- mmdebstrap -----------------------------------------------------------------------------------------------------


def test_command_with_programs_has_hooks_around_the_installation() -> None:
    plain = mmdebstrap_argv(REQUEST, ARM64, Path("/t/root.tar"), Path("/t/stage"))
    argv = mmdebstrap_argv(REQUEST, ARM64, Path("/t/root.tar"), Path("/t/stage"), programs=Path("/t/na tive"))
    added = [word for word in argv if word not in plain]
    assert [word for word in argv if word in plain] == plain
    enter, leave = added
    assert enter.startswith("--extract-hook=flock --shared '/t/na tive/lock' true && ")
    assert """sh '/t/na tive/enter' "$1" arm64""" in enter
    assert leave.startswith("--customize-hook=")
    # What remains of the programs is removed before all other changes of the root.
    assert argv.index(leave) < min(argv.index(word) for word in plain if word.startswith("--customize-hook"))


def test_programs_are_only_unpacked_from_the_same_suite() -> None:
    argv = programs_argv(REQUEST, AMD64, Path("/t/p.tar"), Path("/t/archives"))
    assert "--variant=extract" in argv
    assert "--architectures=amd64" in argv
    assert argv[-3:] == ["bookworm", "/t/p.tar", "deb http://mirror.example/debian bookworm main"]


class FakeMmdebstrap:
    """Stands for mmdebstrap: writes a root, or fails, depending on whether native programs are used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, root: bytes = b"root", error: NotReadyError | None = None):
        self.said: list[str] = []
        self.made: list[str] = []
        self._root, self._error = root, error
        monkeypatch.setattr(Workshop, "_run", self._run)
        monkeypatch.setattr(Workshop, "_mirror_date", lambda *_: 0)
        monkeypatch.setattr(mmdebstrap, "need_platform", lambda platform: None)
        monkeypatch.setattr(mmdebstrap, "is_emulated", lambda platform: platform == ARM64)
        monkeypatch.setattr(native, "unpack_programs", lambda *_: None)

    def _run(
        self, platform: Platform, argv: Sequence[str], temporary: Path, epoch: int, *, path: str = "", say: bool = True
    ) -> None:
        tar = next(Path(word) for word in argv if word.endswith(".tar"))
        if "--variant=extract" in argv:
            (tar.parent / "archives").write_text("")
            return
        used = "native" if path == "/.chainbuild-native/bin" else "emulated"
        assert (used == "native") == any("enter" in word for word in argv)
        self.made.append(f"{platform} {used}")
        if used == "native" and self._error:
            raise self._error
        with tarfile.open(tar, "w") as file:
            entry = tarfile.TarInfo("./file")
            entry.size = len(self._root)
            file.addfile(entry, io.BytesIO(self._root))
        self._root = b"root"

    def make(self, *platforms: Platform, emulate_all: bool = False) -> None:
        def emit(event: Event) -> None:
            assert isinstance(event, Message)
            self.said.append(event.text)

        with Workshop(emit, emulate_all=emulate_all) as workshop:
            assert len(workshop.make(REQUEST, platforms)) == len(platforms)


def test_only_foreign_root_uses_native_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMmdebstrap(monkeypatch)
    fake.make(AMD64, ARM64)
    assert sorted(fake.made) == ["aarch64 native", "amd64 emulated"]
    fake.made.clear()
    fake.make(ARM64, emulate_all=True)
    assert fake.made == ["aarch64 emulated"]


def test_root_with_trace_of_native_program_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMmdebstrap(monkeypatch, root=b"PATH=/.chainbuild-native/bin")
    fake.make(ARM64)
    assert fake.made == ["aarch64 native", "aarch64 emulated"]
    assert any("made again without native programs" in line and "got into the root" in line for line in fake.said)


def test_failure_with_native_programs_is_tried_again_without(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMmdebstrap(monkeypatch, error=RootFailedError("mmdebstrap failed for aarch64:\nSIGSEGV"))
    fake.make(ARM64)
    assert fake.made == ["aarch64 native", "aarch64 emulated"]
    assert any("made again without native programs" in line and "SIGSEGV" in line for line in fake.said)


def test_failure_with_known_cause_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMmdebstrap(monkeypatch, error=NotReadyError("not enough disk space for the root"))
    with pytest.raises(NotReadyError, match="disk space"):
        fake.make(ARM64)
    assert fake.made == ["aarch64 native"]


def test_programs_that_cannot_be_unpacked_leave_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMmdebstrap(monkeypatch)

    def fail(*_: object) -> None:
        raise native.NotUsableError("the programs have no common loader")

    monkeypatch.setattr(native, "unpack_programs", fail)
    fake.make(ARM64)
    assert any("emulation only" in line and "no common loader" in line for line in fake.said)
    assert "aarch64: installed with emulation only" in fake.said
