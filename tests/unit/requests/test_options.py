"""Options as given meet the project file in one place, and each of them reaches the request."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from chainbuild.model import BuildArg
from chainbuild.parsing.option_values import ProblemCollector
from chainbuild.project.model import Project
from chainbuild.references import ImageReference
from chainbuild.requests.build import execution_options, session_settings
from chainbuild.requests.layer import LayerOptions
from chainbuild.requests.options import CommonOptions, RunOptions, as_kind
from chainbuild.requests.science import ScienceOptions
from chainbuild.values import replace

IN_FILE: Final[dict[str, Any]] = {
    "platforms": ("amd64", "aarch64"),
    "repo": "team/a",
    "tag": "v1",
    "base": ImageReference.parse("fat:1"),
    "production": ImageReference.parse("slim:1"),
    "options": ("stock", "extras"),
    "base_arg": "BASE",
    "registry": "ghcr.io/acme",
    "port": 5001,
    "builders": ("near",),
    "context": Path("/in-file"),
    "build_args": (BuildArg(name="CPU", value="ZEN", origin="chainbuild.yaml:1"),),
    "build_contexts": ("src=/in-file",),
    "secrets": ("id=token,env=A",),
    "refresh_after": "7d",
    "deadline": "2h",
    "jobs": 3,
    "keep_going": True,
    "tests": False,
    "strict": True,
    "native": "off",
    "push": True,
    "load": False,
}
GIVEN: Final[dict[str, Any]] = {
    "platform": "riscv64",
    "option": "atom",
    "base_arg": "PARENT",
    "repo": "team/b",
    "tag": "v2",
    "base": "fat:2",
    "production": "slim:2",
    "registry": "quay.io/acme",
    "port": 5002,
    "builders": ("far",),
    "context": Path("/given"),
    "build_args": ("CPU=OLD",),
    "build_contexts": ("src=/given",),
    "secrets": ("id=token,env=B",),
    "refresh_after": "8d",
    "deadline": "3h",
    "jobs": 4,
    "keep_going": False,
    "tests": True,
    "strict": False,
    "native": "check",
    "push": False,
    "load": True,
}
OTHER_NAMES: Final = {"platforms": "platform", "options": "option"}
NOT_OPTIONS: Final = {"path", "shown", "layers", "science", "trusted_keys", "native_steps"}


def project(**settings: Any) -> Project:
    return Project(path=Path("/tree/chainbuild.yaml"), shown="chainbuild.yaml", **settings)


def test_every_setting_of_the_project_is_an_option_or_not() -> None:
    assert set(Project.__struct_fields__) == IN_FILE.keys() | NOT_OPTIONS
    assert {OTHER_NAMES.get(name, name) for name in IN_FILE} == GIVEN.keys()


def test_native_modes_of_steps_apply_unless_a_mode_is_given() -> None:
    of_steps = project(native_steps={"stock/20-*": "off"})
    assert RunOptions().merged(of_steps).native_steps == {"stock/20-*": "off"}
    assert RunOptions(native="auto").merged(of_steps).native_steps == {}


@pytest.mark.parametrize("name", IN_FILE)
def test_project_setting_is_used_unless_given(name: str) -> None:
    field, setting = OTHER_NAMES.get(name, name), IN_FILE[name]
    in_file = getattr(RunOptions().merged(project(**{name: setting})), field)
    expected = ",".join(setting) if name in OTHER_NAMES else setting
    assert in_file == (str(expected) if isinstance(expected, ImageReference) else expected)
    given = RunOptions(**{field: GIVEN[field]}).merged(project(**{name: setting}))
    assert getattr(given, field) == GIVEN[field]


def test_merge_keeps_options_that_no_project_file_has() -> None:
    options = RunOptions(first=20, only=30, until=40, refresh=True, no_cache=True, layer="os", alone=True)
    options = replace(options, replace_index=True, fail_if_stale_index=True, refresh_outdated="all")
    merged = options.merged(project())
    assert merged.root == Path("/tree")
    steps = ("first", "only", "until", "refresh", "refresh_outdated", "no_cache", "layer", "alone")
    kept = (*steps, "replace_index", "fail_if_stale_index")
    assert [getattr(merged, name) for name in kept] == [getattr(options, name) for name in kept]


EXECUTION: Final[dict[str, Any]] = {
    "jobs": 4,
    "keep_going": True,
    "strict": True,
    "load": False,
    "push": True,
    "replace_index": True,
    "fail_if_stale_index": True,
    "refresh": True,
    "refresh_after": "7d",
    "refresh_outdated": "security",
    "rebase": True,
    "deadline": "2h",
    "native": "check:5%",
    "native_steps": {"stock/20-*": "off"},
}
SESSION: Final[dict[str, Any]] = {
    "root": Path("/"),
    "registry": "ghcr.io/acme",
    "port": 5001,
    "builders": ["far"],
    "no_cache": True,
}
OF_GRAPH: Final = {"platform", "context", "build_args", "build_contexts", "secrets", "tests"}


def test_every_common_option_has_a_reader() -> None:
    assert set(CommonOptions.__struct_fields__) == EXECUTION.keys() | SESSION.keys() | OF_GRAPH


@pytest.mark.parametrize("name", EXECUTION)
def test_option_reaches_the_execution(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    collector = ProblemCollector()
    before = execution_options(CommonOptions(), collector)
    assert execution_options(replace(CommonOptions(), **{name: EXECUTION[name]}), collector) != before
    assert collector.problems == []


@pytest.mark.parametrize("name", SESSION)
def test_option_reaches_the_session(name: str, tmp_path: Path) -> None:
    collector = ProblemCollector()
    options = CommonOptions(root=tmp_path)
    before = session_settings(options, collector)
    assert session_settings(replace(options, **{name: SESSION[name]}), collector) != before
    assert collector.problems == []


@pytest.mark.parametrize(("kind", "own"), [(ScienceOptions, {}), (LayerOptions, {"folder": Path("os")})])
def test_other_kind_of_run_gets_all_common_options(kind: type[CommonOptions], own: dict[str, Any]) -> None:
    common = {
        name: value for name, value in (EXECUTION | SESSION | GIVEN).items() if name in CommonOptions.__struct_fields__
    }
    options = as_kind(kind, RunOptions(**common), **own)
    assert {name: getattr(options, name) for name in common} == common
    assert as_kind(kind, RunOptions(**common), **own, root=Path("/other")).root == Path("/other")


def test_outdated_of_another_kind_is_a_problem() -> None:
    collector = ProblemCollector()
    execution_options(CommonOptions(refresh_outdated="often"), collector)
    assert [problem.message for problem in collector.problems] == ["--refresh-outdated=often: neither all nor security"]


def test_check_of_native_tools_needs_the_cache() -> None:
    collector = ProblemCollector()
    execution_options(CommonOptions(native="check:5%", no_cache=True), collector)
    assert [problem.message for problem in collector.problems] == ["--no-cache cannot be combined with --native=check"]
