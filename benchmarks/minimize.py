"""`script/bench minimize`: what the ELF files of another platform's image need, natively, and by `ldd` under QEMU.

Both look at the same files of the same image. The native way is the program of the stages over the unpacked image; the
other runs the image's own `ldd` over all of them in one container, which is the best that can be done with `ldd`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import measure
from chainbuild.minimize.root import Root
from chainbuild.references import Platform

_RESOLVED = re.compile(r"^\s+(?:\S+ => )?(?P<path>/\S+) \(0x[0-9a-f]+\)$")
_MISSING = re.compile(r"^\s+(?P<name>\S+) => not found")

Needs = Mapping[str, frozenset[str]]
"""What each file needs, as real paths inside the image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Both ways over one image."""

    image: str
    platform: str
    native: Needs
    emulated: Needs
    native_times: tuple[float, ...]
    emulated_times: tuple[float, ...]
    missing: frozenset[str] = field(default=frozenset())
    """Names that `ldd` did not find."""

    @property
    def same(self) -> int:
        """For how many files both say the same."""
        return sum(self.native[path] == self.emulated.get(path) for path in self.native)

    @property
    def libraries(self) -> tuple[frozenset[str], frozenset[str]]:
        """All that is needed: natively, by ldd."""
        return frozenset().union(*self.native.values()), frozenset().union(*self.emulated.values())


def measured(image: str, rounds: int) -> Comparison:
    """Measure, both ways by turns. Errors: `RunFailedError` where there is no such image."""
    image = image or _largest_foreign()
    name = _platform_of(image)
    measure.say(f"unpacking {image} ({name})")
    native_times, emulated_times = [], []
    native: Needs = {}
    emulated: Needs = {}
    missing: frozenset[str] = frozenset()
    with _unpacked(image, name) as root:
        for turn in range(rounds):
            native, took = _natively(root)
            native_times.append(took)
            emulated, missing, took = _by_ldd(image, name, root, sorted(native))
            emulated_times.append(took)
            shown = f"{measure.shown(native_times[-1])} natively, {measure.shown(took)} by ldd"
            measure.say(f"round {turn + 1}: {len(native)} files: {shown}")
    return Comparison(
        image=image, platform=name, native=native, emulated=emulated, missing=missing,
        native_times=tuple(native_times), emulated_times=tuple(emulated_times),
    )  # fmt: skip


def _natively(root: Path) -> tuple[Needs, float]:
    argv = [sys.executable, "-m", "chainbuild.minimize", "closure", str(root), "--each", "--json"]
    began = time.perf_counter()
    said = measure.run(argv, cwd=measure.REPOSITORY)
    took = time.perf_counter() - began
    return {path: frozenset(needs) for path, needs in json.loads(said)["each"].items()}, took


def _by_ldd(image: str, platform: str, root: Path, files: list[str]) -> tuple[Needs, frozenset[str], float]:
    argv = ["docker", "run", "--rm", "--interactive", "--network", "none", "--platform", platform,
            "--entrypoint", "xargs", image, "-d", "\\n", "ldd"]  # fmt: skip
    began = time.perf_counter()
    # ldd fails where one of its files is no dynamic one; which one it says among the rest.
    done = subprocess.run(
        argv, input="\n".join(files), capture_output=True, text=True, errors="surrogateescape", check=False
    )
    took = time.perf_counter() - began
    if done.returncode not in {0, 123}:
        raise measure.RunFailedError(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stderr[-500:]}")
    needs, missing = read_ldd(done.stdout, files, Root(str(root)))
    return needs, missing, took


def read_ldd(text: str, files: list[str], root: Root) -> tuple[Needs, frozenset[str]]:
    """What `ldd FILE…` printed: what each file needs, as real paths of the root, and the names that were not found."""
    asked = set(files)
    needs: dict[str, set[str]] = {path: set() for path in files}
    missing: set[str] = set()
    current = files[0] if files else ""
    for line in text.splitlines():
        if line.endswith(":") and line[:-1] in asked:
            current = line[:-1]
        elif found := _RESOLVED.match(line):
            needs[current].add(_real(root, found["path"]))
        elif lost := _MISSING.match(line):
            missing.add(lost["name"])
    # A loader that is asked about itself answers with itself.
    return {path: frozenset(found - {path}) for path, found in needs.items()}, frozenset(missing)


def _real(root: Root, path: str) -> str:
    return root.resolve(path) or path


@contextmanager
def _unpacked(image: str, platform: str) -> Iterator[Path]:
    """The image's files in a folder."""
    container = measure.run(["docker", "create", "--platform", platform, image, "true"]).strip()
    try:
        with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder:
            archive = Path(folder) / "image.tar"
            root = Path(folder) / "root"
            root.mkdir()
            measure.run(["docker", "export", "--output", archive, container])
            measure.run(["tar", "--extract", "--file", archive, "--directory", root, "--exclude", "./dev"])
            archive.unlink()
            yield root
    finally:
        measure.run(["docker", "rm", "--force", container])


def _platform_of(image: str) -> str:
    text = measure.run(["docker", "image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", image]).strip()
    if Platform.from_oci(*text.split("/")).same_as(Platform.of_this_machine()):
        measure.say(f"note: {image} is for this machine's own platform: ldd runs natively, too")
    return text


def _largest_foreign() -> str:
    """The largest local image of another platform."""
    names = measure.run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]).split()
    own = Platform.of_this_machine().architecture
    sizes: dict[str, int] = {}
    for name in names:
        if "<none>" in name:
            continue
        done = measure.run(["docker", "image", "inspect", "--format", "{{.Architecture}} {{.Size}}", name]).split()
        if done[0] != own:
            sizes[name] = int(done[1])
    if not sizes:
        raise measure.RunFailedError("the local store has no image of another platform: name one")
    return max(sizes, key=lambda name: sizes[name])


def table(compared: Comparison) -> str:
    """The page's table, and what the sets say."""
    ours, theirs = compared.libraries
    native, emulated = measure.middle(compared.native_times), measure.middle(compared.emulated_times)
    count = len(compared.native)
    rows = [
        f"| {count} ELF files of a {compared.platform} image | time | a file | libraries found |",
        "| --- | ---: | ---: | ---: |",
        f"| `ldd` in the image, under QEMU | {measure.shown(emulated)} | {emulated / count * 1000:.0f} ms | {len(theirs)} |",
        f"| chainbuild, natively | {measure.shown(native)} | {native / count * 1000:.2f} ms | {len(ours)} |",
        f"| | **{measure.ratio(emulated / native)}** | | |",
        "",
        _in_words(compared),
    ]
    return "\n".join(rows)


def _in_words(compared: Comparison) -> str:
    ours, theirs = compared.libraries
    return (
        f"For {compared.same} of the {len(compared.native)} files both give the same set. Found by `ldd` alone: "
        f"{len(theirs - ours)}; natively alone: {len(ours - theirs)}; names that `ldd` finds nowhere: "
        f"{len(compared.missing)}."
    )
