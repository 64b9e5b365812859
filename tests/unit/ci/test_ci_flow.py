"""Run the jobs of a workflow with a registry and a builder in memory: no step is built twice."""

from __future__ import annotations

import pytest

from chainbuild.ci.jobs import JobKind, JobSplit, make_jobs
from chainbuild.layouts import numbered
from chainbuild.model import Graph
from chainbuild.planning.planner import until
from chainbuild.registry.images import read_index
from chainbuild.values import replace
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
