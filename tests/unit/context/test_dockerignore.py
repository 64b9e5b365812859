"""Ignore files, compared with tables of the behaviour of moby/patternmatcher."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.context.dockerignore import find_ignore, parse_ignore


@pytest.mark.parametrize(
    ("pattern", "path", "ignored"),
    [
        ("**", "file", True),
        ("**/", "dir/file", True),
        ("**/**", "dir/file", True),
        ("dir/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True),
        ("dir/**", "dir", False),
        ("**/dir", "dir", True),
        ("**/dir", "dir/file", True),
        ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/**", "dir/dir2/dir3/file", True),
        ("**file", "file", True),
        ("**file", "dir/dir/file", True),
        ("**/file", "dir/file", True),
        ("**/file*txt", "dir/dir/file.txt", True),
        ("**/**/*.txt", "file.txt", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False),
        ("a**/*.txt", "a/file.txt", True),
        ("a**/*.txt", "a/dir/dir/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False),
        ("a/*.txt**", "a/f.txt", True),
        ("a[b-d]e", "ace", True),
        ("a[b-d]e", "aae", False),
        ("a[^b-d]e", "aze", True),
        ("a[^b-d]e", "ace", False),
        (".*", ".foo", True),
        (".*", "foo", False),
        ("abc.def", "abcZdef", False),
        ("abc?def", "abcZdef", True),
        ("abc?def", "abcdef", False),
        ("a?b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("[a-ζ]*", "α", True),
        ("*[a-ζ]", "A", False),
        ("a?b", "a/b", False),
        ("**/.foo", "bar.foo", False),
        ("a(b)c/def", "a(b)c/def", True),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
        ("*x", "xxx", True),
        ("a", "a/b/c", True),
        ("a/", "a", True),
        ("/a", "a", True),
        ("./a", "a", True),
        ("a/../b", "b", True),
        ("b", "a/b", False),
        ("..", "a", False),
        (".", "a", False),
        ("/", "a", False),
        ("a\\\\", "a\\", True),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("[[]x", "[x", True),
        ("\\[x]", "[x]", True),
        ("a b", "a b", True),
        ("\\#x", "#x", True),
        ("*\n", "a\nb", True),
    ],
)
def test_pattern_matches_like_patternmatcher(pattern: str, path: str, ignored: bool) -> None:
    found = parse_ignore(pattern.encode())
    assert not found.problems
    assert found.ignores(path) is ignored


@pytest.mark.parametrize(
    ("text", "path", "ignored"),
    [
        ("*.go\n!f.go", "f.go", False),
        ("!f.go\n*.go", "f.go", True),
        ("docs\n!docs/README.md", "docs/README.md", False),
        ("docs\n!docs/README.md", "docs/other", True),
        ("docs\n!docs/a\ndocs/a/b", "docs/a/b", True),
        ("docs\n!docs/a\ndocs/a/b", "docs/a/c", False),
        ("**\n!util/web", "util/web/foo", False),
        ("**\n!util/web\nutil/web/foo", "util/web/foo", True),
        ("a/b\n!a", "a/b", True),
        ("# no\n#a\na", "a", True),
        (" # x", "# x", True),
        ("! a\n*", "a", True),
        ("*\n! a", "a", False),
        ("*\n/!a", "a", False),
        ("*\n!/ a", "a", True),
        ("/ a", "a", True),
        ("\ufeffa", "a", True),
        ("a\r\nb\r\n", "a", True),
        ("  a  ", "a", True),
        ("\\d", "d", False),
        ("*\n!\\d", "x", False),
    ],
)
def test_ignore_file_matches_like_patternmatcher(text: str, path: str, ignored: bool) -> None:
    assert parse_ignore(text.encode()).ignores(path) is ignored


@pytest.mark.parametrize(
    "pattern", ["!", "!/", "[", "[^", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "a[", "\\", "[^bc"]
)
def test_invalid_pattern_is_reported_with_its_line(pattern: str) -> None:
    found = parse_ignore(b"ok\n" + pattern.encode(), "x/.dockerignore")
    assert [(problem.path, problem.line) for problem in found.problems] == [("x/.dockerignore", 2)]
    assert [each.text for each in found.patterns] == ["ok"]


@pytest.mark.parametrize(
    ("text", "folder", "prunes"),
    [
        ("a", "a", True),
        ("a\n!a/b", "a", False),
        ("a\n!a/b/c", "a/b", False),
        ("a\n!b", "a", True),
        ("a\n!**/x", "a", False),
        ("a\n!a/*", "a", False),
        ("a\n!ab/c", "a", True),
    ],
)
def test_ignored_folder_is_pruned_unless_reincluded_below(text: str, folder: str, prunes: bool) -> None:
    assert parse_ignore(text.encode()).prunes(folder) is prunes


def test_ignore_file_next_to_dockerfile_wins(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    dockerfile = other / "10-x-Dockerfile"
    assert find_ignore(root, dockerfile).path == ""
    (root / ".dockerignore").write_text("a")
    (other / ".dockerignore").write_text("b")
    assert find_ignore(root, dockerfile).raw == b"a"
    (other / "10-x-Dockerfile.dockerignore").write_text("")
    assert find_ignore(root, dockerfile).raw == b""
    assert find_ignore(root, dockerfile).path.endswith("10-x-Dockerfile.dockerignore")
    assert find_ignore(root).raw == b"a"


def test_ignore_file_link_stays_inside_the_context(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "out").write_text("a")
    (root / "in").write_text("b")
    link = root / ".dockerignore"
    for target, raw in {"../out": b"", "/in": b"b", "in": b"b", ".dockerignore": b"", "gone": b""}.items():
        link.symlink_to(target)
        assert find_ignore(root).raw == raw, target
        link.unlink()


def test_ignore_files_are_equal_despite_line_numbers() -> None:
    assert parse_ignore(b"a\n\n# c\nb") == parse_ignore(b"a\nb", "elsewhere")
    assert parse_ignore(b"a\nb") != parse_ignore(b"b\na")


LINE = st.text(alphabet="ab*?[]^-\\/!. #", max_size=10)


@given(st.lists(LINE, max_size=6), st.text(alphabet="ab*/.", min_size=1, max_size=10))
def test_arbitrary_lines_are_read(lines: list[str], path: str) -> None:
    parse_ignore("\n".join(lines).encode()).ignores(path)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_read(raw: bytes) -> None:
    parse_ignore(raw).ignores("a/b")


@given(st.lists(LINE, max_size=6), st.lists(st.sampled_from("ab."), min_size=1, max_size=4))
def test_files_below_pruned_folder_stay_ignored(lines: list[str], parts: list[str]) -> None:
    found = parse_ignore("\n".join(lines).encode())
    path = "/".join(parts)
    for count in range(1, len(parts)):
        folder = "/".join(parts[:count])
        if found.ignores(folder) and found.prunes(folder):
            assert found.ignores(path)
