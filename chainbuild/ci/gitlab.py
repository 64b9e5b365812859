"""GitLab CI: `retry` by exit code. A job that stops at its deadline is run again and continues.

`retry:exit_codes` needs GitLab 16.11. The runners need privileged Docker-in-Docker, as GitLab.com's own runners have.
"""

from __future__ import annotations

from typing import Any, Final

from chainbuild.ci import shell
from chainbuild.ci.jobs import Job, JobKind
from chainbuild.ci.pipeline import INDEX_MINUTES, PLAN, REFRESH, Login, Pipeline, Vendor
from chainbuild.ci.quoting import join, plain

CONTAINER_REGISTRY: Final = "registry.gitlab.com"
"""GitLab's own registry, which accepts the job's token."""
RETRIES: Final = 2
"""GitLab's limit."""
_TEMPLATE: Final = ".chainbuild"
_DOCKER: Final = "docker:28"
_DEFAULT_BRANCH: Final = "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"
_MERGE_REQUEST: Final = '$CI_PIPELINE_SOURCE == "merge_request_event"'
_SCHEDULE: Final = '$CI_PIPELINE_SOURCE == "schedule"'
_BEFORE: Final = f'export {shell.BEFORE}="${{CI_MERGE_REQUEST_DIFF_BASE_SHA:-$CI_COMMIT_BEFORE_SHA}}"'
_Node = dict[str, Any]


def write(pipeline: Pipeline) -> _Node:
    """Return the workflow. Each option or layer is a stage, for display; `needs` has the order."""
    jobs = pipeline.graph.jobs
    return {
        "workflow": {"rules": [{"if": _MERGE_REQUEST}, {"if": _DEFAULT_BRANCH}]},
        "stages": list(dict.fromkeys([PLAN, *(_stage(job) for job in jobs)])),
        _TEMPLATE: _template(pipeline),
        PLAN: _plan(pipeline),
        **{job.id: _job(pipeline, job) for job in jobs},
    }


def _stage(job: Job) -> str:
    return plain(job.option or job.id)


def _template(pipeline: Pipeline) -> _Node:
    """Return the settings that all jobs share.

    Without the umask flag, the runner checks out files that all users may write to. Different modes mean different step
    keys and different images than on other machines.
    """
    variables = {
        "DOCKER_HOST": "tcp://docker:2376",
        "DOCKER_TLS_CERTDIR": "/certs",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": "/certs/client",
        "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR": "true",
    }
    if pipeline.checkout.submodules:
        variables["GIT_SUBMODULE_STRATEGY"] = "recursive"
    if pipeline.history or pipeline.release:
        variables["GIT_DEPTH"] = "0"
    return {
        "image": f"{_DOCKER}-cli",
        "services": [f"{_DOCKER}-dind"],
        "variables": variables,
        "before_script": _before(pipeline, optional=False),
        "artifacts": {"when": "always", "paths": [f"{pipeline.logs}/"]},
        "rules": [{"if": _DEFAULT_BRANCH}],
    }


def _before(pipeline: Pipeline, *, optional: bool) -> list[str]:
    """Return the commands before a job's own. `optional`: the job also works without logins."""
    pipx = any("pipx" in line for line in pipeline.installation.commands)
    names = ("git", "python3", "pipx") if pipx else ("git", "python3")
    logins = [_login(login, optional=optional) for login in (pipeline.logins if optional else pipeline.logins[:1])]
    files = [shell.write_secret(secret.name, secret.path) for secret in pipeline.secrets if secret.path]
    # A protected variable is missing in merge requests, and chainbuild reports a secret whose variable is missing.
    empty = [
        f'export {secret.name}="${{{secret.name}-}}"' for secret in pipeline.secrets if optional and not secret.path
    ]
    release = [_BEFORE] if pipeline.release else []
    return [
        f"apk add --no-cache {join(names)}",
        *logins,
        *shell.install(pipeline.installation),
        *files,
        *empty,
        *release,
    ]


def _login(login: Login, *, optional: bool = False) -> str:
    own = login.host == CONTAINER_REGISTRY
    user, password = ("CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD") if own else (login.user, login.password)
    return shell.login(login.host, user, password, optional=optional)


def _plan(pipeline: Pipeline) -> _Node:
    """Return the job of merge requests."""
    commands = [join(words) for words in pipeline.plans]
    if pipeline.release:
        commands.append(shell.if_changed(pipeline.release.path, *map(join, pipeline.release.commands)))
    return {
        "extends": _TEMPLATE,
        "stage": PLAN,
        "needs": [],
        "tags": list(pipeline.plan_runner.labels),
        "timeout": f"{INDEX_MINUTES} minutes",
        "rules": [{"if": _MERGE_REQUEST}],
        "before_script": _before(pipeline, optional=True),
        "script": [shell.lines(*shell.report(commands, pipeline.shown_plan))],
        "artifacts": {"when": "always", "expose_as": "plan", "paths": [pipeline.shown_plan]},
    }


def _job(pipeline: Pipeline, job: Job) -> _Node:
    runner = pipeline.runner(job)
    node: _Node = {
        "extends": _TEMPLATE,
        "stage": _stage(job),
        "needs": list(job.needs),
        "tags": list(runner.labels),
        "timeout": f"{pipeline.minutes(job)} minutes",
    }
    commands = [join(words) for words in job.commands]
    if job.release_plan:
        commands = [shell.if_changed(job.release_plan, *commands)]
    commands = [*map(_login, pipeline.logins_of(job)[1:]), *commands]
    if job.kind is not JobKind.BUILD:
        # Two pipelines must not move the same tags at the same time.
        node["resource_group"] = f"chainbuild-{plain(job.option or job.id).replace(' ', '-')}"
        return node | {"script": commands}
    node["retry"] = {
        "max": RETRIES,
        "exit_codes": [shell.DEADLINE],
        "when": ["runner_system_failure", "job_execution_timeout"],
    }
    # The engine uses TLS, which a builder supports only through a Docker context.
    if pipeline.nightly:
        night = {"if": f"{_SCHEDULE} && {_DEFAULT_BRANCH}", "variables": {REFRESH: pipeline.nightly}}
        node["rules"] = [night, {"if": _DEFAULT_BRANCH}]
    builder = [f"docker context create {shell.BUILDER}-tls", f"{shell.CREATE_BUILDER} {shell.BUILDER}-tls"]
    return node | {"script": [*shell.emulate(runner.emulates), *builder, *commands]}


VENDOR: Final = Vendor(
    name="gitlab",
    title="GitLab CI",
    path=".gitlab-ci.yml",
    limit=3 * 3600,
    deadline="2h30m",
    hosted=r"saas-.*",
    own_registry=CONTAINER_REGISTRY,
    knows_branch=True,
    schedules="Build, Pipeline schedules",
    store="Settings, CI/CD, Variables; mask secrets, and protect those for one branch",
    native={
        "linux/amd64": "saas-linux-small-amd64",
        "linux/386": "saas-linux-small-amd64",
        "linux/arm64": "saas-linux-small-arm64",
    },
    write=write,
)
