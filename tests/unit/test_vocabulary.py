"""The vocabulary of texts: plain words that engineers know, in messages, help texts, docstrings and the documentation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import chainbuild

AVOIDED = {
    r"oneself|one's own": "you, the user, or the thing itself",
    r"somebody|something is said|is said to": "the user, or a passive without a person",
    r"\btwins?\b": "duplicate",
    r"stands? on|standing on": "is based on, depends on",
    r"\blies? (?:at|beside)": "is at, is next to",
    r"where (?:there is none|there are none|not given|none is given)": "if omitted, unless",
    r"\blacking\b": "missing",
    r"let (?:you|them|it) know": "report",
    r"\bis told\b|\bare told\b|\bit is said\b": "is reported",
}
PATTERN = re.compile("|".join(AVOIDED), re.IGNORECASE)
LONGEST_TEST_NAME = 70


def texts_of_code() -> Iterator[tuple[str, str]]:
    """Yield each string and docstring of the package with its place."""
    root = Path(chainbuild.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(root.parent)}:{node.lineno}", node.value


def texts_of_pages(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each line of the documentation with its place."""
    generated = {"reference.md"}
    pages = [root / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    for page in (*pages, *sorted((root / "docs").rglob("*.md"))):
        if page.name not in generated:
            for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
                yield f"{page.relative_to(root)}:{number}", line


def avoided_words(texts: Iterator[tuple[str, str]]) -> list[str]:
    return [f"{place}: {found[0]!r}" for place, text in texts for found in PATTERN.finditer(text)]


def test_texts_of_the_program_use_plain_words() -> None:
    assert avoided_words(texts_of_code()) == [], AVOIDED


def test_documentation_uses_plain_words(repository_root: Path) -> None:
    assert avoided_words(texts_of_pages(repository_root)) == [], AVOIDED


@pytest.mark.parametrize("text", ["its base stands on nothing", "Where not given, all", "a folder of one's own"])
def test_avoided_words_are_found_in_any_case(text: str) -> None:
    assert avoided_words(iter([("here", text)])) != []


def test_names_of_tests_are_short(repository_root: Path) -> None:
    named = re.compile(r"^ *def (test_\w+)", re.MULTILINE)
    names = [
        f"{path.relative_to(repository_root)}: {name}"
        for path in sorted((repository_root / "tests").rglob("test_*.py"))
        for name in named.findall(path.read_text(encoding="utf-8"))
        if len(name) > LONGEST_TEST_NAME
    ]
    assert names == []
