"""Schema names of JSON documents: programs rely on them, so they do not change with the code."""

from __future__ import annotations

import re
from pathlib import Path

import chainbuild

NAMED = re.compile(r"chainbuild\.[\w.-]+/\d+")
PUBLIC = {
    "plan",
    "events",
    "error",
    "why",
    "images",
    "inspect",
    "proof",
    "explained",
    "removed",
    "report",
    "traced",
    "types",
    "publication",
    "diff",
    "files",
    "added",
    "run-report",
    "release",
    "release-moves",
    "release-page",
    "sifs",
    "sif-plan",
    "sif-list",
    "sif-uploads",
    "sif",
    "orphans",
    "doctor",
    "registry-status",
    "registry-ls",
    "registry-gc",
}


def test_public_schemas_keep_their_names() -> None:
    root = Path(chainbuild.__file__).parent
    found = {name for path in root.rglob("*.py") for name in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert {f"chainbuild.{name}/1" for name in PUBLIC} <= found
    assert [name for name in sorted(found) if name.count(".") > 1] == []


def test_public_schemas_are_documented(repository_root: Path) -> None:
    page = (repository_root / "docs/json.md").read_text(encoding="utf-8")
    assert sorted(name for name in PUBLIC if f"`chainbuild.{name}/1`" not in page) == []
