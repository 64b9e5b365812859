"""Create the report of a pack job as JSON (`chainbuild.minimize/2`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from chainbuild.minimize.job import MinimizeOutcome
from chainbuild.minimize.loader import Closure
from chainbuild.minimize.notices import rows
from chainbuild.minimize.problems import errors, warnings
from chainbuild.minimize.root import Node
from chainbuild.minimize.trim import SWITCHES
from chainbuild.minimize.write import Rows

MINIMIZE_SCHEMA = "chainbuild.minimize/2"
READABLE_SCHEMAS = ("chainbuild.minimize/1", MINIMIZE_SCHEMA)
"""The readable schemas. In version 1 `errors`, `warnings` and `nothing` are lists of strings, and links lack `target`."""


def minimize_report(outcome: MinimizeOutcome) -> dict[str, Any]:
    """Return the report of a pack job; lists are sorted, so that only durations differ between two runs."""
    packing, selection = outcome.packing, outcome.selection
    problems = packing.problems
    return {
        "schema": MINIMIZE_SCHEMA,
        "errors": rows(errors(outcome)),
        "warnings": rows(warnings(outcome)),
        "files": Rows(lambda: _files(outcome)),
        "libraries": _libraries(outcome),
        "from_production": [
            {"path": path, "needed_by": sorted(askers)} for path, askers in sorted(packing.from_production.items())
        ],
        "opened": [asdict(entry) for entry in outcome.discovery.rows()],
        "missing_in_chain": _missing(problems.missing_in_chain),
        "missing_in_result": _missing(problems.missing_in_result),
        "versions": [
            {"asker": asker, "name": name, "version": version, "provided": provided}
            for (asker, name, version), provided in sorted(problems.versions.items())
        ],
        "interpreters": dict(sorted(problems.interpreters.items())),
        "scripts": dict(sorted(outcome.scripts.items())),
        **_taken(outcome),
        "dropped": dict(sorted(outcome.layout.dropped.items())),
        "links": outcome.links,
        "special": sorted(selection.special),
        "dangling": [list(pair) for pair in selection.dangling],
        "too_wide": [list(pair) for pair in selection.too_wide],
        "nothing": [
            {"argument": argument, "pattern": pattern, "nearest": list(outcome.nearest.get(pattern, ()))}
            for argument, pattern in selection.unmatched
        ],
        "damaged": dict(sorted(outcome.damaged.items())),
        "unreadable": [list(pair) for pair in outcome.unreadable],
        "users": [asdict(entry) for entry in outcome.users.users],
        "groups": [asdict(entry) for entry in outcome.users.groups],
        "records": sorted(outcome.records),
        "cache_written": outcome.cache_written,
        "elf": {
            "seeds": outcome.seeds,
            "needed": len(outcome.closure.files),
            "brought": len(packing.brought),
            "from_production": len(packing.from_production),
        },
        "packages": _packages(outcome),
        "production_packages": [{"package": key, "bytes": size} for key, size in outcome.production_sizes.items()],
        "sizes": {
            "chain": outcome.sizes.chain,
            "production": outcome.sizes.production,
            "minimized": outcome.sizes.minimized,
            "files": outcome.written.files,
        },
        "seconds": {"analysis": round(outcome.analysis_seconds, 3), "all": round(outcome.seconds, 3)},
    }


def _libraries(outcome: MinimizeOutcome) -> list[dict[str, Any]]:
    return [
        {
            "path": library.path,
            "source": library.source,
            "name": library.name,
            "needed_by": library.needed_by,
            "reason": library.reason,
            "chain": _chain(outcome.closure, library.source),
            "bytes": _bytes(outcome, library.path, library.node),
        }
        for _, library in sorted(outcome.packing.brought.items())
    ]


def _taken(outcome: MinimizeOutcome) -> dict[str, Any]:
    return {
        "trimmed": [
            {"path": path, "switch": switch.upper(), "bytes": size}
            for path, (switch, size) in sorted(outcome.trimmed.files.items())
        ],
        "tests_kept": dict(sorted(outcome.trimmed.spared.items())),
        "stripped": [
            {"path": path, "before": before, "bytes": after}
            for path, (before, after) in sorted(outcome.written.stripped.items())
        ],
        "saved": saved(outcome),
    }


def saved(outcome: MinimizeOutcome) -> dict[str, dict[str, int]]:
    """Return what each active switch removed: files and bytes."""
    sums = {name: [0, 0] for name in SWITCHES if getattr(outcome.order.trim, name)}
    for switch, size in outcome.trimmed.files.values():
        sums[switch][0] += 1
        sums[switch][1] += size
    for before, after in outcome.written.stripped.values():
        sums["strip"][0] += 1
        sums["strip"][1] += before - after
    return {name.upper(): {"files": files, "bytes": size} for name, (files, size) in sums.items()}


def _files(outcome: MinimizeOutcome) -> Iterator[dict[str, Any]]:
    for where, node in sorted(outcome.packing.overlay.added.items()):
        kept = outcome.layout.placed.get(where)
        brought = outcome.packing.brought.get(where)
        row: dict[str, Any] = {"path": where, "kind": node.kind, "bytes": _bytes(outcome, where, node)}
        if node.kind == "link":
            row["target"] = node.target
        if kept is not None:
            row["reason"] = kept.reason
            if kept.because:
                row["because"] = kept.because
            if kept.path != where:
                row["source"] = kept.path
        elif brought is not None:
            row["reason"] = f"needed by {brought.needed_by} as {brought.name}: {brought.reason}"
            row["because"] = brought.needed_by
            row["source"] = brought.source
        elif where in outcome.users.files:
            row["reason"] = outcome.users.files[where]
        elif where in outcome.records:
            row["reason"] = outcome.records[where].reason
            if outcome.records[where].source:
                row["source"] = outcome.records[where].source
        else:
            row["reason"] = "written by chainbuild for the loader"
        if kept is not None or brought is not None or "source" in row:
            row["package"] = outcome.ownership.owner(row.get("source", where))
        yield row


def _packages(outcome: MinimizeOutcome) -> list[dict[str, Any]]:
    rows = []
    for key, account in outcome.accounts.items():
        package = outcome.ownership.packages.get(key)
        rows.append(
            {
                "package": key,
                "version": package.version if package is not None else "",
                "files": account.files,
                "bytes": account.bytes,
                "largest": [{"path": path, "bytes": size} for size, path in account.largest],
                "paths": {state: paths for state, paths in account.paths.items() if paths},
            }
        )
    return rows


def _bytes(outcome: MinimizeOutcome, path: str, node: Node) -> int:
    stripped = outcome.written.stripped.get(path)
    if stripped is not None:
        return stripped[1]
    return node.size if node.kind == "file" else 0


def _chain(closure: Closure, file: str) -> list[dict[str, str]]:
    return [{"asker": link.asker, "name": link.name} for link in closure.chain(file)]


def _missing(missing: dict[tuple[str, str], tuple[str, ...]]) -> list[dict[str, Any]]:
    return [
        {"asker": asker, "name": name, "searched": list(searched)}
        for (asker, name), searched in sorted(missing.items())
    ]
