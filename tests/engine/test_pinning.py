"""Images in Dockerfiles: chainbuild and plain buildx build the same, even if a stage is named like an image."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import OTHER, OWN, Lay, docker, push_files, write_tree

pytestmark = pytest.mark.timeout(600)

NAME = "chainbuild-test-tool"
"""The name of an image in the local store that a stage can also have."""
HEAD = "ARG BASE_IMAGE\n"
ALSO = "COPY --from=docker.io/library/{}:latest /made /made2"
MOUNTED = "RUN --mount=from={},target=/mnt cp /mnt/made* /"


@pytest.fixture(scope="module")
def tool(registry_host: str) -> Iterator[str]:
    """An image with a file, in the local store under a name that a stage can have."""
    reference = push_files(f"{registry_host}/test/tool:1", {"made": b"plain image\n"}).reference
    subprocess.run(["docker", "pull", "--quiet", reference.pinned], check=True, capture_output=True)
    subprocess.run(["docker", "tag", reference.pinned, f"{NAME}:latest"], check=True)
    yield NAME
    docker("image", "rm", "--force", f"{NAME}:latest", reference.pinned)


def exported(root: Path, dockerfile: str, base: str, out: Path) -> dict[str, bytes]:
    """Return the files that plain buildx creates, without those of the base image."""
    argv = [
        "docker",
        "buildx",
        "build",
        "--quiet",
        "--build-arg",
        f"BASE_IMAGE={base}",
        "--file",
        str(root / dockerfile),
    ]
    done = subprocess.run([*argv, "--output", str(out), str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in out.glob("made*")}


@pytest.mark.parametrize(
    "body",
    [
        # The stage that does the work is named like its image.
        "FROM {} AS {}\nCOPY one /made\nFROM ${{BASE_IMAGE}}\nCOPY --from={} /made /made",
        "FROM {}:latest AS {}\nCOPY one /made\nFROM ${{BASE_IMAGE}}\nCOPY --from={} /made /made\n",
        # The image and the stage of the same name are both used.
        "FROM scratch AS {}\nCOPY one /made\nFROM ${{BASE_IMAGE}}\nCOPY --from={} /made /made\n" + ALSO,
        "FROM docker.io/library/{} AS {}\nCOPY one /made2\nFROM ${{BASE_IMAGE}}\n" + MOUNTED,
    ],
)
def test_stage_named_like_an_image_is_still_used(lay: Lay, tool: str, tmp_path: Path, body: str) -> None:
    text = HEAD + body.replace("{}", tool).replace("{{", "{").replace("}}", "}")
    place = lay(
        files={"o/10-Dockerfile-x": text, "one": "made by the stage\n", ".dockerignore": "registry\n.chainbuild\n"}
    )
    plain = exported(place.root, "o/10-Dockerfile-x", place.base, tmp_path / "out")
    assert plain["made"] in {b"made by the stage\n", b"plain image\n"}
    place.build("o", "--until", "10")
    for name, content in plain.items():
        assert place.output(f"v1-o-10-x-{OWN}", "cat", f"/{name}").encode() == content
    again = place.build("o", "--until", "10")
    assert again.built == []


def test_layer_with_stage_named_like_its_base_keeps_the_stage(lay: Lay, tool: str) -> None:
    """Catch a replaced base name that also replaces the stage of that name."""
    text = f"FROM {tool} AS {tool}\nCOPY one /made\nFROM {tool}\nCOPY two /made2\n"
    place = lay(files={"layer/Dockerfile": text, "layer/one": "made by the stage\n", "layer/two": "2\n"})
    done = place.run(
        "layer",
        "layer",
        "--base",
        place.base,
        "--tag",
        f"{place.repo}:1",
        "--registry",
        place.registry or "",
        "--no-load",
        "--platform",
        OWN,
    )
    assert done.code == 0, done.told()
    assert place.output(f"1-{OWN}", "cat", "/made", "/made2") == "made by the stage\n2\n"


def test_image_used_for_two_platforms_is_pinned_for_both(lay: Lay, registry_host: str) -> None:
    text = (
        f"{HEAD}FROM --platform=linux/{'arm64' if OTHER == 'aarch64' else 'amd64'} NAME AS far\nFROM NAME AS near\n"
        "FROM ${BASE_IMAGE}\nCOPY --from=far /etc/debian_version /far\nCOPY --from=near /etc/debian_version /near\n"
        "COPY --from=far /bin/true /far-true\nCOPY --from=near /bin/true /near-true\n"
    )
    place = lay()
    write_tree(place.root, {"o/10-Dockerfile-x": text.replace("NAME", place.base)})
    place.build("o", "--until", "10")
    script = "cmp -s /near-true /bin/true && ! cmp -s /far-true /bin/true && cmp /far /near && echo both"
    assert place.output(f"v1-o-10-x-{OWN}", "sh", "-c", script) == "both\n"


def test_dockerfile_linked_from_another_folder_is_built(lay: Lay) -> None:
    place = lay(files={"shared/Dockerfile": f"{HEAD}FROM ${{BASE_IMAGE}}\nCOPY one /made\n", "one": "1\n"})
    (place.root / "o").mkdir()
    (place.root / "o" / "10-Dockerfile-x").symlink_to("../shared/Dockerfile")
    place.build("o", "--until", "10")
    assert place.output(f"v1-o-10-x-{OWN}", "cat", "/made") == "1\n"


def test_failure_in_rewritten_dockerfile_names_the_original_file(lay: Lay, tool: str) -> None:
    text = f"{HEAD}FROM {tool} AS t\nFROM ${{BASE_IMAGE}}\nCOPY --from=t /made /\n\nRUN exit 3\n"
    place = lay(files={"o/10-Dockerfile-x": text})
    done = place.build("o", "--until", "10", code=None)
    assert done.code != 0
    assert "o/10-Dockerfile-x:6" in done.told()
    assert "chainbuild-scratch" not in done.told()


def test_ignore_file_of_rewritten_dockerfile_is_used(lay: Lay, tool: str) -> None:
    text = f"{HEAD}FROM {tool} AS t\nFROM ${{BASE_IMAGE}}\nCOPY --from=t /made /\nCOPY d /d\n"
    place = lay(
        files={
            "o/10-Dockerfile-x": text,
            "o/10-Dockerfile-x.dockerignore": "d/b\n",
            ".dockerignore": "d/a\n",
            "d/a": "a",
            "d/b": "b",
        }
    )
    place.build("o", "--until", "10")
    assert place.output(f"v1-o-10-x-{OWN}", "ls", "/d") == "a\n"


def test_image_read_by_onbuild_trigger_of_base_is_pinned(lay: Lay, registry_host: str) -> None:
    """Check only the plan: BuildKit before 0.17 runs no trigger that reads an image."""
    reads = f"{registry_host}/test/read:1"
    push_files(reads, {"made": b"first\n"})
    trigger = f"COPY --from={reads} /made /made"
    push_files(f"{registry_host}/test/triggers:1", {"x": b""}, on_build=(trigger,))
    place = lay(files={"layer/Dockerfile": f"FROM {registry_host}/test/triggers:1\n"})
    where = ("--image", f"{place.repo}:1", "--registry", place.registry or "", "--no-load", "--platform", OWN)
    plan = place.run("layer", "layer", *where, "--dry-run", "-v")
    assert f"{reads}=docker-image://{registry_host}/test/read@sha256:" in plan.out, plan.told()
