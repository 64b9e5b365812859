"""Workflows as their vendors run them: arguments through YAML and a shell, git, and the jobs' own commands with an engine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chainbuild.ci import shell
from chainbuild.ci.checkout import read_checkout
from chainbuild.ci.install import find_installation
from chainbuild.ci.pipeline import document
from chainbuild.errors import WrongUseError
from chainbuild.requests.ci.reading import VENDORS
from tests.support.keys import signing_key
from tests.support.workflows import PINNED, pipeline_of
from tests.unit.ci.graphs import PLATFORMS, graph_of

from .conftest import COMMAND, OTHER, OWN, Lay, Place, write_tree

typed = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.binary().map(
    lambda raw: os.fsdecode(raw.replace(b"\0", b""))
)
"""Everything that can be an argument of a program, also bytes that are no UTF-8."""


def bash(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script as GitHub does."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    return subprocess.run(["bash", "-e", "-c", script], cwd=folder, env=environ, capture_output=True, check=False)


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, check=True)


def build_script(vendor: str, workflow: Any) -> str:
    """Return the script of the only build job, in which the vendor has replaced its templates (there are none)."""
    if vendor == "gitlab":
        return "\n".join(workflow["stock-amd64"]["script"])
    steps = workflow["jobs"]["stock-amd64"]["steps"]
    names = [step["run"] for step in steps if isinstance(step, dict) and isinstance(step.get("run"), dict)]
    circle: list[str] = [step["command"] for step in names if step["name"] == "Build"]
    github = [str(step["run"]) for step in steps if isinstance(step, dict) and step.get("name") == "Build"]
    return (circle or github)[0]


# A function in place of each program. Codes of CircleCI go to a folder that exists only on its machines.
FAKES = 'docker() { :; }; mkdir() { :; }; chainbuild() { printf "%s\\0" "$@" > "$HOME/argv"; }\n'


@given(st.lists(typed, min_size=1, max_size=5))
@example(
    ["${{ secrets.A }}", "<< x >>", "$[[ inputs.y ]]", "a'b\"c\\", "\n", "#", "- a: b", "\ttab\r", "$(id)`id`", ""]
)
@example(["{{", "<<<<", "$${{{", "€ é 漢", "\udcff", "\u2028", "~", "*", "!", "-n"])
@settings(max_examples=60, deadline=None)
def test_arbitrary_arguments_survive_yaml_and_the_shell(tmp_path_factory, words):
    folder = tmp_path_factory.mktemp("argv")
    graph = graph_of(PLATFORMS[:1], {"stock": [10]})
    for vendor in VENDORS:
        text = document(VENDORS[vendor], pipeline_of(vendor, graph, words=words))
        assert not any(line and not line.isprintable() for line in text.split("\n"))
        script = build_script(vendor, yaml.safe_load(text)).replace("/tmp/chainbuild-codes/", f"{folder}/")
        done = bash(FAKES + script, folder, GITHUB_OUTPUT=os.devnull)
        assert done.stderr == b""
        assert (folder / "argv").read_bytes() == b"".join(os.fsencode(word) + b"\0" for word in words)


def test_report_keeps_output_and_code_of_what_failed(tmp_path):
    commands = ["echo one", "sh -c 'echo two >&2; exit 3'", "echo three"]
    done = bash(shell.lines(*shell.report(commands, "a b/plan.txt", "echo after")), tmp_path)
    assert done.returncode == 3
    assert done.stdout == b"one\ntwo\nthree\nafter\n"
    assert (tmp_path / "a b/plan.txt").read_bytes() == b"one\ntwo\nthree\n"


def test_secret_is_written_once_and_only_for_its_user(tmp_path):
    script = shell.write_secret("KEY", "keys of/id")
    assert bash(script, tmp_path, KEY="line\nline").returncode == 0
    assert (tmp_path / "keys of/id").read_text() == "line\nline"
    assert (tmp_path / "keys of/id").stat().st_mode & 0o777 == 0o600
    bash(script, tmp_path, KEY="other")
    assert (tmp_path / "keys of/id").read_text() == "line\nline"


def test_release_runs_only_if_its_plan_changed(tmp_path):
    write_tree(tmp_path, {"plan.yaml": "1", "other": "1"})
    git(tmp_path, "init", "-q")
    for step in range(2):
        (tmp_path / ("other" if step else "plan.yaml")).write_text(f"step {step}")
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", f"step {step}")
    script = shell.if_changed("plan.yaml", "echo applied")
    assert b"has not changed" in bash(script, tmp_path, CHAINBUILD_BEFORE="HEAD^").stdout
    for before in ("", "0" * 40, "4b825dc642cb6eb9a060e54bf8d69288fbee4904"):
        assert bash(script, tmp_path, CHAINBUILD_BEFORE=before).stdout == b"applied\n"


# The repository --------------------------------------------------------------------------------------------------------


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository whose default branch is `trunk`."""
    folder = tmp_path / "origin"
    write_tree(folder, {"a/b": "text"})
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def test_default_branch_is_that_of_the_remote(origin, tmp_path):
    git(tmp_path, "clone", "-q", "origin", "clone")
    git(tmp_path / "clone", "checkout", "-q", "-b", "feature")
    checkout = read_checkout(tmp_path / "clone" / "a")
    assert (checkout.top, checkout.branch, checkout.notes) == (tmp_path / "clone", "trunk", ())
    assert read_checkout(tmp_path / "clone", "other").branch == "other"


def test_default_branch_without_remote_is_the_usual_one(origin):
    assert read_checkout(origin).branch == "trunk"
    git(origin, "checkout", "-q", "-b", "feature")
    unsure = read_checkout(origin)
    assert unsure.branch == "feature"
    assert "git does not know the default branch" in unsure.notes[0]
    git(origin, "branch", "main")
    assert (read_checkout(origin).branch, read_checkout(origin).notes) == ("main", ())


def test_submodule_with_the_source_of_chainbuild_is_installed(origin, tmp_path, repository_root):
    source = tmp_path / "source"
    for name in ("pyproject.toml", "requirements.lock"):
        write_tree(source, {name: (repository_root / name).read_text()})
    git(source, "init", "-q")
    git(source, "add", "-A")
    git(source, "commit", "-qm", "source")
    git(origin, "submodule", "add", "-q", str(source), "tools/chain build")
    checkout = read_checkout(origin)
    assert checkout.submodules == ("tools/chain build",)
    commands = "\n".join(find_installation(checkout).commands)
    assert "--require-hashes --requirement './tools/chain build/requirements.lock'" in commands
    assert "--no-deps --no-build-isolation './tools/chain build'" in commands


def test_untracked_requirements_install_nothing(origin):
    write_tree(origin, {"requirements.txt": PINNED})
    with pytest.raises(WrongUseError, match="does not say how a job installs chainbuild"):
        find_installation(read_checkout(origin))
    git(origin, "add", "requirements.txt")
    assert "--require-hashes --requirement ./requirements.txt" in find_installation(read_checkout(origin)).commands[-1]


# With an engine ---------------------------------------------------------------------------------------------------------

REGISTRY = "registry.example.org/team"
PROJECT = f"""\
platforms: [{OWN}, {OTHER}]
tag: v1
layers:
  - {{folder: os, image: acme/os, base: scratch}}
  - {{folder: tools, image: acme/tools}}
"""
TREE = {
    "chainbuild.yaml": PROJECT,
    "os/Dockerfile": "FROM scratch\nCOPY file /os\nENV WORD=one\n",
    "os/file": "os\n",
    "tools/Dockerfile": "ARG BASE\nFROM ${BASE}\nCOPY file /tools\n",
    "tools/file": "tools\n",
    # A job of a test has no package index: it uses the command of the tests.
    "install.sh": f'mkdir -p "$HOME/.local/bin"\nln -sf {COMMAND} "$HOME/.local/bin/chainbuild"\n',
}


def run_job(place: Place, job: Mapping[str, Any], folder: Path) -> int:
    """Run the scripts of a job on a machine of its own: a new home, and a new clone. Return the code of the first failure."""
    home, path = folder / "home", folder / "path"
    home.mkdir(parents=True)
    path.touch()
    git(folder, "clone", "-q", str(place.root), "work")
    _date(folder / "work")
    for step in job["steps"]:
        if "run" not in step:
            continue
        environ = {name: _value(text) for name, text in step.get("env", {}).items()}
        environ |= {"GITHUB_PATH": str(path), "GITHUB_OUTPUT": str(folder / "output"), "CI": "true"}
        environ |= {"GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
        environ["PATH"] = ":".join([*reversed(path.read_text().splitlines()), os.environ["PATH"]])
        script = step["run"].replace(REGISTRY, str(place.registry))
        done = bash(script, folder / "work", **environ | {"HOME": str(home)})
        if done.returncode:
            print(done.stdout.decode(), done.stderr.decode())  # noqa: T201  # for the failure's report
            return done.returncode
    return 0


def _value(expression: str) -> str:
    return signing_key().secret_text if "CHAINBUILD_SIGNING_KEY" in expression else ""


def jobs_in_order(workflow: Any) -> Sequence[str]:
    """Return the jobs that run after a push, if none of them reaches its deadline."""
    edges = {name: job.get("needs", []) for name, job in workflow["jobs"].items()}
    return [
        name for name in TopologicalSorter(edges).static_order() if name != "plan" and not name.endswith("-goes-on")
    ]


def test_jobs_of_a_workflow_make_the_images_of_a_plain_build(lay: Lay, tmp_path: Path) -> None:
    ci, plain = lay(files=TREE), lay(files=TREE)
    git(ci.root, "init", "-q", "-b", "main")
    git(ci.root, "add", "-A")
    git(ci.root, "commit", "-qm", "first")
    done = ci.run("ci", "github", "--registry", REGISTRY, "--install", "sh install.sh")
    assert done.code == 0, done.told()
    workflow = yaml.safe_load(done.out)

    assert run_job(ci, workflow["jobs"]["plan"], tmp_path / "plan") == 0
    assert "never built" in (tmp_path / "plan" / "summary.md").read_text()
    names = jobs_in_order(workflow)
    assert len(names) >= 5
    for name in names:
        assert run_job(ci, workflow["jobs"][name], tmp_path / name) == 0, name
        logs = tmp_path / name / "work/.chainbuild/logs"
        assert logs.is_dir()
        assert (logs / "report.html").is_file() == ("index" not in name)
    assert run_job(ci, workflow["jobs"]["plan"], tmp_path / "again") == 0
    assert "never built" not in (tmp_path / "again" / "summary.md").read_text()

    _date(plain.root)
    built = plain.run("build", "--registry", str(plain.registry), "--no-load", "--json")
    assert built.code == 0, built.told()
    for layer in ("os", "tools"):
        for platform in (OWN, OTHER):
            made, expected = (_identity(place, layer, platform) for place in (ci, plain))
            assert made == expected


def _date(tree: Path) -> None:
    """Give the files of a tree one time, which COPY keeps: clones have that of their making."""
    for path in (tree / name for name in TREE):
        os.utime(path, (1_700_000_000, 1_700_000_000))


def _identity(place: Place, layer: str, platform: str) -> str:
    from chainbuild.references import ImageReference, Platform
    from chainbuild.registry.images import resolve
    from chainbuild.registry.pool import Registries

    with Registries() as registries:
        name = ImageReference.parse(f"{place.registry}/acme/{layer}:v1")
        return str(resolve(registries, name, Platform.parse(platform)).config.content_identity)
