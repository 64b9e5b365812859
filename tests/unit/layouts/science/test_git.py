"""Parsing the output of git; `tests/engine/test_science_git.py` runs git itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.host.git import CommitRange, Git

HASH = "a" * 40


def git(answers: dict[str, str]) -> tuple[Git, list[list[str]]]:
    asked: list[list[str]] = []

    def run(arguments: Sequence[str]) -> str | None:
        asked.append(list(arguments))
        return next((said for start, said in answers.items() if " ".join(arguments).startswith(start)), None)

    return Git(Path(), run), asked


def test_missing_git_tree_gives_empty_results() -> None:
    nothing, _ = git({})
    assert nothing.head() is None
    assert nothing.recent() == ()
    assert not nothing.dirty(("science",))
    assert nothing.untracked(("science",)) == ()


def test_revision_that_looks_like_an_option_is_rejected() -> None:
    known, asked = git({"rev-parse": HASH})
    with pytest.raises(WrongUseError, match="git finds no revision '--output=/etc/passwd'"):
        known.span("--output=/etc/passwd")
    assert not [words for words in asked if "--output=/etc/passwd^{commit}" in words]
    with pytest.raises(WrongUseError):
        known.span("a..--output=x")


def test_file_names_with_newlines_and_unicode_are_read() -> None:
    known, _ = git({"diff": "science/a b/\nfile\0science/ü\0"})
    assert known.changed(CommitRange(older=HASH, newer=None), ("science",)) == ("science/a b/\nfile", "science/ü")


def test_failed_git_comparison_is_reported() -> None:
    known, _ = git({})
    with pytest.raises(WrongUseError, match=r"git cannot compare a\.\.b"):
        known.changed(CommitRange(older=HASH, newer=HASH, said="a..b"), ())
