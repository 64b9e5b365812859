"""CircleCI: a job saves its exit code in a workspace, and its `…-goes-on` job stops at once unless it is the deadline's.

CircleCI cannot start a job by exit code or wait for one of two jobs, so the continuation job always runs, and takes a few
seconds if there is nothing left to do.
"""

from __future__ import annotations

from typing import Any, Final

from chainbuild.ci import shell
from chainbuild.ci.jobs import Job, JobKind
from chainbuild.ci.pipeline import PLAN, REFRESH, Login, Pipeline, Runner, Vendor
from chainbuild.ci.quoting import join, plain, quote

_CODES: Final = "/tmp/chainbuild-codes"  # noqa: S108  # of the job's own machine
_PREPARE: Final = "prepare"
_PREPARE_PLAN: Final = "prepare-plan"
_BRANCH: Final = "<< pipeline.git.branch >>"
_Node = dict[str, Any]


def write(pipeline: Pipeline) -> _Node:
    """Return the workflow: one for the default branch, and one with the plan for all others, also pull requests."""
    jobs: _Node = {PLAN: _plan(pipeline)}
    calls: list[Any] = []
    by_id = pipeline.graph.by_id
    for job in pipeline.graph.jobs:
        jobs[job.id] = _job(pipeline, job)
        calls.append(_call(job.id, [_end_of(by_id[need]) for need in job.needs]))
        if job.kind is JobKind.BUILD:
            jobs[job.goes_on] = _goes_on(pipeline, job)
            calls.append(_call(job.goes_on, [job.id]))
    on_branch = {"equal": [pipeline.checkout.branch, _BRANCH]}
    return {
        "version": 2.1,
        "commands": {
            _PREPARE: {"steps": _prepare(pipeline, optional=False)},
            _PREPARE_PLAN: {"steps": _prepare(pipeline, optional=True)},
        },
        "jobs": jobs,
        "workflows": {
            "chainbuild": {"when": on_branch, "jobs": calls},
            "chainbuild-plan": {"when": {"not": on_branch}, "jobs": [PLAN]},
        },
    }


def _call(name: str, requires: list[str]) -> Any:
    return {name: {"requires": requires}} if requires else name


def _end_of(job: Job) -> str:
    """Return the name of the last job of `job`'s work."""
    return job.goes_on or job.id


def _prepare(pipeline: Pipeline, *, optional: bool) -> list[Any]:
    """Return the steps before a job's own. `optional`: the job also works without logins."""
    logins = [_login(login, optional=optional) for login in (pipeline.logins if optional else pipeline.logins[:1])]
    paths = ":".join(pipeline.installation.binaries)
    path = f'echo \'export PATH="{paths}:$PATH"\' >> "$BASH_ENV"'
    steps: list[Any] = [{"checkout": {"method": "full"}} if pipeline.history or pipeline.release else "checkout"]
    if pipeline.checkout.submodules:
        steps.append(_run("Check out the submodules", "git submodule update --init --recursive"))
    steps += [*logins, _run("Install chainbuild", *pipeline.installation.commands, path)]
    files = [shell.write_secret(secret.name, secret.path) for secret in pipeline.secrets if secret.path]
    return [*steps, _run("Write the secret files", *files)] if files else steps


def _login(login: Login, *, optional: bool = False) -> _Node:
    command = shell.login(login.host, login.user, login.password, optional=optional)
    return _run(f"Log in to {plain(login.host)}", command)


def _plan(pipeline: Pipeline) -> _Node:
    commands = [join(words) for words in pipeline.plans]
    if pipeline.release:
        commands.append(shell.if_changed(pipeline.release.path, *map(join, pipeline.release.commands)))
    # Pull requests from forks have no secrets, and chainbuild reports a secret whose variable is missing.
    lines = [f'export {secret.name}="${{{secret.name}-}}"' for secret in pipeline.secrets if not secret.path]
    if pipeline.release:
        lines.append(f'export {shell.BEFORE}="$(git merge-base HEAD origin/{quote(pipeline.checkout.branch)})"')
    run = _run("Plan", *lines, *shell.report(commands, pipeline.shown_plan))
    keep = {"store_artifacts": {"path": pipeline.shown_plan, "destination": "plan.txt", "when": "always"}}
    return {**_machine(pipeline.plan_runner), "steps": [_PREPARE_PLAN, run, keep]}


def _job(pipeline: Pipeline, job: Job) -> _Node:
    commands = [join(words) for words in job.commands]
    runner = pipeline.runner(job)
    if job.kind is not JobKind.BUILD:
        if job.release_plan:
            before = f'export {shell.BEFORE}="<< pipeline.git.base_revision >>"'
            commands = [before, shell.if_changed(job.release_plan, *commands)]
        run = _run("Complete the index" if job.kind is JobKind.INDEX else "Release", *commands)
        return {**_machine(runner), "steps": [*_begin(pipeline, job), run, _logs(pipeline)]}
    code_file = f"{_CODES}/{job.id}"
    command = shell.lines(
        "code=0",
        f"{commands[0]} || code=$?",
        f"mkdir -p {_CODES}",
        f'echo "$code" > {code_file}',
        f'[ "$code" -eq {shell.DEADLINE} ] || exit "$code"',
    )
    return {
        **_machine(runner),
        "steps": [
            *_begin(pipeline, job),
            *_builder(pipeline, job),
            _build(pipeline, job, command),
            _logs(pipeline),
            {"persist_to_workspace": {"root": _CODES, "paths": [job.id]}},
        ],
    }


def _goes_on(pipeline: Pipeline, job: Job) -> _Node:
    halt = f'if [ "$(cat {_CODES}/{job.id})" -ne {shell.DEADLINE} ]; then circleci-agent step halt; fi'
    runner = pipeline.runner(job)
    return {
        **_machine(runner),
        "steps": [
            {"attach_workspace": {"at": _CODES}},
            _run("Stop unless the deadline was reached", halt),
            *_begin(pipeline, job),
            *_builder(pipeline, job),
            _build(pipeline, job, join(job.commands[0])),
            _logs(pipeline),
        ],
    }


def _begin(pipeline: Pipeline, job: Job) -> list[Any]:
    return [_PREPARE, *map(_login, pipeline.logins_of(job)[1:])]


def _machine(runner: Runner) -> _Node:
    machine: Any = {"image": "ubuntu-2404:current"} if runner.hosted else True
    return {"machine": machine, "resource_class": runner.labels[0]}


def _builder(pipeline: Pipeline, job: Job) -> list[_Node]:
    return [_run("Set up the builder", *shell.emulate(pipeline.runner(job).emulates), shell.CREATE_BUILDER)]


def _build(pipeline: Pipeline, job: Job, command: str) -> _Node:
    if pipeline.nightly:
        is_night = '[ "<< pipeline.trigger_source >>" = scheduled_pipeline ]'
        command = shell.lines(f"if {is_night}; then export {REFRESH}={pipeline.nightly}; fi", command.rstrip("\n"))
    # A long step may print nothing for a long time. CircleCI's default is to end it after ten minutes.
    return {"run": {"name": "Build", "command": command, "no_output_timeout": f"{pipeline.minutes(job)}m"}}


def _logs(pipeline: Pipeline) -> _Node:
    return {"store_artifacts": {"path": pipeline.logs, "destination": "logs", "when": "always"}}


def _run(name: str, *commands: str) -> _Node:
    return {"run": {"name": name, "command": shell.lines(*commands)}}


VENDOR: Final = Vendor(
    name="circleci",
    title="CircleCI",
    path=".circleci/config.yml",
    limit=5 * 3600,
    # The limit of the largest plan; smaller plans end jobs earlier.
    deadline="2h30m",
    hosted=r"[^/]*",  # the resource classes of self-hosted runners are NAMESPACE/NAME
    many_labels=False,
    schedules="Project settings, Triggers",
    store="Project settings, Environment variables, or a context",
    native={"linux/amd64": "medium", "linux/386": "medium", "linux/arm64": "arm.medium"},
    write=write,
)
