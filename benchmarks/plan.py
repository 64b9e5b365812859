"""`script/bench plan`: how long `chainbuild plan` takes over chains of many steps that the registry holds, all of them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.forge import forge_records, put_base
from benchmarks.service import registry
from benchmarks.trees import OPTION, ChainTree, chain_tree
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.pool import Registries
from chainbuild.requests.build import read_build_request
from chainbuild.requests.options import RunOptions

SIZES = (10, 100, 1000, 5000)
REPO = "bench/plan"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One size: the whole-process times of a plan, in seconds."""

    steps: int
    times: tuple[float, ...]

    @property
    def median(self) -> float:
        return measure.middle(self.times)


def measured(sizes: tuple[int, ...] = SIZES, rounds: int = 3) -> tuple[Point, ...]:
    """Measure, the sizes interleaved. Every step must be reused: anything else fails."""
    with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder, registry(in_memory=True) as endpoint:
        with Registries() as registries:
            base = ImageReference.parse(f"{endpoint}/bench/base:1")
            put_base(registries, base)
            trees = {steps: _tree(Path(folder), steps, endpoint, base, registries) for steps in sizes}
        times: dict[int, list[float]] = {steps: [] for steps in sizes}
        for turn in range(rounds):
            for steps, tree in trees.items():
                argv = measure.chainbuild("plan", *_words(tree, endpoint, base), "--fail-if-build")
                times[steps].append(measure.seconds(argv))
                measure.say(f"round {turn + 1}: {steps} steps: {measure.shown(times[steps][-1])}")
    return tuple(Point(steps=steps, times=tuple(times[steps])) for steps in sizes)


def _tree(folder: Path, steps: int, endpoint: str, base: ImageReference, registries: Registries) -> ChainTree:
    tree = chain_tree(folder / str(steps), steps)
    tree.write()
    words = RunOptions(
        platform=Platform.of_this_machine().name,
        repo=f"{REPO}-{steps}",
        tag="plan",
        base=str(base),
        option=OPTION,
        production=str(base),
        root=tree.root,
        registry=endpoint,
        until=tree.numbers[-1],
    )
    made = forge_records(read_build_request(words), registries)
    measure.say(f"{made} records of a chain of {steps} steps are in the registry")
    return tree


def _words(tree: ChainTree, endpoint: str, base: ImageReference) -> tuple[str | Path, ...]:
    return (
        Platform.of_this_machine().name,
        f"{REPO}-{len(tree.sizes)}",
        "plan",
        str(base),
        OPTION,
        str(base),
        "--root",
        tree.root,
        "--registry",
        endpoint,
        "--until",
        str(tree.numbers[-1]),
    )


def table(points: tuple[Point, ...]) -> str:
    """The page's table."""
    rows = ["| steps | `chainbuild plan` | a step |", "| ---: | ---: | ---: |"]
    rows += [
        f"| {point.steps:,} | {measure.shown(point.median)} | {point.median / point.steps * 1000:.2f} ms |"
        for point in points
    ]
    return "\n".join(rows)
