"""Whole-process times, and what is made of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parent.parent


class RunFailedError(Exception):
    """A measured command failed: what it was, and the end of what it said."""


def run(argv: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command; gives its stdout. Errors: `RunFailedError`."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise RunFailedError(f"{' '.join(map(str, argv))}: exit code {done.returncode}\n{said}")
    return done.stdout


def seconds(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    said: list[str] | None = None,
) -> float:
    """How long a command takes, from its start to its end, as a process of its own. `said` gets its stdout.

    Errors: `RunFailedError`.
    """
    began = time.perf_counter()
    output = run(argv, cwd=cwd, env=env)
    taken = time.perf_counter() - began
    if said is not None:
        said.append(output)
    return taken


def chainbuild(*words: str | Path) -> list[str]:
    """The argv of the command that is installed beside this Python."""
    installed = Path(sys.executable).parent / "chainbuild"
    return [str(installed) if installed.exists() else "chainbuild", *map(str, words)]


def middle(times: Sequence[float]) -> float:
    """The median."""
    return float(median(times))


def shown(value: float) -> str:
    """Seconds for a table: three significant digits."""
    if value >= 100:
        return f"{value:.0f} s"
    if value >= 10:
        return f"{value:.1f} s"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def ratio(value: float) -> str:
    """A ratio for a table."""
    return f"{value:.0f}×" if value >= 20 else f"{value:.1f}×"


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)
