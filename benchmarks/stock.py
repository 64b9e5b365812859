"""`script/bench stock`: the chain `stock` as a whole, on the machine's own platform, with native tools, and emulated.

The whole process each time, without the builder's cache and in a registry of its own, one after the other.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.service import push_local, registry

EMULATED, NATIVE, OWN = "emulated", "accelerated", "own platform"
_WAYS: Mapping[str, tuple[str, ...]] = {OWN: ("amd64",), NATIVE: ("aarch64",), EMULATED: ("aarch64", "--native", "off")}
_OPTION = "stock"
_ROW = re.compile(r"^ {2}(?P<step>[a-z0-9-]+) +(?:built|minimized|produced) +(?P<time>(?:[0-9.]+[hms])+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What a run took, in seconds, and what its summary says of each step."""

    whole: float
    steps: Mapping[str, str]


def measured(base: str, tree: Path, ways: tuple[str, ...] = tuple(_WAYS)) -> dict[str, Built]:
    """Measure. `base` is a local image of both platforms, `tree` has the option. Errors: `RunFailedError`."""
    found: dict[str, Built] = {}
    for way in ways:
        platform, *flags = _WAYS[way]
        measure.say(f"{way}: {_OPTION}")
        with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder, registry() as endpoint:
            copy = Path(folder)
            shutil.copytree(tree / _OPTION, copy / _OPTION)
            image = f"{endpoint}/bench/base:1"
            push_local(base, image)
            words = (platform, "bench/stock", "v1", image, _OPTION, image, "--registry", endpoint, "--no-load")
            argv = measure.chainbuild(*words, "--refresh", "--no-cache", "--plain", *flags)
            output: list[str] = []
            # The summary goes to stderr.
            whole = measure.seconds(["sh", "-c", '"$@" 2>&1', "sh", *argv], cwd=copy, said=output)
            found[way] = Built(whole=whole, steps={row["step"]: row["time"] for row in _ROW.finditer(output[0])})
    return found


def table(found: Mapping[str, Built]) -> str:
    """The page's table."""
    steps = list(dict.fromkeys(step for built in found.values() for step in built.steps))
    rows = [f"| | {' | '.join(found)} |", f"| --- |{' ---: |' * len(found)}"]
    rows += [f"| {step} | {' | '.join(built.steps.get(step, '') for built in found.values())} |" for step in steps]
    rows.append(f"| **whole run** | {' | '.join(measure.shown(built.whole) for built in found.values())} |")
    own = found[OWN].whole if OWN in found else 0.0
    compared = [f"{way} {measure.ratio(built.whole / own)}" for way, built in found.items() if own and way != OWN]
    return "\n".join(rows) + (f"\n\nOf the own platform's time: {', '.join(compared)}." if compared else "")
