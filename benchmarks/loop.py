"""`script/bench loop`: the same chain of steps through a shell loop, `buildx bake` and chainbuild, side by side.

In every round each scenario goes through all three ways before the next scenario begins, and the way that goes first
moves on with the round: what the machine does meanwhile hits all of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.service import push_local, registry
from benchmarks.trees import MARK, ChainTree, chain_tree
from benchmarks.ways import Bake, Chainbuild, Run, ShellLoop, Way, written
from chainbuild.values import replace

WAYS: tuple[Way, ...] = (ShellLoop(), Bake(), Chainbuild())
COLD, UNCHANGED, FRESH, MIDDLE, COMMENT = "cold", "nothing changed", "fresh machine", "step in the middle", "comment"
SCENARIOS = (COLD, UNCHANGED, FRESH, MIDDLE, COMMENT)
MEANINGS = {
    COLD: "no step was ever built",
    UNCHANGED: "the same again",
    FRESH: "the same in another folder, the build cache empty, the registry full",
    MIDDLE: "a RUN in the middle of the chain changed",
    COMMENT: "a comment in the first Dockerfile changed",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the benchmark runs. `least` and `most` are the bytes that the first and the last step write."""

    steps: int = 10
    rounds: int = 3
    base: str = "debian:bookworm-slim"
    least: int = 2_000_000
    most: int = 20_000_000
    prune: bool = False
    """Empty the whole build cache of the engine for the fresh machine, instead of `--no-cache`."""


Times = dict[tuple[str, str], list[float]]
"""Whole-process seconds by (scenario, way)."""


def measured(settings: Settings) -> Times:
    """Measure. Errors: `RunFailedError`."""
    times: Times = {(scenario, way.name): [] for scenario in SCENARIOS for way in WAYS}
    with _own_cache(), tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder, registry() as endpoint:
        base = f"{endpoint}/bench/base:1"
        push_local(settings.base, base)
        for turn in range(settings.rounds):
            bench = _Round(settings, Path(folder) / str(turn), endpoint, base, turn)
            for scenario in SCENARIOS:
                for way in bench.ways:
                    times[scenario, way.name].append(bench.seconds(scenario, way))
                    took = measure.shown(times[scenario, way.name][-1])
                    measure.say(f"round {turn + 1}: {scenario}: {way.name}: {took}")
    return times


class _Round:
    """One round: fresh trees, fresh repositories, and a build argument that no cache has seen."""

    def __init__(self, settings: Settings, folder: Path, endpoint: str, base: str, turn: int) -> None:
        self.settings = settings
        self.folder = folder
        self.stamp = f"{time.time_ns():x}"
        self.ways = WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]
        tree = chain_tree(folder, settings.steps, least=settings.least, most=settings.most)
        self.trees = written(tree, WAYS, folder / "first")
        self.others = written(tree, WAYS, folder / "other")
        # Each way has a build argument of its own: none finds in the cache what another one built.
        self.runs = {
            way.name: Run(
                endpoint=endpoint,
                repository=f"bench/{self.stamp}-{number}",
                base=base,
                bust=f"{self.stamp}-{number}",
            )
            for number, way in enumerate(WAYS)
        }

    def seconds(self, scenario: str, way: Way) -> float:
        run, tree = self.runs[way.name], self.trees[way.name]
        if scenario == FRESH:
            if self.settings.prune:
                measure.run(["docker", "buildx", "prune", "--all", "--force"])
            return way.seconds(self.others[way.name], replace(run, no_cache=not self.settings.prune))
        if scenario == MIDDLE:
            tree.change(len(tree.sizes) // 2, self.stamp)
        elif scenario == COMMENT:
            tree.comment(0, self.stamp)
        return way.seconds(tree, run)


@contextmanager
def _own_cache() -> Iterator[None]:
    """Take from the engine's build cache what the benchmark put there, and nothing else."""
    try:
        yield
    finally:
        measure.say("taking the benchmark's records from the build cache")
        left: tuple[str, ...] = ()
        # What stands below others goes when those are gone.
        while (found := _cached()) and found != left:
            left = found
            wanted = f'id="^({"|".join(found)})$"'
            measure.run(["docker", "buildx", "prune", "--force", "--filter", wanted])


def _cached() -> tuple[str, ...]:
    """The ids of the build cache's records that a benchmark made."""
    found = []
    for record in measure.run(["docker", "buildx", "du", "--verbose"]).split("\n\n"):
        fields = dict(line.partition(":")[::2] for line in record.splitlines())
        if MARK in fields.get("Description", ""):
            found.append(fields["ID"].strip())
    return tuple(sorted(found))


def table(times: Times) -> str:
    """The page's table: medians, and how many times faster than each of the others chainbuild is."""
    loop, bake, ours = (way.name for way in WAYS)
    rows = [
        f"| | {loop} | {bake} | {ours} | loop / chainbuild | bake / chainbuild |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for scenario in SCENARIOS:
        took = {way.name: measure.middle(times[scenario, way.name]) for way in WAYS}
        cells = [measure.shown(took[name]) for name in (loop, bake, ours)]
        cells += [measure.ratio(took[name] / took[ours]) for name in (loop, bake)]
        rows.append(f"| {scenario}: {MEANINGS[scenario]} | {' | '.join(cells)} |")
    return "\n".join(rows)


def tree_for(folder: Path, settings: Settings) -> ChainTree:
    """The tree alone, for somebody who wants to look at it or profile a run over it."""
    tree = chain_tree(folder, settings.steps, least=settings.least, most=settings.most)
    tree.write()
    return tree
