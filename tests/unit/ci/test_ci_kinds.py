"""Workflows of everything that a folder can contain: projects, science trees, image types, release plans."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from chainbuild.ci.jobs import JobKind
from chainbuild.ci.pipeline import Pipeline, document
from chainbuild.ci.quoting import join
from chainbuild.cli.app import app
from chainbuild.errors import WrongUseError
from chainbuild.requests.ci.options import CiOptions
from chainbuild.requests.ci.reading import VENDORS, read_pipeline
from chainbuild.requests.options import RunArguments
from tests.support.workflows import PINNED, valid
from tests.support.world.trees import STEP, write_files

LAYER = "ARG BASE=debian:bookworm-slim\nFROM ${BASE}\nRUN true\n"
PROJECT = """\
platforms: [amd64, aarch64]
repo: team/tools
tag: v1
base: debian:bookworm-slim
production: debian:bookworm-slim
options: [stock, gl]
registry: ghcr.io/team
"""
LAYERS = """\
platforms: [amd64, aarch64]
tag: v1
registry: ghcr.io/team
layers:
  - {folder: os, image: team/os}
  - {folder: tools, image: team/tools}
  - {folder: docs, image: team/docs, base: os}
"""
RELEASE = """\
schema: chainbuild.release-plan/1
release: "1"
images:
  team/tools:v1:
    decision: release
    to: [quay.io/team/tools:1]
    digests: {amd64: "sha256:c7ffa29e060b1c1558223625143ca9ff4ae03c7910c978b8370c5badbd362c82"}
    replaces: {"quay.io/team/tools:1": nothing}
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_files(tmp_path, {"requirements.txt": PINNED})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(vendor: str = "github", **given: Any) -> Pipeline:
    """Read the workflow of the current folder. Its text is valid for the vendor."""
    overrides = RunArguments(**{name: given.pop(name) for name in RunArguments._fields if name in given})
    found, pipeline = read_pipeline(RunArguments(), overrides, CiOptions(vendor=vendor, **given), lambda request: {})
    valid(vendor, document(found, pipeline))
    for words in (*pipeline.plans, *(pipeline.release.commands if pipeline.release else ())):
        parse(words)
    for job in pipeline.graph.jobs:
        for words in job.commands:
            parse(words)
    return pipeline


def parse(words: Sequence[str]) -> None:
    """Parse a command line as the program does. Errors: those of click, for an unknown command or flag."""
    command: Any = get_command(app)
    rest = list(words[1:])
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


def told(pipeline: Pipeline) -> str:
    """Return the jobs with the jobs that they need, and their command lines."""
    lines = [f"plan: {join(words)}" for words in pipeline.plans]
    for job in pipeline.graph.jobs:
        lines.append(f"{job.id} after {', '.join(job.needs) or 'nothing'}")
        lines += [f"  {join(words)}" for words in job.commands]
    return "\n".join(lines)


END = "--deadline 5h30m --no-load --report .chainbuild/logs/report.html --plain"


def test_project_of_options_has_jobs_for_each_option(tree):
    write_files(tree, {"chainbuild.yaml": PROJECT, "stock/10-Dockerfile-a": STEP, "gl/10-Dockerfile-b": STEP})
    assert told(read(platform="amd64")) == (
        f"""\
plan: chainbuild plan --platform amd64 --registry ghcr.io/team
stock-amd64 after nothing
  chainbuild build --platform amd64 --option stock --registry ghcr.io/team {END}
gl-amd64 after stock-amd64
  chainbuild build --platform amd64 --base ghcr.io/team/team/tools:v1-stock-amd64 --option gl --registry ghcr.io/team {END}"""
    )


def test_options_of_a_project_keep_their_folders(tree):
    """A job named only the last part of the folder, which is no folder, or that of another option."""
    files = ("docker/stock/10-Dockerfile-a", "docker/gl/10-Dockerfile-b", "stock/10-Dockerfile-c")
    write_files(tree, dict.fromkeys(files, STEP))
    write_files(tree, {"chainbuild.yaml": PROJECT.replace("[stock, gl]", "[docker/stock, ./docker/gl/]")})
    words = [join(job.commands[0]) for job in read(platform="amd64").graph.jobs]
    assert ["--option docker/stock " in words[0], "--option ./docker/gl " in words[1]] == [True, True]


def test_project_of_layers_has_jobs_for_each_layer_and_the_indexes(tree):
    write_files(tree, {"chainbuild.yaml": LAYERS, "os/Dockerfile": LAYER, "tools/Dockerfile": LAYER})
    write_files(tree, {"docs/Dockerfile": LAYER})
    pipeline = read("gitlab")
    assert [(job.id, job.needs) for job in pipeline.graph.jobs] == [
        ("os-amd64", ()),
        ("os-aarch64", ()),
        ("tools-amd64", ("os-amd64",)),
        ("tools-aarch64", ("os-aarch64",)),
        ("docs-amd64", ("os-amd64",)),
        ("docs-aarch64", ("os-aarch64",)),
        ("project-index", ("tools-amd64", "tools-aarch64", "docs-amd64", "docs-aarch64")),
        ("project-index-2", ("project-index",)),
    ]
    assert join(pipeline.graph.by_id["docs-amd64"].commands[0]) == (
        f"chainbuild layer docs --platform amd64 --registry ghcr.io/team {END.replace('5h30m', '2h30m')}"
    )
    check, complete = pipeline.graph.by_id["project-index"].commands
    assert check[-2:] == ("--dry-run", "--fail-if-build")
    assert join(complete) == "chainbuild build --platform amd64 --registry ghcr.io/team --no-load --plain"


@pytest.mark.parametrize("reason", ["a flag that layers do not have", "an image of a layer that is not its base"])
def test_project_of_layers_is_built_whole_if_necessary(reason, tree):
    other = LAYER + ("COPY --from=team/tools:v1 /a /a\n" if "image" in reason else "")
    write_files(tree, {"chainbuild.yaml": LAYERS, "os/Dockerfile": LAYER, "tools/Dockerfile": LAYER})
    write_files(tree, {"docs/Dockerfile": other})
    pipeline = read(strict=True if "flag" in reason else None)
    jobs = [(job.id, job.commands[0][:4]) for job in pipeline.graph.jobs if job.kind is JobKind.BUILD]
    assert jobs == [(f"project-{name}", ("chainbuild", "build", "--platform", name)) for name in ("amd64", "aarch64")]


def test_project_runs_in_its_folder_with_paths_from_the_top(tree, monkeypatch):
    (tree / ".git").mkdir()
    write_files(tree, {".git/HEAD": "ref: refs/heads/main\n", ".git/objects/x": "", ".git/refs/x": ""})
    monkeypatch.setattr("chainbuild.ci.checkout.run_git", lambda folder, arguments: None)
    write_files(tree, {"docker/stock/10-Dockerfile-a": STEP, "docker/chainbuild.yaml": PROJECT.replace(", gl", "")})
    monkeypatch.chdir(tree / "docker" / "stock")
    pipeline = read(context=tree, build_contexts=["src=.."], platform="amd64")
    assert pipeline.state == "docker/.chainbuild"
    assert join(pipeline.plans[0]) == (
        "chainbuild plan --platform amd64 --root docker --registry ghcr.io/team --context . --build-context src=docker"
    )
    assert "--report docker/.chainbuild/logs/report.html" in join(pipeline.graph.jobs[0].commands[0])
    assert "ci github --platform amd64 --root docker" in pipeline.made_by


def test_project_secrets_come_from_the_vendor(tree, monkeypatch):
    secrets = "secrets: {token: {env: TOKEN}, key: {src: keys/id}, other: {src: other.txt}}\nbuild-args: {CPU: }\n"
    write_files(tree, {"chainbuild.yaml": PROJECT + secrets, "gl/10-Dockerfile-b": STEP + "ARG CPU\n"})
    write_files(tree, {"stock/10-Dockerfile-a": STEP})
    monkeypatch.delenv("TOKEN", raising=False)
    monkeypatch.setenv("CPU", "of this machine")
    pipeline = read(secrets=["id=other,env=OTHER"])
    assert {(item.name, item.path) for item in pipeline.secrets} == {
        ("TOKEN", ""),
        ("CHAINBUILD_SECRET_KEY", "keys/id"),
        ("OTHER", ""),
    }
    assert [item.name for item in pipeline.variables] == ["CPU"]
    text = document(VENDORS["github"], pipeline)
    assert "> keys/id )" in text
    assert "--secret id=other,env=OTHER" in text
    assert "of this machine" not in text


def test_project_secret_outside_of_the_repository_is_a_problem(tree):
    write_files(tree, {"chainbuild.yaml": PROJECT + "secrets: {key: {src: /etc/hosts}}\n"})
    write_files(tree, {"stock/10-Dockerfile-a": STEP, "gl/10-Dockerfile-b": STEP})
    with pytest.raises(WrongUseError, match="is outside of the repository") as caught:
        read()
    assert "{env: NAME}" in str(caught.value.problems[0].hint)


def test_science_tree_is_built_by_one_job_with_history(tree):
    manifest = {"science/base/sciserver-image.json": json.dumps({"image": "base"})}
    write_files(tree, manifest | {"science/base/Dockerfile": "FROM debian:bookworm-slim\n"})
    given = {"platform": "amd64,aarch64", "repo": "ghcr.io/acme/images", "registry": "ghcr.io/acme"}
    pipeline = read(**given, push=True)
    assert told(pipeline) == (
        f"""\
plan: chainbuild science plan --repo ghcr.io/acme/images --platform amd64,aarch64 --registry ghcr.io/acme
science-layers after nothing
  chainbuild science build --repo ghcr.io/acme/images --platform amd64,aarch64 --registry ghcr.io/acme --push {END}"""
    )
    assert pipeline.history
    assert pipeline.runner(pipeline.graph.jobs[0]).emulates == "arm64"
    with pytest.raises(WrongUseError, match="--strict: nothing that this workflow builds has this flag"):
        read(**given, strict=True)


def test_project_with_science_layers_ends_in_one_job(tree):
    manifest = {"science/base/sciserver-image.json": json.dumps({"image": "base"})}
    write_files(tree, manifest | {"science/base/Dockerfile": "FROM debian:bookworm-slim\n"})
    write_files(tree, {"chainbuild.yaml": LAYERS + "science: {repo: acme/images}\n", "os/Dockerfile": LAYER})
    write_files(tree, {"tools/Dockerfile": LAYER, "docs/Dockerfile": LAYER})
    jobs = read("circleci").graph.jobs
    assert [job.id for job in jobs][-2:] == ["docs-aarch64", "project"]
    assert join(jobs[-1].commands[0]).startswith("chainbuild build --platform amd64,aarch64 --registry ghcr.io/team")
    assert len(jobs[-1].needs) == 4


def test_image_types_are_built_indexed_and_published(tree):
    folder = "share/docker/lab-run/debian-12"
    manifest = "image_sources: [{name: lab-run, tags: [debian-12], visibility: public}]\n"
    write_files(tree, {f"{folder}/casa_distro_docker.yaml": manifest})
    write_files(tree, {f"{folder}/Dockerfile": "FROM debian:bookworm-slim\n"})
    given = {"platform": "amd64,armv7", "registry": "ghcr.io/lab", "public": "docker.io/lab"}
    pipeline = read(**given)
    words = "--public docker.io/lab --registry ghcr.io/lab"
    assert told(pipeline) == (
        f"""\
plan: chainbuild types plan --repository . --platform amd64,armv7 {words}
image-types-amd64 after nothing
  chainbuild types build --repository . --platform amd64 {words} {END}
image-types-armv7 after nothing
  chainbuild types build --repository . --platform armv7 {words} {END}
image-types-index after image-types-amd64, image-types-armv7
  chainbuild types plan --repository . --platform amd64,armv7 {words} --fail-if-build
  chainbuild types build --repository . --platform amd64,armv7 {words} --no-load --plain
image-types-publish after image-types-index
  chainbuild types publish --repository . --platform amd64,armv7 {words} --plain"""
    )
    hosts = {job.id: [login.host for login in pipeline.logins_of(job)] for job in pipeline.graph.jobs}
    assert hosts["image-types-publish"] == ["ghcr.io", "docker.io"]
    assert hosts["image-types-amd64"] == hosts["image-types-index"] == ["ghcr.io"]


@pytest.mark.parametrize("vendor", VENDORS)
def test_release_plan_is_checked_and_applied_if_it_changed(vendor, tree):
    write_files(tree, {"chainbuild.yaml": PROJECT, "stock/10-Dockerfile-a": STEP, "gl/10-Dockerfile-b": STEP})
    write_files(tree, {"release_plan.yaml": RELEASE})
    pipeline = read(vendor, platform="amd64")
    job = pipeline.graph.jobs[-1]
    assert (job.id, job.needs, job.release_plan) == ("release-plan", ("gl-amd64",), "release_plan.yaml")
    assert [login.host for login in pipeline.logins_of(job)] == ["ghcr.io", "quay.io"]
    assert [login.host for login in pipeline.logins_of(pipeline.graph.jobs[0])] == ["ghcr.io"]
    text = document(VENDORS[vendor], pipeline)
    unchanged = 'git diff --quiet "$CHAINBUILD_BEFORE" HEAD -- release_plan.yaml'
    assert text.count(unchanged) == 2
    assert "chainbuild release apply --registry ghcr.io/team --dry-run; fi" in text
    assert "chainbuild release apply --registry ghcr.io/team; fi" in text


def test_project_with_image_types_and_a_release_has_all_jobs(tree):
    folder = "share/docker/lab-run/debian-12"
    manifest = "image_sources: [{name: lab-run, tags: [debian-12]}]\n"
    write_files(tree, {f"{folder}/casa_distro_docker.yaml": manifest})
    write_files(tree, {f"{folder}/Dockerfile": "FROM debian:bookworm-slim\n", "release_plan.yaml": RELEASE})
    write_files(tree, {"chainbuild.yaml": PROJECT.replace("amd64, ", "").replace(", gl", "") + "builders: far\n"})
    write_files(tree, {"stock/10-Dockerfile-a": STEP})
    pipeline = read()
    assert told(pipeline) == (
        f"""\
plan: chainbuild plan --platform aarch64 --registry ghcr.io/team --builder default
plan: chainbuild types plan --repository . --platform aarch64 --registry ghcr.io/team
stock-aarch64 after nothing
  chainbuild build --platform aarch64 --option stock --registry ghcr.io/team --builder chainbuild {END}
image-types-aarch64 after nothing
  chainbuild types build --repository . --platform aarch64 --registry ghcr.io/team {END}
release-plan after stock-aarch64, image-types-aarch64
  chainbuild release apply --registry ghcr.io/team"""
    )
    assert pipeline.runner(pipeline.graph.jobs[-1]).labels == ("ubuntu-24.04-arm",)


ALL: dict[str, Any] = {
    "no_cache": True,
    "refresh_after": "7d",
    "native": "off",
    "jobs": 2,
    "keep_going": True,
    "strict": True,
    "push": True,
    "tests": False,
    "base_arg": "BASE_IMAGE",
    "context": Path(),
    "build_args": ["CPU=x"],
    "build_contexts": ["src=stock"],
    "secrets": ["id=token,env=TOKEN"],
}


def test_command_lines_with_all_flags_can_be_parsed(tree):
    step = STEP + "ARG CPU\n"
    write_files(tree, {"chainbuild.yaml": PROJECT, "stock/10-Dockerfile-a": step, "gl/10-Dockerfile-b": step})
    pipeline = read(**ALL)
    flags = "--base-arg BASE_IMAGE --context . --build-arg CPU=x --build-context src=stock --secret id=token,env=TOKEN"
    flags += " --refresh-after 7d"
    how = "--native off --no-cache --jobs 2 --keep-going --strict --push --no-tests"
    assert f"{flags} {how} --deadline" in join(pipeline.graph.jobs[0].commands[0])
    assert f"{flags} --native off" in join(pipeline.plans[0])
    assert [login.host for login in pipeline.logins_of(pipeline.graph.jobs[0])] == ["ghcr.io", "docker.io"]


def test_command_lines_of_other_kinds_can_be_parsed(tree):
    folder = "share/docker/lab-run/debian-12"
    manifest = "image_sources: [{name: lab-run, tags: [debian-12], visibility: public}]\n"
    write_files(tree, {f"{folder}/casa_distro_docker.yaml": manifest})
    write_files(tree, {f"{folder}/Dockerfile": "FROM debian:bookworm-slim\nARG CPU\n"})
    common = {name: ALL[name] for name in ("no_cache", "refresh_after", "native", "jobs", "keep_going")}
    places = {"registry": "ghcr.io/lab", "platform": "amd64,aarch64", "public": "docker.io/lab"}
    read(**common, **places, build_args=["CPU=x"], secrets=["id=token"])
    write_files(tree, {"science/base/sciserver-image.json": json.dumps({"image": "base"})})
    write_files(tree, {"science/base/Dockerfile": "FROM debian:bookworm-slim\n"})
    read(**common, **places, repo="ghcr.io/lab/images", push=True)


def test_secret_files_flag_is_only_for_image_types(tree):
    folder = "share/docker/lab-run/debian-12"
    manifest = "image_sources: [{name: lab-run, tags: [debian-12]}]\n"
    write_files(tree, {"chainbuild.yaml": PROJECT, "stock/10-Dockerfile-a": STEP, "gl/10-Dockerfile-b": STEP})
    with pytest.raises(WrongUseError, match="--allow-secret-files: nothing that this workflow builds has this flag"):
        read(allow_secret_files=True)
    write_files(tree, {f"{folder}/casa_distro_docker.yaml": manifest})
    write_files(tree, {f"{folder}/Dockerfile": "FROM debian:bookworm-slim\n"})
    pipeline = read(allow_secret_files=True, private="docker.io/lab")
    lines = [*pipeline.plans, *(words for job in pipeline.graph.jobs for words in job.commands)]
    assert {words[1:3] for words in lines if "--allow-secret-files" in words} == {
        ("types", "plan"),
        ("types", "build"),
        ("types", "publish"),
    }
    assert "--allow-secret-files" in pipeline.made_by


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"context": Path()}, "--context"),
        ({"tests": False}, "--tests"),
        ({"base_arg": "BASE"}, "--base-arg"),
        ({"repo": "acme/images"}, "--repo"),
    ],
)
def test_flag_that_nothing_has_is_a_problem(given, flag, tree):
    folder = "share/docker/lab-run/debian-12"
    manifest = "image_sources: [{name: lab-run, tags: [debian-12]}]\n"
    write_files(tree, {f"{folder}/casa_distro_docker.yaml": manifest})
    write_files(tree, {f"{folder}/Dockerfile": "FROM debian:bookworm-slim\n"})
    with pytest.raises(WrongUseError, match=f"{flag}: nothing that this workflow builds has this flag"):
        read(registry="ghcr.io/lab", **given)


def test_folder_without_anything_is_a_problem(tree):
    with pytest.raises(WrongUseError) as caught:
        read(registry="ghcr.io/team")
    assert "run this in a folder with a chainbuild.yaml" in str(caught.value.problems[0].hint)


def test_split_of_layers_is_a_problem(tree):
    write_files(tree, {"chainbuild.yaml": LAYERS, "os/Dockerfile": LAYER, "tools/Dockerfile": LAYER})
    write_files(tree, {"docs/Dockerfile": LAYER})
    with pytest.raises(WrongUseError, match="--split needs options without layers"):
        read(split="1h")


@pytest.mark.parametrize("vendor", ["github", "gitlab", "circleci"])
def test_comments_with_foreign_names_add_no_keys(vendor, tree):
    files = {"chainbuild.yaml": PROJECT, "stock/10-Dockerfile-a": STEP, "gl/10-Dockerfile-b": STEP}
    write_files(tree, files)
    (tree / "requirements.txt").rename(tree / "requirements\u2028env: {A: b}\u0085x: y.txt")
    found, pipeline = read_pipeline(
        RunArguments(), RunArguments(platform="amd64"), CiOptions(vendor=vendor), lambda request: {}
    )
    text = document(found, pipeline)
    assert r"requirements\u2028env: {A: b}\x85x: y.txt" in text
    assert not {"env: {A", "x"} & yaml.safe_load(text).keys()
    assert yaml.safe_load(text).get("env") != {"A": "b"}


@pytest.mark.parametrize(
    "name", ["a${{ github.token }}", "$CI_JOB_TOKEN", "<< pipeline.id >>", "a*", "-a", "~", "a\u2028b"]
)
def test_folder_that_vendors_would_replace_is_a_problem(name, tree, monkeypatch):
    files = {"chainbuild.yaml": PROJECT, "stock/10-Dockerfile-a": STEP, "gl/10-Dockerfile-b": STEP}
    write_files(tree / name, files)
    write_files(tree / "f\u00fcr uns", files)
    with pytest.raises(WrongUseError, match="cannot be written into a workflow"):
        read(root=Path(name), platform="amd64")
    read(root=Path("f\u00fcr uns"), platform="amd64")
