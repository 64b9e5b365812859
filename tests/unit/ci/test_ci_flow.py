"""Run the jobs and the command lines of workflows with registries and a builder in memory: no step is built twice."""

from __future__ import annotations

import pytest

from chainbuild.ci.jobs import JobKind, JobSplit, make_jobs
from chainbuild.cli import run
from chainbuild.execution.backends import use_backends
from chainbuild.layouts import numbered
from chainbuild.model import Graph
from chainbuild.planning.planner import until
from chainbuild.registry.images import read_index
from chainbuild.requests.ci.options import CiOptions
from chainbuild.requests.ci.reading import read_pipeline
from chainbuild.requests.options import RunArguments
from chainbuild.values import replace
from tests.support.workflows import PINNED
from tests.support.world import AMD64, ARM64, STEP, THREE_STEPS, World

OPTIONS = ("stock", "graphics")


@pytest.fixture
def world(tmp_path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS | {"graphics/10-Dockerfile-gl": STEP, "graphics/20-Dockerfile-vnc": STEP + "RUN vnc\n"})
    return made


def test_workflow_jobs_build_each_step_once(world):
    whole = world.graph([AMD64, ARM64], OPTIONS)
    split = JobSplit(most=60, seconds={step.id: 50 for step in whole if step.kind == "build"})
    jobs = make_jobs(whole, lambda platform: "one kind", split)
    assert sum(job.kind is JobKind.BUILD for job in jobs.jobs) == 10
    for job in jobs.jobs:
        world.begin_again()
        outcome = world.run(_graph_of(world, job))
        assert outcome.succeeded
        assert sorted(world.driver.built) == sorted(job.steps)
    for option in OPTIONS:
        index = read_index(world.registries, world.request().repository.with_tag(f"v1-{option}"))
        assert index is not None
        assert {image.platform for image in index.images} == {AMD64, ARM64}

    # A single run over all platforms and options has nothing left to build.
    world.begin_again()
    assert world.run(whole).succeeded
    assert world.driver.built == []


def _graph_of(world: World, job) -> Graph:
    request = world.request(job.platforms, (job.option,))
    graph = numbered.read(replace(request, base=job.base or request.base))
    return until(graph, job.until) if job.until is not None else graph


# Command lines ---------------------------------------------------------------------------------------------------------

ARGUMENTS = RunArguments("amd64,aarch64", "team/atom", "v1", "fat:1", "stock,graphics", "slim:1")
OPTIONS_PROJECT = {
    "chainbuild.yaml": (
        "platforms: [amd64, aarch64]\nrepo: team/atom\ntag: v1\nbase: fat:1\nproduction: slim:1\n"
        "options: [stock, graphics]\nbuilders: {aarch64: far}\n"
    )
}
LAYER = "ARG BASE=fat:1\nFROM ${BASE}\nCOPY file /\n"
LAYERS_PROJECT = {
    "chainbuild.yaml": (
        "platforms: [amd64, aarch64]\ntag: v1\nlayers:\n  - {folder: os, image: team/os}\n"
        "  - {folder: tools, image: team/tools}\n  - {folder: docs, image: team/docs, base: os}\n"
    ),
    **{f"{name}/Dockerfile": LAYER for name in ("os", "tools", "docs")},
    **{f"{name}/file": name for name in ("os", "tools", "docs")},
}
SCIENCE = {
    "science/base/Dockerfile": "FROM fat:1\nRUN base\n",
    "science/base/sciserver-image.json": '{"image": "base"}',
}
KINDS: dict[str, tuple[RunArguments, dict[str, str]]] = {
    "arguments": (ARGUMENTS, {}),
    "a project of options": (RunArguments(), OPTIONS_PROJECT),
    "a project of layers": (RunArguments(), LAYERS_PROJECT),
    "a project whose layers depend on each other": (
        RunArguments(),
        LAYERS_PROJECT | {"docs/Dockerfile": LAYER + "COPY --from=team/tools:v1 /file /tools\n"},
    ),
    "a project of layers and science layers": (
        RunArguments(),
        LAYERS_PROJECT
        | SCIENCE
        | {"chainbuild.yaml": LAYERS_PROJECT["chainbuild.yaml"] + "science: {repo: team/images}\n"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_command_lines_of_a_workflow_build_everything_once(kind, world, monkeypatch):
    arguments, files = KINDS[kind]
    world.write({**files, "requirements.txt": PINNED})
    world.fake.host("ghcr.io")
    monkeypatch.chdir(world.root)
    options = CiOptions(vendor="github", registry="ghcr.io/acme")
    pipeline = read_pipeline(arguments, RunArguments(), options, lambda request: {})[1]
    built = []
    for job in pipeline.graph.jobs:
        world.begin_again()
        for words in job.commands:
            with use_backends(world.backends):
                assert run(list(words[1:])) == 0, words
        assert job.kind is JobKind.BUILD or not world.driver.built
        built += world.driver.built
    assert len(set(built)) == len(built) > 0
    with use_backends(world.backends):
        for words in pipeline.plans:
            assert run([*words[1:], "--fail-if-build"]) == 0
