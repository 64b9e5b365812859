"""Group the steps of a graph into the jobs of a workflow, the same for every vendor.

A *build* job builds an option or a layer on one platform, or a part of it. An *index* job adds results to the option's
index. A *release* job only moves tags.

The last job of every platform adds its platform to the index, but two jobs that do so at the same time may overwrite each
other's change. With several platforms, index jobs therefore follow after all of them: they reuse everything and only
write the index. They run one after another, one for each kind of runner: a key may depend on the platform that builds (a
stage with `--platform=$BUILDPLATFORM`), and only a machine of the same kind finds every step in the registry.

The durations of steps come from the records in the chain registry.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import count, groupby
from typing import Final, Protocol

from msgspec import Struct

from chainbuild.in_parallel import in_parallel
from chainbuild.model import Chain, Graph, Step
from chainbuild.patterns import regex
from chainbuild.records.record import Lookup
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import StepId
from chainbuild.text import duration
from chainbuild.values import replace

_UNFIT: Final = regex(r"[^A-Za-z0-9_-]")


class LastRecords(Protocol):
    """The method of the records that is needed here; `records.store.RecordStore` is the real implementation."""

    def last(self, repository: ImageReference, family: str) -> Lookup:
        """Return the newest record of a step."""


def recorded_seconds(graph: Graph, records: LastRecords) -> dict[StepId, float]:
    """Return the duration in seconds of every step that has a record.

    Errors: `UnreachableError`, `LoginNeededError`: an unreachable registry must not look like one without records.
    """
    result = in_parallel(lambda step: (step.id, records.last(step.repository, step.family).record), graph)
    return {step: record.seconds for step, record in result if record is not None}


JobId = str
"""A letter, then letters, digits, `_` and `-`, as every vendor accepts; unique in a workflow."""


class JobKind(StrEnum):
    """The purpose of a job. Only build jobs need a builder and have a deadline."""

    BUILD = "build"
    INDEX = "index"
    RELEASE = "release"


class Job(Struct, frozen=True, kw_only=True):
    """A job. `until` ends it before the option is complete (`--until`); `seconds` is the sum of its steps' last durations.

    `goes_on` is the name of the job that continues after this job's deadline, for vendors that need such a job.
    """

    id: JobId
    title: str
    kind: JobKind
    option: str
    """The option or layer; empty if the job is for several."""
    platforms: tuple[Platform, ...]
    commands: tuple[tuple[str, ...], ...] = ()
    """The command lines to run, in order; a build job has one."""
    hosts: tuple[str, ...] = ()
    """The registries that it pushes to, beside the chain registry."""
    release_plan: str = ""
    """The release plan that a release job applies, if it has changed."""
    base: ImageReference | None = None
    """The result of the option before it; None: the workflow's own base image."""
    until: int | None = None
    steps: tuple[StepId, ...] = ()
    """The steps that it builds if nothing is reused; an index job builds nothing."""
    needs: tuple[JobId, ...] = ()
    seconds: float = 0.0
    goes_on: JobId = ""


class JobGraph(Struct, frozen=True, kw_only=True):
    """All jobs, each after the jobs that it needs, and notes for the user."""

    jobs: tuple[Job, ...]
    notes: tuple[str, ...] = ()

    @property
    def by_id(self) -> Mapping[JobId, Job]:
        """Every job by its id."""
        return {job.id: job for job in self.jobs}


class JobList:
    """Collects jobs in order. A job's requested name becomes one that every vendor accepts and no other job has."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self.jobs = list(jobs)
        self._taken = {name for job in self.jobs for name in (job.id, job.goes_on)}

    @property
    def last(self) -> tuple[JobId, ...]:
        """The jobs that no other job needs."""
        needs = {need for job in self.jobs for need in job.needs}
        return tuple(job.id for job in self.jobs if job.id not in needs)

    def extend(self, jobs: Iterable[Job]) -> None:
        """Append jobs that need each other. Their names change if other jobs have them."""
        names: dict[JobId, JobId] = {}
        for job in jobs:
            names[job.id] = self.add(replace(job, needs=tuple(names[need] for need in job.needs)))

    def add(self, job: Job) -> JobId:
        """Append a job, and return its name. A build job also gets a name for the job that continues it."""
        name = self._unique(job.id)
        goes_on = self._unique(f"{name}-goes-on") if job.kind is JobKind.BUILD else ""
        self.jobs.append(replace(job, id=name, goes_on=goes_on))
        return name

    def _unique(self, requested: str) -> JobId:
        name = _UNFIT.sub("-", requested)
        name = name if name[0].isalpha() else f"option-{name}"
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        unique = next(candidate for candidate in names if candidate not in self._taken)
        self._taken.add(unique)
        return unique


class Part(Struct, frozen=True, kw_only=True):
    """Steps of a chain that one job builds; `until` is None for the last part of the chain."""

    steps: tuple[Step, ...]
    until: int | None
    seconds: float


class JobSplit(Struct, frozen=True, kw_only=True):
    """How to split options: at most `most` seconds per job, by the last durations of the steps that are known."""

    most: float
    seconds: Mapping[StepId, float]


def make_jobs(
    graph: Graph,
    runner_of: Callable[[Platform], Hashable],
    split: JobSplit | None = None,
    *,
    indexes: bool = True,
) -> JobGraph:
    """Return the jobs of a graph. `indexes`: with a job for the index of each option that has several platforms.

    `runner_of` returns the kind of machine that a platform is built on: platforms with equal kinds can share a machine.
    """
    return _Maker(graph, runner_of, split).made(indexes=indexes)


def groups(
    platforms: Iterable[Platform], runner_of: Callable[[Platform], Hashable]
) -> tuple[tuple[Platform, ...], ...]:
    """Return the platforms that can share a machine, group by group."""
    by_machine: dict[Hashable, list[Platform]] = {}
    for platform in platforms:
        by_machine.setdefault(runner_of(platform), []).append(platform)
    return tuple(tuple(group) for group in by_machine.values())


def cut(chain: Chain, split: JobSplit | None) -> tuple[Part, ...]:
    """Return the parts of a chain, in order: each at most `split.most` seconds, but at least the steps of one number.

    `--until` cannot separate steps of the same number, so they stay together, and so do the stages.
    """
    if split is None:
        return (Part(steps=chain.all_steps, until=None, seconds=0.0),)
    atoms = [(number, tuple(steps)) for number, steps in groupby(chain.steps, key=lambda step: step.number)]
    stages = chain.all_steps[len(chain.steps) :]
    parts: list[Part] = []
    for number, steps in [*atoms, (None, stages)] if stages else atoms:
        part = Part(steps=steps, until=number, seconds=sum(split.seconds.get(step.id, 0.0) for step in steps))
        if parts and parts[-1].seconds + part.seconds <= split.most:
            last = parts.pop()
            part = Part(steps=last.steps + part.steps, until=number, seconds=last.seconds + part.seconds)
        parts.append(part)
    parts[-1] = Part(steps=parts[-1].steps, until=None, seconds=parts[-1].seconds)
    return tuple(parts)


class _Maker:
    """Makes the jobs of one graph."""

    def __init__(self, graph: Graph, runner_of: Callable[[Platform], Hashable], split: JobSplit | None) -> None:
        self._graph = graph
        self._runner_of = runner_of
        self._split = split
        self._jobs = JobList()
        self._homes = {
            step.id: (chain.option, chain.platform.name) for chain in graph.chains for step in chain.all_steps
        }
        """The option or layer and the platform of each step."""
        self._last: dict[tuple[str, str], JobId] = {}
        """The last job of an option on a platform."""
        self._indexed: dict[str, JobId] = {}
        """The last job that writes an option's index."""

    def made(self, *, indexes: bool) -> JobGraph:
        for option in dict.fromkeys(chain.option for chain in self._graph.chains):
            chains = [chain for chain in self._graph.chains if chain.option == option]
            for chain in chains:
                self._build_jobs(chain)
            if indexes and len(chains) > 1:
                self._index_jobs(option, chains)
        return JobGraph(jobs=tuple(self._jobs.jobs), notes=tuple(self._notes()))

    def _build_jobs(self, chain: Chain) -> None:
        name = f"{chain.option}-{chain.platform.name}"
        needs = self._needs(chain)
        for part in cut(chain, self._split):
            ends = part.until is None
            title = f"{chain.option} on {chain.platform.name}"
            job_id = self._jobs.add(
                Job(
                    id=name if ends else f"{name}-until-{part.until}",
                    title=title if ends else f"{title}, until {part.until}",
                    kind=JobKind.BUILD,
                    option=chain.option,
                    platforms=(chain.platform,),
                    base=self._result_of(self._below(chain), chain.platform),
                    until=part.until,
                    steps=tuple(step.id for step in part.steps),
                    needs=needs,
                    seconds=part.seconds,
                )
            )
            needs = (job_id,)
            self._last[chain.option, chain.platform.name] = job_id

    def _needs(self, chain: Chain) -> tuple[JobId, ...]:
        """Return the last jobs of all other chains that a chain takes images from."""
        steps = (need for step in chain.all_steps for need in step.needs)
        homes = dict.fromkeys(self._homes[step] for step in steps)
        return tuple(self._last[home] for home in homes if home != (chain.option, chain.platform.name))

    def _below(self, chain: Chain) -> str | None:
        """Return the option or layer that a chain is based on, if the graph has it."""
        return self._homes[chain.base][0] if isinstance(chain.base, StepId) else None

    def _index_jobs(self, option: str, chains: Sequence[Chain]) -> None:
        below = self._below(chains[0])
        together = groups([chain.platform for chain in chains], self._runner_of)
        needs = [self._last[option, chain.platform.name] for chain in chains]
        for platforms in together:
            names = [platform.name for platform in platforms]
            several = len(platforms) > 1
            if several and below:
                needs.append(self._indexed[below])  # its base is the index of the option before it
            job_id = self._jobs.add(
                Job(
                    id="-".join([option, "index", *(names if len(together) > 1 else [])]),
                    title=f"{option}: index of {', '.join(names)}",
                    kind=JobKind.INDEX,
                    option=option,
                    platforms=platforms,
                    base=self._index_of(below) if several else self._result_of(below, platforms[0]),
                    needs=tuple(dict.fromkeys(needs)),
                )
            )
            needs = [job_id]
            self._indexed[option] = job_id

    def _chain_of(self, option: str, platform: Platform | None = None) -> Chain:
        return next(
            chain for chain in self._graph.chains if chain.option == option and platform in {None, chain.platform}
        )

    def _result_of(self, option: str | None, platform: Platform) -> ImageReference | None:
        return self._chain_of(option, platform).result.reference if option else None

    def _index_of(self, option: str | None) -> ImageReference | None:
        names = self._chain_of(option).publication if option else None
        return names.index if names else None

    def _notes(self) -> Iterator[str]:
        if self._split is None:
            return
        unknown = [step.id for step in self._graph if step.id not in self._split.seconds]
        if unknown:
            yield f"--split ignores these steps, because no duration is recorded: {', '.join(map(str, unknown))}"
        for job in self._jobs.jobs:
            if job.seconds > self._split.most:
                steps = ", ".join(map(str, job.steps))
                yield f"{job.id} is longer than --split: {steps} took {duration(job.seconds)} last time"
