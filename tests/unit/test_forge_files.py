"""The project's own workflows, forms and hooks: valid by the vendors' schemas, and true to pyproject.toml."""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FORGE = ROOT / ".github"
WORKFLOWS = {path.name: path for path in sorted((FORGE / "workflows").glob("*.yml"))}
FORMS = {path.name: path for path in sorted((FORGE / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"}


class Loader(yaml.SafeLoader):
    """YAML 1.2, as GitHub reads it: `on` is a string."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def read(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


@cache
def schema(name: str) -> Any:
    """A schema that the package check-jsonschema includes."""
    text = files("check_jsonschema").joinpath(f"builtin_schemas/{name}.json").read_text()
    return jsonschema.Draft7Validator(json.loads(text))


def uses(workflow: Any) -> list[str]:
    calls = [job["uses"] for job in workflow["jobs"].values() if "uses" in job]
    return calls + [
        step["uses"] for job in workflow["jobs"].values() for step in job.get("steps", ()) if "uses" in step
    ]


def test_there_are_workflows_and_forms() -> None:
    assert set(WORKFLOWS) == {"test.yml", "release.yml"}
    assert set(FORMS) == {"bug.yml", "feature.yml"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_matches_the_schema(name: str) -> None:
    workflow = read(WORKFLOWS[name])
    schema("vendor/github-workflows").validate(workflow)


@pytest.mark.parametrize("name", FORMS)
def test_issue_form_matches_the_schema(name: str) -> None:
    schema("vendor/github-issue-forms").validate(read(FORMS[name]))


def test_issue_config_matches_the_schema() -> None:
    schema("vendor/github-issue-config").validate(read(FORGE / "ISSUE_TEMPLATE" / "config.yml"))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_has_least_rights_and_limits(name: str) -> None:
    workflow = read(WORKFLOWS[name])
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]
    for job in workflow["jobs"].values():
        assert "uses" in job or job["timeout-minutes"] <= 90
    for action in uses(workflow):
        assert action.startswith("./.github/") or re.fullmatch(r"[\w.-]+/[\w.-]+@(release/)?v\d+", action), action


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_scripts_contain_no_expressions(name: str) -> None:
    """An expression in a script is how the name of a branch becomes a command."""
    for job in read(WORKFLOWS[name])["jobs"].values():
        for step in job.get("steps", ()):
            assert "${{" not in step.get("run", "")


def test_rights_to_publish_belong_to_single_jobs() -> None:
    jobs = read(WORKFLOWS["release.yml"])["jobs"]
    assert {name: job["permissions"] for name, job in jobs.items() if "permissions" in job} == {
        "pypi": {"id-token": "write"},
        "github": {"contents": "write"},
    }
    assert set(jobs["pypi"]["needs"]) == {"build", "test"}
    assert jobs["github"]["needs"] == "pypi"


def test_every_supported_python_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    prefix = "Programming Language :: Python :: "
    supported = [line.removeprefix(prefix) for line in project["classifiers"] if line.startswith(prefix)]
    jobs = read(WORKFLOWS["test.yml"])["jobs"]
    assert jobs["unit"]["strategy"]["matrix"]["python"] == supported
    assert project["requires-python"] == f">={supported[0]}"


def test_engine_tests_are_required() -> None:
    steps = read(WORKFLOWS["test.yml"])["jobs"]["engine"]["steps"]
    assert any("script/test --require-engine" in step.get("run", "") for step in steps)


def test_commit_hooks_are_local_and_use_existing_tools() -> None:
    """Hooks from other repositories need the network, and other versions than the locked ones."""
    repos = read(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = [hook for repo in repos for hook in repo["hooks"]]
    assert {repo["repo"] for repo in repos} == {"local"}
    assert {hook["id"] for hook in hooks} >= {"ruff-check", "ruff-format", "mypy"}
    tools = {hook["entry"].split()[0] for hook in hooks if hook["entry"].startswith(".venv/bin/")}
    assert tools == {".venv/bin/ruff", ".venv/bin/mypy", ".venv/bin/check-jsonschema"}


def test_scripts_that_workflows_run_exist() -> None:
    for path in WORKFLOWS.values():
        for script in re.findall(r"(?<![\w/])script/[\w.]+", path.read_text(encoding="utf-8")):
            assert (ROOT / script).is_file(), script
