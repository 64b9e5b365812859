"""Shell completion, called as typer's completion scripts call it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.cli import run
from chainbuild.cli.app import COMMANDS
from chainbuild.cli.completion import say_build
from chainbuild.requests.last_run import save_last_run
from chainbuild.requests.options import RunOptions

STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("stock/10-Dockerfile-base", "stock/20-Dockerfile-blas", "extras/10-Dockerfile-base", "notes/README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(STEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str = "bash"
) -> list[str]:
    """Return the completions for the last argument of a line."""
    monkeypatch.setenv("_CHAINBUILD_COMPLETE", f"complete_{shell}")
    if shell == "bash":
        monkeypatch.setenv("COMP_WORDS", line.replace(" ", "\n"))
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    else:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    run([])
    monkeypatch.delenv("_CHAINBUILD_COMPLETE")
    said = capsys.readouterr()
    assert said.err == ""
    # fish gets the help text after a tab.
    return [line.partition("\t")[0] for line in said.out.splitlines() if line]


def remembered(root: Path) -> None:
    words = RunOptions(
        platform="amd64",
        repo="team/atom",
        tag="v7",
        base="fat:1",
        option="extras,stock",
        production="slim:1",
        root=root,
    )
    save_last_run(root, words)


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("chainbuild pl", ["plan"]),
        ("chainbuild plan aa", ["aarch64"]),
        ("chainbuild plan amd64,aa", ["amd64,aarch64"]),
        ("chainbuild aar", ["aarch64"]),
        ("chainbuild amd64,a", ["amd64,aarch64", "amd64,armv7", "amd64,armv6"]),
        ("chainbuild amd64 r t b ", ["extras", "stock"]),
        ("chainbuild amd64 r t b stock,", ["stock,extras"]),
        ("chainbuild build amd64 r t b stock p --from ", ["10", "20"]),
        ("chainbuild verify --platform s", ["s390x"]),
        ("chainbuild test ", ["extras", "stock"]),
        ("chainbuild amd64 ", []),
        ("chainbuild why ", []),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completion_offers_names_from_tree(
    line: str, words: list[str], shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offered(line, monkeypatch, capsys, shell) == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("chainbuild amd64 ", ["team/atom"]),
        ("chainbuild amd64 r ", ["v7"]),
        ("chainbuild amd64 r t ", ["fat:1"]),
        ("chainbuild amd64 r t b o ", ["slim:1"]),
        ("chainbuild why ", ["20-blas", "amd64/extras/10-base", "amd64/stock/10-base"]),
        ("chainbuild files ", ["20-blas", "amd64/stock/10-base", "localhost:5000/team/atom:v7-stock-amd64"]),
        (
            "chainbuild inspect ",
            ["localhost:5000/team/atom:v7-extras-amd64", "localhost:5000/team/atom:v7-stock-amd64"],
        ),
    ],
)
def test_completion_offers_values_of_last_run(
    line: str, words: list[str], tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remembered(tree)
    assert set(words) <= set(offered(line, monkeypatch, capsys))


def test_completion_in_invalid_tree_offers_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remembered(tree)
    (tree / "stock/10-Dockerfile-base").write_text("FROM\n")
    (tree / "chainbuild.yaml").write_text("[")
    assert offered("chainbuild why ", monkeypatch, capsys) == []


@pytest.mark.parametrize("line", ["chainbuild", "chainbuild ", "chainbuild --he", "chainbuild why x", "chainbuild wh"])
def test_completion_line_with_command_is_unchanged(line: str) -> None:
    environ = {"_CHAINBUILD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "1"}
    say_build(environ, COMMANDS)
    assert environ["COMP_WORDS"] == line


def test_completion_without_shell_variables_changes_nothing() -> None:
    environ = {"COMP_WORDS": "chainbuild am", "COMP_CWORD": "1"}
    say_build(environ, COMMANDS)
    assert environ["COMP_WORDS"] == "chainbuild am"
