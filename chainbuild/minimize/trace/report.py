"""Create the report of a traced run (`chainbuild.trace/1`): what each test accessed, what is missing, and how to keep it.

For each test, a run leaves a folder with `calls` (the output of strace), `status` (see `run.sh`) and `messages`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainbuild.minimize.packages import Ownership, owned
from chainbuild.minimize.root import RootFileSystem, parent
from chainbuild.minimize.trace.accesses import Access, Accesses
from chainbuild.minimize.trace.folders import TracedFolders, pattern_of
from chainbuild.minimize.trace.missing import Comparer, LostPath, Variables
from chainbuild.minimize.trace.strace import Reading, read_calls

TRACE_SCHEMA = "chainbuild.trace/1"
MAX_MISSING = 5000
"""The most missing paths in the report."""
_TESTS = "/.chainbuild-test/"
"""The folder of the tests while they run; files that tests open themselves have no other program."""
_MAX_STATUS = 64
_MAX_MESSAGES = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceOfTest:
    """A test: its name, the folder of its results, the folder of its run in the production image, and its interpreter.

    `produced` is empty if the test was not run there. `starts` is the interpreter of a script, which the kernel opens.
    `folder` is the current folder at the start.
    """

    name: str
    results: str
    produced: str = ""
    starts: str = ""
    folder: str = "/"


def trace_report(
    chain: RootFileSystem,
    production: RootFileSystem,
    tests: Iterable[TraceOfTest],
    *,
    variables: Variables | None = None,
    ignore: Iterable[str] = (),
) -> dict[str, Any]:
    """Read the results of the tests and compare the images. `ignore` are shell patterns of paths that do not count."""
    comparer = Comparer(chain, production, variables)
    patterns = tuple(ignore)
    rows: list[dict[str, Any]] = []
    lost: dict[str, LostPath] = {}
    by_path: dict[str, list[str]] = {}
    counted: set[str] = set()
    ignored: set[str] = set()
    for test in tests:
        row, accesses = _read_test(test)
        rows.append(row)
        comparison = comparer.compare(accesses)
        row["paths"] = len(comparison.counted)
        counted.update(comparison.counted)
        for lost_path in comparison.missing:
            if is_ignored(lost_path.path, patterns):
                ignored.add(lost_path.path)
            elif lost_path.path in lost or len(lost) < MAX_MISSING:
                lost.setdefault(lost_path.path, lost_path)
                by_path.setdefault(lost_path.path, []).append(test.name)
            else:
                row["cut"] = True
    folders = TracedFolders(chain, production, owned(chain) if lost else Ownership())
    words = folders.words({path: lost_path.kind for path, lost_path in lost.items()})
    return {
        "schema": TRACE_SCHEMA,
        "paths": len(counted),
        "tests": rows,
        "ignored": sorted(ignored),
        "missing": [
            {
                "path": path,
                "kind": lost_path.kind,
                "program": "" if lost_path.program.startswith(_TESTS) else lost_path.program,
                "tests": by_path[path],
                **folders.package_of(path),
            }
            for path, lost_path in sorted(lost.items())
        ],
        "words": [
            {
                "path": word.path,
                "pattern": pattern_of(word.path),
                "brings": list(word.brings),
                **folders.package(word.package),
            }
            for word in words
        ],
    }


def _read_test(test: TraceOfTest) -> tuple[dict[str, Any], list[Access]]:
    results = Path(test.results)
    reading, accesses = Reading(), Accesses(folder=test.folder)
    try:
        with (results / "calls").open("rb") as stream:
            accesses.feed(read_calls(stream, reading))
    except OSError:
        pass  # the test was skipped, or strace did not start
    accessed = list(accesses.found.values())
    # The first execution is the tracer's own shell, the second is the test.
    traced = accesses.executions > 1
    if traced and test.starts:
        accessed.append(Access(path=test.starts, kind="executed", program=test.name))
    row = {
        "name": test.name,
        "status": _status(results),
        "produced": _status(Path(test.produced)) if test.produced else "",
        "traced": traced,
        "calls": reading.calls,
        "cut": reading.cut or accesses.cut,
        "said": "" if traced else _text(results / "messages", _MAX_MESSAGES),
    }
    return row, accessed


def _status(folder: Path) -> str:
    return _text(folder / "status", _MAX_STATUS).strip()


def _text(path: Path, limit: int) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def is_ignored(path: str, patterns: Iterable[str]) -> bool:
    """Return whether a pattern matches a path or a folder above it."""
    patterns = tuple(patterns)
    while path != "/":
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
            return True
        path = parent(path)
    return False
