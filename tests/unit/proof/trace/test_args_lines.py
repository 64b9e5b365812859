"""Values are added to an args file, and nothing else in it changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.minimize.lists import ListWord, words_in
from chainbuild.parsing.args_files import parse_args
from chainbuild.proof.trace.args_lines import NAME, args_file, replace_file, with_words
from chainbuild.references import Platform

AMD64 = Platform.parse("amd64")


def added(raw: bytes, *words: str) -> bytes:
    return with_words(raw, [ListWord(text=word) for word in words], "stock/minimize-amd64-args")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"ADDITIONAL_FILES=/a /b\n"),
        (b"STRIP=1", b"STRIP=1\nADDITIONAL_FILES=/a /b\n"),
        (b"# why\n\nSTRIP=1\n", b"# why\n\nSTRIP=1\nADDITIONAL_FILES=/a /b\n"),
        (b"STRIP=1\r\n", b"STRIP=1\r\nADDITIONAL_FILES=/a /b\r\n"),
        (b"\xef\xbb\xbf", b"\xef\xbb\xbfADDITIONAL_FILES=/a /b\n"),
        (b"\xef\xbb\xbfADDITIONAL_FILES=/x\n", b"\xef\xbb\xbfADDITIONAL_FILES=/x /a /b\n"),
        (b"ADDITIONAL_FILES=/x,/y\nSTRIP=1\n", b"ADDITIONAL_FILES=/x,/y,/a,/b\nSTRIP=1\n"),
        (b"ADDITIONAL_FILES=/x, /y\r\nSTRIP=1\r\n", b"ADDITIONAL_FILES=/x, /y, /a, /b\r\nSTRIP=1\r\n"),
        (b"ADDITIONAL_FILES=", b"ADDITIONAL_FILES=/a /b"),
        (b"ADDITIONAL_FILES= ,\n", b"ADDITIONAL_FILES=/a /b\n"),
        (b"ADDITIONAL_FILES=/x,\n", b"ADDITIONAL_FILES=/x /a /b\n"),
        (
            b"ADDITIONAL_FILES=/x\nADDITIONAL_LIB_LOCATIONS=/p,/q\n",
            b"ADDITIONAL_FILES=/x,/a,/b\nADDITIONAL_LIB_LOCATIONS=/p,/q\n",
        ),
        (b"ADDITIONAL_FILES=/x\\ y /z\n", b"ADDITIONAL_FILES=/x\\ y /z /a /b\n"),
        (b"#ADDITIONAL_FILES=/x\n", b"#ADDITIONAL_FILES=/x\nADDITIONAL_FILES=/a /b\n"),
    ],
)
def test_values_are_added_in_style_of_file(before: bytes, after: bytes) -> None:
    assert added(before, "/a", "/b") == after


def test_existing_values_are_not_repeated() -> None:
    assert added(b"ADDITIONAL_FILES=/b ?/a\n", "/a", "/b") == b"ADDITIONAL_FILES=/b ?/a\n"
    assert added(b"ADDITIONAL_FILES=!/a\n", "/a") == b"ADDITIONAL_FILES=!/a /a\n"


def test_value_with_separator_is_escaped() -> None:
    assert added(b"", "/a b,c") == b"ADDITIONAL_FILES=/a\\ b\\,c\n"


def test_value_from_environment_cannot_be_extended() -> None:
    with pytest.raises(WrongUseError) as caught:
        added(b"STRIP=1\nADDITIONAL_FILES\n", "/a")
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("stock/minimize-amd64-args", 2)
    assert "environment" in problem.message


def test_faults_of_file_are_reported_together() -> None:
    with pytest.raises(WrongUseError) as caught:
        added(b"STRIP =1\nX=1\nX=2\n", "/a")
    assert [problem.line for problem in caught.value.problems] == [1, 3]


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\0\r"), max_size=20)
_LINES = st.lists(
    st.one_of(
        _TEXT.map("# {}".format), st.just(""), _TEXT.map("STRIP={}".format), _TEXT.map("ADDITIONAL_FILES={}".format)
    ),
    max_size=5,
)
_WORDS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\0\r\\"), min_size=1, max_size=8).map("/{}".format),
    min_size=1,
    max_size=4,
    unique=True,
)


@given(_LINES, _WORDS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_arbitrary_file_keeps_old_and_gets_new_values(
    lines: list[str], words: list[str], ending: str, ended: bool
) -> None:
    before = ending.join(lines) + (ending if ended and lines else "")
    raw = before.encode()
    args, problems = parse_args(raw, "x", {})
    if problems:
        with pytest.raises(WrongUseError):
            added(raw, *words)
        return
    after, none = parse_args(added(raw, *words), "x", {})
    assert none == ()
    old = {arg.name: arg.value or "" for arg in args}
    new = {arg.name: arg.value or "" for arg in after}
    assert {name: value for name, value in new.items() if name != NAME} == {
        name: value for name, value in old.items() if name != NAME
    }
    texts = [word.text for word in words_in(new[NAME]) if not word.taken_back]
    former = [word.text for word in words_in(old.get(NAME, "")) if not word.taken_back]
    assert set(texts) >= set(former) | set(words)
    assert added(added(raw, *words), *words) == added(raw, *words)


def test_file_that_sets_list_is_chosen(tmp_path: Path) -> None:
    assert args_file(tmp_path, AMD64).name == "minimize-amd64-args"
    (tmp_path / "production-x86_64-args").write_text("ADDITIONAL_FILES=/x\n")
    assert args_file(tmp_path, AMD64).name == "production-x86_64-args"
    (tmp_path / "production-x86_64-args").write_text("PROVE_TRACE=1\n")
    assert args_file(tmp_path, AMD64).name == "minimize-amd64-args"
    (tmp_path / "minimize-x86_64-args").write_text("STRIP=1\n")
    assert args_file(tmp_path, AMD64).name == "minimize-x86_64-args"


def test_replaced_file_keeps_mode_and_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"before")
    real.chmod(0o640)
    link.symlink_to("real")
    replace_file(link, b"after")
    assert link.is_symlink()
    assert (real.read_bytes(), real.stat().st_mode & 0o777) == (b"after", 0o640)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_unwritable_file_is_user_error(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="cannot write"):
        replace_file(tmp_path / "none" / "minimize-amd64-args", b"x")
