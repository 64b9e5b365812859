"""The documentation site, as far as it can be tested without building it and without a browser."""

from __future__ import annotations

import importlib
import re
import runpy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command

from chainbuild.cli.app import app


@pytest.fixture
def docs(repository_root: Path) -> Path:
    return repository_root / "docs"


@pytest.fixture
def reference(docs: Path) -> str:
    text: str = runpy.run_path(str(docs / "reference_page.py"))["page"]()
    return text


@pytest.fixture
def site_extension(docs: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(docs))
    return importlib.import_module("site_extension")


def _commands(command: Any, path: str) -> list[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    return [(path, command), *(each for name, child in below.items() for each in _commands(child, f"{path} {name}"))]


def _section(page: str, path: str) -> str:
    found = re.search(rf"^#+ {re.escape(path)}$\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section {path}"
    return found[1]


def _prose(markdown: str) -> str:
    """Return the text outside of code."""
    return re.sub(r"`[^`]*`", "", re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL))


def test_reference_page_has_every_command_with_every_flag(reference: str) -> None:
    root = get_command(app)
    for path, command in _commands(root, "chainbuild")[1:]:
        section = _section(reference, path)
        if getattr(command, "commands", None):
            continue
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.hidden:
                assert parameter.opts[0] not in section, path
            elif parameter.param_type_name == "option":
                for name in [*parameter.opts, *parameter.secondary_opts]:
                    assert re.search(rf"^`.*`?{re.escape(name)}\b.*`$", section, re.MULTILINE), f"{path} {name}"
            else:
                assert f"{parameter.metavar or parameter.name.upper()}" in section, f"{path} {parameter.name}"


def test_reference_page_links_each_command_and_flag_once(reference: str) -> None:
    headings = re.findall(r"^#+ (.*)$", reference, re.MULTILINE)
    assert len(headings) == len(set(headings))
    anchors = {heading.replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", reference)) <= anchors
    flags = re.findall(r"^\| `(-[^`]*)` \|", reference, re.MULTILINE)
    assert flags
    assert len(flags) == len(set(flags))


def test_reference_page_writes_flags_as_code(reference: str, docs: Path) -> None:
    assert not re.findall(r"[“”‘’–]", reference)
    assert not re.findall(r"(?<![\w-])--[a-z]\S*", _prose(reference))
    assert "\nsmartquotes = False\n" in (docs / "conf.py").read_text(encoding="utf-8")


def test_reference_page_has_whole_tables_and_no_doubled_words(reference: str) -> None:
    for row in re.findall(r"^\|.*\|$", reference, re.MULTILINE):
        assert len(re.findall(r"(?<!\\)\|", row)) == 3, row
    assert not re.findall(r"\b([A-Za-z]+) \1\b", _prose(reference))


def test_reference_page_keeps_paragraphs_and_examples_apart(docs: Path) -> None:
    write = runpy.run_path(str(docs / "reference_page.py"))["_help"]

    class Command:
        help = "Copy records, --all of them.\n\nOnly what is\nmissing. Example: chainbuild records copy a b"
        epilog = "Read more: chainbuild docs trust"

    assert list(write(Command)) == [
        "Copy records, `--all` of them.\n",
        "Only what is missing.\n",
        "```shell\nchainbuild records copy a b\n```\n",
        "Read more: [trust](trust.md)\n",
    ]


def test_mermaid_blocks_each_have_a_drawing(docs: Path) -> None:
    diagrams = runpy.run_path(str(docs / "diagrams.py"))
    wanted = {diagrams["drawing"](text).name for text in diagrams["all_blocks"]()}
    assert {path.name for path in (docs / "_diagrams").glob("*.svg")} == wanted, "run: script/pictures --diagrams"


def test_site_loads_nothing_from_other_hosts(docs: Path) -> None:
    own = [path for folder in ("_static", "_diagrams") for path in (docs / folder).iterdir()]
    for path in [*own, docs / "conf.py", docs / "search_scorer.js"]:
        text = path.read_text(encoding="utf-8")
        without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
        assert not re.findall(r"(?:https?:)?//[\w-]+\.[\w.-]+|@import", without_namespaces), path


def test_pictures_show_no_path_of_a_machine(docs: Path) -> None:
    for name in ("run", "plan"):
        text = re.sub(r"<[^>]*>", "", (docs / "_static" / f"{name}.svg").read_text(encoding="utf-8"))
        assert "chainbuild" in text
        assert not re.findall(r"/tmp|/home|/root|/work|localhost|\b20\d\d-", text)


def test_home_page_has_the_three_blocks_the_pictures_are_made_of(docs: Path) -> None:
    blocks = re.findall(
        r"^```shell\n(.*?)^```$", (docs / "index.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    make_tree, build, change = blocks
    assert "ARG STARS=500000" in make_tree
    assert build.startswith("chainbuild amd64 ")
    assert change.splitlines()[1] == build.splitlines()[0].replace("chainbuild", "chainbuild plan")


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("$ chainbuild plan\nstep  action", "console"),
        ("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}", "docker"),
        ("chainbuild doctor", "shell"),
        ("chainbuild/\n  cli/", "text"),
        ("GREETING=hello", "text"),
    ],
)
def test_code_block_without_language_is_coloured_as(site_extension: ModuleType, code: str, language: str) -> None:
    assert site_extension.language_of(code) == language
