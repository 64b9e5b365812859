"""A hostile tree that tries to run programs or write outside of it: commands read and build it safely."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import asdict

from chainbuild.requests.options import RunOptions

from .conftest import OWN, Lay, Place, docker, write_tree

CHAIN = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo built > /seen\n"
COMPOSE = """\
name: chainbuild-registry-${{CHAINBUILD_REGISTRY_PORT:-5000}}
services:
  registry:
    image: registry:2
    privileged: true
    entrypoint: [sh, -c, 'touch /host/compose; exec docker-registry serve /etc/docker/registry/config.yml']
    ports: ["127.0.0.1:${{CHAINBUILD_REGISTRY_PORT:-5000}}:5000"]
    volumes: ["{victim}:/host"]
"""
ENV = """\
COMPOSE_FILE={root}/docker-compose-registry.yml
COMPOSE_PROJECT_NAME=evil
CHAINBUILD_REGISTRY_USER=0:0
CHAINBUILD_REGISTRY_DATA={victim}/data
DOCKER_CONFIG={root}/docker
DOCKER_HOST=unix://{root}/docker.sock
"""


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder outside of the tree that must not change."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "file").write_text("mine", encoding="utf-8")
    return folder


@pytest.fixture
def foreign(lay: Lay, victim: Path) -> Place:
    """A tree with all traps at once."""
    place = lay(managed=True)
    root, marker = place.root, f"touch {victim}/git"
    write_tree(
        root,
        {
            "one/10-Dockerfile-a": CHAIN,
            "chainbuild.yaml": f"options: one\nrepo: team/app\ntag: v1\nbase: {place.base}\nproduction: {place.production}\n",
            "docker-compose-registry.yml": COMPOSE.format(victim=victim),
            ".env": ENV.format(root=root, victim=victim),
            "docker/config.json": json.dumps({"credsStore": "evil", "cliPluginsExtraDirs": [str(root / "plugins")]}),
            "plugins/docker-compose": f"#!/bin/sh\ntouch {victim}/plugin\n",
            "share/docker/kind/v1/casa_distro_docker.yaml": "image_sources:\n  - {name: acme/kind, tags: [v1]}\n",
            "share/docker/kind/v1/Dockerfile": f"FROM {place.base}\n",
            "share/docker/trap/v1/casa_distro_docker.yaml": "image_sources:\n  - {name: acme/trap, tags: [v1]}\n",
            "share/docker/trap/v1/Dockerfile": f"FROM {place.base}\n",
            "share/docker/trap/v1/trap.template": "written through a link",
            "science/a/sciserver-image.json": '{"image": "a", "compat": "c"}',
            "science/a/Dockerfile": f"FROM {place.base}\n",
            "compat/c/sciserver-image.json": "{}",
            "compat/c/Dockerfile": "COPY . /c/\n",
            "compat/d/sciserver-image.json": '{"includes": ["c"]}',
            "compat/d/Dockerfile": "RUN true\n",
            "compat/d/link/file": "written through a link",
            "release_plan.yaml": "schema: chainbuild.release-plan/1\nrelease: x\nimages: []\n",
            "json.py": f"open('{victim}/python', 'w')\n",
            "sitecustomize.py": f"open('{victim}/python', 'w')\n",
        },
    )
    (root / "plugins/docker-compose").chmod(0o755)
    (root / "share/docker/trap/v1/trap").symlink_to(victim / "trap")
    (root / "compat/c/link").symlink_to(victim)
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (
        ("init", "--quiet"),
        ("add", "one"),
        ("commit", "--quiet", "--message=x"),
        ("config", "core.fsmonitor", marker),
        ("config", "filter.f.clean", marker),
        ("config", "diff.external", marker),
    ):
        subprocess.run([*git, *words], check=True, capture_output=True)
    (root / ".gitattributes").write_text("* filter=f\n", encoding="utf-8")
    # Links that redirect what a run writes.
    (victim / "own").mkdir()
    (root / ".chainbuild").symlink_to(victim / "own")
    (root / "registry").symlink_to(victim / "own")
    return place


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def words(place: Place) -> list[str]:
    return [OWN, place.repo, "v1", place.base, "one", place.production]


def test_read_only_commands_in_foreign_tree_run_and_write_nothing(foreign: Place, victim: Path) -> None:
    place = foreign
    port = ["--registry-port", str(place.port)]
    published = (OWN, "acme/app", "v1", "debian:12", "one", "debian:12")
    before, tree = state_of(victim), state_of(place.root)
    for command, codes in (
        (["plan", *words(place), *port], {0}),
        # One start is enough to see its effects; the rest is quicker with the registry up.
        (["registry", "up", *port], {0}),
        (["plan", *words(place), *port, "-v", "--json"], {0}),
        (["plan", *port], {0, 4}),
        (["build", *words(place), *port, "--dry-run"], {0}),
        (["why", "10-a", *words(place), *port], {0}),
        (["why", "10-a", *port], {0, 2, 4}),
        (["images", *port], {0}),
        (["inspect", f"{place.repo}:v1", *port], {4}),
        (["diff", f"{place.repo}:v1", f"{place.repo}:v2", *port], {4}),
        (["registry", "status", *port], {0}),
        (["registry", "ls", *port], {0}),
        (["registry", "gc", *port], {0}),
        (["init", "--dry-run"], {0}),
        (
            ["ci", "github", *published, "--registry", "ghcr.io/acme", "--install", "sh install.sh"],
            {0, 4},
        ),
        (["types", "list", "--repository", "."], {0}),
        (["types", "plan", "kind", "--repository", ".", *port], {2}),
        (["science", "plan", "--repo", "acme", *port], {0}),
        (["release", "show"], {0, 2}),
        (["doctor", *port], {0, 3}),
        (["registry", "down", *port], {0}),
    ):
        done = place.run(*command)
        assert done.code in codes, (command, done.told())
        assert "Traceback" not in done.err, (command, done.told())
        assert state_of(victim) == before, command
        assert state_of(place.root) == tree, command


def test_build_of_foreign_tree_writes_nothing_outside(foreign: Place, victim: Path) -> None:
    before = state_of(victim)
    done = foreign.build("one", "--until", "10")
    assert done.built == ["10-a"]
    messages = [event["text"] for event in done.events("message")]
    assert any("docker-compose-registry.yml of this tree is ignored" in text for text in messages), messages
    assert any("symbolic link" in text for text in messages), messages
    assert state_of(victim) == before


def test_last_arguments_stored_in_foreign_tree_are_ignored(lay: Lay, victim: Path) -> None:
    """Catch a command without arguments that reads the target from a file in the tree."""
    place = lay(files={"one/10-Dockerfile-a": CHAIN}, managed=True)
    planted = RunOptions(
        platform=OWN,
        repo=place.repo,
        tag="v1",
        base=place.base,
        option="one",
        production=place.base,
        root=victim,
        registry="evil.example",
    )
    write_tree(place.root, {".chainbuild/last-words.json": json.dumps(asdict(planted), default=str)})
    done = place.run("why", "10-a", "--registry-port", str(place.port))
    assert done.code == 2, done.told()
    assert "no earlier run found in this tree" in done.err


def test_compose_file_of_the_command_line_is_used(lay: Lay, victim: Path) -> None:
    place = lay(files={"one/10-Dockerfile-a": CHAIN, "own.yml": COMPOSE.format(victim=victim)}, managed=True)
    done = place.run("images", "--registry-port", str(place.port), "--registry-compose", "own.yml")
    assert done.code == 0, done.told()
    assert (victim / "compose").exists()
    listed = docker("ps", "--all", "--quiet", "--filter", f"name=chainbuild-registry-{place.port}-")
    assert listed.stdout.strip() == ""


def test_registry_data_flag_is_used(lay: Lay) -> None:
    place = lay(files={"one/10-Dockerfile-a": CHAIN}, managed=True)
    done = place.build("one", "--until", "10", "--registry-data", "elsewhere")
    assert done.built == ["10-a"]
    assert (place.root / "elsewhere" / "docker").is_dir()
    assert not place.data.exists()
    assert os.stat(place.root / "elsewhere").st_mode & 0o777 == 0o700
    # Without the flag the data folder of the user is used, which is empty.
    assert place.build("one", "--until", "10").built == ["10-a"]
