"""The command line: default command, help, unknown flags, exit codes, and errors as JSON."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import chainbuild
from chainbuild.cli import run
from chainbuild.cli.app import COMMANDS, app, with_default_command
from chainbuild.cli.examples import EXAMPLES
from chainbuild.cli.old_spellings import COMMANDS as RENAMED_COMMANDS
from chainbuild.cli.old_spellings import FLAGS as RENAMED_FLAGS
from chainbuild.cli.old_spellings import current_spelling
from chainbuild.cli.runs import runner as running
from chainbuild.errors import ExitCode
from chainbuild.execution.backends import use_backends
from tests.support.world import THREE_STEPS, World

WORDS = ["amd64", "team/atom", "v1", "fat:1", "stock", "slim:1"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # what is written about a bug

    with use_backends(made.backends):
        yield made


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (WORDS, ["build", *WORDS]),
        (["-C", ".", *WORDS], ["build", "-C", ".", *WORDS]),
        (["plan", *WORDS], ["plan", *WORDS]),
        (["registry", "up"], ["registry", "up"]),
        (["--help"], ["--help"]),
        (["-h"], ["-h"]),
        (["--version"], ["--version"]),
        (["-V"], ["-V"]),
        (["version"], ["--version"]),
        (["help"], ["--help"]),
        (["help", "registry", "gc"], ["registry", "gc", "--help"]),
        ([], ["--help"]),
    ],
)
def test_default_command_is_build(arguments: list[str], expected: list[str]) -> None:
    assert with_default_command(arguments) == expected


@pytest.mark.parametrize("argument", ["--version", "-V", "version"])
def test_version_prints_name_and_version(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([argument]) == 0
    assert capsys.readouterr().out == f"chainbuild {chainbuild.__version__}\n"


def test_no_arguments_in_tree_print_help_and_name_init(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    streams = capsys.readouterr()
    assert streams.out.startswith("Usage: chainbuild")
    assert "this folder can be built: stock" in streams.err
    assert "chainbuild init" in streams.err


def test_no_arguments_in_empty_folder_print_only_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([]) == 0
    assert capsys.readouterr().err == ""


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^\s+{command}\b", out, re.MULTILINE), command
    assert "\x1b" not in out


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_command_help_starts_with_usage(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage: chainbuild")
    assert command in out


def test_build_help_lists_required_flags(capsys: pytest.CaptureFixture[str]) -> None:
    run(["build", "--help"])
    out = capsys.readouterr().out
    for flag in (
        "--build-arg",
        "--build-context",
        "--secret",
        "--builder",
        "--no-cache",
        "--registry",
        "--registry-port",
        "--context",
        "--root",
        "--from",
        "--only",
        "--until",
        "--refresh",
        "--refresh-after",
        "--jobs",
        "--keep-going",
        "--deadline",
        "--push",
        "--no-load",
        "--json",
        "--plain",
        "--verbose",
    ):
        assert flag in out, flag


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "--nonsense"], "--nonsense"),
        ([*WORDS, "--nonsense"], "--nonsense"),
        ([*WORDS, "one", "more"], "one"),
        (["biuld", *WORDS], "Perhaps you meant 'build'"),
        (["plam", "-v", *WORDS], "Perhaps you meant 'plan'"),
        (["hlep"], "Perhaps you meant 'help'"),
        (["amd64"], "Missing argument"),
        (["plan"], "Missing argument"),
        (["registry", "nonsense"], "nonsense"),
        ([*WORDS, "--jobs", "0"], "--jobs"),
        ([*WORDS, "--jobs", "many"], "'many' is not a whole number"),
        (["amd65", *WORDS[1:]], "unknown platform 'amd65'"),
        ([*WORDS[:4], "stok", "slim:1"], "Perhaps you meant 'stock'"),
        ([*WORDS, "--registry", "x"], "not a registry host"),
    ],
)
def test_wrong_use_exits_with_2_and_message(
    world: World, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == ExitCode.WRONG_USE
    streams = capsys.readouterr()
    assert said in streams.err
    assert streams.out == ""
    assert "Traceback" not in streams.err


def test_wrong_use_with_json_prints_error_document(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["amd65", *WORDS[1:], "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "chainbuild.error/1"
    assert document["exit_code"] == 2
    assert document["problems"][0]["message"] == "PLATFORM: unknown platform 'amd65'"


@pytest.mark.parametrize("arguments", [["build", "--json", "--nonsense"], ["plan", "--json"]])
def test_unknown_flag_with_json_prints_error_document(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["exit_code"]) == ("chainbuild.error/1", 2)


def test_plan_prints_reasons(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *WORDS]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^  20-blas +build +never built$", out, re.MULTILINE)
    assert world.driver.orders == []
    assert run([*WORDS, "--dry-run"]) == 0
    assert capsys.readouterr().out == out


def test_plan_verbose_prints_builder_commands(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *WORDS, "-v"]) == 0
    out = capsys.readouterr().out
    assert "docker buildx build" in out
    assert "@<digest of amd64/stock/10-base>" in out


def test_plan_json_has_steps_and_commands(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *WORDS, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "chainbuild.plan/1"
    assert document["builds"] == 5
    assert document["steps"][0]["command"][:3] == ["docker", "buildx", "build"]


def test_plan_fail_if_build_exits_with_6(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *WORDS, "--fail-if-build"]) == 6 == int(ExitCode.WOULD_BUILD)
    capsys.readouterr()
    world.run()
    assert run(["plan", *WORDS, "--fail-if-build"]) == 0
    assert "unchanged" in capsys.readouterr().out


def test_build_without_changes_prints_result(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.run()
    assert run([*WORDS, "--no-load", "--plain"]) == 0
    assert "team/atom:v1-stock-amd64" in capsys.readouterr().out


def test_build_without_changes_json_prints_json_lines(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.run()
    assert run([*WORDS, "--no-load", "--json"]) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [document["event"] for document in documents if document["event"].startswith("run_")] == [
        "run_started",
        "run_phase",
        "run_finished",
    ]
    assert {document["schema"] for document in documents} == {"chainbuild.events/1"}


def test_build_missing_base_exits_with_4(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS[:3], "none:1", *WORDS[4:]]
    assert run([*words, "--no-load"]) == 4 == int(ExitCode.REGISTRY)
    assert "none:1 is not in docker.io" in capsys.readouterr().err
    assert run([*words, "--no-load", "--json"]) == 4
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["schema"], last["exit_code"]) == ("chainbuild.error/1", 4)


def test_unexpected_exception_is_reported_as_bug(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(running, "plan_run", broken)
    assert run(["plan", *WORDS]) == 70 == int(ExitCode.BUG)
    assert "this is a bug in chainbuild" in capsys.readouterr().err


def test_interrupt_exits_with_130(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "plan_run", interrupted)
    assert run(["plan", *WORDS]) == 130 == int(ExitCode.INTERRUPTED)


def test_exit_codes_are_unique_and_documented(pytestconfig: pytest.Config) -> None:
    assert len({int(code) for code in ExitCode.__members__.values()}) == len(ExitCode.__members__)
    text = (pytestconfig.rootpath / "docs/exit-codes.md").read_text()
    documented = re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)
    assert {(int(number), name) for number, name in documented} == {(int(code), code.name) for code in ExitCode}


# One vocabulary -------------------------------------------------------------------------------------------------------


def flags() -> dict[str, list[Any]]:
    """Return every flag of every command, by its long name."""
    found: dict[str, list[Any]] = {}

    def walk(command: Any) -> None:
        for parameter in command.params:
            if parameter.param_type_name == "option":
                found.setdefault(max(parameter.opts, key=len), []).append(parameter)
        for child in getattr(command, "commands", {}).values():
            walk(child)

    walk(get_command(app))
    return found


def test_short_flag_has_one_meaning_in_all_commands() -> None:
    words: dict[str, set[str]] = {}
    for name, found in flags().items():
        for parameter in found:
            for letter in parameter.opts:
                if len(letter) == 2:
                    words.setdefault(letter, set()).add(name)
    assert {letter: sorted(names) for letter, names in words.items() if len(names) > 1} == {}


def test_flag_takes_value_in_all_commands_or_in_none() -> None:
    kinds = {name: {one.is_flag or one.count for one in found} for name, found in flags().items()}
    # What is split is jobs in `ci` (a value), and the one instruction in `debug`.
    assert [name for name, kind in kinds.items() if len(kind) > 1] == ["--split"]


@pytest.mark.parametrize(
    "name",
    [
        "--root",
        "--registry-port",
        "--registry",
        "--builder",
        "--plain",
        "--verbose",
        "--jobs",
        "--dry-run",
        "--fail-if-build",
        "--no-cache",
        "--refresh-after",
        "--build-arg",
        "--secret",
        "--no-load",
    ],
)
def test_shared_flag_has_same_help_in_all_commands(name: str) -> None:
    said = {one.help for one in flags()[name]}
    allowed = {"--root": 2, "--registry": 2, "--dry-run": 3}
    assert len(said) <= allowed.get(name, 1), said


def test_command_groups_contain_every_command() -> None:
    assert set(get_command(app).commands) == COMMANDS  # type: ignore[attr-defined]


def command_paths() -> set[str]:
    """Return every command, without the leading `chainbuild`."""
    paths: set[str] = set()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        paths |= {name, *(f"{name} {child}" for child in getattr(command, "commands", {}))}
    return paths


def test_examples_cover_every_command() -> None:
    assert set(EXAMPLES) == {"chainbuild", *command_paths()}


@pytest.mark.parametrize("command", sorted(EXAMPLES))
def test_help_ends_with_example_and_page(
    command: str, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    example, page = EXAMPLES[command]
    assert run([*([] if command == "chainbuild" else command.split()), "--help"]) == 0
    assert capsys.readouterr().out.endswith(
        f"  Example:\n    {example}\n  Read more: chainbuild docs {page.removesuffix('.md')}\n"
    )
    assert (pytestconfig.rootpath / "docs" / page).is_file()


@pytest.mark.parametrize("command", sorted(EXAMPLES))
def test_example_parses(command: str) -> None:
    words = shlex.split(EXAMPLES[command][0])[1:]
    current = get_command(app)
    arguments = with_default_command(words)
    while hasattr(current, "commands"):
        current, arguments = current.commands[arguments[0]], arguments[1:]
    assert current.make_context(current.name, list(arguments), resilient_parsing=False).command is current


# Earlier names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "notes"),
    [
        (
            ["types", "create", "x:*"],
            ["types", "build", "x:*"],
            ["chainbuild types create is now called chainbuild types build"],
        ),
        (
            ["release", "publish"],
            ["release", "page"],
            ["chainbuild release publish is now called chainbuild release page"],
        ),
        (["layer", "a", "--tag", "b:1"], ["layer", "a", "--image", "b:1"], ["--tag is now called --image"]),
        (
            ["types", "new", "a", "--from=b/c"],
            ["types", "new", "a", "--based-on=b/c"],
            ["--from is now called --based-on"],
        ),
        (["build", "--tag", "v1", "--from", "20"], ["build", "--tag", "v1", "--from", "20"], []),
        (["layer", "a", "-t", "b:1"], ["layer", "a", "-t", "b:1"], []),
        (["shell", "x", "--", "types", "create"], ["shell", "x", "--", "types", "create"], []),
        ([], [], []),
    ],
)
def test_earlier_name_is_replaced_with_note(old: list[str], new: list[str], notes: list[str]) -> None:
    assert current_spelling(old) == (new, tuple(notes))


def test_earlier_names_are_gone_and_todays_exist() -> None:
    root: Any = get_command(app)
    for (group, old), new in RENAMED_COMMANDS.items():
        assert old not in root.commands[group].commands
        assert new in root.commands[group].commands
    for path, renamed in RENAMED_FLAGS.items():
        command = root
        for name in path:
            command = command.commands[name]
        options = {name for parameter in command.params for name in parameter.opts}
        assert options.isdisjoint(renamed)
        assert options >= set(renamed.values())


def test_earlier_name_prints_note_but_not_with_json(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["layer", "none", "--tag", "a/b:1"]) == 2
    assert capsys.readouterr().err.startswith("note: --tag is now called --image\n")
    assert run(["layer", "none", "--tag", "a/b:1", "--json"]) == 2
    streams = capsys.readouterr()
    assert (streams.err, json.loads(streams.out)["exit_code"]) == ("", 2)
