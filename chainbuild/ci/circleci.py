"""CircleCI: a job saves its exit code in a workspace, and its `…-goes-on` job stops at once unless it is the deadline's.

CircleCI cannot start a job by exit code or wait for one of two jobs, so the continuation job always runs, and takes a few
seconds if there is nothing left to do.
"""

from __future__ import annotations

from typing import Any, Final

from chainbuild.ci import pipeline as script
from chainbuild.ci.jobs import Job, JobKind
from chainbuild.ci.pipeline import BRANCH, Pipeline, Vendor

_CODES: Final = "/tmp/chainbuild-codes"  # noqa: S108  # of the job's own machine
_PREPARE: Final = "prepare"
_Node = dict[str, Any]


def write(pipeline: Pipeline) -> _Node:
    """Return the workflow."""
    jobs: _Node = {}
    calls: list[Any] = []
    by_id = pipeline.graph.by_id
    for job in pipeline.graph.jobs:
        jobs[job.id] = _job(pipeline, job)
        calls.append(_call(job.id, [_end_of(by_id[need]) for need in job.needs]))
        if job.kind is JobKind.BUILD:
            jobs[job.goes_on] = _goes_on(pipeline, job)
            calls.append(_call(job.goes_on, [job.id]))
    return {
        "version": 2.1,
        "commands": {_PREPARE: {"steps": _prepare(pipeline)}},
        "jobs": jobs,
        "workflows": {
            "chainbuild": {"when": {"equal": [BRANCH, "<< pipeline.git.branch >>"]}, "jobs": calls},
        },
    }


def _call(name: str, requires: list[str]) -> Any:
    return {name: {"requires": requires}} if requires else name


def _end_of(job: Job) -> str:
    """Return the name of the last job of `job`'s work."""
    return job.goes_on if job.kind is JobKind.BUILD else job.id


def _prepare(pipeline: Pipeline) -> list[Any]:
    path = f'echo \'export PATH="{script.BINARIES}:$PATH"\' >> "$BASH_ENV"'
    install = script.lines(*script.have_pipx(pipeline.install), pipeline.install, path)
    return [
        "checkout",
        {"run": {"name": "Log in to the chain registry", "command": script.login(pipeline.registry.host)}},
        {"run": {"name": "Install chainbuild", "command": install}},
    ]


def _job(pipeline: Pipeline, job: Job) -> _Node:
    if job.kind is JobKind.INDEX:
        commands = [script.command(words) for words in pipeline.index(job)]
        run = {"run": {"name": "Complete the index", "command": script.lines(*commands)}}
        return {**_machine(pipeline, job), "steps": [_PREPARE, run]}
    kept = f"{_CODES}/{job.id}"
    command = script.lines(
        "code=0",
        f"{script.command(pipeline.build(job))} || code=$?",
        f"mkdir -p {_CODES}",
        f'echo "$code" > {kept}',
        f'[ "$code" -eq {script.DEADLINE} ] || exit "$code"',
    )
    return {
        **_machine(pipeline, job),
        "steps": [
            _PREPARE,
            *_builder(pipeline, job),
            _build(pipeline, job, command),
            {"persist_to_workspace": {"root": _CODES, "paths": [job.id]}},
        ],
    }


def _goes_on(pipeline: Pipeline, job: Job) -> _Node:
    halt = f'if [ "$(cat {_CODES}/{job.id})" -ne {script.DEADLINE} ]; then circleci-agent step halt; fi'
    return {
        **_machine(pipeline, job),
        "steps": [
            {"attach_workspace": {"at": _CODES}},
            {"run": {"name": "Stop unless the deadline was reached", "command": halt}},
            _PREPARE,
            *_builder(pipeline, job),
            _build(pipeline, job, script.command(pipeline.build(job))),
        ],
    }


def _machine(pipeline: Pipeline, job: Job) -> _Node:
    runner = pipeline.runner(job)
    machine: Any = {"image": "ubuntu-2404:current"} if runner.hosted else True
    return {"machine": machine, "resource_class": runner.labels[0]}


def _builder(pipeline: Pipeline, job: Job) -> list[_Node]:
    command = script.lines(*script.emulate(pipeline.runner(job).emulates), script.CREATE_BUILDER)
    return [{"run": {"name": "Set up the builder", "command": command}}]


def _build(pipeline: Pipeline, job: Job, command: str) -> _Node:
    # A long step may print nothing for a long time. CircleCI's default is to end it after ten minutes.
    return {"run": {"name": "Build", "command": command, "no_output_timeout": f"{pipeline.minutes(job)}m"}}


VENDOR: Final = Vendor(
    name="circleci",
    title="CircleCI",
    path=".circleci/config.yml",
    limit=5 * 3600,
    # The limit of the largest plan; smaller plans end jobs earlier.
    deadline="2h30m",
    hosted=r"[^/]*",  # the resource classes of self-hosted runners are NAMESPACE/NAME
    many_labels=False,
    native={"linux/amd64": "medium", "linux/386": "medium", "linux/arm64": "arm.medium"},
    write=write,
)
