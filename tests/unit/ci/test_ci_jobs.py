"""The job graph: every step is in a single job, after its dependencies, for any graph."""

from __future__ import annotations

from graphlib import TopologicalSorter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chainbuild.ci.jobs import JobGraph, JobKind, JobSplit, cut, make_jobs, recorded_seconds
from chainbuild.model import Graph
from chainbuild.references import Platform
from chainbuild.step_id import StepId
from tests.support.world import THREE_STEPS, World
from tests.unit.ci.graphs import PLATFORMS, graph_of, graphs

AMD64, ARM64, ARMV7 = PLATFORMS[:3]


def runner_of(platform: Platform) -> str:
    return "arm" if platform == ARM64 else "intel"


def told(jobs: JobGraph) -> str:
    return "".join(
        f"{job.id}: {','.join(platform.name for platform in job.platforms)} on {job.base or 'BASE'}"
        f"{f' until {job.until}' if job.until is not None else ''} after {', '.join(job.needs) or 'nothing'}\n"
        for job in jobs.jobs
    )


def test_jobs_exist_for_each_option_and_platform():
    graph = graph_of([AMD64, ARM64, ARMV7], {"stock": [10, 20], "graphics": [10]})
    assert (
        told(make_jobs(graph, runner_of))
        == """\
stock-amd64: amd64 on BASE after nothing
stock-aarch64: aarch64 on BASE after nothing
stock-armv7: armv7 on BASE after nothing
stock-index-amd64-armv7: amd64,armv7 on BASE after stock-amd64, stock-aarch64, stock-armv7
stock-index-aarch64: aarch64 on BASE after stock-index-amd64-armv7
graphics-amd64: amd64 on ghcr.io/robots/team/atom:v1-stock-amd64 after stock-amd64
graphics-aarch64: aarch64 on ghcr.io/robots/team/atom:v1-stock-aarch64 after stock-aarch64
graphics-armv7: armv7 on ghcr.io/robots/team/atom:v1-stock-armv7 after stock-armv7
graphics-index-amd64-armv7: amd64,armv7 on ghcr.io/robots/team/atom:v1-stock after graphics-amd64, graphics-aarch64, \
graphics-armv7, stock-index-aarch64
graphics-index-aarch64: aarch64 on ghcr.io/robots/team/atom:v1-stock-aarch64 after graphics-index-amd64-armv7
"""
    )


def test_single_platform_needs_no_index_job():
    graph = graph_of([AMD64], {"stock": [10]})
    assert told(make_jobs(graph, runner_of)) == "stock-amd64: amd64 on BASE after nothing\n"


def test_platforms_on_the_same_machine_share_an_index_job():
    graph = graph_of([AMD64, ARMV7], {"stock": [10]})
    assert told(make_jobs(graph, runner_of)).splitlines()[-1] == (
        "stock-index: amd64,armv7 on BASE after stock-amd64, stock-armv7"
    )


def test_option_is_split_before_a_job_exceeds_the_limit():
    graph = graph_of([AMD64], {"stock": [10, 20, 30, 40]})
    ids = [step.id for step in graph]
    seconds = dict(zip(ids, [3600, 7200, 7200, 60, 60, 30], strict=True))
    jobs = make_jobs(graph, runner_of, JobSplit(most=3 * 3600, seconds=seconds))
    assert (
        told(jobs)
        == """\
stock-amd64-until-20: amd64 on BASE until 20 after nothing
stock-amd64: amd64 on BASE after stock-amd64-until-20
"""
    )
    assert [job.seconds for job in jobs.jobs] == [10800, 7350]
    assert jobs.notes == ()


def test_notes_list_unknown_and_oversized_steps():
    graph = graph_of([AMD64], {"stock": [10, 20]})
    jobs = make_jobs(graph, runner_of, JobSplit(most=3600, seconds={StepId.parse("amd64/stock/20-s1"): 7200.0}))
    assert [job.until for job in jobs.jobs] == [10, 20, None]
    assert jobs.notes == (
        (
            "--split ignores these steps, because no duration is recorded: amd64/stock/10-s0, "
            "amd64/stock/minimize, amd64/stock/production"
        ),
        "stock-amd64-until-20 is longer than --split: amd64/stock/20-s1 took 2h00m last time",
    )


times = st.dictionaries(
    st.sampled_from([step.id for step in graph_of(PLATFORMS[:3], {"stock": range(6)})]), st.floats(0, 1e5)
)
splits = st.none() | st.builds(JobSplit, most=st.floats(1, 1e5), seconds=times)


@given(graphs, splits, st.data())
def test_arbitrary_graph_gives_jobs_in_order(graph: Graph, split: JobSplit | None, data: st.DataObject) -> None:
    if split is not None:
        known = data.draw(st.dictionaries(st.sampled_from([step.id for step in graph]), st.floats(0, 1e5)))
        split = JobSplit(most=split.most, seconds=known)
    jobs = make_jobs(graph, runner_of, split).jobs
    names = [job.id for job in jobs] + [job.goes_on for job in jobs if job.goes_on]
    assert len(set(names)) == len(names)
    assert all(name[0].isalpha() and name.replace("-", "").replace("_", "").isalnum() for name in names)

    order = list(TopologicalSorter({job.id: job.needs for job in jobs}).static_order())  # raises on a cycle
    assert set(order) == {job.id for job in jobs}
    assert all(
        jobs[[job.id for job in jobs].index(need)] in jobs[:at] for at, job in enumerate(jobs) for need in job.needs
    )

    home = {step: job.id for job in jobs for step in job.steps}
    assert sum(len(job.steps) for job in jobs) == len(home) == len(list(graph))
    before = _before(jobs)
    for step in graph:
        own = [one.id for one in graph if home[one.id] == home[step.id]]
        for need in step.needs:
            if home[need] == home[step.id]:
                assert own.index(need) < own.index(step.id)
            else:
                assert home[need] in before[home[step.id]]

    several = len({chain.platform for chain in graph.chains}) > 1
    for option in {chain.option for chain in graph.chains}:
        index = [job for job in jobs if job.kind is JobKind.INDEX and job.option == option]
        assert bool(index) == several
        builds = {job.id for job in jobs if job.kind is JobKind.BUILD and job.option == option}
        for at, job in enumerate(index):
            # All builds end before the first merge, and merges run one after another.
            assert builds <= before[job.id]
            assert {other.id for other in index[:at]} <= before[job.id]
        covered = [platform for job in index for platform in job.platforms]
        assert sorted(covered) == (sorted({chain.platform for chain in graph.chains}) if several else [])
        assert all(len({runner_of(platform) for platform in job.platforms}) == 1 for job in index)


def _before(jobs) -> dict[str, set[str]]:
    """Map each job to the jobs that end before it begins."""
    before: dict[str, set[str]] = {}
    for job in jobs:
        before[job.id] = set(job.needs).union(*(before[need] for need in job.needs))
    return before


@given(graphs, st.data())
def test_part_exceeds_split_only_if_indivisible(graph: Graph, data: st.DataObject) -> None:
    chain = graph.chains[0]
    ids = [step.id for step in chain.all_steps]
    split = JobSplit(
        most=data.draw(st.floats(1, 100)), seconds=data.draw(st.dictionaries(st.sampled_from(ids), st.floats(0, 100)))
    )
    parts = cut(chain, split)
    assert tuple(step for part in parts for step in part.steps) == chain.all_steps
    assert [part.until for part in parts[:-1]] == [part.steps[-1].number for part in parts[:-1]]
    assert parts[-1].until is None
    for part in parts:
        timed = {step.number if step.number < 1_000_000 else None for step in part.steps if split.seconds.get(step.id)}
        assert part.seconds <= split.most or len(timed) == 1
    for one, other in pairwise(parts):
        assert one.steps[-1].number < other.steps[0].number


def test_step_durations_come_from_records(tmp_path):
    world = World(tmp_path)
    world.write(THREE_STEPS)
    records = world.records
    assert recorded_seconds(world.graph(), records) == {}
    world.run()
    recorded = recorded_seconds(world.graph([AMD64, ARM64]), records)
    assert sorted(recorded) == sorted(step.id for step in world.graph())
    assert all(seconds >= 0 for seconds in recorded.values())
