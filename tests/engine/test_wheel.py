"""The wheel as a user has it: installed outside of the checkout, with the stages and the compose file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from chainbuild import __version__

from .conftest import OWN, Lay, Place

pytestmark = pytest.mark.timeout(900)

SHIPPED = {
    "chainbuild/shipped/docker-compose-registry.yml",
    "chainbuild/shipped/utilities/Dockerfile-minimize",
    "chainbuild/shipped/utilities/Dockerfile-production",
    "chainbuild/shipped/utilities/Dockerfile-singularity",
    "chainbuild/shipped/utilities/Dockerfile-verify",
    "chainbuild/shipped/docs/getting-started.md",
    "chainbuild/shipped/docs/options/stock.md",
    "chainbuild/minimize/__main__.py",
    "chainbuild/cli/__init__.py",
}


REPOSITORY = {"GITHUB_SERVER_URL": "https://forge.example", "GITHUB_REPOSITORY": "acme/chainbuild"}


def must(*argv: str | Path, **environ: str) -> str:
    """Run a command that has to succeed, and return its output."""
    done = subprocess.run(
        [str(word) for word in argv], env=os.environ | environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, repository_root: Path) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    must(*pip, "--wheel-dir", folder, repository_root, **REPOSITORY)
    (found,) = folder.glob("chainbuild-*.whl")
    return found


def test_wheel_contains_only_the_program_and_its_stages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert names >= SHIPPED
    assert [name for name in names if name.partition("/")[0].endswith(".dist-info")]
    strangers = [name for name in names if not name.startswith(("chainbuild/", "chainbuild-"))]
    assert strangers == []
    assert [name for name in names if "__pycache__" in name or name.startswith("chainbuild/tests")] == []


def test_wheel_has_the_addresses_of_the_repository_that_built_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata, _, readme = archive.read(name).decode().partition("\n\n")
    assert "Project-URL: Source, https://forge.example/acme/chainbuild\n" in metadata
    assert "Project-URL: Documentation, https://forge.example/acme/chainbuild/blob/v" in metadata
    links = re.findall(r"\]\((\S+)\)", readme)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert f"https://forge.example/acme/chainbuild/blob/v{__version__}/docs/chain.md" in links
    assert f"https://forge.example/acme/chainbuild/raw/v{__version__}/docs/_static/run.svg" in links


def test_installed_wheel_builds_tree_without_utilities(
    wheel: Path, lay: Lay, nothing_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    must(sys.executable, "-m", "venv", tmp_path / "venv")
    must(tmp_path / "venv" / "bin" / "pip", "install", "--quiet", wheel)
    monkeypatch.setattr("tests.engine.conftest.COMMAND", tmp_path / "venv" / "bin" / "chainbuild")
    place: Place = lay(
        files={
            "one/10-Dockerfile-a": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN mkdir -p /usr/local/share/a\n",
        },
        production=nothing_image,
    )
    version = place.run("--version")
    assert version.out.startswith("chainbuild ")
    place.build("one")
    result = place.image(f"v1-one-{OWN}")
    assert len(result.layers) == 2
    # The wheel has its own stages, in any folder.
    record = place.root / ".chainbuild" / "logs" / "latest" / "events.jsonl"
    assert "minimize" in record.read_text(encoding="utf-8")
    status = place.run("registry", "status", "--registry-port", "1")
    assert status.code == 0, status.told()
