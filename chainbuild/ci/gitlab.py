"""GitLab CI: `retry` by exit code. A job that stops at its deadline is run again and continues.

`retry:exit_codes` needs GitLab 16.11. The runners need privileged Docker-in-Docker, as GitLab.com's own runners have.
"""

from __future__ import annotations

from typing import Any, Final

from chainbuild.ci import pipeline as script
from chainbuild.ci.jobs import Job, JobKind
from chainbuild.ci.pipeline import Pipeline, Vendor

CONTAINER_REGISTRY: Final = "registry.gitlab.com"
"""GitLab's own registry, which accepts the job's token."""
RETRIES: Final = 2
"""GitLab's limit."""
_TEMPLATE: Final = ".chainbuild"
_DOCKER: Final = "docker:28"
_Node = dict[str, Any]


def write(pipeline: Pipeline) -> _Node:
    """Return the workflow. Each option is a stage, for display; `needs` has the order."""
    jobs = pipeline.graph.jobs
    return {
        "workflow": {"rules": [{"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"}]},
        "stages": list(dict.fromkeys(job.option for job in jobs)),
        _TEMPLATE: _template(pipeline),
        **{job.id: _job(pipeline, job) for job in jobs},
    }


def _template(pipeline: Pipeline) -> _Node:
    """Return the settings that all jobs share.

    Without the umask flag, the runner checks out files that all users may write to. Different modes mean different step
    keys and different images than on other machines.
    """
    own = pipeline.registry.host == CONTAINER_REGISTRY
    names = {"user": "CI_REGISTRY_USER", "password": "CI_REGISTRY_PASSWORD"} if own else {}
    return {
        "image": f"{_DOCKER}-cli",
        "services": [f"{_DOCKER}-dind"],
        "variables": {
            "DOCKER_HOST": "tcp://docker:2376",
            "DOCKER_TLS_CERTDIR": "/certs",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": "/certs/client",
            "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR": "true",
        },
        "before_script": [
            "apk add --no-cache git pipx",
            f'export PATH="{script.BINARIES}:$PATH"',
            pipeline.install,
            script.login(pipeline.registry.host, **names),
        ],
    }


def _job(pipeline: Pipeline, job: Job) -> _Node:
    runner = pipeline.runner(job)
    node: _Node = {
        "extends": _TEMPLATE,
        "stage": job.option,
        "needs": list(job.needs),
        "tags": list(runner.labels),
        "timeout": f"{pipeline.minutes(job)} minutes",
    }
    if job.kind is JobKind.INDEX:
        # Two pipelines must not write the same index at the same time.
        node["resource_group"] = f"chainbuild-index-{job.option}"
        return node | {"script": [script.command(words) for words in pipeline.index(job)]}
    node["retry"] = {
        "max": RETRIES,
        "exit_codes": [script.DEADLINE],
        "when": ["runner_system_failure", "job_execution_timeout"],
    }
    # The engine uses TLS, which a builder supports only through a Docker context.
    builder = ["docker context create chainbuild", f"{script.CREATE_BUILDER} chainbuild"]
    return node | {"script": [*script.emulate(runner.emulates), *builder, script.command(pipeline.build(job))]}


VENDOR: Final = Vendor(
    name="gitlab",
    title="GitLab CI",
    path=".gitlab-ci.yml",
    limit=3 * 3600,
    deadline="2h30m",
    hosted=r"saas-.*",
    native={
        "linux/amd64": "saas-linux-small-amd64",
        "linux/386": "saas-linux-small-amd64",
        "linux/arm64": "saas-linux-small-arm64",
    },
    write=write,
)
