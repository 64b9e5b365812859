"""`script/bench start`: the CPU time of commands that build nothing, in multiples of a Python that does nothing.

The commands take turns, so that what the machine does meanwhile hits all of them. With another checkout, its commands
take turns with these: the same tree, in the same registry, by its own Python.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import measure
from benchmarks.service import push_local, registry
from benchmarks.trees import OPTION, ChainTree, chain_tree
from chainbuild.references import Platform

NOTHING = "python -c pass"
ROUNDS = 30
_STEPS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one process took, in seconds: CPU time in its own code, CPU time in all, and from start to end."""

    user: float
    cpu: float
    wall: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """An installed chainbuild: its name in the table, and the folder of its programs."""

    name: str
    programs: Path
    costs: dict[str, list[Cost]] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return str(self.programs / "chainbuild")

    @property
    def python(self) -> str:
        return str(self.programs / "python")


def measured(rounds: int = ROUNDS, base: str = "debian:bookworm-slim", beside: Path | None = None) -> list[Program]:
    """Measure. `beside` is another checkout with a `.venv`. Errors: `RunFailedError`."""
    programs = [Program(name="chainbuild", programs=Path(sys.executable).parent)]
    if beside is not None:
        programs.insert(0, Program(name=beside.name, programs=beside.absolute() / ".venv" / "bin"))
    with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder, registry() as endpoint:
        image = f"{endpoint}/bench/base:1"
        push_local(base, image)
        tree = chain_tree(Path(folder), _STEPS, least=2000, most=20_000)
        tree.write()
        runs = {program.name: _runs(program, tree, endpoint, image, number) for number, program in enumerate(programs)}
        for program in programs:
            # Compile what is imported, and build what is reused from then on.
            for _, argv, environment in runs[program.name]:
                _cost(argv, tree.root, environment)
        for turn in range(rounds):
            for program in programs:
                for name, argv, environment in runs[program.name]:
                    program.costs.setdefault(name, []).append(_cost(argv, tree.root, environment))
            measure.say(f"round {turn + 1} of {rounds}")
    return programs


def _runs(
    program: Program, tree: ChainTree, endpoint: str, base: str, number: int
) -> list[tuple[str, list[str], dict[str, str]]]:
    """Return what is measured: a name, the arguments, and more variables of the environment."""
    platform = Platform.of_this_machine().name
    words = [platform, f"bench/start-{number}", "bench", base, OPTION, base, "--registry", endpoint]
    words += ["--until", str(tree.numbers[-1])]
    line = {"_CHAINBUILD_COMPLETE": "complete_bash", "COMP_WORDS": "chainbuild\nplan\na", "COMP_CWORD": "2"}
    return [
        (NOTHING, [program.python, "-c", "pass"], {}),
        ("`chainbuild --help`", [program.command, "--help"], {}),
        ("a run that builds nothing", [program.command, *words, "--no-load"], {}),
        ("`chainbuild plan`", [program.command, "plan", *words], {}),
        ("completion of an argument", [program.command], line),
    ]


def _cost(argv: list[str], folder: Path, environment: Mapping[str, str]) -> Cost:
    """Run a process to its end. Errors: `RunFailedError`."""
    with tempfile.TemporaryFile() as output:
        actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, output.fileno(), number) for number in (1, 2)]
        before = Path.cwd()
        os.chdir(folder)
        try:
            began = time.perf_counter()
            process = os.posix_spawn(argv[0], argv, {**os.environ, **environment}, file_actions=actions)
            _, status, used = os.wait4(process, 0)
            wall = time.perf_counter() - began
        finally:
            os.chdir(before)
        if code := os.waitstatus_to_exitcode(status):
            output.seek(0)
            said = output.read().decode(errors="replace")[-2000:]
            raise measure.RunFailedError(f"{' '.join(argv)}: exit code {code}\n{said}")
    return Cost(user=used.ru_utime, cpu=used.ru_utime + used.ru_stime, wall=wall)


def table(programs: Sequence[Program]) -> str:
    """The page's table."""
    rows = [
        "| | | user CPU | CPU, median | CPU, best | time |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name in programs[0].costs:
        for program in programs:
            costs, nothing = program.costs[name], program.costs[NOTHING]
            if name == NOTHING and program is not programs[-1]:
                continue
            # The kernel counts user time by samples: only the mean of many runs says something.
            cells = [
                measure.ratio(mean(cost.user for cost in costs) / mean(cost.user for cost in nothing)),
                measure.ratio(_middle(costs) / _middle(nothing)),
                measure.ratio(min(cost.cpu for cost in costs) / min(cost.cpu for cost in nothing)),
                measure.shown(measure.middle([cost.wall for cost in costs])),
            ]
            rows.append(f"| {name} | {program.name if len(programs) > 1 else ''} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _middle(costs: Sequence[Cost]) -> float:
    return measure.middle([cost.cpu for cost in costs])
