"""`why`: which steps a name selects, what differs from the last record, and the arguments of the last run."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import asdict

from chainbuild.errors import WrongUseError
from chainbuild.execution.options import ExecutionOptions
from chainbuild.host.user_folders import tree_file
from chainbuild.model import BuildArg
from chainbuild.operations.why import Explanation, explain, steps_named
from chainbuild.requests.build import BuildRequest
from chainbuild.requests.last_run import load_last_run, save_last_run
from chainbuild.requests.options import RunOptions
from chainbuild.step_id import StepId
from chainbuild.ui.reports import show
from chainbuild.ui.terminal import Terminal
from chainbuild.values import replace
from tests.support.world import AMD64, ARM64, STEP, THREE_STEPS, World

BASE, BLAS, VENV = (
    StepId.parse("amd64/stock/10-base"),
    StepId.parse("amd64/stock/20-blas"),
    StepId.parse("amd64/stock/30-venv"),
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


def why(world: World, step: StepId, options: Sequence[str] = ("stock",)) -> Explanation:
    graph = world.graph(options=options)
    request = BuildRequest(graph=graph, settings=world.settings, options=ExecutionOptions())
    return explain(request, world.opened(), graph.by_id[step])


def shown(explanation: Explanation) -> str:
    stream = io.StringIO()
    show([explanation], Terminal(stream=stream))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("20-blas", [BLAS, StepId.parse("aarch64/stock/20-blas")]),
        (str(BLAS), [BLAS]),
        ("stock/production", [StepId("amd64", "stock", "production"), StepId("aarch64", "stock", "production")]),
    ],
)
def test_step_is_found_by_id_or_its_end(world: World, name: str, found: list[StepId]) -> None:
    assert [step.id for step in steps_named(world.graph((AMD64, ARM64)), name)] == found


@pytest.mark.parametrize("name", ["20-blass", "blas", ""])
def test_missing_step_is_an_error(world: World, name: str) -> None:
    with pytest.raises(WrongUseError) as caught:
        steps_named(world.graph(), name)
    assert str(BLAS) in caught.value.problems[0].hint


def test_step_never_built_has_no_record(world: World) -> None:
    explanation = why(world, BLAS)
    assert (explanation.differences, explanation.diff) == ((), ())
    assert shown(explanation) == f"{BLAS}: build, never built\n  no record in the chain registry\n"


def test_reused_step_has_no_differences(world: World) -> None:
    world.run()
    explanation = why(world, BLAS)
    document = explanation.as_json()
    assert (document["action"], document["reason"], document["differences"]) == ("reuse", "unchanged", [])
    assert document["key"] == document["last"]["key"]
    assert "last built 1970-01-12 13:46 UTC" in shown(explanation)


def test_differences_are_listed_in_full(world: World) -> None:
    world.write({f"src/{number}.py": "1" for number in range(10)})
    world.run()
    world.write({f"src/{number}.py": "2" for number in range(10)})
    world.write({"stock/30-Dockerfile-venv": THREE_STEPS["stock/30-Dockerfile-venv"] + "RUN more \x1b[31m\n"})
    explanation = why(world, VENV)
    assert len(explanation.differences) == 11
    assert explanation.diff[-1] == "+RUN more \x1b[31m"
    assert "\x1b" not in shown(explanation)


def test_unbuilt_parent_is_the_only_reason(world: World) -> None:
    world.run()
    world.write({"stock/10-Dockerfile-base": THREE_STEPS["stock/10-Dockerfile-base"] + "RUN more\n"})
    explanation = why(world, VENV)
    assert explanation.decision.reason == "parent 10-base: Dockerfile changed (line 4)"
    assert explanation.differences == ()
    assert "the step itself has not changed" in shown(explanation)
    world.write({"src/setup.py": "setup(2)\n"})
    assert why(world, VENV).differences == ("file src/setup.py changed",)


def test_stage_shows_requests_of_lower_options(world: World) -> None:
    world.write({"stock/minimize-amd64-args": "ADDITIONAL_FILES=/srv\n", "top/10-Dockerfile-top": STEP})
    explanation = why(world, StepId.parse("amd64/top/minimize"), ("stock", "top"))
    assert "  requested: ADDITIONAL_FILES=/srv (from stock)" in shown(explanation)
    assert explanation.as_json()["arguments"] == [
        {"name": "ADDITIONAL_FILES", "value": "/srv", "inherited": [{"value": "/srv", "from": "stock"}]}
    ]


# Arguments of the last run --------------------------------------------------------------------------------------------


def words(root: Path) -> RunOptions:
    return RunOptions(
        platform="amd64",
        repo="team/atom",
        tag="v1",
        base="fat:1",
        option="stock",
        production="slim:1",
        root=root,
        context=root / "context",
        builders=["far"],
        port=5001,
        first=20,
        refresh_after="7d",
        load=False,
    )


def test_last_run_is_restored(tmp_path: Path) -> None:
    save_last_run(tmp_path, words(tmp_path))
    assert load_last_run(tmp_path) == words(tmp_path)
    save_last_run(tmp_path, replace(words(tmp_path), context=None))
    assert load_last_run(tmp_path).context is None


def test_last_run_of_newer_version_is_read_as_far_as_known(tmp_path: Path) -> None:
    save_last_run(tmp_path, words(tmp_path))
    path = tree_file("last-words", tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"unknown": 1}))
    assert load_last_run(tmp_path) == words(tmp_path)


def test_last_run_of_earlier_version_is_read(tmp_path: Path) -> None:
    """Version 0.2 saved every option, also those that were not given."""
    save_last_run(tmp_path, words(tmp_path))
    tree_file("last-words", tmp_path).write_text(
        json.dumps(
            {"root": str(tmp_path), "context": str(tmp_path / "context"), "registry": None, "port": 5001}
            | {"builders": ["far"], "no_cache": False, "build_args": [], "build_contexts": [], "secrets": []}
            | {"refresh": False, "refresh_after": "7d", "deadline": None, "jobs": None, "keep_going": False}
            | {"strict": False, "load": False, "push": False, "replace_index": False, "fail_if_stale_index": False}
            | {"platform": "amd64", "repo": "team/atom", "tag": "v1", "base": "fat:1", "option": "stock"}
            | {"production": "slim:1", "first": 20, "only": None, "until": None}
        )
    )
    expected = replace(words(tmp_path), keep_going=False, strict=False, push=False)
    assert load_last_run(tmp_path) == replace(expected, build_args=[], build_contexts=[], secrets=[])


def test_last_run_saves_build_args_of_the_project_as_text(tmp_path: Path) -> None:
    args = (BuildArg(name="CPU", value="ZEN", origin="chainbuild.yaml:1"), "A=1")
    save_last_run(tmp_path, replace(words(tmp_path), build_args=args, tests=False))
    last = load_last_run(tmp_path)
    assert last.build_args == ["CPU=ZEN", "A=1"]
    assert last.tests is None


@pytest.mark.parametrize(
    "content", [None, "", "[]", "7", "{}", "null", '{"root": "."}', '{"root": 7}', "\x00", "[" * 10_000]
)
def test_damaged_last_run_is_ignored(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        save_last_run(tmp_path, words(tmp_path))
        tree_file("last-words", tmp_path).write_text(content)
    with pytest.raises(WrongUseError) as caught:
        load_last_run(tmp_path)
    assert "no earlier run found in this tree" in caught.value.message


def test_last_run_from_tree_is_ignored(tmp_path: Path) -> None:
    """An untrusted tree could otherwise make a later command use other folders and registries."""
    (tmp_path / ".chainbuild").mkdir()
    document = asdict(words(tmp_path)) | {"root": "/etc", "context": "/root"}
    (tmp_path / ".chainbuild/last-words.json").write_text(json.dumps(document))
    with pytest.raises(WrongUseError, match="no earlier run found in this tree"):
        load_last_run(tmp_path)


def test_last_run_is_private_to_user(tmp_path: Path) -> None:
    """The file has the values of build args; earlier versions stored it in the tree, readable by everybody."""
    (tmp_path / ".chainbuild").mkdir()
    (tmp_path / ".chainbuild/last-words.json").write_text("{}")
    save_last_run(tmp_path, words(tmp_path))
    assert list((tmp_path / ".chainbuild").iterdir()) == []
    assert not tree_file("last-words", tmp_path).is_relative_to(tmp_path)
    assert tree_file("last-words", tmp_path).stat().st_mode & 0o777 == 0o600


def test_unwritable_tree_is_accepted(tmp_path: Path) -> None:
    (tmp_path / ".chainbuild").write_text("a file")
    save_last_run(tmp_path, words(tmp_path))
    assert (tmp_path / ".chainbuild").read_text() == "a file"
