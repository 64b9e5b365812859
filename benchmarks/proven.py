"""What a minimized layer must hold, counted without the code that makes the layer, against what it does hold.

*Proven necessary* is a lower bound: (1) the regular files below the documented folders, `ADDITIONAL_FILES` and what the
report says is loaded by name, as `find` in the chain's image lists them; (2) the files outside that links among those lead
to (`realpath` there), where the production image has nothing at that path; (3) the libraries that the chain image's own
`ldd` loads for the ELF files of (1) and (2), where the production image's `ldconfig -p` has none of that name. Hard links
count once. What the layer holds beyond that is told by kind.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.images import bytes_in
from chainbuild.minimize.root import RootFileSystem

DOCUMENTED = (
    "/usr/local/lib",
    "/usr/local/include",
    "/usr/local/bin",
    "/opt/venv",
    "/usr/lib/python*",
    "/usr/bin/python*",
    "/etc/ssl",
)
"""As docs/stages.md has them."""

_LIST = """\
printf '%s\\n' "$1" | tr ' ' '\\n' | while read -r pattern; do
    for top in $pattern; do [ -e "$top" ] && printf '%s\\0' "$top"; done
done | sort -zu >/tmp/tops
xargs -0 -r -a /tmp/tops sh -c '
    find "$@" -type f -printf "F%p\\0"
    find "$@" -type l -exec realpath -zq -e {} + | sed -z s/^/L/' sh
"""
_LDD = re.compile(r"^\s+(?P<name>\S+) => (?P<path>/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_ALONE = re.compile(r"^\s+(?P<path>/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_CACHED = re.compile(r"^\t(?P<name>\S+) \(", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Proven:
    """Bytes that are proven necessary, by the three rules; what the layer holds; and where the difference is."""

    packaged: int
    linked: int
    libraries: int
    library_count: int
    holds: int
    records: int
    loader: int
    other: int
    lost: tuple[str, ...]
    """Files that are proven necessary and not in the layer."""

    @property
    def sum(self) -> int:
        return self.packaged + self.linked + self.libraries

    @property
    def over(self) -> float:
        """How much more than proven the layer holds: 0.01 is a hundredth."""
        return self.holds / self.sum - 1


def proven(image: str, bare_image: str, folders: tuple[Path, Path, Path], additional: Iterable[str]) -> Proven:
    """Count, for images of this machine's platform.

    `folders` are the chain's image, the production image, and what the minimize stage's program made of them (`out`, and
    `report.json` beside it). Errors: `RunFailedError`.
    """
    root, bare, made = folders
    report = json.loads((made / "report.json").read_bytes())
    opened = [row["file"] for row in report["opened"] if row["state"] == "kept"]
    files, targets = packaged_files(image, (*DOCUMENTED, *additional, *opened))
    there = RootFileSystem(str(bare))
    linked = {path for path in targets - files if Path(f"{root}{path}").is_file() and there.resolve(path) is None}
    libraries = _libraries(image, sorted(files | linked), _names_in(bare_image), there) - files - linked
    necessary = files | linked | libraries
    rows = [row for row in report["files"] if row["kind"] == "file"]
    sources = {row.get("source", row["path"]) for row in rows} | set(report["dropped"])
    return Proven(
        packaged=_bytes(root, files),
        linked=_bytes(root, linked),
        libraries=_bytes(root, libraries),
        library_count=len(libraries),
        holds=bytes_in(made / "out"),
        records=sum(row["bytes"] for row in rows if row["reason"].startswith(("record of", "licence of"))),
        loader=sum(row["bytes"] for row in rows if row["reason"].startswith("written by chainbuild")),
        other=sum(
            row["bytes"]
            for row in rows
            if not row["reason"].startswith(("record of", "licence of", "written by chainbuild"))
            and row.get("source", row["path"]) not in necessary
        ),
        lost=tuple(sorted(necessary - sources)),
    )


def packaged_files(image: str, patterns: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """The regular files that patterns name in an image or that lie below, and what links there lead to."""
    text = _inside(image, "sh", "-c", _LIST, "sh", " ".join(patterns))
    entries = [entry for entry in text.split("\0") if entry]
    return {one[1:] for one in entries if one[0] == "F"}, {one[1:] for one in entries if one[0] == "L"}


def _libraries(image: str, files: list[str], names: frozenset[str], there: RootFileSystem) -> set[str]:
    text = _inside(image, "sh", "-c", "xargs -d '\\n' ldd 2>/dev/null; exit 0", text="\n".join(files))
    wanted = {match["path"] for match in _LDD.finditer(text) if match["name"] not in names}
    wanted |= {match["path"] for match in _ALONE.finditer(text) if there.resolve(match["path"]) is None}
    real = _inside(image, "xargs", "-r", "-d", "\\n", "realpath", text="\n".join(sorted(wanted)))
    return set(real.splitlines())


def _names_in(bare_image: str) -> frozenset[str]:
    """The library names that an image's loader has in its cache; none for an image without `ldconfig`."""
    try:
        return frozenset(_CACHED.findall(_inside(bare_image, "/sbin/ldconfig", "-p")))
    except measure.RunFailedError:
        return frozenset()


def _inside(image: str, *command: str, text: str = "") -> str:
    argv = ["docker", "run", "--rm", "--interactive", "--network", "none", "--entrypoint", command[0], image]
    argv += command[1:]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, errors="surrogateescape", check=False)
    if done.returncode:
        raise measure.RunFailedError(f"{command[0]} in {image}: exit code {done.returncode}\n{done.stderr[-500:]}")
    return done.stdout


def _bytes(root: Path, paths: Iterable[str]) -> int:
    files = {(status.st_dev, status.st_ino): status.st_size for status in (os.lstat(f"{root}{path}") for path in paths)}
    return sum(files.values())


def table(one: Proven, chain: int) -> str:
    """The table: the chain's image, what is necessary, what the layer holds and why."""
    rows = [
        "| | bytes | of what is proven necessary |",
        "| --- | ---: | ---: |",
        _row("the chain's image", chain, one),
        _row("**proven necessary**", one.sum, one),
        _row("— the kept folders", one.packaged, one),
        _row("— the targets of links in them", one.linked, one),
        _row(f"— {one.library_count} libraries that the production image lacks", one.libraries, one),
        _row("**the minimized layer**", one.holds, one),
        _row("— more than proven: records and licences of packages", one.records, one),
        _row("— more than proven: the loader's configuration and cache", one.loader, one),
        _row("— more than proven: anything else", one.other, one),
        "",
        f"The layer has {one.over:.2%} more bytes than are proven necessary; {len(one.lost)} necessary files are missing.",
    ]
    return "\n".join(rows)


def _row(what: str, size: int, one: Proven) -> str:
    return f"| {what} | {size:,} | {size / one.sum:.2%} |"
