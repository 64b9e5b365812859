"""The tutorials of the documentation: every command that a page shows is run, in order, in a folder of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tutorials import TUTORIALS, Tutorial

from .conftest import COMMAND, OWN, Lay, docker

pytestmark = pytest.mark.timeout(3600)
PATIENCE = 3000


def _parameter(tutorial: Tutorial) -> object:
    marks = [pytest.mark.long] if tutorial.is_long else []
    return pytest.param(tutorial, id=Path(tutorial.page).stem, marks=marks)


@pytest.mark.parametrize("tutorial", [_parameter(tutorial) for tutorial in TUTORIALS])
def test_tutorial_works_as_written(tutorial: Tutorial, lay: Lay, repository_root: Path) -> None:
    place = lay()
    if tutorial.has_examples:
        shutil.copytree(repository_root / "examples", place.root / "examples")
    person = {"NAME": "Reader", "EMAIL": "reader@example.org"}
    environment = place.environment() | {
        "CHAINBUILD_REGISTRY": str(place.registry),
        "PATH": f"{COMMAND.parent}:{place.environment()['PATH']}",
        **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()},
    }
    before = _loaded()
    stand_ins = sorted(set(tutorial.named) - before)
    for name in stand_ins:
        assert docker("tag", "debian:bookworm-slim", name).returncode == 0
    try:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", tutorial.script(repository_root, OWN)],
            cwd=place.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    finally:
        made = sorted(name for name in _loaded() - before if re.match(tutorial.images, name)) + stand_ins
        if made:
            docker("image", "rm", "--force", *made)
    said = f"--- stdout\n{done.stdout[-6000:]}\n--- stderr\n{done.stderr[-6000:]}"
    assert done.returncode == 0, said
    assert [text for text in tutorial.prints if OWN == "amd64" and text not in done.stdout] == [], said


def _loaded() -> set[str]:
    """Return the names of the images in the engine."""
    return set(docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split())
