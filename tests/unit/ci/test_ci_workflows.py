"""Workflow files: golden files, the vendors' schemas, and the jobs that the vendors would run."""

from __future__ import annotations

import json
import os
import re
import shlex
from functools import cache
from graphlib import TopologicalSorter
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chainbuild.ci.jobs import Job, JobKind, JobSplit, make_jobs
from chainbuild.ci.pipeline import Pipeline, document
from chainbuild.cli import run
from chainbuild.errors import WrongUseError
from chainbuild.model import Graph
from chainbuild.references import ChainRegistry, Platform
from chainbuild.requests.ci import VENDORS, CiOptions, read_pipeline
from chainbuild.step_id import StepId
from tests.unit.ci.graphs import graph_of, graphs

SCHEMAS = {"github": "github-workflows", "gitlab": "gitlab-ci", "circleci": "circle-ci"}
STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG CPU\nRUN make CPU=$CPU\n"
GOLDEN = Path(__file__).parent / "golden"


@cache
def schema(vendor: str) -> Any:
    """Return the published schema of a vendor, which the package check-jsonschema includes."""
    text = files("check_jsonschema").joinpath(f"builtin_schemas/vendor/{SCHEMAS[vendor]}.json").read_text()
    return jsonschema.Draft7Validator(json.loads(text))


def valid(vendor: str, text: str) -> Any:
    # YAML 1.2, which the vendors read, has no `on` for true; the file quotes it for readers of 1.1.
    read = yaml.safe_load(text)
    schema(vendor).validate(read)
    return read


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
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(**changed: Any) -> CiOptions:
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
    return CiOptions(**typed | changed)


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
    vendor, pipeline = read_pipeline(words(**GOLDENS[name]), hours)
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
    vendor, pipeline = read_pipeline(words(), hours)
    text = document(vendor, pipeline)
    assert valid("github", text)["env"]["CPU"] == "${{ vars.CPU }}"
    assert "secret of this machine" not in text


@pytest.mark.parametrize("vendor", VENDORS)
def test_secrets_are_references(vendor, tree):
    text = document(*read_pipeline(words(vendor=vendor, registry="quay.io/robots"), hours))
    for line in text.splitlines():
        if "password" in line.lower():
            assert "${{ secrets.CHAINBUILD_REGISTRY_PASSWORD }}" in line or '"$CHAINBUILD_REGISTRY_PASSWORD"' in line


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no registry": ({"registry": None}, "--registry is required"),
    "a registry of this machine": ({"registry": "localhost:5000"}, "is on this machine"),
    "a base of this machine": ({"base": "localhost:5000/a:1"}, "in a registry on this machine"),
    "a line end": ({"platform": "amd64,\naarch64"}, "characters that are not printable"),
    "a template in the install command": ({"install": "pip install ${{ secrets.X }}"}, "is not allowed in a workflow"),
    "CircleCI's template": ({"install": "pip install <<x>>"}, "is not allowed in a workflow"),
    "no install command": ({"install": " "}, "is not allowed in a workflow"),
    "an open quote": ({"install": "pip 'install"}, "No closing quotation"),
    "a root elsewhere": ({"root": Path("/elsewhere")}, "is not allowed in a workflow"),
    "a root above": ({"root": Path("../x")}, "is not allowed in a workflow"),
    "an option that a shell would read": ({"option": "a;b"}, "is not allowed in a workflow"),
    "an option that is the tree": ({"option": "."}, "is not allowed in a workflow"),
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
        read_pipeline(words(**changed), hours)
    assert message in str(caught.value)


def test_argument_problems_are_reported_together(tree):
    with pytest.raises(WrongUseError) as caught:
        read_pipeline(words(registry=None, option="stok", deadline="9h", tag="a b"), hours)
    assert len(caught.value.problems) >= 4


def test_self_hosted_machines_have_no_time_limit(tree):
    runners = ["amd64=self-hosted,x64", "aarch64=self-hosted,arm64"]
    _, pipeline = read_pipeline(words(deadline="20h", runners=runners), hours)
    assert pipeline.minutes(pipeline.graph.jobs[0]) == 20 * 60 + 30
    with pytest.raises(WrongUseError, match="ends jobs on hosted machines"):
        read_pipeline(words(deadline="20h", runners=runners[:1]), hours)


letters = st.characters(exclude_characters="\0")  # not possible in program arguments


@given(
    st.text(letters, max_size=12),
    st.sampled_from(["repo", "tag", "base", "option", "production", "registry", "install"]),
)
@example("\ud800", "option")  # half of a surrogate pair, not possible in paths
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_arbitrary_argument_is_quoted_in_the_workflow(tree, text, name):
    for vendor in VENDORS:
        try:
            found, pipeline = read_pipeline(words(vendor=vendor, **{name: text}), hours)
        except WrongUseError:
            continue
        valid(vendor, document(found, pipeline))
        for job in pipeline.graph.jobs:
            line = shlex.join(pipeline.build(job))
            assert shlex.split(line)[1:7] == [
                job.platforms[0].name,
                pipeline.repo,
                "base" if name != "tag" else text,
                str(job.base) if job.base else pipeline.base,
                pipeline.options[job.option],
                pipeline.production,
            ]


# Any graph -------------------------------------------------------------------------------------------------------------


def pipeline_of(vendor: str, graph: Graph, split: JobSplit | None = None) -> Pipeline:
    found = VENDORS[vendor]
    runners = {chain.platform.name: found.runner(chain.platform) for chain in graph.chains}
    return Pipeline(
        graph=make_jobs(graph, lambda platform: runners[platform.name].labels, split),
        repo="team/atom",
        tag="v1",
        base="debian:bookworm-slim",
        options={chain.option: chain.option for chain in graph.chains},
        production="debian:bookworm-slim",
        registry=ChainRegistry("ghcr.io", "robots"),
        root="",
        deadline="1h",
        deadline_seconds=3600,
        limit=found.limit,
        install="pipx install chainbuild",
        runners=runners,
        made_by="chainbuild ci",
    )


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


def needs(vendor: str, read: Any) -> dict[str, list[str]]:
    if vendor == "github":
        return {name: job.get("needs", []) for name, job in read["jobs"].items()}
    if vendor == "gitlab":
        return {name: job["needs"] for name, job in read.items() if "script" in job}
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
    text = text.replace("!cancelled()", "True").replace("&&", "and").replace("||", "or").strip()
    return bool(eval(text, {"true": True}))  # trusted text


@pytest.fixture
def github(tree) -> Any:
    return valid("github", document(*read_pipeline(words(option="stock,gl"), hours)))


def test_github_continues_only_after_the_deadline(github):
    ran = {name for name, result in simulate(github, {}).items() if result == "success"}
    assert ran == {name for name in github["jobs"] if not name.endswith("-goes-on")}
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
    read = valid("gitlab", document(*read_pipeline(words(vendor="gitlab"), hours)))
    jobs = {name: job for name, job in read.items() if "script" in job}
    assert all(("index" in name) != (job.get("retry", {}).get("exit_codes") == [7]) for name, job in jobs.items())


def test_circleci_continues_only_after_the_deadline(tree):
    read = valid("circleci", document(*read_pipeline(words(vendor="circleci"), hours)))
    requires = needs("circleci", read)
    assert requires["gl-amd64"] == ["stock-amd64-goes-on"]
    assert requires["stock-amd64-goes-on"] == ["stock-amd64"]
    first, second = read["jobs"]["stock-amd64-goes-on"]["steps"][:2]
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
