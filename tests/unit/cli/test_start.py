"""A command starts with what it needs: how much it imports and makes. How long that takes is in docs/benchmarks.md."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from typer.main import get_command

from chainbuild.cli.app import COMMANDS, app
from chainbuild.patterns import regex
from tests.support.imports import MODULES, executed, loaded

HELP = ("chainbuild.cli", "chainbuild.cli.app")
PLAN = (*HELP, "chainbuild.cli.commands.build", "chainbuild.cli.runs.project", "chainbuild.cli.runs.runner")
RUN = (*PLAN, "chainbuild.cli.runs.frame", "chainbuild.execution.executor", "chainbuild.execution.post_build")
BUILDING = {
    "chainbuild.builder.buildx",
    "chainbuild.builder.failures",
    "chainbuild.local_registry.service",
    "chainbuild.planning.generations",
    "chainbuild.proof.configuration",
    "chainbuild.proof.image_tests",
    "chainbuild.proof.imports",
    "chainbuild.proof.libraries",
    "chainbuild.requests.layer",
}
"""Modules that only build, or only serve other runs."""
MOST_MODULES = {"plan": 135, "run": 147}
MOST_TYPES = {"plan": 140, "run": 150}
"""A little more than there are: a new module or type that every start needs is fine, a new package of them is not."""
WHERE_EXPRESSIONS_ARE_COMPILED = ("chainbuild.builder", "chainbuild.distro", "chainbuild.minimize")
"""Imported only to build; and `minimize` runs inside builds without the rest of chainbuild."""


def calls(module: str) -> list[str]:
    """Return the functions that an import of a module calls."""
    return [ast.unparse(node.func) for node in executed(module) if isinstance(node, ast.Call)]


def types(module: str) -> list[str]:
    """Return the types with fields that an import of a module makes."""
    bases = {"Struct", "Compared", "Discreet", "NamedTuple"}
    classes = [node for node in executed(module) if isinstance(node, ast.ClassDef)]
    return [node.name for node in classes if bases & {ast.unparse(base) for base in node.bases}]


@pytest.fixture
def group() -> Any:
    return get_command(app)


def made(group: Any) -> set[str]:
    """Return the commands whose parsers were made."""
    return set(group.commands._made)


def test_help_imports_no_command() -> None:
    assert loaded(*HELP) == {
        "chainbuild",
        "chainbuild.cli",
        "chainbuild.cli.app",
        "chainbuild.cli.examples",
        "chainbuild.errors",
    }


@pytest.mark.parametrize(
    ("arguments", "commands"),
    [(["--help"], set()), (["--version"], set()), (["plan", "--help"], {"plan"}), (["trust", "--help"], {"trust"})],
)
def test_start_makes_only_parser_of_called_command(
    group: Any, arguments: list[str], commands: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    group.main(arguments, prog_name="chainbuild", standalone_mode=False)
    assert capsys.readouterr().out
    assert made(group) == commands


def test_completion_of_command_names_makes_no_parser(group: Any) -> None:
    context = group.make_context("chainbuild", [], resilient_parsing=True)
    assert {item.value for item in group.shell_complete(context, "")} == COMMANDS
    assert {item.value: item.help for item in group.shell_complete(context, "pl")} == {
        "plan": "Show what build would do, and why."
    }
    assert made(group) == set()


def test_every_command_is_found_by_its_name(group: Any) -> None:
    assert {name: command.name for name, command in group.commands.items()} == {name: name for name in COMMANDS}


@pytest.mark.parametrize(("name", "modules"), [("plan", PLAN), ("run", RUN)])
def test_start_imports_nothing_that_only_builds(name: str, modules: tuple[str, ...]) -> None:
    found = loaded(*modules)
    assert found & BUILDING == set()
    assert len(found) <= MOST_MODULES[name], sorted(found)


@pytest.mark.parametrize(("name", "modules"), [("plan", PLAN), ("run", RUN)])
def test_start_makes_few_types_and_no_dataclass(name: str, modules: tuple[str, ...]) -> None:
    found = loaded(*modules)
    assert len([name for module in found for name in types(module)]) <= MOST_TYPES[name]
    decorated = [
        f"{module}: {node.name}"
        for module in found
        if not module.startswith("chainbuild.minimize")  # which has no msgspec
        for node in executed(module)
        if isinstance(node, ast.ClassDef) and "dataclass" in "".join(map(ast.unparse, node.decorator_list))
    ]
    assert decorated == [], "a dataclass takes as long as forty structs"


def test_modules_compile_no_expression_when_imported() -> None:
    found = {
        module
        for module in MODULES
        if "re.compile" in calls(module) and not module.startswith(WHERE_EXPRESSIONS_ARE_COMPILED)
    }
    assert found == set()


def test_late_expression_compiles_at_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = regex("(")
    with pytest.raises(Exception, match="unterminated subpattern"):
        wrong.match("")
    letters = regex("[a-c]+")
    assert vars(letters).keys() == {"_source", "_flags"}
    assert [match[0] for match in letters.finditer("ab-c")] == ["ab", "c"]
    assert letters.pattern == "[a-c]+"
    with pytest.raises(AttributeError):
        letters.nothing  # type: ignore[attr-defined]  # noqa: B018
