"""The closure of the files of real images, compared with what the loaders load for every ELF file.

The corpus comes from the distribution: programs of this machine's architecture in two widths with their plugins and
name services, a wheel for musl with musl's loader, an image of another platform, and the C libraries of two more.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chainbuild.minimize.elf import Elf, ElfReader
from chainbuild.minimize.loader import Loader, Process, elf_files, is_secure, runs_or_loads
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.search import Search, SearchSettings
from chainbuild.references import Platform

from .conftest import OTHER, OWN, docker

pytestmark = pytest.mark.timeout(900)

PACKAGES = (
    "curl",
    "git",
    "glib-networking",
    "libgdk-pixbuf2.0-bin",
    "libglib2.0-bin",
    "libnss-myhostname",
    "libqt6network6",
    "musl",
    "openssl",
    "python3",
    "libstdc++6-armhf-cross",
    "libstdc++6-riscv64-cross",
)
NARROW = {"amd64": ("lib32stdc++6", "lib32z1")}
"""Libraries of the 32-bit architecture that this machine runs too."""
SAMPLE = 60
"""Number of files that are checked in the other platform's image: `ldd` takes a third of a second per file with QEMU."""

_RESOLVED = re.compile(r"^\s+(?:\S+ => )?(?P<path>/\S+) \(0x[0-9a-f]+\)$")
_MISSING = re.compile(r"^(?:\s+(?P<name>\S+) => not found|Error loading shared library (?P<of_musl>\S+): )")


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A container, its files in a folder, and the analysis of each file."""

    container: str
    root: RootFileSystem
    processes: Mapping[str, Process]

    def loaded_by(self, path: str) -> frozenset[str]:
        """Return the files in the closure of `path`."""
        return frozenset(one.file for one in self.processes[path].objects[1:])


def inside(container: str, *command: str, text: str = "") -> str:
    done = subprocess.run(
        ["docker", "exec", "--interactive", container, *command],
        input=text,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    assert done.returncode in {0, 123}, done.stderr[-2000:]  # xargs returns this code if ldd does not know a file
    return done.stdout


@contextmanager
def started(image: str, platform: str) -> Iterator[str]:
    done = docker("run", "--detach", "--platform", Platform.parse(platform).oci, image, "sleep", "infinity")
    assert done.returncode == 0, done.stderr
    container = done.stdout.strip()
    try:
        yield container
    finally:
        docker("rm", "--force", container)


def analysed(container: str, folder: Path) -> Corpus:
    """Analyze all files of the container without running them."""
    folder.mkdir()
    with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as exported:
        argv = ["tar", "--extract", "--directory", str(folder), "--exclude", "dev", "--exclude", "./dev"]
        subprocess.run([*argv, "--delay-directory-restore"], stdin=exported.stdout, check=True)
    assert exported.returncode == 0
    root = RootFileSystem(str(folder))
    return Corpus(container=container, root=root, processes=processes_of(root))


def processes_of(root: RootFileSystem, library_path: str = "") -> dict[str, Process]:
    reader = ElfReader()
    loader = Loader(Search(root, reader, SearchSettings(library_path=library_path)))
    found: dict[str, Process] = {}
    for path, elf in elf_files(root, reader, ["/"]):
        if isinstance(elf, Elf) and runs_or_loads(elf):
            node = root.entry(path)
            found[path] = loader.run(path, elf, secure=node is not None and is_secure(node))
    return found


def said(text: str, files: Iterable[str], root: RootFileSystem) -> tuple[dict[str, set[str]], set[tuple[str, str]]]:
    """Parse the output of `ldd FILE…`: return the real paths that each file loads, and the missing names."""
    needs: dict[str, set[str]] = {path: set() for path in files}
    missing: set[tuple[str, str]] = set()
    current = next(iter(needs))
    for line in text.splitlines():
        if line.endswith(":") and line[:-1] in needs:
            current = line[:-1]
        elif found := _RESOLVED.match(line):
            real = root.resolve(found["path"])
            assert real is not None, line
            needs[current].add(real)
        elif lost := _MISSING.match(line):
            missing.add((current, lost["name"] or lost["of_musl"]))
    for path, found_for in needs.items():
        found_for.discard(path)  # a loader run on itself prints itself
    return needs, missing


def assert_same(corpus: Corpus, needs: Mapping[str, set[str]], missing: set[tuple[str, str]]) -> None:
    """Assert that each file has the same libraries; of variants per processor, that of this machine counts."""
    wrong = []
    for path, theirs in needs.items():
        process = corpus.processes[path]
        ours = set()
        for one in process.objects[1:]:
            variants = {corpus.root.resolve(variant) for variant in one.variants}
            ours.add(next((str(variant) for variant in variants & theirs), one.file))
        if ours != theirs:
            wrong.append((path, "ours alone", sorted(ours - theirs), "theirs alone", sorted(theirs - ours)))
    assert not wrong, wrong[:5]
    lost = {(path, one.name) for path in needs for one in corpus.processes[path].missing}
    assert lost == missing


def runnable(corpus: Corpus) -> list[str]:
    """Return the files that this machine's glibc loads; other tests cover musl and other machines."""
    other = (
        "/opt/musl/",
        "/usr/riscv64-linux-gnu/",
        "/usr/arm-linux-gnueabihf/",
        "/usr/lib/x86_64-linux-musl/",
        "/usr/lib/aarch64-linux-musl/",
    )
    return sorted(path for path in corpus.processes if not path.startswith(other) and "ld-musl" not in path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, base_images: str) -> Iterator[Corpus]:
    folder = tmp_path_factory.mktemp("corpus")
    with started(base_images, OWN) as container:
        install = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends"
        inside(
            container,
            "sh",
            "-c",
            f'{install} --yes -o Dpkg::Options::=--force-unsafe-io "$@"',
            "sh",
            *PACKAGES,
            *NARROW.get(OWN, ()),
        )
        # A library with a variant for newer processors, as distributions with hwcaps have it.
        inside(
            container,
            "sh",
            "-c",
            "cd /usr/lib/x86_64-linux-gnu || exit 0; mkdir -p glibc-hwcaps/x86-64-v2;"
            " cp -L libz.so.1 libzstd.so.1 glibc-hwcaps/x86-64-v2 && ldconfig",
        )
        unpack_wheel_for_musl(folder)
        copied = docker("cp", f"{folder}/musl", f"{container}:/opt/musl")
        assert copied.returncode == 0, copied.stderr
        yield analysed(container, folder / "root")


def unpack_wheel_for_musl(folder: Path) -> None:
    architecture = {"amd64": "x86_64", "aarch64": "aarch64"}[OWN]
    argv = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--platform",
        f"musllinux_1_2_{architecture}",
        "--python-version",
        "3.11",
        "--dest",
        str(folder / "wheel"),
        "pillow",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next((folder / "wheel").glob("*.whl"))) as wheel:
        wheel.extractall(folder / "musl")


def test_closure_of_real_image_matches_ldd(corpus: Corpus) -> None:
    files = runnable(corpus)
    assert len(files) > 900
    abis = {corpus.processes[path].abi.name for path in files}
    assert abis == ({"amd64", "i386"} if OWN == "amd64" else {"arm64"})
    text = inside(corpus.container, "xargs", "-d", "\\n", "ldd", text="\n".join(files))
    assert_same(corpus, *said(text, files, corpus.root))


def test_closure_of_musl_programs_matches_musl_loader(corpus: Corpus) -> None:
    files = sorted(path for path in corpus.processes if path.startswith("/opt/musl/"))
    loader = {corpus.processes[path].interpreter for path in files}
    assert len(files) > 20
    assert len(loader) == 1
    # The loader reports what it does not find to stderr, with the symbols that a module takes from its program.
    script = 'loader="$1"; while read -r file; do echo "$file:"; "$loader" --list "$file" 2>&1; done; exit 0'
    text = inside(corpus.container, "sh", "-c", script, "sh", loader.pop(), text="".join(f"{one}\n" for one in files))
    needs, missing = said(text, files, corpus.root)
    assert_same(corpus, needs, missing)


@pytest.mark.parametrize(
    ("triplet", "emulator", "loader", "abi"),
    [
        ("riscv64-linux-gnu", "qemu-riscv64-static", "ld-linux-riscv64-lp64d.so.1", "riscv64"),
        ("arm-linux-gnueabihf", "qemu-arm-static", "ld-linux-armhf.so.3", "armhf"),
    ],
)
def test_closure_of_foreign_libraries_matches_emulated_loader(
    corpus: Corpus, request: pytest.FixtureRequest, tmp_path: Path, triplet: str, emulator: str, loader: str, abi: str
) -> None:
    if shutil.which(emulator) is None:
        why = f"{emulator} is not there"
        if request.config.getoption("--require-engine"):
            pytest.fail(why)
        pytest.skip(why)
    shutil.copytree(f"{corpus.root.host}/usr/{triplet}/lib", tmp_path / "lib", symlinks=True)
    root = RootFileSystem(str(tmp_path))
    processes = processes_of(root)
    assert {process.abi.name for process in processes.values()} == {abi}
    assert len(processes) > 10
    wrong = []
    for path, process in processes.items():
        if path.endswith(loader):
            continue
        argv = [emulator, "-L", str(tmp_path), f"{tmp_path}/lib/{loader}", "--list", f"{tmp_path}{path}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
        text = done.stdout.replace(str(tmp_path), "")
        theirs, missing = said(text, [path], root)
        ours = {one.file for one in process.objects[1:]}
        # With `--list` the loader always includes itself, even if it is not needed.
        if ours | {f"/lib/{loader}"} != theirs[path] | {f"/lib/{loader}"} or missing or process.missing:
            wrong.append((path, ours, theirs[path], done.stderr))
    assert not wrong, wrong[:3]


def test_closure_of_other_platform_image_matches_ldd(base_images: str, tmp_path: Path) -> None:
    with started(base_images, OTHER) as container:
        corpus = analysed(container, tmp_path / "root")
        every = runnable(corpus)
        files = every[:: max(1, len(every) // SAMPLE)]
        assert len(files) >= min(SAMPLE, len(every))
        text = inside(container, "xargs", "-d", "\\n", "ldd", text="\n".join(files))
        assert_same(corpus, *said(text, files, corpus.root))


KEPT = (
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/usr/bin/curl",
    "/usr/bin/gdk-pixbuf-thumbnailer",
    "/usr/bin/getent",
    "/usr/bin/gio",
    "/usr/bin/git",
    "/usr/bin/openssl",
    "/usr/lib/git-core",
    "/usr/lib/*/libQt6Network.so.6",
)
RUNS = {
    "libraries": ("git", "--version"),
    "many libraries": ("curl", "--version"),
    "modules of Python": ("python3", "-c", "import bz2, ctypes, curses, lzma, readline, socket, sqlite3, ssl"),
    "GIO": ("gio", "info", "/etc/passwd"),
    "name services": ("getent", "passwd", "root"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Small:
    """The programs with everything that they need, on an empty image: the report and the image."""

    report: dict[str, list[dict[str, str]]]
    image: str


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Iterator[Small]:
    folder = tmp_path_factory.mktemp("small")
    (folder / "nothing").mkdir()
    argv = [
        sys.executable,
        "-m",
        "chainbuild.minimize",
        "pack",
        corpus.root.host,
        "--output",
        str(folder / "out"),
        "--production",
        str(folder / "nothing"),
        "--report",
        str(folder / "report.json"),
        "--additional-files",
        " ".join(KEPT),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder / "out", arcname=".")
    name = f"chainbuild-test/corpus:{uuid.uuid4().hex[:12]}"
    made = subprocess.run(["docker", "import", "-", name], input=packed.getvalue(), capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    yield Small(report=json.loads((folder / "report.json").read_bytes()), image=name)
    docker("image", "rm", "--force", name)


def test_kept_libraries_are_those_of_ldd_or_have_a_reason(corpus: Corpus, small: Small) -> None:
    brought = {row["source"] for row in small.report["libraries"]}
    kept = {row.get("source", row["path"]) for row in small.report["files"] if row["kind"] == "file"} - brought
    seeds = sorted(path for path in kept if path in corpus.processes)
    text = inside(corpus.container, "xargs", "-d", "\\n", "ldd", text="\n".join(seeds))
    needs, missing = said(text, seeds, corpus.root)
    assert missing == set()
    listed = set().union(*needs.values()) - kept
    plain = {path for path in listed if "/glibc-hwcaps/" not in path}
    assert plain <= brought
    told = {row["file"]: row["why"] for row in small.report["opened"] if row["state"] == "kept"}
    assert all(told.values())
    with_reason = set(told).union(*(corpus.loaded_by(path) for path in told if path in corpus.processes))
    variants = {path for path in brought if "/glibc-hwcaps/" in path}
    hidden = {path.replace("/glibc-hwcaps/x86-64-v2", "") for path in listed | variants}
    unasked = {
        path for path in brought - listed - with_reason - variants if not any(_same(path, one) for one in hidden)
    }
    assert unasked == set()
    kinds = {row["kind"] for row in small.report["opened"] if row["state"] == "kept"}
    assert {"plugin", "nss"} <= kinds
    whats = {row["why"] for row in small.report["opened"] if row["state"] == "kept"}
    assert {"GIO modules", "gdk-pixbuf loaders", "Qt 6 plugins"} <= whats


def _same(path: str, name: str) -> bool:
    """Return True if `path` is the library behind `name`, with a longer version."""
    return path == name or path.startswith(f"{name}.")


@pytest.mark.parametrize("what", RUNS)
def test_minimized_program_runs_on_empty_image(small: Small, what: str) -> None:
    done = docker("run", "--rm", "--network", "none", "--workdir", "/", small.image, *RUNS[what])
    assert done.returncode == 0, done.stderr
