"""Stages of a tree: their files, and checks that they use their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.layouts.stage_files import HANDED, TARBALL
from chainbuild.model import Chain
from tests.support.world import STAGES, STEP, World

MINIMIZE = "utilities/Dockerfile-minimize"
PRODUCTION = "utilities/Dockerfile-production"
PACKS = (
    "ARG BASE_IMAGE\nARG PRODUCTION_IMAGE\nFROM ${PRODUCTION_IMAGE} AS bare\nRUN ls /lib > /libs\n"
    "FROM ${BASE_IMAGE} AS packed\nCOPY --from=bare /libs /libs\nRUN tar -czf /minimized.tar.gz /opt\n"
)
UNPACKS = "ARG PRODUCTION_IMAGE\nFROM ${PRODUCTION_IMAGE}\nADD ./minimized.tar.gz /\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write({"stock/10-Dockerfile-base": STEP})
    return made


def chain(world: World, files: Mapping[str, str]) -> Chain:
    world.write(files)
    return world.graph().chains[0]


def wrong(world: World, files: Mapping[str, str]) -> list[str]:
    world.write(files)
    with pytest.raises(WrongUseError) as caught:
        world.graph()
    assert all(problem.hint for problem in caught.value.problems)
    return [f"{problem.where}: {problem.message}" for problem in caught.value.problems]


def test_numbered_stages_replace_shipped_stages(world: World, tmp_path: Path) -> None:
    made = chain(world, {"utilities/01-Dockerfile-minimize": PACKS, "utilities/02-Dockerfile-production": UNPACKS})
    assert made.minimize
    assert made.production
    assert made.minimize.dockerfile == tmp_path / "utilities/01-Dockerfile-minimize"
    assert made.production.dockerfile == tmp_path / "utilities/02-Dockerfile-production"
    assert made.production.handed == (HANDED,)


def test_stages_passing_an_image_get_no_tarball(world: World) -> None:
    production = chain(world, STAGES).production
    assert production
    assert production.handed == ()


def test_duplicate_stage_error_lists_both_files(world: World) -> None:
    told = wrong(world, {**STAGES, "utilities/03-Dockerfile-minimize": PACKS})
    message = (
        "the stage minimize has two Dockerfiles, utilities/03-Dockerfile-minimize and utilities/Dockerfile-minimize"
    )
    assert told == [f"utilities/Dockerfile-minimize: {message}"]


@pytest.mark.parametrize(
    "name", ["01_Dockerfile_minimize", "dockerfile-production", "minimise.Dockerfile", "1 Dockerfile-minimize"]
)
def test_misspelled_stage_file_name_is_reported(world: World, name: str) -> None:
    (told,) = wrong(world, {f"utilities/{name}": PACKS})
    assert told.startswith(f"utilities/{name}: looks like the Dockerfile of the stage")


@pytest.mark.parametrize("name", ["Dockerfile-minimize.bak", "Dockerfile-minimize~", "README.md", "Dockerfile-tools"])
def test_other_files_beside_stages_are_ignored(world: World, name: str) -> None:
    minimize = chain(world, {f"utilities/{name}": "anything"}).minimize
    assert minimize
    assert minimize.dockerfile.name == "Dockerfile-minimize"


def test_minimize_not_using_base_image_is_reported(world: World) -> None:
    (told,) = wrong(world, {**STAGES, MINIMIZE: "ARG BASE_IMAGE\nFROM scratch AS minimized\nCOPY a /a\n"})
    assert told == f"{MINIMIZE}:2: BASE_IMAGE is never used: nothing of the chain would be collected"


def test_production_not_using_minimized_files_is_reported(world: World) -> None:
    (told,) = wrong(
        world, {**STAGES, PRODUCTION: "ARG PRODUCTION_IMAGE\nARG MINIMIZED_IMAGE\nFROM ${PRODUCTION_IMAGE}\n"}
    )
    assert told.startswith(f"{PRODUCTION}:3: it uses nothing that minimize collected")


def test_production_using_minimized_files_in_unused_stage_is_reported(world: World) -> None:
    text = "ARG PRODUCTION_IMAGE\nARG MINIMIZED_IMAGE\nFROM ${MINIMIZED_IMAGE} AS unused\nFROM ${PRODUCTION_IMAGE}\nRUN x\n"
    (told,) = wrong(world, {**STAGES, PRODUCTION: text})
    assert told.startswith(f"{PRODUCTION}:4: it uses nothing that minimize collected")


def test_production_not_using_production_image_is_reported(world: World) -> None:
    text = "ARG MINIMIZED_IMAGE\nFROM ${MINIMIZED_IMAGE}\n"
    (told,) = wrong(world, {**STAGES, PRODUCTION: text})
    assert told.startswith(f"{PRODUCTION}:2: PRODUCTION_IMAGE is never used")


def test_tarball_with_shipped_minimize_is_reported_at_its_line(world: World) -> None:
    (told,) = wrong(world, {PRODUCTION: UNPACKS})
    assert told.startswith(f"{PRODUCTION}:3: {TARBALL}: chainbuild's minimize stage creates an image of files")


def test_tarball_excluded_by_ignore_file_is_reported(world: World) -> None:
    (told,) = wrong(world, {MINIMIZE: PACKS, PRODUCTION: UNPACKS, "utilities/.dockerignore": "*.gz\n"})
    assert told.endswith(f"{TARBALL} is excluded by the ignore file of utilities/")


def test_custom_minimize_based_on_image_needs_custom_production(world: World) -> None:
    (told,) = wrong(world, {MINIMIZE: PACKS})
    assert told.startswith(
        f"{MINIMIZE}:5: its image is based on ${{BASE_IMAGE}}, and chainbuild's production stage copies all"
    )


def test_custom_minimize_of_files_works_with_shipped_production(world: World) -> None:
    text = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE} AS chain\nFROM scratch\nCOPY --from=chain /opt /opt\n"
    made = chain(world, {MINIMIZE: text})
    assert made.production
    assert not made.production.dockerfile.is_relative_to(world.root)


def test_comment_sets_the_target_of_a_stage(world: World) -> None:
    more = f"# chainbuild: target packed\n{PACKS}FROM scratch AS nothing\n"
    minimize = chain(world, {MINIMIZE: more, PRODUCTION: UNPACKS}).minimize
    assert minimize
    assert minimize.target == "packed"
    told, *_ = wrong(world, {MINIMIZE: more.replace("target packed", "target paked"), PRODUCTION: UNPACKS})
    assert told == f"{MINIMIZE}:1: target: no such stage: 'paked'"
    told, *_ = wrong(world, {MINIMIZE: more.replace("target packed", "hurry"), PRODUCTION: UNPACKS})
    assert told == f"{MINIMIZE}:1: unknown setting of a Dockerfile: 'hurry'"


def test_copy_of_whole_context_may_contain_the_tarball(world: World) -> None:
    text = "ARG PRODUCTION_IMAGE\nFROM ${PRODUCTION_IMAGE}\nCOPY . /in\nRUN tar -xf /in/minimized.tar.gz\n"
    production = chain(world, {MINIMIZE: PACKS, PRODUCTION: text}).production
    assert production
    assert production.handed == (HANDED,)
