"""A workflow before it is any vendor's: jobs, machines and the command lines that the jobs run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from chainbuild.ci.jobs import Job, JobGraph, JobKind
from chainbuild.references import ChainRegistry, Platform

MARGIN: Final = 1800
"""Seconds between a run's deadline and the end of its job: for the machine's set-up, and a step that takes longer."""
INDEX_MINUTES: Final = 30
BRANCH: Final = "main"


class Runner(Struct, frozen=True, kw_only=True):
    """A machine: how the vendor calls it, whether the vendor runs it, and what has to be emulated on it ("": nothing).

    `emulates` is the architecture's OCI name, which is also what QEMU's binfmt images call it.
    """

    labels: tuple[str, ...]
    hosted: bool = True
    emulates: str = ""


class Vendor(Struct, frozen=True, kw_only=True):
    """What there is to know of a vendor. `limit` ends hosted jobs (seconds); `deadline` is below it, as people type it."""

    name: str
    title: str
    path: str
    """Where its workflow lies in a repository."""
    limit: float
    deadline: str
    native: Mapping[str, str]
    """Its machines by the OCI platforms that they run natively; `linux/amd64` is always among them."""
    hosted: str
    """A pattern of the labels of its own machines; others are the user's and have no `limit`."""
    many_labels: bool = True
    """Whether a job can ask for a machine with several labels."""
    write: Callable[[Pipeline], dict[str, Any]]
    """The workflow as the plain data that its YAML holds."""

    def runner(self, platform: Platform) -> Runner:
        """The vendor's machine for a platform: one of its own kind, else an emulating one."""
        if platform.oci in self.native:
            return Runner(labels=(self.native[platform.oci],))
        return Runner(labels=(self.native["linux/amd64"],), emulates=platform.architecture)


class Pipeline(Struct, frozen=True, kw_only=True):
    """Everything that a vendor's module writes down. All words are checked: none needs more than `shlex.quote`."""

    graph: JobGraph
    repo: str
    tag: str
    base: str
    options: Mapping[str, str]
    """What the user typed for each option: the path of its folder."""
    production: str
    registry: ChainRegistry
    root: str
    """The tree's folder in the repository; "" for its top."""
    deadline: str
    deadline_seconds: float
    limit: float
    install: str
    """The shell command that installs chainbuild, quoted."""
    runners: Mapping[str, Runner]
    """By the platform's name."""
    variables: tuple[str, ...] = ()
    """What args files take from the environment."""
    made_by: str = ""
    """The command that writes this workflow again."""

    def runner(self, job: Job) -> Runner:
        """The machine of a job; nothing is emulated where nothing is built."""
        runner = self.runners[job.platforms[0].name]
        if job.kind is JobKind.INDEX:
            return Runner(labels=runner.labels, hosted=runner.hosted)
        return runner

    def minutes(self, job: Job) -> int:
        """When the vendor is to end a job."""
        if job.kind is JobKind.INDEX:
            return INDEX_MINUTES
        seconds = self.deadline_seconds + MARGIN
        return math.ceil((min(seconds, self.limit) if self.runner(job).hosted else seconds) / 60)

    def build(self, job: Job) -> tuple[str, ...]:
        """The command line of a job that builds."""
        until = ("--until", str(job.until)) if job.until is not None else ()
        return ("chainbuild", *self._words(job), *until, "--deadline", self.deadline, "--no-load", "--plain")

    def index(self, job: Job) -> tuple[tuple[str, ...], ...]:
        """The command lines of a job that completes an index: it fails where it would have to build."""
        words = self._words(job)
        return ("chainbuild", "plan", *words, "--fail-if-build"), ("chainbuild", *words, "--no-load", "--plain")

    def _words(self, job: Job) -> tuple[str, ...]:
        platforms = ",".join(platform.name for platform in job.platforms)
        base = str(job.base) if job.base else self.base
        words = (platforms, self.repo, self.tag, base, self.options[job.option], self.production)
        return (*words, *(("--root", self.root) if self.root else ()), "--registry", str(self.registry))
