"""Every call of chainbuild in the documentation is one that this version understands."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from typer.main import get_command

from chainbuild.cli.app import app, with_default_command
from chainbuild.cli.old_spellings import current_spelling
from tests.support.pages import OMITTED, Block, all_pages, blocks, calls, commands, section
from tests.support.tutorials import TUTORIALS, Tutorial

ROOT = Path(__file__).resolve().parents[3]
PAGES = all_pages(ROOT)
LANGUAGES = {"", "shell", "console"}
OF_THE_SHELL = {"--install-completion", "--show-completion"}
"""Flags that act while they are parsed."""


def shown(page: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the arguments of every call in a page, with its line."""
    for block in blocks(page):
        if block.language in LANGUAGES and (block.is_typed or not block.language):
            for number, line in commands(block):
                if line.startswith("chainbuild") or block.is_typed:
                    yield from ((number, words) for words in calls(line))


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that is called, and its arguments."""
    current: Any = get_command(app)
    arguments = with_default_command(words) if words else ["build"]
    while hasattr(current, "commands") and arguments and arguments[0] in current.commands:
        current, arguments = current.commands[arguments[0]], arguments[1:]
    return current, list(arguments)


def is_pattern(words: list[str]) -> bool:
    """Return whether the page describes calls instead of showing one: `[flags]`, `…`, `IMAGE|GLOB`."""
    return any(OMITTED in word or word.startswith("[") or word.endswith("]") for word in words)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_calls_in_page_parse(name: str) -> None:
    wrong = []
    for number, words in shown(PAGES[name]):
        assert current_spelling(words) == (words, ()), f"{name}:{number}"
        if set(words) & OF_THE_SHELL:
            continue
        if is_pattern(words):
            words = ["build", *words] if words[0] == OMITTED else words  # noqa: PLW2901
            command, arguments = command_of([word for word in words if OMITTED not in word])
            options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
            flags = {word.strip("[]").partition("=")[0] for word in arguments if word.strip("[").startswith("--")}
            wrong += [f"{name}:{number}: {flag}" for flag in sorted(flags - options - {"--", "--help"})]
            continue
        command, arguments = command_of(words)
        try:
            with patch.dict(os.environ):
                command.make_context(command.name, arguments)
        except Exception as error:  # noqa: BLE001  # click's errors have no class that typer exports
            wrong.append(f"{name}:{number}: {' '.join(words)}: {error or type(error).__name__}")
    assert wrong == []


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: str(tutorial.page))
def test_tutorial_shows_everything_that_is_typed(tutorial: Tutorial) -> None:
    """`tests/engine/test_tutorials.py` runs it."""
    script = tutorial.script(ROOT, "amd64")
    assert "chainbuild" in script
    assert OMITTED not in script
    other = tutorial.script(ROOT, "aarch64")
    assert "amd64" not in other.replace("amd64,aarch64", "")


def test_every_tutorial_of_the_site_is_run_or_needs_more_than_this_machine() -> None:
    listed = re.search(r":caption: Tutorials\n.*?\n((?:[\w-]+\n)+)", PAGES["docs/index.md"])
    assert listed
    needs_more = {
        "ci",
        "debugging",
        "singularity",
        "release-plans",
    }  # a vendor's jobs; a failure; images of the reader's own
    run = {Path(tutorial.page).stem for tutorial in TUTORIALS}
    assert set(listed[1].split()) - run == needs_more


def test_sections_are_found_by_heading() -> None:
    page = "# One\n\ntext\n\n```shell\n# Two\n```\n\n## Two\n\nmore\n"
    assert section(page, "One") == "\n\ntext\n\n```shell\n# Two\n```\n\n"
    assert section(page, "Two") == "\n\nmore\n"


def test_session_is_typed_without_prompts_and_output() -> None:
    session = Block("", "$ cd x\n$ chainbuild plan \\\n    amd64\nstep  action\n$ echo done\ndone\n", 1)
    assert session.script() == "cd x\nchainbuild plan \\\n    amd64\necho done\n"
    assert list(commands(session)) == [(3, "chainbuild plan amd64")]


def test_lines_after_shell_are_typed_in_it() -> None:
    session = Block("console", "$ chainbuild shell a/b:1\n$ . /setup.sh\nready\n$ run\n", 1)
    assert session.script() == "chainbuild shell a/b:1 <<'END OF SHELL'\n. /setup.sh\nrun\nEND OF SHELL\n"
    assert Block("console", "$ chainbuild shell a -- run\n", 1).script() == "chainbuild shell a -- run\n"


def test_calls_end_at_operators_and_descriptions() -> None:
    line = "export A=1 && chainbuild images 'a:*' --json > list.json || chainbuild doctor     # what is missing"
    assert list(calls(line)) == [["images", "a:*", "--json"], ["doctor"]]
