"""`chainbuild docs`, and what messages may name: only what an installed program has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import chainbuild
from chainbuild.cli import run
from chainbuild.host.package_data import documentation_pages
from chainbuild.text import cells

IN_STAGES = "minimize"
"""The program that runs in build stages prints nothing for users but warnings."""
_OF_A_CHECKOUT = re.compile(r"(?<![\w/.])(?:script|docs)/[\w-]")
_NAMED_PAGE = re.compile(r"chainbuild docs ([a-z][\w/-]*)")


def messages() -> Iterator[tuple[str, str]]:
    """Yield each string of the package that is not a docstring, with its place."""
    root = Path(chainbuild.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] == IN_STAGES:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                yield f"{path.relative_to(root.parent)}:{node.lineno}", node.value


def test_docs_lists_every_page(repository_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["docs"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    written = {path.relative_to(repository_root / "docs") for path in (repository_root / "docs").rglob("*.md")}
    assert listed == sorted(str(path.with_suffix("")) for path in written if path.name != "reference.md")


@pytest.mark.parametrize("page", ["options/stock", "docs/options/stock.md"])
def test_docs_prints_page(page: str, repository_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["docs", page]) == 0
    assert capsys.readouterr().out == (repository_root / "docs/options/stock.md").read_text(encoding="utf-8")


def test_docs_of_misspelled_page_suggests_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["docs", "exit-code"]) == 2
    assert "Perhaps you meant 'exit-codes'" in capsys.readouterr().err


def test_titles_of_pages_are_short() -> None:
    titles = [path.read_text(encoding="utf-8").partition("\n")[0] for path in documentation_pages().values()]
    assert [title for title in titles if not title.startswith("# ") or cells(title) > 60] == []


def test_messages_name_nothing_of_a_checkout() -> None:
    assert [f"{place}: {text[:80]!r}" for place, text in messages() if _OF_A_CHECKOUT.search(text)] == []


def test_messages_name_existing_pages() -> None:
    pages = documentation_pages()
    named = {name: place for place, text in messages() for name in _NAMED_PAGE.findall(text)}
    assert named
    assert {name: place for name, place in named.items() if name not in pages} == {}
