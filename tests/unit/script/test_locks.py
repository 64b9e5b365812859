"""The lock files: what an installation needs is locked with the same versions and hashes as everything else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def pins(path: Path) -> dict[str, set[str]]:
    """Return the hashes of every pinned version."""
    entries = re.findall(r"(?m)^(\S[^\n\\]*) \\\n((?:    --hash=\S+(?: \\)?\n)+)", path.read_text())
    return {pin: set(re.findall(r"sha256:\w+", hashes)) for pin, hashes in entries}


def test_lock_for_installations_is_a_part_of_the_whole_lock(repository_root: Path) -> None:
    whole, part = (pins(repository_root / name) for name in ("requirements.lock", "requirements-run.lock"))
    assert part
    assert part.items() <= whole.items()
    project = tomllib.loads((repository_root / "pyproject.toml").read_text())
    needed = {re.split(r"[^\w-]", text.replace(".", "-"))[0] for text in project["project"]["dependencies"]}
    needed |= {re.split(r"\W", text)[0] for text in project["build-system"]["requires"]}
    assert {name.partition("==")[0] for name in part} >= {name.lower() for name in needed}
