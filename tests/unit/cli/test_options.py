"""Every flag of a command that runs something reaches the options, and is declared once."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import Struct
from msgspec.structs import asdict
from typer.main import get_command

from chainbuild.cli.app import app
from chainbuild.cli.parser import OPTIONAL_VALUES

WHERE: Final = "chainbuild.cli.commands"
OPTIONS: Final = ("--refresh-after", "--push", "--build-arg", "--deadline", "--builder")
"""Commands with one of these flags run something, except those of `OTHERS`."""
OTHERS: Final = {"doctor", "native", "sbom", "verify"}
COMMANDS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "build": (tuple("abcdef"), ("cli.runs.project.build_or_plan",)),
    "plan": (tuple("abcdef"), ("cli.runs.project.build_or_plan",)),
    "rebase": (tuple("abcdef"), ("cli.runs.project.build_or_plan",)),
    "layer": (("folder",), ("cli.runs.project.build_layer",)),
    "science plan": ((), ("requests.science.read_science", "cli.runs.science.build_science")),
    "science build": ((), ("requests.science.read_science", "cli.runs.science.build_science")),
    "science orphans": ((), ("requests.science.read_science", "cli.runs.science.list_orphans")),
    "types list": ((), ("requests.image_types.read_overview", "cli.runs.image_types.list_types")),
    "types plan": ((), ("requests.image_types.read_image_types", "cli.runs.image_types.create_types")),
    "types build": ((), ("requests.image_types.read_image_types", "cli.runs.image_types.create_types")),
    "types update": ((), ("requests.image_types.read_image_types", "cli.runs.image_types.update_types")),
    "types publish": ((), ("requests.image_types.read_image_types", "cli.runs.image_types.publish_types")),
    "debug": (("step",), ("cli.runs.debug.debug_step",)),
    "test": (("target",), ("cli.runs.retest.run_again",)),
    "singularity create": (("image",), ("cli.runs.singularity.run_create",)),
    "minimize trace": (("target",), ("cli.runs.trace.run_trace",)),
    "ci": (("github", *"abcdef"), ("requests.ci.reading.read_pipeline",)),
}
"""The arguments of each command, and the functions that it hands its options to; the last one ends it."""
FIELDS: Final = {
    "build_arg": "build_args",
    "build_context": "build_contexts",
    "secret": "secrets",
    "package": "packages",
    "skip_package": "skip_packages",
    "search_dir": "search_dirs",
    "builder": "builders",
    "registry_port": "port",
    "mount": "mounts",
    "verbose": "verbosity",
    "no_load": "load",
    "no_tests": "tests",
    "test_file": "test",
    "runner": "runners",
    "layer tag": "image",
    "minimize trace run": "1",
    "minimize trace json": "json",
    "science orphans json": "as_json",
    "types list json": "as_json",
}
"""The fields whose name differs from the parameter's, by parameter or by command and parameter."""


class Reached(Exception):  # noqa: N818
    pass


def commands(command: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    command = command or get_command(app)
    for name, sub in getattr(command, "commands", {}).items():
        yield f"{path} {name}".strip(), sub
        yield from commands(sub, f"{path} {name}".strip())


ALL: Final = dict(commands())


def given(path: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what a command hands over: by position and field, or by keyword."""
    heard: dict[str, Any] = {}
    functions = COMMANDS[path][1]

    def sink(at: int) -> Callable[..., Any]:
        def called(*values: Any, **named: Any) -> Any:
            for place, value in enumerate(values):
                fields = asdict(value) if isinstance(value, Struct) else {}
                fields = fields or (value._asdict() if hasattr(value, "_asdict") else {str(place): value})
                heard.update({f"{at}.{place}.{name}": item for name, item in fields.items()})
            heard.update({f"{at}..{name}": item for name, item in named.items()})
            if at < len(functions) - 1:
                return None
            raise Reached

        return called

    with monkeypatch.context() as patched:
        for at, name in enumerate(functions):
            module, _, function = name.rpartition(".")
            patched.setattr(import_module(f"chainbuild.{module}"), function, sink(at))
        with pytest.raises(Reached):
            ALL[path].main(arguments, prog_name=path, standalone_mode=False)
    return heard


def spellings(parameter: Any) -> Iterator[tuple[list[str], Any]]:
    """Return the texts that set a flag, each with the value that the field must get; None if any other will do."""
    flag = parameter.opts[0]
    if parameter.count:
        yield [flag, flag], 2
    elif parameter.is_flag:
        yield [flag], None
        yield from (([other], None) for other in parameter.secondary_opts)
    elif flag in OPTIONAL_VALUES:
        yield [flag], OPTIONAL_VALUES[flag].partition("=")[2]
        yield [f"{flag}=some=text"], "some=text"
    elif parameter.type.name == "integer range":
        yield [flag, "7"], 7
    elif parameter.type.name in {"directory", "file", "path"}:
        yield [flag, "some/path"], Path("some/path")
    else:
        yield [flag, "some=text"], ["some=text"] if parameter.multiple else "some=text"


FLAGS: Final = [
    (path, parameter)
    for path in COMMANDS
    for parameter in ALL[path].params
    if parameter.param_type_name == "option" and parameter.expose_value and parameter.name != "help"
]


@pytest.mark.parametrize(("path", "parameter"), FLAGS, ids=[f"{path} {parameter.opts[0]}" for path, parameter in FLAGS])
def test_flag_reaches_its_field(path: str, parameter: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = list(COMMANDS[path][0])
    before = given(path, arguments, monkeypatch)
    field = FIELDS.get(f"{path} {parameter.name}", FIELDS.get(parameter.name, parameter.name.removeprefix("for_")))
    for texts, value in spellings(parameter):
        after = given(path, [*arguments, *texts], monkeypatch)
        changed = {name: item for name, item in after.items() if item != before[name]}
        assert [name.rpartition(".")[2] for name in changed] == [field], changed
        assert value is None or value in [*changed.values()] or [tuple(value)] == [*changed.values()]


@pytest.mark.parametrize("path", COMMANDS)
def test_argument_reaches_its_field(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = list(COMMANDS[path][0])
    before = given(path, arguments, monkeypatch)
    parameters = [parameter for parameter in ALL[path].params if parameter.param_type_name == "argument"]
    for place, parameter in enumerate(parameters):
        if place < len(arguments):
            texts = [*arguments[:place], "gitlab" if parameter.name == "vendor" else "other", *arguments[place + 1 :]]
        else:
            texts = [*arguments, "other"]
        after = given(path, texts, monkeypatch)
        changed = {name.rpartition(".")[2] for name, item in after.items() if item != before[name]}
        assert changed == {parameter.name}


def test_every_run_command_is_tested() -> None:
    flags = {path: {flag for one in command.params for flag in one.opts} for path, command in ALL.items()}
    running = {path for path, names in flags.items() if names.intersection(OPTIONS)}
    assert running - OTHERS <= COMMANDS.keys()


def test_flag_of_run_commands_is_declared_once(repository_root: Path) -> None:
    modules = ("build", "ci", "image_types", "init", "layer", "minimize", "science", "test")
    declared: dict[str, list[str]] = {}
    for module in ("flags", *(f"commands/{name}" for name in modules)):
        tree = ast.parse((repository_root / f"chainbuild/cli/{module}.py").read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        texts = {item.value for call in calls for item in call.args if isinstance(item, ast.Constant)}
        for text in texts:
            if isinstance(text, str) and text.startswith("--"):
                declared.setdefault(text, []).append(module)
    assert "--platform" in declared
    assert {flag: places for flag, places in declared.items() if len(places) > 1} == {}


@pytest.mark.parametrize("path", ["build", "types build", "minimize trace", "registry status"])
def test_registry_flags_apply_to_the_whole_process(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATA", "COMPOSE", "LINGER"):
        monkeypatch.setenv(f"CHAINBUILD_REGISTRY_{name}", "/earlier")
    names = [parameter.name for parameter in ALL[path].params]
    place = names.index("registry_port")
    assert names[place : place + 3] == ["registry_port", "registry_data", "registry_compose"]
    lingers = ["--registry-linger", "10m"] if path != "registry status" else []
    assert ("registry_linger" in names) is bool(lingers), "registry status uses no registry"
    given = ["--registry-data", "data", "--registry-compose", "compose.yml", *lingers]
    arguments = [*COMMANDS.get(path, ((), ()))[0], *given]
    ALL[path].make_context(path, arguments)
    assert os.environ["CHAINBUILD_REGISTRY_DATA"] == str(tmp_path / "data")
    assert os.environ["CHAINBUILD_REGISTRY_COMPOSE"] == str(tmp_path / "compose.yml")
    assert os.environ["CHAINBUILD_REGISTRY_LINGER"] == ("10m" if lingers else "/earlier")
