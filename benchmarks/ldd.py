"""What an image's own `ldd` says of its files, in one container, and what the analysis says of them natively."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import measure
from chainbuild.minimize.root import RootFileSystem

_RESOLVED = re.compile(r"^\s+(?:\S+ => )?(?P<path>/\S+) \(0x[0-9a-f]+\)$")
_MISSING = re.compile(r"^\s+(?P<name>\S+) => not found")

Needs = Mapping[str, frozenset[str]]
"""What each file needs, as real paths inside the image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Both ways over one image."""

    what: str
    platform: str
    emulated: bool
    ours: Needs
    theirs: Needs
    our_times: tuple[float, ...]
    their_times: tuple[float, ...]
    missing: frozenset[str] = field(default=frozenset())
    """Names that `ldd` did not find."""

    @property
    def same(self) -> int:
        """For how many files both say the same."""
        return sum(self.ours[path] == self.theirs.get(path) for path in self.ours)

    @property
    def libraries(self) -> tuple[frozenset[str], frozenset[str]]:
        """All that is needed: by the analysis, by ldd."""
        return frozenset().union(*self.ours.values()), frozenset().union(*self.theirs.values())


def compared(what: str, image: str, platform: str, root: Path, *, emulated: bool, rounds: int) -> Comparison:
    """Measure, both ways by turns, over the image and its files in the folder `root`. Errors: `RunFailedError`."""
    our_times, their_times = [], []
    ours: Needs = {}
    theirs: Needs = {}
    missing: frozenset[str] = frozenset()
    for turn in range(rounds):
        ours, took = natively(root)
        our_times.append(took)
        theirs, missing, took = by_ldd(image, platform, root, sorted(ours))
        their_times.append(took)
        shown = f"{measure.shown(our_times[-1])} by chainbuild, {measure.shown(took)} by ldd"
        measure.say(f"{what} ({platform}), round {turn + 1}: {len(ours)} files: {shown}")
    return Comparison(
        what=what,
        platform=platform,
        emulated=emulated,
        ours=ours,
        theirs=theirs,
        missing=missing,
        our_times=tuple(our_times),
        their_times=tuple(their_times),
    )


def natively(root: Path) -> tuple[Needs, float]:
    """What the program of the minimize stage finds, and how long it takes."""
    argv = [sys.executable, "-m", "chainbuild.minimize", "closure", str(root), "--each", "--json"]
    began = time.perf_counter()
    said = measure.run(argv, cwd=measure.REPOSITORY)
    took = time.perf_counter() - began
    return {path: frozenset(needs) for path, needs in json.loads(said)["each"].items()}, took


def by_ldd(image: str, platform: str, root: Path, files: list[str]) -> tuple[Needs, frozenset[str], float]:
    """What `ldd` says, the names that it does not find, and how long it takes. Errors: `RunFailedError`."""
    argv = [
        "docker",
        "run",
        "--rm",
        "--interactive",
        "--network",
        "none",
        "--platform",
        platform,
        "--entrypoint",
        "xargs",
        image,
        "-d",
        "\\n",
        "ldd",
    ]
    began = time.perf_counter()
    # ldd fails where one of its files is no dynamic one; which one it says among the rest.
    done = subprocess.run(
        argv, input="\n".join(files), capture_output=True, text=True, errors="surrogateescape", check=False
    )
    took = time.perf_counter() - began
    if done.returncode not in {0, 123}:
        raise measure.RunFailedError(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stderr[-500:]}")
    needs, missing = read_ldd(done.stdout, files, RootFileSystem(str(root)))
    return needs, missing, took


def read_ldd(text: str, files: list[str], root: RootFileSystem) -> tuple[Needs, frozenset[str]]:
    """What `ldd FILE…` printed: what each file needs, as real paths of the root, and the names that were not found."""
    asked = set(files)
    needs: dict[str, set[str]] = {path: set() for path in files}
    missing: set[str] = set()
    current = files[0] if files else ""
    for line in text.splitlines():
        if line.endswith(":") and line[:-1] in asked:
            current = line[:-1]
        elif found := _RESOLVED.match(line):
            needs[current].add(root.resolve(found["path"]) or found["path"])
        elif lost := _MISSING.match(line):
            missing.add(lost["name"])
    # A loader that is asked about itself answers with itself.
    return {path: frozenset(found - {path}) for path, found in needs.items()}, frozenset(missing)


def table(comparisons: tuple[Comparison, ...]) -> str:
    """The table, and what the sets say."""
    rows = [
        "| all dynamic ELF files of an image | files | `ldd` in the image | chainbuild | | a file |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in comparisons:
        ours, theirs = measure.middle(one.our_times), measure.middle(one.their_times)
        where = f"{one.what}, {one.platform}{': `ldd` under QEMU' if one.emulated else ''}"
        rows.append(
            f"| {where} | {len(one.ours):,} | {measure.shown(theirs)} | {measure.shown(ours)} "
            f"| **{measure.ratio(theirs / ours)}** | {ours / max(1, len(one.ours)) * 1000:.2f} ms |"
        )
    rows.append("")
    rows += [_in_words(one) for one in comparisons]
    return "\n".join(rows)


def _in_words(one: Comparison) -> str:
    ours, theirs = one.libraries
    return (
        f"- {one.platform}: for {one.same:,} of the {len(one.ours):,} files both give the same set ({len(ours)} libraries"
        f" in all). By `ldd` alone: {len(theirs - ours)}; by chainbuild alone: {len(ours - theirs)}; names that `ldd`"
        f" finds nowhere: {len(one.missing)}."
    )
