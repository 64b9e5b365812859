"""Errors and warnings in a report."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize.lists import words_in
from chainbuild.minimize.notices import Notice, fix_line, fixes, rows, texts
from chainbuild.minimize.root import RootFileSystem
from tests.support.elf_builder import plant


def test_rows_have_keys_read_by_host():
    assert rows([Notice(kind="data", text="a line", fix="KEEP_DATA=git")]) == [
        {"kind": "data", "text": "a line", "path": "", "package": "", "fix": "KEEP_DATA=git"}
    ]


def test_texts_reads_reports_of_both_schemas():
    assert texts([{"kind": "data", "text": "new"}, "old"]) == ["new", "old"]


def test_fixes_of_same_argument_are_joined():
    reported = [
        {"fix": "KEEP_DATA=git"},
        {"fix": ""},
        {"fix": "ADDITIONAL_FILES=/a /b"},
        {"fix": "KEEP_DATA=file"},
        {"fix": "KEEP_DLOPEN=1"},
        {"fix": "ADDITIONAL_FILES=/b /c\\,d"},
        {"fix": "KEEP_DLOPEN=1"},
    ]
    assert fixes(reported) == ("KEEP_DATA=git file", "ADDITIONAL_FILES=/a /b /c\\,d", "KEEP_DLOPEN=1")


@given(st.text(alphabet="ab ,*?[]\\!\n\t\udc80é", min_size=1, max_size=12))
def test_fix_line_matches_its_path(tmp_path_factory, name):
    path = f"/srv/{name}"
    tree = RootFileSystem(plant(tmp_path_factory.mktemp("f"), {path: b""}))
    argument, _, value = fix_line("ADDITIONAL_FILES", [path]).partition("=")
    (word,) = words_in(value)
    assert argument == "ADDITIONAL_FILES"
    assert "\n" not in value
    assert not word.optional
    assert tree.glob(word.text) == [path]
