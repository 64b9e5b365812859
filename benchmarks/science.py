"""`script/bench plan`: how long `chainbuild science plan` takes over many layers with a git history, all in the registry."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.forge import forge_records, put_base
from benchmarks.service import registry
from chainbuild.operations.science import prepared
from chainbuild.references import ImageReference
from chainbuild.registry.pool import Registries
from chainbuild.requests.science import ScienceOptions, read_science

SIZES = (100, 1000)
REPO = "bench/science"
_SERIES = 10
"""So many layers of one image stand on each other."""
_A_VERSION = 5
"""So many of them are of one version; the last one of those is final."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One size: layers, final images, commits, and the whole-process times in seconds, by the flags of the plan."""

    layers: int
    finals: int
    commits: int
    times: tuple[tuple[str, tuple[float, ...]], ...]


def measured(sizes: tuple[int, ...] = SIZES, rounds: int = 3) -> tuple[Point, ...]:
    """Measure. Every layer must be reused: anything else fails."""
    points = []
    with (
        tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder,
        registry(in_memory=True) as endpoint,
        Registries() as registries,
    ):
        base = ImageReference.parse(f"{endpoint}/bench/base:1")
        put_base(registries, base)
        for layers in sizes:
            root = Path(folder) / str(layers)
            commits = write_tree(root, layers, str(base))
            words = ScienceOptions(root=root, repo=f"{REPO}-{layers}", registry=endpoint)
            with prepared(read_science(words)) as (layout, run):
                made = forge_records(run, registries)
                finals = sum(1 for chain in layout.graph.chains if chain.option == "compat")
            measure.say(f"{made} records of a tree of {layers} science layers are in the registry")
            points.append(_point(root, layers, finals, commits, endpoint, rounds))
    return tuple(points)


def _point(root: Path, layers: int, finals: int, commits: int, endpoint: str, rounds: int) -> Point:
    words = ("--root", root, "--repo", f"{REPO}-{layers}", "--registry", endpoint, "--fail-if-build")
    found: dict[str, list[float]] = {}
    for turn in range(rounds):
        for flags in ((), ("--ref", "HEAD~50")):
            name = " ".join(flags)
            found.setdefault(name, []).append(measure.seconds(measure.chainbuild("science", "plan", *words, *flags)))
            measure.say(f"round {turn + 1}: {layers} layers {name}: {measure.shown(found[name][-1])}")
    times = tuple((name, tuple(seconds)) for name, seconds in found.items())
    return Point(layers=layers, finals=finals, commits=commits, times=times)


def write_tree(root: Path, layers: int, base: str) -> int:
    """Write the tree with one commit for each layer; gives how many commits there are."""
    stream: list[str] = []
    files: dict[str, str] = {
        "compat/common/sciserver-image.json": "{}",
        "compat/common/Dockerfile": "COPY start.sh /opt/\n",
        "compat/common/start.sh": "#!/bin/sh\n",
        "compat/jupyter/sciserver-image.json": '{"includes": ["common"]}',
        "compat/jupyter/Dockerfile": 'CMD ["/opt/start.sh"]\n',
    }
    for number in range(layers):
        name, place = f"layer-{number:05}", number % _SERIES
        below = f"sci/layer-{number - 1:05}:{_version(place - 1)}" if place else base
        files |= {
            f"science/{name}/sciserver-image.json": (
                "{\n  # one of a series\n"
                f'  "image": "image-{number // _SERIES:04}",\n  "version": "{_version(place)}",\n  "compat": "jupyter"\n}}\n'
            ),
            f"science/{name}/Dockerfile": f"FROM {below}\nCOPY data /data/{name}\nRUN make {name}\n",
            f"science/{name}/data": f"{name}\n",
        }
        stream += _commit(number, files, root)
        files = {}
    _git(root, "init", "--quiet", "--initial-branch=main")
    _git(root, "fast-import", "--quiet", stdin="".join(stream))
    _git(root, "reset", "--quiet", "--mixed")
    return layers


def _version(place: int) -> str:
    return f"{place // _A_VERSION + 1}.0"


def _commit(number: int, files: dict[str, str], root: Path) -> list[str]:
    """Write files, and the piece of `git fast-import` that commits them."""
    text = [f"commit refs/heads/main\ncommitter a <a@b> {1_700_000_000 + number} +0000\ndata 1\nx\n"]
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
        text.append(f"M 100644 inline {path}\ndata {len(content)}\n{content}\n")
    return text


def _git(root: Path, *words: str, stdin: str = "") -> None:
    subprocess.run(["git", "-C", str(root), *words], input=stdin, text=True, check=True, capture_output=True)


def table(points: tuple[Point, ...]) -> str:
    """The page's table."""
    rows = ["| science layers | final images | commits | `chainbuild science plan` | with `--ref HEAD~50` |"]
    rows.append("| ---: | ---: | ---: | ---: | ---: |")
    for point in points:
        medians = " | ".join(measure.shown(measure.middle(seconds)) for _, seconds in point.times)
        rows.append(f"| {point.layers:,} | {point.finals:,} | {point.commits:,} | {medians} |")
    return "\n".join(rows)
