"""GitHub Actions: a job that stops at its deadline sets an output, and its `…-goes-on` job runs only if that is set."""

from __future__ import annotations

from typing import Any, Final

from chainbuild.ci import shell
from chainbuild.ci.actions import BUILDX, CHECKOUT, LOGIN, QEMU, UPLOAD, uses
from chainbuild.ci.jobs import Job, JobKind
from chainbuild.ci.pipeline import INDEX_MINUTES, NIGHT, PLAN, REFRESH, Login, Pipeline, Runner, Vendor
from chainbuild.ci.quoting import join, plain
from chainbuild.trust.keyring import SIGNING_KEY, TRUSTED_KEYS

CONTAINER_REGISTRY: Final = "ghcr.io"
"""GitHub's own registry, which accepts the workflow's token."""
_STEP: Final = "chain"
_PULL_REQUEST: Final = "github.event_name == 'pull_request'"
_NO_PULL_REQUEST: Final = "github.event_name != 'pull_request'"
_BEFORE: Final = "${{ github.event.pull_request.base.sha || github.event.before }}"
_Node = dict[str, Any]


def write(pipeline: Pipeline) -> _Node:
    """Return the workflow.

    Jobs test the jobs that they need in `if`, because GitHub's default skips every job after a skipped job.
    """
    jobs: _Node = {PLAN: _plan(pipeline)}
    for job in pipeline.graph.jobs:
        jobs[job.id] = _job(pipeline, job)
        if job.kind is JobKind.BUILD:
            jobs[job.goes_on] = _goes_on(pipeline, job)
    variables = [TRUSTED_KEYS, *(variable.name for variable in pipeline.variables)]
    nightly = {"schedule": [{"cron": NIGHT}]} if pipeline.nightly else {}
    return {
        "name": "chainbuild",
        "on": {
            "push": {"branches": [pipeline.checkout.branch]},
            "pull_request": {},
            "workflow_dispatch": {},
            **nightly,
        },
        "permissions": {"contents": "read"},
        "concurrency": {
            "group": f"{plain(pipeline.group)}:${{{{ github.event.pull_request.number }}}}",
            "cancel-in-progress": f"${{{{ {_PULL_REQUEST} }}}}",
        },
        "env": {name: f"${{{{ vars.{name} }}}}" for name in variables},
        "jobs": jobs,
    }


def _plan(pipeline: Pipeline) -> _Node:
    """Return the job of pull requests, which has neither the signing key nor write access to anything."""
    commands = [join(words) for words in pipeline.plans]
    if pipeline.release:
        commands.append(shell.if_changed(pipeline.release.path, *map(join, pipeline.release.commands)))
    # An indented block of Markdown: nothing in a plan can end it.
    summary = f"sed 's/^/    /' {join([pipeline.shown_plan])} >> \"$GITHUB_STEP_SUMMARY\""
    logins = [
        {
            "name": f"Log in to {plain(login.host)}",
            "env": dict(zip((login.user, login.password), _credentials(login), strict=True)),
            "run": shell.login(login.host, login.user, login.password, optional=True),
        }
        for login in pipeline.logins
    ]
    return {
        "name": "plan",
        "if": f"${{{{ {_PULL_REQUEST} }}}}",
        "runs-on": _machine(pipeline.plan_runner),
        "timeout-minutes": INDEX_MINUTES,
        "permissions": {"contents": "read"} | ({"packages": "read"} if _has_own(pipeline) else {}),
        "steps": [
            _checkout(pipeline),
            *logins,
            _install(pipeline),
            *_secret_files(pipeline),
            {
                "name": "Plan",
                "env": _secrets(pipeline) | ({shell.BEFORE: _BEFORE} if pipeline.release else {}),
                "run": shell.lines(*shell.report(commands, pipeline.shown_plan, summary)),
            },
        ],
    }


def _job(pipeline: Pipeline, job: Job) -> _Node:
    by_id = pipeline.graph.by_id
    needs = [name for need in job.needs for name in _all_of(by_id[need])]
    # In a pull request, the first jobs are skipped, and so are those that need them.
    done = ["!cancelled()", *(_done(by_id[need]) for need in job.needs)] if needs else [_NO_PULL_REQUEST]
    node = _head(pipeline, job, job.title, needs, " && ".join(done))
    commands = [join(words) for words in job.commands]
    if job.kind is not JobKind.BUILD:
        if job.release_plan:
            commands = [shell.if_changed(job.release_plan, *commands)]
        name = "Complete the index" if job.kind is JobKind.INDEX else "Release"
        return node | {"steps": _steps(pipeline, job, {"name": name}, shell.lines(*commands))}
    run = shell.lines(
        "code=0",
        f"{commands[0]} || code=$?",
        f'if [ "$code" -eq {shell.DEADLINE} ]; then echo left=true >> "$GITHUB_OUTPUT"; else exit "$code"; fi',
    )
    return node | {
        "outputs": {"left": f"${{{{ steps.{_STEP}.outputs.left }}}}"},
        "steps": _steps(pipeline, job, {"name": "Build", "id": _STEP}, run),
    }


def _goes_on(pipeline: Pipeline, job: Job) -> _Node:
    condition = f"!cancelled() && needs.{job.id}.result == 'success' && needs.{job.id}.outputs.left == 'true'"
    return {
        **_head(pipeline, job, f"{job.title}, continued", [job.id], condition),
        "steps": _steps(pipeline, job, {"name": "Build"}, join(job.commands[0]), "-goes-on"),
    }


def _all_of(job: Job) -> tuple[str, ...]:
    return (job.id, job.goes_on) if job.goes_on else (job.id,)


def _done(job: Job) -> str:
    done = f"needs.{job.id}.result == 'success'"
    if not job.goes_on:
        return done
    return f"{done} && (needs.{job.goes_on}.result == 'success' || needs.{job.goes_on}.result == 'skipped')"


def _head(pipeline: Pipeline, job: Job, title: str, needs: list[str], condition: str) -> _Node:
    return {
        "name": plain(title),
        **({"needs": needs} if needs else {}),
        "if": f"${{{{ {condition} }}}}",
        "runs-on": _machine(pipeline.runner(job)),
        "timeout-minutes": pipeline.minutes(job),
        "permissions": {"contents": "read"} | ({"packages": "write"} if _has_own(pipeline) else {}),
    }


def _machine(runner: Runner) -> Any:
    return runner.labels[0] if len(runner.labels) == 1 else list(runner.labels)


def _steps(pipeline: Pipeline, job: Job, step: _Node, run: str, suffix: str = "") -> list[_Node]:
    """Return the steps of a job: its setup, the step that runs `run` with all secrets, and the upload of logs and reports."""
    emulates = pipeline.runner(job).emulates
    # Only the default branch, whose records everybody trusts, may use the signing key.
    branch = f"refs/heads/{pipeline.checkout.branch}"
    signing = f"${{{{ github.ref == '{branch}' && secrets.{SIGNING_KEY} || '' }}}}"
    before = {shell.BEFORE: _BEFORE} if job.release_plan else {}
    if pipeline.nightly and job.kind is JobKind.BUILD:
        before[REFRESH] = f"${{{{ github.event_name == 'schedule' && '{pipeline.nightly}' || '' }}}}"
    logs = {
        "name": f"logs-{job.id}{suffix}",
        "path": f"{pipeline.logs}/*/\n{pipeline.logs}/*.html\n!{pipeline.logs}/latest\n",
        "include-hidden-files": True,
        "if-no-files-found": "ignore",
        "overwrite": True,
    }
    return [
        _checkout(pipeline),
        *([{"uses": uses(QEMU), "with": {"platforms": emulates}}] if emulates else []),
        *([{"uses": uses(BUILDX), "with": {"name": shell.BUILDER}}] if job.kind is JobKind.BUILD else []),
        *(_login(login) for login in pipeline.logins_of(job)),
        _install(pipeline),
        *_secret_files(pipeline),
        {**step, "env": {SIGNING_KEY: signing, **_secrets(pipeline), **before}, "run": run},
        {"name": "Keep the logs", "if": "${{ always() }}", "uses": uses(UPLOAD), "with": logs},
    ]


def _checkout(pipeline: Pipeline) -> _Node:
    options: _Node = {"persist-credentials": False}
    if pipeline.checkout.submodules:
        options["submodules"] = "recursive"
    if pipeline.history or pipeline.release:
        options["fetch-depth"] = 0
    return {"uses": uses(CHECKOUT), "with": options}


def _login(login: Login) -> _Node:
    user, password = _credentials(login)
    return {"uses": uses(LOGIN), "with": {"registry": login.host, "username": user, "password": password}}


def _credentials(login: Login) -> tuple[str, str]:
    if login.host == CONTAINER_REGISTRY:
        return "${{ github.actor }}", "${{ secrets.GITHUB_TOKEN }}"
    return f"${{{{ secrets.{login.user} }}}}", f"${{{{ secrets.{login.password} }}}}"


def _has_own(pipeline: Pipeline) -> bool:
    return any(login.host == CONTAINER_REGISTRY for login in pipeline.logins)


def _install(pipeline: Pipeline) -> _Node:
    installation = pipeline.installation
    paths = [f'echo "{folder}" >> "$GITHUB_PATH"' for folder in installation.binaries]
    return {"name": "Install chainbuild", "run": shell.lines(*installation.commands, *paths)}


def _secrets(pipeline: Pipeline) -> dict[str, str]:
    """Return the environment with the build secrets that are not read from files."""
    return {secret.name: f"${{{{ secrets.{secret.name} }}}}" for secret in pipeline.secrets if not secret.path}


def _secret_files(pipeline: Pipeline) -> list[_Node]:
    files = [secret for secret in pipeline.secrets if secret.path]
    if not files:
        return []
    return [
        {
            "name": "Write the secret files",
            "env": {secret.name: f"${{{{ secrets.{secret.name} }}}}" for secret in files},
            "run": shell.lines(*(shell.write_secret(secret.name, secret.path) for secret in files)),
        }
    ]


VENDOR: Final = Vendor(
    name="github",
    title="GitHub Actions",
    path=".github/workflows/chainbuild.yml",
    limit=6 * 3600,
    deadline="5h30m",
    hosted=r"ubuntu-.*",
    own_registry=CONTAINER_REGISTRY,
    store="Settings, Secrets and variables, Actions",
    native={
        "linux/amd64": "ubuntu-24.04",
        "linux/386": "ubuntu-24.04",
        "linux/arm64": "ubuntu-24.04-arm",
    },
    write=write,
)
