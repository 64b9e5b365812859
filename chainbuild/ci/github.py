"""GitHub Actions: a job that stops at its deadline sets an output, and its `…-goes-on` job runs only if that is set."""

from __future__ import annotations

from typing import Any, Final

from chainbuild.ci import pipeline as script
from chainbuild.ci.jobs import Job, JobKind
from chainbuild.ci.pipeline import BRANCH, Pipeline, Vendor
from chainbuild.trust.keyring import SIGNING_KEY

CONTAINER_REGISTRY: Final = "ghcr.io"
"""GitHub's own registry, which accepts the workflow's token."""
_STEP: Final = "chain"
_Node = dict[str, Any]


def write(pipeline: Pipeline) -> _Node:
    """Return the workflow.

    Jobs test the jobs that they need in `if`, because GitHub's default skips every job after a skipped job.
    """
    own = pipeline.registry.host == CONTAINER_REGISTRY
    jobs: _Node = {}
    for job in pipeline.graph.jobs:
        jobs[job.id] = _job(pipeline, job)
        if job.kind is JobKind.BUILD:
            jobs[job.goes_on] = _goes_on(pipeline, job)
    variables = {name: f"${{{{ vars.{name} }}}}" for name in pipeline.variables}
    # Only the main branch, whose records everybody trusts, may use the signing key.
    signing = f"${{{{ github.ref == 'refs/heads/{BRANCH}' && secrets.{SIGNING_KEY} || '' }}}}"
    return {
        "name": "chainbuild",
        "on": {"push": {"branches": [BRANCH]}, "workflow_dispatch": {}},
        "permissions": {"contents": "read"} | ({"packages": "write"} if own else {}),
        "concurrency": {"group": f"{pipeline.repo}:{pipeline.tag}", "cancel-in-progress": False},
        "env": {SIGNING_KEY: signing, **variables},
        "jobs": jobs,
    }


def _job(pipeline: Pipeline, job: Job) -> _Node:
    by_id = pipeline.graph.by_id
    needs = [name for need in job.needs for name in _all_of(by_id[need])]
    node: _Node = {"name": job.title}
    if needs:
        node |= {
            "needs": needs,
            "if": f"${{{{ !cancelled() && {' && '.join(_done(by_id[need]) for need in job.needs)} }}}}",
        }
    node |= _machine(pipeline, job)
    if job.kind is JobKind.INDEX:
        commands = [script.command(words) for words in pipeline.index(job)]
        return node | {
            "steps": [*_begin(pipeline, job), {"name": "Complete the index", "run": script.lines(*commands)}]
        }
    run = script.lines(
        "code=0",
        f"{script.command(pipeline.build(job))} || code=$?",
        f'if [ "$code" -eq {script.DEADLINE} ]; then echo left=true >> "$GITHUB_OUTPUT"; else exit "$code"; fi',
    )
    return node | {
        "outputs": {"left": f"${{{{ steps.{_STEP}.outputs.left }}}}"},
        "steps": [*_begin(pipeline, job), {"name": "Build", "id": _STEP, "run": run}],
    }


def _goes_on(pipeline: Pipeline, job: Job) -> _Node:
    return {
        "name": f"{job.title}, continued",
        "needs": [job.id],
        "if": f"${{{{ !cancelled() && needs.{job.id}.result == 'success' && needs.{job.id}.outputs.left == 'true' }}}}",
        **_machine(pipeline, job),
        "steps": [*_begin(pipeline, job), {"name": "Build", "run": script.command(pipeline.build(job))}],
    }


def _all_of(job: Job) -> tuple[str, ...]:
    return (job.id, job.goes_on) if job.kind is JobKind.BUILD else (job.id,)


def _done(job: Job) -> str:
    done = f"needs.{job.id}.result == 'success'"
    if job.kind is JobKind.INDEX:
        return done
    return f"{done} && (needs.{job.goes_on}.result == 'success' || needs.{job.goes_on}.result == 'skipped')"


def _machine(pipeline: Pipeline, job: Job) -> _Node:
    labels = pipeline.runner(job).labels
    return {
        "runs-on": labels[0] if len(labels) == 1 else list(labels),
        "timeout-minutes": pipeline.minutes(job),
    }


def _begin(pipeline: Pipeline, job: Job) -> list[_Node]:
    emulates = pipeline.runner(job).emulates
    host = pipeline.registry.host
    if host == CONTAINER_REGISTRY:
        user, password = "${{ github.actor }}", "${{ secrets.GITHUB_TOKEN }}"
    else:
        user, password = f"${{{{ secrets.{script.USER} }}}}", f"${{{{ secrets.{script.PASSWORD} }}}}"
    steps: list[_Node] = [{"uses": "actions/checkout@v5", "with": {"persist-credentials": False}}]
    if emulates:
        steps.append({"uses": "docker/setup-qemu-action@v3", "with": {"platforms": emulates}})
    if job.kind is JobKind.BUILD:
        steps.append({"uses": "docker/setup-buildx-action@v3"})
    login = {"registry": host, "username": user, "password": password}
    install = (*script.have_pipx(pipeline.install), pipeline.install, f'echo "{script.BINARIES}" >> "$GITHUB_PATH"')
    return [
        *steps,
        {"uses": "docker/login-action@v3", "with": login},
        {"name": "Install chainbuild", "run": script.lines(*install)},
    ]


VENDOR: Final = Vendor(
    name="github",
    title="GitHub Actions",
    path=".github/workflows/chainbuild.yml",
    limit=6 * 3600,
    deadline="5h30m",
    hosted=r"ubuntu-.*",
    native={
        "linux/amd64": "ubuntu-24.04",
        "linux/386": "ubuntu-24.04",
        "linux/arm64": "ubuntu-24.04-arm",
    },
    write=write,
)
