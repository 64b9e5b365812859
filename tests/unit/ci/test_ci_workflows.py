"""Workflow files: golden files, the vendors' schemas, and the jobs that the vendors would run."""

from __future__ import annotations

import os
import re
import shlex
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chainbuild.ci.actions import PINS
from chainbuild.ci.jobs import Job, JobKind, JobSplit
from chainbuild.ci.pipeline import REFRESH, Pipeline, Vendor, document
from chainbuild.ci.quoting import join, quote
from chainbuild.cli import run
from chainbuild.errors import WrongUseError
from chainbuild.references import Platform
from chainbuild.requests.ci.options import CiOptions
from chainbuild.requests.ci.reading import VENDORS, read_pipeline
from chainbuild.requests.options import RunArguments
from chainbuild.step_id import StepId
from tests.support.workflows import PINNED, pipeline_of, texts, valid
from tests.unit.ci.graphs import graph_of, graphs

STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG CPU\nRUN make CPU=$CPU\n"
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "stock/10-Dockerfile-base",
        "stock/20-Dockerfile-blas",
        "stock/30-Dockerfile-venv",
        "gl/10-Dockerfile-gl",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(STEP)
    (tmp_path / "requirements.txt").write_text(PINNED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(**changed: Any) -> tuple[Vendor, Pipeline]:
    """Read the arguments of a workflow, with some of them changed; those that are None are not given."""
    typed: dict[str, Any] = {
        "vendor": "github",
        "platform": "amd64,aarch64",
        "repo": "team/atom",
        "tag": "base",
        "base": "debian:bookworm-slim",
        "option": "stock,gl",
        "production": "debian:bookworm-slim",
        "registry": "ghcr.io/robots",
    }
    typed |= changed
    arguments = RunArguments(**{name: typed.pop(name) for name in RunArguments._fields})
    return read_pipeline(arguments, RunArguments(), CiOptions(**typed), hours)


def hours(request) -> dict[StepId, float]:
    """Return a duration of two hours for every step of `stock` except its stages."""
    return {step.id: 7200.0 for step in request.graph if step.kind == "build" and step.option == "stock"}


GOLDENS: dict[str, dict[str, Any]] = {
    "github": {"option": "stock,gl"},
    "gitlab": {
        "vendor": "gitlab",
        "registry": "registry.gitlab.com/robots/images",
        "platform": "amd64,armv7",
        "split": "2h",
    },
    "circleci": {"vendor": "circleci", "registry": "quay.io/robots", "option": "stock"},
    "github-own-machines": {
        "platform": "aarch64",
        "option": "gl",
        "registry": "registry.example.com:8443",
        "deadline": "20h",
        "runners": ["arm64=self-hosted,linux,ARM64"],
        "install": "pip install './wheels/chainbuild.whl'",
    },
}


@pytest.mark.parametrize("name", GOLDENS)
def test_workflow_matches_golden_file(name, tree):
    vendor, pipeline = read(**GOLDENS[name])
    text = document(vendor, pipeline)
    valid(vendor.name, text)
    if os.environ.get("CHAINBUILD_UPDATE_GOLDEN"):
        (GOLDEN / f"{name}.yml").write_text(text)
    assert text == (GOLDEN / f"{name}.yml").read_text()


def test_command_in_header_regenerates_the_workflow(tree, capsys):
    arguments = [
        "ci",
        "circleci",
        "amd64",
        "team/atom",
        "base",
        "debian:bookworm-slim",
        "stock",
        "debian:bookworm-slim",
    ]
    assert (
        run([*arguments, "--registry", "quay.io/robots", "--deadline", "50m", "--install", "pipx  install 'a b'"]) == 0
    )
    text = capsys.readouterr().out
    valid("circleci", text)
    again = shlex.split(text.splitlines()[1].removeprefix("# "))
    assert again[0] == "chainbuild"
    assert run(again[1:]) == 0
    assert capsys.readouterr().out == text


def test_variables_of_args_files_come_from_the_vendor(tree, monkeypatch):
    (tree / "stock" / "base-amd64-args").write_text("CPU\n")
    monkeypatch.setenv("CPU", "secret of this machine")
    vendor, pipeline = read()
    text = document(vendor, pipeline)
    assert valid("github", text)["env"]["CPU"] == "${{ vars.CPU }}"
    assert "secret of this machine" not in text


@pytest.mark.parametrize("vendor", VENDORS)
def test_secrets_are_references(vendor, tree, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret of this machine")
    (tree / "key.txt").write_text("secret of this machine")
    secrets = ["id=token,env=TOKEN", "id=key,src=key.txt"]
    text = document(*read(vendor=vendor, registry="quay.io/robots", secrets=secrets))
    assert "secret of this machine" not in text
    head, _, body = text.partition("\n\n")
    names = ("CHAINBUILD_REGISTRY_PASSWORD", "CHAINBUILD_SIGNING_KEY", "TOKEN", "CHAINBUILD_SECRET_KEY")
    assert all(f"\n#   {name}: secret" in head for name in names)
    for line in body.splitlines():
        if "PASSWORD" in line and "prepare" not in line:
            assert "secrets.CHAINBUILD_REGISTRY_PASSWORD }}" in line or '"$CHAINBUILD_REGISTRY_PASSWORD"' in line
    assert "--secret id=token,env=TOKEN --secret id=key,env=CHAINBUILD_SECRET_KEY" in body


def test_github_gives_signing_key_only_to_the_default_branch(tree):
    workflow = valid("github", document(*read(registry="quay.io/robots")))
    for name, job in workflow["jobs"].items():
        keys = [step["env"]["CHAINBUILD_SIGNING_KEY"] for step in job["steps"] if "SIGNING" in str(step.get("env"))]
        signing = "${{ github.ref == 'refs/heads/main' && secrets.CHAINBUILD_SIGNING_KEY || '' }}"
        assert keys == ([] if name == "plan" else [signing])
    assert "SIGNING" not in str(workflow["env"])


@pytest.mark.parametrize("vendor", VENDORS)
def test_nightly_run_refreshes_what_is_outdated_in_build_jobs(vendor, tree):
    _, pipeline = read(vendor=vendor, registry="quay.io/robots", nightly="security")
    text = document(VENDORS[vendor], pipeline)
    workflow = valid(vendor, text)
    jobs = workflow if vendor == "gitlab" else workflow["jobs"]
    builds = {job.id for job in pipeline.graph.jobs if job.kind == "build"}
    goes_on = {job.goes_on for job in pipeline.graph.jobs if job.kind == "build"} & jobs.keys()
    assert {name for name, job in jobs.items() if REFRESH in str(job)} == builds | goes_on
    assert "--nightly=security" in text.partition("\n\n")[0]
    if vendor == "github":
        assert workflow["on"]["schedule"] == [{"cron": "17 3 * * *"}]
        value = "${{ github.event_name == 'schedule' && 'security' || '' }}"
        assert {step["env"][REFRESH] for name in builds for step in jobs[name]["steps"] if REFRESH in str(step)} == {
            value
        }
    else:
        assert "add a nightly schedule" in text


def test_nightly_of_another_kind_is_a_problem(tree):
    with pytest.raises(WrongUseError, match="--nightly=often: neither all nor security"):
        read(nightly="often")


def test_github_actions_are_pinned_to_commits_with_versions(tree):
    text = document(*read(platform="amd64,armv7"))
    lines = [line.strip().removeprefix("- ") for line in text.splitlines() if "uses:" in line]
    assert {line.split("@")[0] for line in lines} == {f"uses: {name}" for name in PINS}
    assert all(re.fullmatch(r"uses: [a-z/-]+@[0-9a-f]{40} # v[0-9.]+", line) for line in lines)


@pytest.mark.parametrize("vendor", VENDORS)
def test_pull_requests_get_a_plan_and_no_build(vendor, tree):
    workflow = valid(vendor, document(*read(vendor=vendor, registry="quay.io/robots")))
    plan = workflow["plan"] if vendor == "gitlab" else workflow["jobs"]["plan"]
    scripts = "\n".join(texts(plan))
    line = "chainbuild plan amd64,aarch64 team/atom base debian:bookworm-slim stock,gl debian:bookworm-slim"
    assert f"{line} --registry quay.io/robots >> .chainbuild/plan.txt 2>&1 || code=$?" in scripts
    assert 'exit "$code"' in scripts
    assert "chainbuild build" not in scripts
    if vendor == "github":
        assert '.chainbuild/plan.txt >> "$GITHUB_STEP_SUMMARY"' in scripts
        assert plan["permissions"] == {"contents": "read"}
    else:
        assert ".chainbuild/plan.txt" in str(plan["artifacts"] if vendor == "gitlab" else plan["steps"][-1])


def test_logs_and_report_are_kept_after_failures(tree):
    for vendor in VENDORS:
        workflow = valid(vendor, document(*read(vendor=vendor)))
        if vendor == "gitlab":
            assert workflow[".chainbuild"]["artifacts"] == {"when": "always", "paths": [".chainbuild/logs/"]}
            continue
        upload, paths = {
            "github": ("upload-artifact", r".chainbuild/logs/*/\n.chainbuild/logs/*.html\n!"),
            "circleci": ("store_artifacts", "'path': '.chainbuild/logs'"),
        }[vendor]
        for name, job in workflow["jobs"].items():
            if name != "plan":
                step = next(str(step) for step in job["steps"] if upload in str(step))
                assert "always" in step
                assert paths in step


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no registry": ({"registry": None}, "--registry is required"),
    "a registry of this machine": ({"registry": "localhost:5000"}, "is on this machine"),
    "a base of this machine": ({"base": "localhost:5000/a:1"}, "in a registry on this machine"),
    "no install command": ({"install": " "}, "--install is empty"),
    "an open quote": ({"install": "pip 'install"}, "No closing quotation"),
    "two ways to install": ({"install": "a", "install_image": "a@sha256:" + "0" * 64}, "cannot be combined"),
    "an image without a digest": ({"install_image": "quay.io/acme/wheels:1"}, "has no digest"),
    "a root elsewhere": ({"root": Path("/")}, "is outside of the repository"),
    "a context elsewhere": ({"context": Path("..")}, "is outside of the repository"),
    "a named context elsewhere": ({"build_contexts": ["src=/usr"]}, "--build-context src: '/usr' is outside"),
    "a branch": ({"branch": "a'b"}, "is not allowed in a workflow"),
    "a secret without id": ({"secrets": ["env=A"]}, "no id given"),
    "a variable of a secret": ({"secrets": ["id=a,env=A-B"]}, "is not the name of a variable"),
    "two secrets alike": ({"secrets": ["id=a-b", "id=a.b"]}, "would both be stored as CHAINBUILD_SECRET_A_B"),
    "five arguments": ({"production": None}, "Missing argument: PRODUCTION"),
    "a runner without a label": ({"runners": ["amd64"]}, "is not PLATFORM=LABEL"),
    "a runner with a template": ({"runners": ["amd64=${{x}}"]}, "is not PLATFORM=LABEL"),
    "a runner twice": ({"runners": ["arm64=a", "aarch64=b"]}, "duplicate runner for"),
    "a runner for nothing": ({"runners": ["riscv64=a"]}, "does not build for this platform"),
    "too many labels": ({"vendor": "circleci", "runners": ["amd64=a,b"]}, "accepts one label"),
    "a deadline past the limit": ({"deadline": "6h"}, "ends jobs on hosted machines after 6h00m"),
    "no time": ({"deadline": "0s"}, "leaves no time"),
    "a deadline that is none": ({"deadline": "soon"}, "is not a duration"),
    "a split past the deadline": ({"split": "5h", "deadline": "4h"}, "longer than the --deadline"),
    "a tag that is none": ({"tag": "a b"}, "is not a tag"),
    "a repository that is none": ({"repo": "Team/$(id)"}, "is not a repository"),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_arguments_are_reported(case, tree):
    changed, message = BAD[case]
    with pytest.raises(WrongUseError) as caught:
        read(**changed)
    assert message in str(caught.value)


def test_argument_problems_are_reported_together(tree):
    with pytest.raises(WrongUseError) as caught:
        read(registry=None, option="stok", deadline="9h", tag="a b")
    assert len(caught.value.problems) >= 4


def test_self_hosted_machines_have_no_time_limit(tree):
    runners = ["amd64=self-hosted,x64", "aarch64=self-hosted,arm64"]
    _, pipeline = read(deadline="20h", runners=runners)
    assert pipeline.minutes(pipeline.graph.jobs[0]) == 20 * 60 + 30
    with pytest.raises(WrongUseError, match="ends jobs on hosted machines"):
        read(deadline="20h", runners=runners[:1])


# Text of any kind ------------------------------------------------------------------------------------------------------

letters = st.characters(codec="utf-8", exclude_characters="\0")  # not possible in program arguments
TEMPLATES = ("${{", "$[[", "<<")


@given(st.text(letters))
@example("${{ secrets.A }} $[[ inputs.a ]] <<<< '${{' >>")
def test_arbitrary_word_is_quoted_without_templates(text):
    quoted = quote(text)
    assert quoted.isprintable()
    assert not any(mark in quoted for mark in TEMPLATES)
    if text.isprintable():
        assert shlex.split(quoted) == [text]


@given(
    st.text(letters, max_size=12),
    st.sampled_from(["repo", "tag", "base", "option", "production", "registry", "install", "build_args"]),
)
@example("\ud800", "option")  # half of a surrogate pair, not possible in paths
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_arbitrary_argument_reaches_scripts_as_typed(tree, text, name):
    for vendor in VENDORS:
        try:
            found, pipeline = read(vendor=vendor, **{name: [f"CPU={text}"] if name == "build_args" else text})
        except WrongUseError:
            continue
        text_of_file = document(found, pipeline)
        scripts = list(texts(valid(vendor, text_of_file)))
        for job in pipeline.graph.jobs:
            for words in job.commands:
                assert any(join(words) in script for script in scripts)
        if name == "build_args":
            assert all(f"CPU={text}" in words for job in pipeline.graph.jobs for words in job.commands)


# Any graph -------------------------------------------------------------------------------------------------------------


@given(graphs, st.sampled_from(sorted(VENDORS)))
@settings(max_examples=25, deadline=None)
def test_arbitrary_workflow_is_valid_and_acyclic(graph, vendor):
    pipeline = pipeline_of(vendor, graph, JobSplit(most=10, seconds={step.id: 6 for step in graph}))
    edges = needs(vendor, valid(vendor, document(VENDORS[vendor], pipeline)))
    order = list(TopologicalSorter(edges).static_order())
    assert set(order) == set(edges), "a job needs one that is not there"
    for job in pipeline.graph.jobs:
        for need in job.needs:
            assert order.index(need) < order.index(job.id)


@pytest.mark.parametrize("vendor", VENDORS)
def test_titles_and_stages_have_no_templates(vendor):
    graph = graph_of([Platform.parse("amd64"), Platform.parse("aarch64")], {"a ${{ x }} << y >> $[[ z ]]": [10]})
    text = document(VENDORS[vendor], pipeline_of(vendor, graph))
    valid(vendor, text)
    assert not any(mark in text for mark in ("${{ x", "<< y", "$[[ z"))


def needs(vendor: str, read: Any) -> dict[str, list[str]]:
    if vendor == "github":
        return {name: job.get("needs", []) for name, job in read["jobs"].items() if name != "plan"}
    if vendor == "gitlab":
        return {name: job["needs"] for name, job in read.items() if "script" in job and name != "plan"}
    calls = read["workflows"]["chainbuild"]["jobs"]
    return {
        name: wanted.get("requires", [])
        for call in calls
        for name, wanted in ([(call, {})] if isinstance(call, str) else call.items())
    }


# GitHub's rules ---------------------------------------------------------------------------------------------------------


def simulate(read: Any, ends: dict[str, list[int]]) -> dict[str, str]:
    """Return the result of every job on GitHub if the build jobs end with these exit codes."""
    results: dict[str, dict[str, str]] = {}
    for name in TopologicalSorter(needs("github", read)).static_order():
        job = read["jobs"][name]
        if not _holds(job.get("if", "${{ true }}"), results):
            results[name] = {"result": "skipped", "left": ""}
            continue
        code = ends.get(name.removesuffix("-goes-on"), [0]).pop(0) if name.removesuffix("-goes-on") in ends else 0
        left = code == 7 and "outputs" in job
        results[name] = {"result": "success" if code == 0 or left else "failure", "left": "true" if left else ""}
    return {name: one["result"] for name, one in results.items()}


def _holds(condition: str, results: dict[str, dict[str, str]]) -> bool:
    text = condition.removeprefix("${{").removesuffix("}}")

    def value(match: re.Match[str]) -> str:
        return repr(results[match["job"]][match["what"].rpartition(".")[2]])

    text = re.sub(r"needs\.(?P<job>[\w-]+)\.(?P<what>result|outputs\.left)", value, text)
    text = (
        text.replace("github.event_name != 'pull_request'", "True")
        .replace("!cancelled()", "True")
        .replace("&&", "and")
        .replace("||", "or")
        .strip()
    )
    return bool(eval(text, {"true": True}))  # trusted text


@pytest.fixture
def github(tree) -> Any:
    return valid("github", document(*read(option="stock,gl")))


def test_github_continues_only_after_the_deadline(github):
    ran = {name for name, result in simulate(github, {}).items() if result == "success"}
    assert ran == {name for name in github["jobs"] if not name.endswith("-goes-on")} - {"plan"}
    results = simulate(github, {"stock-amd64": [7, 0]})
    assert results["stock-amd64-goes-on"] == "success"
    assert set(results.values()) == {"success", "skipped"}
    assert results["gl-index-aarch64"] == "success"


def test_github_failure_stops_only_dependent_jobs(github):
    for ends in ([1], [7, 7], [7, 1]):
        results = simulate(github, {"stock-amd64": list(ends)})
        assert results["gl-amd64"] == results["stock-index-amd64"] == results["gl-index-amd64"] == "skipped"
        assert results["stock-aarch64"] == results["gl-aarch64"] == "success"


def test_gitlab_retries_job_stopped_by_the_deadline(tree):
    workflow = valid("gitlab", document(*read(vendor="gitlab")))
    jobs = {name: job for name, job in workflow.items() if "script" in job and name != "plan"}
    assert all(("index" in name) != (job.get("retry", {}).get("exit_codes") == [7]) for name, job in jobs.items())


def test_circleci_continues_only_after_the_deadline(tree):
    workflow = valid("circleci", document(*read(vendor="circleci")))
    requires = needs("circleci", workflow)
    assert requires["gl-amd64"] == ["stock-amd64-goes-on"]
    assert requires["stock-amd64-goes-on"] == ["stock-amd64"]
    first, second = workflow["jobs"]["stock-amd64-goes-on"]["steps"][:2]
    assert "attach_workspace" in first
    assert second["run"]["command"].endswith("circleci-agent step halt; fi")


def test_machines_are_native_if_the_vendor_has_them():
    graph = graph_of(
        [Platform.parse(name) for name in ("amd64", "aarch64", "i386", "armv7", "riscv64")], {"stock": [1]}
    )
    for vendor in VENDORS:
        pipeline = pipeline_of(vendor, graph)
        emulated = {job.platforms[0].name: pipeline.runner(job).emulates for job in builds(pipeline)}
        assert emulated == {"amd64": "", "aarch64": "", "i386": "", "armv7": "arm", "riscv64": "riscv64"}


def builds(pipeline: Pipeline) -> list[Job]:
    return [job for job in pipeline.graph.jobs if job.kind is JobKind.BUILD]
