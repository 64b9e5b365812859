"""Real programs in minimized images: each works, or a warning has the line that fixes it."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chainbuild.host.package_data import minimize_program, shipped
from chainbuild.references import Platform
from tests.support.programs import PROGRAMS, Program, with_line

from .conftest import OTHER, OWN, PATIENCE, docker

pytestmark = pytest.mark.timeout(1800)

HERE = Path(__file__).parent / "programs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """The images of the programs, and the reports of the minimize stage, by name."""

    repository: str
    folder: Path
    platform: str
    base: str

    def run(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of an image, without network."""
        image = f"{self.repository}:{name}"
        how = ["--rm", "--pull", "never", "--network", "none", "--platform", Platform.parse(self.platform).oci]
        argv = ["docker", "run", *how, "--entrypoint", command[0], image, *command[1:]]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE)

    def report(self, name: str) -> dict[str, Any]:
        """Return the report of the minimize stage."""
        document: dict[str, Any] = json.loads((self.folder / name / "report.json").read_bytes())
        return document


def bake(tried: Tried, name: str, program: Program, args: Mapping[str, str]) -> None:
    """Build the chain's image and a program's minimized and production image, with the report."""
    oci = Platform.parse(tried.platform).oci
    utilities = str(shipped("utilities"))
    common = {"context": str(HERE), "dockerfile": str(HERE / "Dockerfile"), "args": {"BASE": tried.base}}
    targets: dict[str, Any] = {
        stage: {**common, "target": stage, "platforms": [oci]} for stage in (program.chain, "slim", "bare")
    }
    targets["tools"] = {**common, "target": "tools", "platforms": [Platform.parse(OWN).oci]}
    production, contexts = "scratch", {}
    if program.production != "scratch":
        production, contexts = "production-image", {"production-image": f"target:{program.production}"}
    given = {"BASE_IMAGE": "chain-image", "TOOLS_IMAGE": "tools-image", "PRODUCTION_IMAGE": production, **args}
    more = {
        "chain-image": f"target:{program.chain}",
        "tools-image": "target:tools",
        "chainbuild-minimize": str(minimize_program()),
    }
    minimize = {
        "context": utilities,
        "dockerfile": f"{utilities}/Dockerfile-minimize",
        "platforms": [oci],
        "args": given,
        "contexts": {**contexts, **more},
    }
    targets["minimized"] = {**minimize, "target": "minimized"}
    report = [f"type=local,dest={tried.folder / name}"]
    targets["report"] = {**minimize, "target": "report", "output": report}
    targets["image"] = {
        "context": utilities,
        "dockerfile": f"{utilities}/Dockerfile-production",
        "platforms": [oci],
        "args": {"PRODUCTION_IMAGE": production, "MINIMIZED_IMAGE": "minimized-image"},
        "contexts": {**contexts, "minimized-image": "target:minimized"},
        "output": [f"type=image,name={tried.repository}:{name}"],
    }
    file = tried.folder / f"{name}.json"
    file.write_text(json.dumps({"target": targets}), encoding="utf-8")
    done = docker("buildx", "bake", "--progress", "plain", "--file", str(file), "report", "image")
    assert done.returncode == 0, done.stderr[-6000:]


def trying(platform: str, base: str, folder: Path) -> Iterator[Tried]:
    """Yield the images of a platform's programs; remove the images at the end."""
    tried = Tried(
        repository=f"chainbuild-test/programs-{uuid.uuid4().hex[:12]}", folder=folder, platform=platform, base=base
    )
    yield tried
    names = [f"{tried.repository}:{file.stem}" for file in folder.glob("*.json")]
    if names:
        docker("image", "rm", "--force", *names)


@pytest.fixture(scope="module")
def tried(base_images: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    """The images for this machine's platform."""
    yield from trying(OWN, base_images, tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def emulated(base_images: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    """The images for the other platform."""
    yield from trying(OTHER, base_images, tmp_path_factory.mktemp("emulated"))


def check(tried: Tried, program: Program) -> None:
    """Assert that the program works, or works only with the line of a warning."""
    bake(tried, program.name, program, program.args)
    done = tried.run(program.name, *program.command)
    if program.fix:
        assert done.returncode != 0 or program.says not in done.stdout + done.stderr
        assert program.fix in [warning["fix"] for warning in tried.report(program.name)["warnings"]]
        mended = f"{program.name}-mended"
        bake(tried, mended, program, with_line(program))
        done = tried.run(mended, *program.command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert program.says in done.stdout + done.stderr


def marked(program: Program) -> Any:
    """Return a program as a parameter; programs with many packages run only on request."""
    return pytest.param(program, marks=() if program.small else pytest.mark.long, id=program.name)


@pytest.mark.parametrize("program", [marked(program) for program in PROGRAMS])
def test_program_works_or_is_reported_with_fix(tried: Tried, program: Program) -> None:
    check(tried, program)


@pytest.mark.long
@pytest.mark.parametrize("program", [one for one in PROGRAMS if one.small], ids=lambda program: program.name)
def test_program_on_other_platform_works_or_is_reported_with_fix(emulated: Tried, program: Program) -> None:
    check(emulated, program)
