"""`docs/benchmarks.md`: each table stands between its markers and is replaced by the last run's."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from benchmarks import measure

PAGE = measure.REPOSITORY / "docs" / "benchmarks.md"


def put(name: str, table: str, page: Path = PAGE) -> None:
    """Put a table, and what it was measured on, between the page's markers of that name.

    Errors: `ValueError` where the page has no such markers.
    """
    text = page.read_text()
    begin, end = f"<!-- bench {name} -->", f"<!-- bench {name} end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{page} has no place for {name!r}: {begin}")
    whole = f"{begin}\n{table}\n\n{machine()}\n{end}"
    page.write_text(pattern.sub(lambda _: whole, text))


def machine() -> str:
    """What the figures were measured on: no name, no date."""
    engine = measure.run(["docker", "version", "--format", "{{.Server.Version}}"]).strip()
    buildx = measure.run(["docker", "buildx", "version"]).split()[1]
    store = "containerd" if "containerd.snapshotter" in _driver_status() else "classic"
    return (
        f"*{os.cpu_count()} cores ({platform.machine()}), {_memory()} of memory, {platform.system()}; Docker Engine "
        f"{engine} with the {store} image store, buildx {buildx}, builder driver {_driver()}; "
        f"Python {platform.python_version()}.*"
    )


def _driver_status() -> str:
    return measure.run(["docker", "info", "--format", "{{json .DriverStatus}}"])


def _driver() -> str:
    for line in measure.run(["docker", "buildx", "inspect"]).splitlines():
        if line.startswith("Driver:"):
            return f"`{line.partition(':')[2].strip()}`"
    return "unknown"


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB"
