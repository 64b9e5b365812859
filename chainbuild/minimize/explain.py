"""Explain from a report why a file is in the result, and what was left out: `explain` and `removed`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chainbuild.minimize.root import base, shown

_DEPTH = 64
_KB, _MB, _GB = 10**3, 10**6, 10**9


def size_in_words(size: int) -> str:
    """Format `size` bytes for people: `187.3 MB`."""
    for unit, name in ((_GB, "GB"), (_MB, "MB"), (_KB, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


class Explainer:
    """Answers questions about a report of pack."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.report = report
        self.rows: dict[str, dict[str, Any]] = {}
        for row in report["files"]:
            self.rows.setdefault(row["path"], row)
            self.rows.setdefault(row.get("source", row["path"]), row)
        self.libraries = {row["path"]: row for row in report["libraries"]}
        self.provided = {row["path"]: row for row in report["from_production"]}
        self.opened = {(row["asker"], row["name"]): row for row in report["opened"]}
        self.owners = {
            state: {path: row["package"] for row in report["packages"] for path in row.get("paths", {}).get(state, ())}
            for state in ("production", "left")
        }

    def explain(self, name: str) -> list[str]:
        """Return the lines about the file `name`: a path in the result or in the chain's image, or a file name."""
        paths = self._matching(name)
        lines: list[str] = []
        for path in paths:
            lines += self._in(path) if path in self.rows else self._provided(path)
        if not paths:
            lines = list(self._out(name))
        if not lines:
            lines = list(self._by_owner(name, "production", "the production image has it"))
        if not lines:
            why = "it is in no kept folder, and no kept file needs it. Add it to ADDITIONAL_FILES to keep it."
            lines = list(self._by_owner(name, "left", f"left out: {why}"))
        if not lines:
            lines = self._linked(name)
        if not lines:
            lines = [f"{shown(name)} is not in the result, and the chain's image has no file or link of this name"]
        return lines

    def found(self, name: str) -> bool:
        """Return whether `name` is in the result."""
        if self._matching(name) or any(self._by_owner(name, "production", "")):
            return True
        return any(self._matching(end) or any(self._by_owner(end, "production", "")) for _, end in self._links(name))

    def _links(self, name: str) -> list[tuple[str, str]]:
        """Return the matching links of the chain's image, each with the file that it finally leads to."""
        rows = self.report.get("links", {}).items()
        return [(path, end) for path, end in rows if path == name or ("/" not in name and base(path) == name)]

    def _linked(self, name: str) -> list[str]:
        lines: list[str] = []
        for path, end in self._links(name):
            lines.append(
                f"{shown(path)}: a link of the chain's image to {shown(end)}; the link itself is not in the result"
            )
            lines += [f"  {line}" for line in self.explain(end)]
        return lines

    def _by_owner(self, name: str, state: str, why: str) -> Iterator[str]:
        """Yield a line for each matching file of the chain's image that is in `state`."""
        for path, owner in sorted(self.owners[state].items()):
            if path == name or ("/" not in name and base(path) == name):
                of = "" if owner.startswith("dir:") else f" (of {shown(owner)})"
                yield f"{shown(path)}{of}: {why}"

    def _matching(self, name: str) -> list[str]:
        if name in self.rows:
            return [self.rows[name]["path"]]
        if name in self.provided:
            return [name]
        if "/" in name:
            return []
        paths = {row["path"] for path, row in self.rows.items() if base(path) == name}
        return sorted(paths | {path for path in self.provided if base(path) == name})

    def _in(self, path: str) -> list[str]:
        row = self.rows[path]
        kind = "symbolic link" if row["kind"] == "link" else row["kind"]
        words = [f"{shown(path)}: {kind}, {size_in_words(row['bytes'])}"]
        if row.get("target"):
            words.append(f"to {shown(row['target'])}")
        if row.get("package"):
            words.append(f"of {row['package']}")
        if row.get("source", path) != path:
            words.append(f"from {shown(row['source'])} of the chain's image")
        steps = self._steps(path)
        return [", ".join(words), *(f"{'  ' * (depth + 1)}{line}" for depth, line in enumerate(steps))]

    def _steps(self, path: str) -> list[str]:
        """Return the steps that led from a kept file to `path`."""
        links: list[str] = []
        seen: set[str] = set()
        current: str | None = path
        while current is not None and current not in seen and len(seen) < _DEPTH:
            seen.add(current)
            row = self.rows.get(current)
            library = self.libraries.get(row["path"]) if row is not None else None
            if row is None:
                links.append(
                    f"{shown(current)}: not kept itself; its libraries are, because ADDITIONAL_LIB_LOCATIONS names it"
                )
                current = None
            elif library is not None and library["chain"]:
                needs = [self._need(link["asker"], link["name"]) for link in reversed(library["chain"])]
                links += [f"{needs[0]} ({library['reason']})", *needs[1:]]
                current = library["chain"][0]["asker"]
            elif row.get("because"):
                links.append(f"{shown(row['path'])}: {row['reason']}")
                current = row["because"]
            else:
                links.append(f"{shown(row['path'])}: {row['reason']}")
                current = None
        return list(reversed(links))

    def _need(self, asker: str, name: str) -> str:
        opened = self.opened.get((asker, name))
        how = "needs" if opened is None else f"loads ({opened['why']})"
        return f"{shown(asker)} {how} {shown(name)}"

    def _provided(self, path: str) -> list[str]:
        askers = self.provided[path]["needed_by"]
        lines = [f"{shown(path)}: the production image has it; needed by"]
        lines += [f"  {shown(asker)}" for asker in askers[:20]]
        if len(askers) > 20:
            lines.append(f"  and {len(askers) - 20} more")
        return lines

    def _out(self, name: str) -> Iterator[str]:
        def matches(*paths: str) -> bool:
            return any(name == path or ("/" not in name and base(path) == name) for path in paths)

        report = self.report
        for row in report["trimmed"]:
            if matches(row["path"]):
                yield f"{shown(row['path'])}: removed by {row['switch']} ({size_in_words(row['bytes'])})"
        for path, why in report["dropped"].items():
            if matches(path):
                yield f"{shown(path)}: left out: {why}"
        for path in report["special"]:
            if matches(path):
                yield f"{shown(path)}: left out: a device, socket or pipe"
        for link, target in (*report["dangling"], *report["too_wide"]):
            if matches(target):
                yield f"{shown(target)}: left out; the link {shown(link)} points to it"
        for row in report["opened"]:
            if matches(row["name"], row["file"]) and row["state"] != "kept":
                where = "left out" if row["state"] == "left" else "the production image has it"
                how = "loads" if row["kind"] in ("dlopen", "plugin", "nss") else "opens"
                yield f"{shown(row['file'])}: {where}; {shown(row['asker'])} {how} it ({row['why']})"
        for key in ("missing_in_chain", "missing_in_result"):
            for row in report[key]:
                if matches(row["name"]):
                    image = "chain's image" if key.endswith("chain") else "result"
                    yield f"{shown(row['name'])}: not in the {image}; {shown(row['asker'])} needs it"


def removed(report: Mapping[str, Any], *, files: bool = False) -> list[str]:
    """Return a table of what was left out or trimmed by package, largest first; with `files` also the largest files."""
    rows = []
    for row in report["packages"]:
        left_bytes, trimmed_bytes = row["bytes"]["left"], row["bytes"]["trimmed"]
        count = row["files"]["left"] + row["files"]["trimmed"]
        if count or trimmed_bytes:
            rows.append((left_bytes, trimmed_bytes, count, row))
    rows.sort(key=lambda entry: (-entry[0] - entry[1], entry[3]["package"]))
    width = max((len(shown(row["package"])) for _, _, _, row in rows), default=7)
    lines = [f"{'package':{width}}  {'left out':>10}  {'trimmed':>10}  {'files':>6}  {'stays':>10}  version"]
    for left_bytes, trimmed_bytes, count, row in rows:
        stays = row["bytes"]["kept"] + row["bytes"]["production"]
        sizes = "  ".join(f"{_cell(size):>10}" for size in (left_bytes, trimmed_bytes))
        line = f"{shown(row['package']):{width}}  {sizes}  {count:>6}  {_cell(stays):>10}  {shown(row['version'])}"
        lines.append(line.rstrip())
        if files:
            lines += [f"    {size_in_words(file['bytes']):>10}  {shown(file['path'])}" for file in row["largest"]]
    sums = [sum(entry[index] for entry in rows) for index in range(3)]
    lines.append(f"{'all':{width}}  {_cell(sums[0]):>10}  {_cell(sums[1]):>10}  {sums[2]:>6}")
    return lines


def _cell(size: int) -> str:
    return size_in_words(size) if size else "-"
