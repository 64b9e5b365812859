"""The exercise of the ATLAS document on a real engine: a base, a release on it, and a payload that runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from chainbuild.operations.shell import Visit, container_command
from chainbuild.references import Platform
from tests.engine.conftest import COMMAND, OWN, Lay, Place, docker, write_tree

COMPILE = ". /release_setup.sh && gcc -O2 -o /tmp/AnalysisPayload AnalysisPayload.c -lkinematics"
PAYLOAD = f"{COMPILE} && /tmp/AnalysisPayload events.txt histogram.txt"
HISTOGRAM = {"0": 0, "20": 0, "40": 1, "80": 1, "120": 3}
PROJECT = """\
platforms: {platform}
layers:
  - folder: slc6-atlasos
    image: {repo}/slc6-atlasos:latest
    base: {base}
  - folder: slc6-analysisbase
    image: {repo}/analysisbase:latest
    build-args: {{RELEASE: 21.2.75}}
"""


@pytest.fixture(scope="module")
def atlas(lay_once: Lay, repository_root: Path) -> Place:
    """A user with the folders of the example."""
    example = repository_root / "examples" / "atlas"
    folders = ("slc6-atlasos", "slc6-analysisbase", "payload")
    paths = [path for name in folders for path in sorted((example / name).rglob("*")) if path.is_file()]
    return lay_once(files={str(path.relative_to(example)): path.read_bytes() for path in paths})


def where(place: Place) -> list[str]:
    return ["--registry", str(place.registry)]


@pytest.fixture(scope="module")
def base(atlas: Place) -> str:
    """The base layer, built as by the first `docker build` of the document."""
    name = f"{atlas.repo}/slc6-atlasos:latest"
    done = atlas.run("layer", "slc6-atlasos", "--image", name, "--base", atlas.base, *where(atlas), "--json")
    assert done.code == 0, done.told()
    assert done.built == ["slc6-atlasos"]
    texts = [event["text"] for event in done.events("message")]
    assert any("(--base, instead of debian:bookworm-slim at slc6-atlasos/Dockerfile:2)" in text for text in texts), (
        texts
    )
    assert docker("image", "inspect", name).returncode == 0, "the local store has NAME:TAG, as after docker build -t"
    return name


@pytest.fixture(scope="module")
def release(atlas: Place, base: str) -> str:
    """The release on this base, with its Dockerfile unchanged."""
    name = f"{atlas.repo}/analysisbase:latest"
    words = ["--base", base, "--build-arg", "RELEASE=21.2.75", *where(atlas), "--json"]
    done = atlas.run("layer", "slc6-analysisbase", "--image", name, *words)
    assert done.code == 0, done.told()
    assert done.built == ["slc6-analysisbase"]
    assert any(event["summary"].startswith("layer-test passed") for event in done.events("verdict"))
    again = atlas.run("layer", "slc6-analysisbase", "--image", name, *words)
    assert (again.code, again.built, again.reused) == (0, [], ["slc6-analysisbase"]), again.told()
    return name


def histogram(folder: Path) -> dict[str, int]:
    lines = (line.split() for line in (folder / "histogram.txt").read_text().splitlines())
    return {bin_: int(count) for bin_, count in lines if bin_ in HISTOGRAM}


def test_payload_runs_in_the_release_image(atlas: Place, release: str) -> None:
    folder = atlas.root / "payload"
    done = subprocess.run(
        [str(COMMAND), "shell", release, *where(atlas), "--", "sh", "-c", PAYLOAD],
        cwd=folder,
        env=atlas.environment(),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert "Configured AnalysisBase-21.2.75 in /usr/AnalysisBase/21.2.75" in done.stdout
    assert done.stdout.endswith("5 events\n")
    assert histogram(folder) == HISTOGRAM
    (folder / "histogram.txt").unlink()


def test_shell_reads_commands_from_pipe_and_returns_exit_code(atlas: Place, release: str) -> None:
    done = subprocess.run(
        [str(COMMAND), "shell", release, *where(atlas)],
        input="pwd; exit 7\n",
        cwd=atlas.root / "payload",
        env=atlas.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, f"{atlas.root / 'payload'}\n"), done.stderr


def test_payload_runs_as_user_unknown_to_the_image(release: str, tmp_path: Path, repository_root: Path) -> None:
    for name in ("AnalysisPayload.c", "events.txt"):
        (tmp_path / name).write_bytes((repository_root / "examples/atlas/payload" / name).read_bytes())
    tmp_path.chmod(0o777)
    visit = Visit(folder=tmp_path, user=12345, group=54321, terminal=False, name="somebody")
    script = f"{PAYLOAD} && touch ~/kept && echo $USER at $HOME"
    done = subprocess.run(
        container_command(release, visit, ["sh", "-c", script]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("5 events\nsomebody at /chainbuild-home\n")
    made = (tmp_path / "histogram.txt").stat()
    assert (made.st_uid, made.st_gid) == (12345, 54321)
    assert histogram(tmp_path) == HISTOGRAM


def test_layers_built_as_one_chain_are_reused(atlas: Place, release: str) -> None:
    (atlas.root / "chainbuild.yaml").write_text(PROJECT.format(platform=OWN, repo=atlas.repo, base=atlas.base))
    done = atlas.run(*where(atlas), "--json")
    assert done.code == 0, done.told()
    assert (done.built, done.reused) == ([], ["slc6-atlasos", "slc6-analysisbase"])
    plan = atlas.run("plan", *where(atlas), "--fail-if-build")
    assert plan.code == 0, plan.told()
    base = f"layer slc6-atlasos, {atlas.repo}/slc6-atlasos:latest (the layer before it, as ARG BASEIMAGE)"
    assert f"base of slc6-analysisbase: {base}" in plan.err
    # A change of the base layer changes the release too; with --alone a layer uses its base as it is.
    dockerfile = atlas.root / "slc6-atlasos/Dockerfile"
    before = dockerfile.read_text()
    dockerfile.write_text(before + "LABEL changed=yes\n")
    assert atlas.run("layer", "slc6-analysisbase", *where(atlas), "-n", "--fail-if-build").code == 6
    alone = atlas.run("layer", "slc6-analysisbase", "--alone", *where(atlas), "-n", "--fail-if-build")
    assert alone.code == 0, alone.told()
    dockerfile.write_text(before)
    (atlas.root / "chainbuild.yaml").unlink()


def test_local_only_base_is_used_and_suggested(atlas: Place, base: str) -> None:
    own = f"{atlas.repo}-here/own-os:1"
    assert docker("tag", base, own).returncode == 0
    files = atlas.root / "small"
    files.mkdir()
    (files / "Dockerfile").write_text("ARG BASEIMAGE=nobody/own-os:1\nFROM ${BASEIMAGE}\nRUN gcc --version > /gcc\n")
    done = atlas.run("layer", "small", "--image", f"{atlas.repo}/small:1", "--base", own, *where(atlas))
    assert done.code == 0, done.told()
    assert f"{own}: found only in the local image store" in done.err
    assert "base of small: " + own in done.err
    # Without --base the base of the Dockerfile is used, which is missing; a warning about the local base comes first.
    done = atlas.run("layer", "small", "--image", f"{atlas.repo}/small:1", *where(atlas))
    assert done.code == 4, done.told()
    assert (
        f"the Dockerfile of small names nobody/own-os:1, but {own} exists here, too: to build on it, use --base {own}"
        in done.err
    )


def test_undeclared_build_arg_is_rejected_with_suggestion(atlas: Place) -> None:
    words = ["--image", f"{atlas.repo}/x:1", "--base", atlas.base, "--build-arg", "RELEAS=21.2.75"]
    done = atlas.run("layer", "slc6-analysisbase", *words, *where(atlas))
    assert done.code == 2
    assert "no Dockerfile declares the arg RELEAS\n    Perhaps you meant RELEASE." in done.err


def test_images_lists_size_added_over_the_base(atlas: Place, release: str) -> None:
    done = atlas.run("images", f"{atlas.repo}/analysisbase", *where(atlas), "--json")
    rows = {row["tag"]: row for row in json.loads(done.out)["images"]}
    assert {"latest", f"latest-{OWN}"} <= set(rows)
    assert 0 < rows["latest"]["added"] < 1_000_000 < rows["latest"]["size"]
    shown = atlas.run("images", f"{atlas.repo}/analysisbase", *where(atlas)).out
    assert shown.splitlines()[0].split() == ["repository", "tag", "platform", "id", "age", "size", "added"]


def test_shell_with_missing_image_suggests_full_name(atlas: Place, release: str) -> None:
    done = atlas.run("shell", "analysisbase:latest", *where(atlas))
    assert done.code == 4, done.told()
    assert "neither in the local image store nor in the chain registry" in done.err
    assert release in done.err


def test_shell_runs_image_found_only_in_the_chain_registry(atlas: Place, release: str) -> None:
    name = f"{atlas.repo}/analysisbase:latest-{OWN}"
    assert docker("image", "inspect", name).returncode != 0
    done = atlas.run("shell", name, *where(atlas), "--", "/usr/AnalysisBase/21.2.75/bin/analysis-release")
    assert (done.code, done.out) == (0, "AnalysisBase-21.2.75\n"), done.told()


def test_image_key_builds_numbered_names_and_other_base_args(atlas: Place) -> None:
    """One chain of `Dockerfile.<key>` files, and on its image one of other numbered names with `ARG PARENT`."""
    above = "ARG {arg}\nFROM ${arg}\n"
    write_tree(
        atlas.root,
        {
            "keyed/Dockerfile.os": f"FROM {atlas.base}\nCOPY marker /marker\n",
            "keyed/Dockerfile.app": above.format(arg="BASE_IMAGE") + "ARG PLATFORM\nRUN echo $PLATFORM >> /marker\n",
            "keyed/marker": "os\n",
            "numbered/Dockerfile.10-one": above.format(arg="PARENT") + "RUN echo one >> /marker\n",
            "numbered/20-two/Dockerfile": above.format(arg="PARENT") + "COPY own /own\nRUN cat /own >> /marker\n",
            "numbered/20-two/own": "two\n",
            "numbered/30-last.Dockerfile": above.format(arg="PARENT") + "RUN echo last >> /marker\n",
        },
    )
    keyed, numbered = f"{atlas.repo}/keyed:1", f"{atlas.repo}/numbered:1"
    done = atlas.run("layer", "keyed", "--image-key", "os.app", "--tag", keyed, *where(atlas))
    assert done.code == 0, done.told()
    done = atlas.run("layer", "numbered", "--base", keyed, "--tag", numbered, *where(atlas), "--json")
    assert done.code == 0, done.told()
    assert done.built == ["10-one", "20-two", "30-last"]
    shown = docker("run", "--rm", "--entrypoint", "cat", numbered, "/marker")
    assert shown.stdout.split() == ["os", Platform.parse(OWN).architecture, "one", "two", "last"]
    again = atlas.run("layer", "numbered", "--base", keyed, "--tag", numbered, *where(atlas), "--json")
    assert (again.code, again.built) == (0, []), again.told()
