"""`script/bench memory`: the most memory that the minimize stage's program takes, whatever the image's size.

Three roots: the `stock` chain's image, a tree of very many files, and a program of 5 GB that is nearly all holes. Each run
does everything that there is to do: keeps what is loaded by name, takes out what switches take, writes the bill of
materials. The figure is the process's peak resident set (getrusage(2), `ru_maxrss`).
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import chains, measure
from benchmarks.images import unpacked
from chainbuild.minimize.trim import SWITCHES
from chainbuild.references import Platform
from chainbuild.text import size

LIMIT = 300_000_000
_RUN = """\
import resource, sys
from chainbuild.minimize.__main__ import main
code = main(sys.argv[1:])
with open(sys.argv[-1] + ".peak", "w") as peak:
    peak.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
sys.exit(code)
"""
_FAR = 5 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """One root: its name, how many files and bytes are in it, the peak in bytes, and the seconds."""

    what: str
    peak: int
    seconds: float


def measured(repository: str, production: str, files: int, *, port: int | None) -> tuple[Peak, ...]:
    """Measure; the chain's image only where the chain registry has it. Errors: `RunFailedError`."""
    peaks = []
    with chains.registry(port) as session:
        own = Platform.of_this_machine()
        for one in chains.finished(session, repository, production):
            if one.option == "stock" and one.platform.same_as(own):
                with unpacked(one.chain_image) as root, unpacked(one.bare_image) as bare:
                    peaks.append(_peak(f"`stock`, {size(one.chain_bytes)}", root, bare, one.settings))
    with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as place:
        folder = Path(place)
        (folder / "nothing").mkdir()
        peaks.append(_peak(f"{files:,} files of a byte", _many(folder / "many", files), folder / "nothing", []))
        peaks.append(_peak("one library of 5 GiB", _far(folder / "far"), folder / "nothing", []))
    return tuple(peaks)


def _many(root: Path, files: int) -> Path:
    """Files in folders of a thousand, as a wheel with very many of them would bring."""
    for number in range(files):
        folder = root / "opt/venv/lib/python3.11/site-packages/many" / str(number // 1000)
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"a-module-with-a-name-of-usual-length-{number}.py").write_bytes(b"\n")
    return root


def _far(root: Path) -> Path:
    """This Python's own program, with 5 GiB of holes and a little at their end."""
    there = root / "usr/local/lib/libfar.so"
    there.parent.mkdir(parents=True)
    there.write_bytes(Path(sys.executable).resolve().read_bytes())
    with there.open("r+b") as stream:
        stream.truncate(_FAR)
        stream.seek(_FAR - 4096)
        stream.write(b"\0libelsewhere.so.1\0" * 200)
    return root


def _peak(what: str, root: Path, bare: Path, flags: list[str]) -> Peak:
    with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder:
        everything = [word for switch in SWITCHES for word in (f"--{switch.replace('_', '-')}", "1")]
        began = time.perf_counter()
        measure.run(
            [
                sys.executable,
                "-c",
                _RUN,
                "pack",
                root,
                "--production",
                bare,
                "--output",
                f"{folder}/out",
                *flags,
                *everything,
                "--keep-dlopen",
                "1",
                "--sbom",
                f"{folder}/sbom.json",
                "--report",
                f"{folder}/report.json",
            ],
            cwd=measure.REPOSITORY,
        )
        took = time.perf_counter() - began
        unit = 1 if sys.platform == "darwin" else 1024
        peak = int(Path(f"{folder}/report.json.peak").read_text()) * unit
    measure.say(f"{what}: {size(peak)} at most, {measure.shown(took)}")
    return Peak(what=what, peak=peak, seconds=took)


def table(peaks: tuple[Peak, ...]) -> str:
    """The page's table."""
    rows = ["| root | peak memory | of 300 MB | time |", "| --- | ---: | ---: | ---: |"]
    rows += [
        f"| {one.what} | {size(one.peak)} | {one.peak / LIMIT:.0%} | {measure.shown(one.seconds)} |" for one in peaks
    ]
    return "\n".join(rows)
