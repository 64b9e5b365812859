"""Arguments become a build request; their problems are reported together with those of the tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chainbuild.errors import Problem, WrongUseError
from chainbuild.references import ChainRegistry
from chainbuild.requests.build import BuildRequest, read_build_request
from chainbuild.requests.options import RunOptions
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import THREE_STEPS, World


@pytest.fixture
def words(tmp_path: Path) -> RunOptions:
    World(tmp_path).write(THREE_STEPS)
    return RunOptions(
        platform="amd64", repo="team/atom", tag="v1", base="fat:1", option="stock", production="slim:1", root=tmp_path
    )


def read(words: RunOptions, **changed: Any) -> BuildRequest:
    return read_build_request(replace(words, **changed))


def problems(words: RunOptions, **changed: Any) -> tuple[Problem, ...]:
    with pytest.raises(WrongUseError) as caught:
        read(words, **changed)
    assert all(problem.message for problem in caught.value.problems)
    return caught.value.problems


def test_build_request_has_defaults(words: RunOptions, tmp_path: Path) -> None:
    request = read(words)
    assert next(step.id for step in request.graph) == StepId.parse("amd64/stock/10-base")
    assert str(request.graph.repo) == "team/atom"
    assert request.settings.root == tmp_path
    assert str(request.settings.chain) == "localhost:5000"
    options = request.options
    assert (options.jobs, options.keep_going, options.load, options.push) == (None, False, True, False)
    assert options.first is None
    assert options.seconds_left is None
    assert not options.renewal.refresh
    assert next(iter(request.graph)).repository.name == "localhost:5000/team/atom"


def test_build_request_has_all_flags(words: RunOptions, tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text("t")
    request = read(
        words,
        platform="amd64, aarch64",
        registry="ghcr.io/org",
        builders=["near", "arm64=far"],
        no_cache=True,
        build_args=["CPU=ZEN"],
        build_contexts=[f"sources={tmp_path / 'src'}", "more=https://example.com/x.git"],
        secrets=[f"id=token,src={tmp_path / 'token.txt'}"],
        refresh_after="7d",
        deadline="4h30m",
        jobs=3,
        keep_going=True,
        load=False,
        push=True,
        replace_index=True,
    )
    assert [chain.platform.name for chain in request.graph.chains] == ["amd64", "aarch64"]
    assert request.settings.registry == ChainRegistry("ghcr.io", "org")
    assert request.settings.builders == {"": "near", "linux/arm64": "far"}
    step = request.graph.by_id[StepId.parse("amd64/stock/20-blas")]
    assert step.repository.name == "ghcr.io/org/team/atom"
    assert [(arg.name, arg.value) for arg in step.args] == [("CPU", "ZEN")]
    assert dict(step.contexts) == {"sources": str(tmp_path / "src"), "more": "https://example.com/x.git"}
    assert [secret.id for secret in step.secrets] == ["token"]
    assert request.options.renewal.refresh_after == 7 * 86400
    assert request.options.seconds_left is not None
    assert 16000 < request.options.seconds_left() <= 16200


def test_from_only_and_until_select_steps(words: RunOptions) -> None:
    assert read(words, first=20).options.first == 20
    cut = read(words, until=20)
    assert [step.name for step in cut.graph] == ["10-base", "20-blas"]
    only = read(words, only=20)
    assert [step.name for step in only.graph] == ["10-base", "20-blas"]
    assert only.options.first == 20
    assert [step.name for step in read(words, first=20, until=20).graph] == ["10-base", "20-blas"]


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"platform": "amd65"}, "PLATFORM: unknown platform 'amd65'", "Perhaps you meant 'amd64'"),
    ({"platform": "amd64,"}, "PLATFORM: 'amd64,' has an empty entry", ""),
    ({"platform": "amd64,x86_64"}, "PLATFORM: 'x86_64' and 'amd64' are the same platform", ""),
    ({"repo": "Team/Atom"}, "REPO: 'Team/Atom'", ""),
    ({"repo": "team/atom:1"}, "REPO: 'team/atom:1' has a tag or digest", "TAG is the next"),
    ({"tag": "a b"}, "TAG: 'a b' is not a tag", ""),
    ({"tag": "-x"}, "TAG: '-x' is not a tag", ""),
    ({"tag": "t" * 129}, "TAG: ", ""),
    ({"base": "fat:"}, "BASE: 'fat:': '' is not a tag", ""),
    ({"base": "fat@sha256:12"}, "BASE: 'sha256:12' is not a digest", ""),
    ({"production": "Slim"}, "PRODUCTION: 'Slim' is not a repository name", "lower case: 'slim'"),
    ({"option": "stok"}, "option 'stok': no such folder", "Perhaps you meant 'stock'"),
    ({"option": "stock,stock/"}, "OPTION: duplicate option 'stock'", ""),
    ({"option": "stock,./stock"}, "options 'stock' and './stock' have the same name", ""),
    ({"option": ""}, "OPTION: '' has an empty entry", ""),
    ({"registry": "ghcr"}, "--registry: 'ghcr' is not a registry host", ""),
    ({"builders": ["a", "b"]}, "--builder: duplicate builder for all platforms", ""),
    ({"builders": ["amd64=a", "x86_64=b"]}, "--builder: duplicate builder for x86_64", ""),
    ({"builders": ["amd65=a"]}, "--builder: unknown platform 'amd65'", ""),
    ({"builders": ["amd64="]}, "--builder 'amd64=' has no builder name", ""),
    ({"build_args": ["A B=1"]}, "--build-arg: 'A B=1' is not KEY=VALUE", ""),
    ({"build_args": ["NOT_SET_ANYWHERE"]}, "--build-arg: NOT_SET_ANYWHERE has no value", ""),
    ({"build_args": ["NOBODY=1"]}, "no Dockerfile declares the arg NOBODY", ""),
    ({"build_args": ["CPUU=1"]}, "no Dockerfile declares the arg CPUU", "Perhaps you meant CPU."),
    ({"build_args": ["BASE_IMAGE=x"]}, "--build-arg BASE_IMAGE: this argument is set by the chain", ""),
    ({"build_contexts": ["sources"]}, "--build-context 'sources' is not NAME=SOURCE", ""),
    ({"build_contexts": ["a=/nowhere"]}, "--build-context a: no such folder: '/nowhere'", ""),
    ({"secrets": ["src=/x"]}, "--secret: no id given", ""),
    ({"secrets": ["id=t,src=/nowhere"]}, "--secret t: no such file: '/nowhere'", ""),
    ({"secrets": ["id=t,env=NOT_SET_ANYWHERE"]}, "--secret t: NOT_SET_ANYWHERE is not set in the environment", ""),
    ({"first": 25}, "--from 25: no step has this number", "Steps: 10, 20, 30."),
    ({"until": 5}, "--until 5: no step has this number", ""),
    ({"only": 5}, "--only 5: no step has this number", ""),
    ({"only": 10, "first": 10}, "--only cannot be combined with --from or --until", ""),
    ({"first": 30, "until": 10}, "--from 30 comes after --until 10", ""),
    ({"refresh_after": "soon"}, "--refresh-after: 'soon' is not a duration", ""),
    ({"deadline": "4 hours"}, "--deadline: '4 hours' is not a duration", ""),
    ({"context": Path("/nowhere")}, "--context: no such folder: '/nowhere'", ""),
]


@pytest.mark.parametrize(("changed", "message", "hint"), WRONG, ids=[f"{c}"[:60] for c, _, _ in WRONG])
def test_invalid_argument_is_reported_with_hint(
    words: RunOptions, changed: dict[str, Any], message: str, hint: str
) -> None:
    found = problems(words, **changed)
    matching = [problem for problem in found if problem.message.startswith(message)]
    assert matching, found
    assert hint in matching[0].hint


def test_missing_root_is_reported(words: RunOptions) -> None:
    found = problems(words, root=Path("/nowhere"))
    assert any(problem.message == "--root: no such folder: '/nowhere'" for problem in found)


def test_file_as_build_context_is_rejected(words: RunOptions, tmp_path: Path) -> None:
    (found,) = problems(words, build_contexts=[f"a={tmp_path / 'src/setup.py'}"])
    assert "no such folder" in found.message


def test_step_numbers_with_several_options_are_rejected(words: RunOptions, tmp_path: Path) -> None:
    World(tmp_path).write({"extras/10-Dockerfile-more": THREE_STEPS["stock/10-Dockerfile-base"]})
    found = problems(words, option="stock,extras", first=10)
    assert [problem.message for problem in found] == ["--from, --only and --until need a single OPTION"]


def test_problems_of_arguments_and_tree_are_reported_together(words: RunOptions, tmp_path: Path) -> None:
    (tmp_path / "stock/40-Dockerfile-bad").write_text("FROM debian\n")
    (tmp_path / "stock/blas-amd64-args").write_text("CPU ZEN\n")
    found = problems(
        words,
        platform="amd64,amd65",
        repo="Team",
        tag="a b",
        base="fat:",
        production="Slim",
        deadline="x",
        builders=["amd64="],
        build_args=["A B=1"],
        secrets=["src=x"],
        registry="ghcr",
    )
    said = "\n".join(str(problem) for problem in found)
    for part in (
        "PLATFORM:",
        "REPO:",
        "TAG:",
        "BASE:",
        "PRODUCTION:",
        "--deadline:",
        "--builder",
        "--build-arg:",
        "--secret",
        "--registry:",
        "stock/40-Dockerfile-bad:1:",
        "stock/blas-amd64-args:1:",
    ):
        assert part in said, part
    assert len(found) == len(set(found))


def test_bare_build_arg_takes_value_from_environment(words: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPU", "FROM-ENVIRONMENT")
    step = read(words, build_args=["CPU"]).graph.by_id[StepId.parse("amd64/stock/20-blas")]
    assert [(arg.name, arg.value) for arg in step.args] == [("CPU", "FROM-ENVIRONMENT")]
