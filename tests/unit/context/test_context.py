"""The files of a context that a step can read: only their changes, and all of them, change the digest."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild.context import ContentDigests, ContextTree, context_files, digest_of
from chainbuild.context.dockerignore import parse_ignore
from chainbuild.dockerfile import LocalSources, find_facts, parse
from chainbuild.errors import WrongUseError
from chainbuild.references import Platform
from tests.support.contexts import MISSING, make, missing_tree

AMD = Platform.parse("amd64")
NONE = parse_ignore(b"")
ALL = LocalSources(patterns=(".",), everything=True)


def paths(root: Path, *patterns: str, ignore: str = "", parents: bool = False) -> list[str]:
    sources = LocalSources(patterns=patterns, everything="." in patterns, with_parents=parents)
    return [entry.path for entry in context_files(root, parse_ignore(ignore.encode()), sources)]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], []),
        (["a"], ["a"]),
        (["d"], ["d", "d/e", "d/e/f", "d/g"]),
        (["d/*"], ["d/e", "d/e/f", "d/g"]),
        (["[d]/g"], ["d/g"]),
        (["d/**/f"], ["d/e/f"]),
        (["*/g"], ["d/g", "abs", "gone", "l", "l2", "l3", "loop", "out", "up"]),
        (["d/**"], ["d", "d/e", "d/e/f", "d/g"]),
        (["?"], ["a", "d", "d/e", "d/e/f", "d/g", "l"]),
        (["[a-c]", "nope"], ["a"]),
        (["l"], ["d/e", "d/e/f", "l"]),
        (["l/f"], ["d/e/f", "l"]),
        (["l?"], ["a", "l2", "l3"]),
        (["l3"], ["a", "l2", "l3"]),
        (["up/a"], ["a", "up"]),
        (["abs"], ["d/g", "abs"]),
        (["loop", "gone", "out"], ["gone", "loop", "out"]),
        (["[["], ["[["]),
    ],
)
def test_patterns_select_context_files(tmp_path: Path, patterns: list[str], expected: list[str]) -> None:
    make(
        tmp_path,
        "a",
        "d/e/f",
        "d/g",
        "l -> d/e",
        "l2 -> a",
        "l3 -> l2",
        "up -> d/..",
        "abs -> /d/g",
        "[[",
        "loop -> loop",
        "gone -> nowhere",
        "out -> ../../../../etc/x",
    )
    if patterns == ["[["]:  # an invalid pattern selects all names
        assert set(paths(tmp_path, *patterns)) >= {"[[", "a", "d/e/f"}
    else:
        assert paths(tmp_path, *patterns) == sorted(expected)


@pytest.mark.parametrize(
    ("ignore", "patterns", "expected"),
    [
        ("d", ["."], ["a"]),
        ("d\n!d/e/f", ["."], ["a", "d", "d/e", "d/e/f"]),
        ("d\n!d/e/f", ["d"], ["d", "d/e", "d/e/f"]),
        ("d\n!d/e/f", ["d/e"], ["d/e", "d/e/f"]),
        ("d/e", ["d"], ["d", "d/g"]),
        ("d/*", ["d"], ["d"]),
        ("**\n!**/g", ["."], ["d", "d/g"]),
        ("d", ["d", "d/g"], []),
    ],
)
def test_ignored_files_are_not_selected(tmp_path: Path, ignore: str, patterns: list[str], expected: list[str]) -> None:
    assert paths(make(tmp_path, "a", "d/e/f", "d/g"), *patterns, ignore=ignore) == expected


def test_link_in_folder_counts_with_its_target(tmp_path: Path) -> None:
    make(tmp_path, "d/in -> ../a", "a", "b -> d")
    assert paths(tmp_path, "d") == ["d", "d/in"]
    assert paths(tmp_path, "d/in") == ["a", "d/in"]
    assert paths(tmp_path, "b/in") == ["a", "b", "d/in"]


def test_folders_above_count_with_parents(tmp_path: Path) -> None:
    make(tmp_path, "d/e/f")
    assert paths(tmp_path, "d/e/f", parents=True) == ["d", "d/e", "d/e/f"]


@pytest.mark.parametrize(("source", "ignore", "missing"), MISSING)
def test_selection_names_required_sources_that_a_builder_misses(
    tmp_path: Path, source: str, ignore: str, missing: bool
) -> None:
    parsed = parse(f"FROM scratch\nCOPY {source} /x/".encode(), "D")
    facts = find_facts(parsed, args={}, target_platform=AMD, build_platform=AMD)
    selection = ContextTree(missing_tree(tmp_path)).select(parse_ignore(ignore.encode()), facts.sources)
    assert selection.missing == ((source,) if missing else ())
    assert facts.source_lines.get(("", source), 2) == 2


@pytest.mark.parametrize(
    ("line", "required"),
    [
        ("COPY a b* ./c /", ("a", "b*", "c")),
        ("COPY --parents a /", ()),
        ("COPY --parents=false a /", ("a",)),
        ("COPY . /", ()),
        ("ADD a https://x/y /", ("a",)),
        ("RUN --mount=source=s,target=/t --mount=type=cache,target=/c x", ("s",)),
        ("COPY --from=other a /", ()),
        ("COPY $UNKNOWN/a /", ("a",)),
    ],
)
def test_required_sources_are_those_that_a_builder_requires(line: str, required: tuple[str, ...]) -> None:
    parsed = parse(f"FROM scratch\n{line}".encode(), "D")
    assert find_facts(parsed, args={}, target_platform=AMD, build_platform=AMD).sources.required == required


def test_special_files_are_listed_by_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryDirectory(dir="/tmp") as short:  # a short path
        listener.bind(f"{short}/s")
        os.rename(f"{short}/s", tmp_path / "sock") if os.stat(short).st_dev == tmp_path.stat().st_dev else None
    found = {entry.path: (entry.kind, entry.target) for entry in context_files(tmp_path, NONE, ALL)}
    assert found["pipe"] == ("special", "p")
    assert found.get("sock", ("special", "s")) == ("special", "s")


def test_file_name_with_invalid_utf8_is_read_like_buildkit(tmp_path: Path) -> None:
    name = os.fsdecode(b"x\xff.txt")
    try:
        (tmp_path / name).write_text("x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    parsed = parse(b"FROM scratch\nCOPY x\xff.txt /", "D")
    sources = find_facts(parsed, args={}, target_platform=AMD, build_platform=AMD).sources
    files = context_files(tmp_path, NONE, sources)
    # BuildKit reads U+FFFD instead, and does not find the file.
    assert files == ()
    (tmp_path / "x\ufffd.txt").write_text("y")
    assert [entry.path for entry in context_files(tmp_path, NONE, sources)] == ["x\ufffd.txt"]
    (tmp_path / "x\ufffd.txt").unlink()
    files = context_files(tmp_path, NONE, ALL)
    assert len(digest_of(files)) == 64
    assert paths(tmp_path, "x?.txt") == [name]


def test_unreadable_file_is_a_problem_only_if_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a", "b", "d/x")

    def refuse(self: ContentDigests, path: str, found: os.stat_result) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ContentDigests, "of", refuse)
    with pytest.raises(WrongUseError) as caught:
        context_files(tmp_path, parse_ignore(b"b"), ALL)
    assert [problem.path for problem in caught.value.problems] == [str(tmp_path / "a"), str(tmp_path / "d/x")]


def test_unreadable_folder_is_a_problem_unless_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "d/x", "e/x")
    real = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/d"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert [each.path for each in ContextTree(tmp_path).select(NONE, ALL).problems] == [str(tmp_path / "d")]
    assert not ContextTree(tmp_path).select(parse_ignore(b"d"), ALL).problems


def test_file_removed_during_the_walk_is_omitted(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    tree = ContextTree(tmp_path)
    tree.listing("")
    (tmp_path / "a").unlink()
    assert [entry.path for entry in tree.select(NONE, ALL).files] == ["b"]


def test_contents_are_read_once(tmp_path: Path) -> None:
    make(tmp_path, "a")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    digests = ContentDigests()
    ContextTree(tmp_path, digests).select(NONE, ALL)
    ContextTree(tmp_path, digests).select(NONE, ALL)
    assert len(digests._cached) == 1


def test_ignored_folder_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "big/x", "big/y/z", "small/a")
    tree = ContextTree(tmp_path)
    tree.select(parse_ignore(b"big\n!small/q"), ALL)
    assert set(tree._listings) == {"", "small"}


def test_extended_attributes_count(tmp_path: Path) -> None:
    make(tmp_path, "a")
    before = digest_of(context_files(tmp_path, NONE, ALL))
    try:
        os.setxattr(tmp_path / "a", "user.chainbuild", b"1")
    except (OSError, AttributeError):
        pytest.skip("this file system has no extended attributes")
    assert digest_of(context_files(tmp_path, NONE, ALL)) != before


NAMES = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "c/a", "c/b/a", "c/b/b.c", "c/a.c", "a.c"])
PATTERNS = st.sampled_from(["a", "b", "*", "*.c", "c", "c/b", "a/*", "?/a", "c/b/*.c", ".", "**/a", "[ab]", "c/"])
LINES = st.sampled_from(
    ["a", "b", "*.c", "**/*.c", "c", "!c/b", "!a", "c/*", "!**/b", "*", "**/a", "!c/b/a", "?", "/b/"]
)
KINDS = st.sampled_from(["content", "mode", "added", "removed", "renamed", "to link", "link target", "dir mode"])


def oracle(path: str, dockerfile_sources: list[str], lines: list[str]) -> bool:
    """Return whether a COPY of the sources selects the regular file at `path`, by a second, naive implementation."""

    def regex(pattern: str) -> str:
        pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        return "".join(
            pieces.get(part, part if part.startswith("[") else re.escape(part))
            for part in re.findall(r"\*\*/|\*\*|\*|\?|\[.*?\]|[^*?\[]", pattern.strip("/"))
        )

    parts = path.split("/")
    prefixes = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    wanted = any(
        source.strip("/") == "." or any(re.fullmatch(regex(source), prefix) for prefix in prefixes)
        for source in dockerfile_sources
    )
    matched: list[set[int]] = [set()]
    ignored = False
    for prefix in prefixes:
        ignored, here = False, set()
        for number, line in enumerate(lines):
            negated = line.startswith("!")
            if number in matched[-1] or (negated == ignored and re.fullmatch(regex(line.lstrip("!")), prefix)):
                here.add(number)
                ignored = not negated
        matched.append(here)
    return wanted and not ignored


FORMS = {
    "COPY": "COPY {} /x/\n",
    "JSON": 'copy --link ["{}", "/x/"]\n',
    "ADD": "ADD \\\n# {{\n  {} /x/\n",
    "two": "COPY --chown=1:1 <<E {} /x/\nCOPY . /\nE\n",
    "arg": "ARG V={}\nCOPY $V /x/\n",
    "env": 'ENV W="{}"\nCOPY ${{W:-.}} /x/\n',
    "global": "ARG G\nCOPY ${{G%|*}}{} /x/\n",
    "mount": "RUN --mount=target=/m,source={} <<E\nCOPY . /\nE\n",
    "no mount": "RUN --mount=type=cache,target=/c true\nCOPY {} /x/\n",
    "stage": "FROM scratch AS s{now}\nCOPY {} /x/\nFROM c{now} AS c{next}\nCOPY --from=s{now} /x /x/\n",
    "base": "COPY {} /x/\nFROM c{now} AS c{next}\n",
    "trigger": "ONBUILD COPY {} /x/\nFROM c{now} AS c{next}\n",
}


def dockerfile_of(sources: list[str], forms: list[str]) -> str:
    """Return a Dockerfile that copies each source in another way, after an unused stage that copies all files."""
    text, now = "ARG G=|no\nFROM scratch AS unused\nCOPY . /\nFROM scratch AS c0\n", 0
    for source, form in zip(sources, forms, strict=False):
        text += FORMS[form].format(source, now=now, next=now + 1)
        now += f"c{now + 1}" in text
    return text


def seen(root: Path, text: str, lines: list[str]) -> tuple[str, set[str]]:
    facts = find_facts(parse(text.encode(), "D"), args={}, target_platform=AMD, build_platform=AMD)
    assert not facts.problems
    assert not facts.doubts
    tree = ContextTree(root)
    ignore = parse_ignore("\n".join(lines).encode())
    selection = tree.select(ignore, facts.sources)
    return tree.digest(ignore, facts.sources), {each.path for each in selection.files if each.kind != "dir"}


def change(root: Path, name: str, kind: str) -> set[str]:
    """Change the tree at a name and return the paths of added, removed and changed files."""
    path = root / name
    if kind == "content":
        path.write_text("other")
        return {name}
    if kind == "mode":
        path.chmod(0o600 if path.stat().st_mode & 0o777 != 0o600 else 0o755)
        return {name}
    if kind == "added":
        path.with_name("b.c.a").write_text("new")
        return {str(path.with_name("b.c.a").relative_to(root))}
    if kind == "renamed":
        path.rename(path.with_name("a.a.c"))
        return {name, str(path.with_name("a.a.c").relative_to(root))}
    path.unlink()
    if kind != "removed":
        path.symlink_to("no/where" if kind == "to link" else "no/other")
    return {name}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(NAMES, min_size=1, max_size=7, unique=True),
    st.lists(PATTERNS, min_size=1, max_size=3),
    st.lists(st.sampled_from(sorted(FORMS)), min_size=3, max_size=3),
    st.lists(LINES, max_size=4),
    KINDS,
    st.data(),
)
def test_digest_changes_only_with_files_the_builder_reads(
    names: list[str], sources: list[str], forms: list[str], lines: list[str], kind: str, data: st.DataObject
) -> None:
    text = dockerfile_of(sources, forms)
    names = [name for name in names if not any(other.startswith(f"{name}/") for other in names)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "root"
        root.mkdir()
        make(root, *names)
        before, files = seen(root, text, lines)
        assert files == {name for name in names if oracle(name, sources, lines)}

        other = root.with_name("another checkout")
        shutil.copytree(root, other, copy_function=shutil.copy)
        for path in sorted(other.rglob("*")):
            os.utime(path, (1, 1))
        assert seen(other, text, lines) == (before, files)

        name = data.draw(st.sampled_from(names))
        if kind == "dir mode":
            folder_path = (root / name).parent
            folder_path.chmod(0o750)
            if name in files and folder_path != root and any(source in {".", "*"} for source in sources):
                assert seen(root, text, lines)[0] != before
            return
        if kind == "link target":
            change(root, name, "to link")
            before, files = seen(root, text, lines)
        changed = change(root, name, kind)
        after, now = seen(root, text, lines)
        if changed & (files | now):
            assert after != before
        elif not any(path.is_symlink() for path in root.rglob("*")):
            assert kind in {"added", "removed", "renamed"} or after == before


def test_foreign_frontend_reads_ignored_files(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    parsed = parse(b"# syntax=me/front\nFROM scratch", "D")
    sources = find_facts(parsed, args={}, target_platform=AMD, build_platform=AMD).sources
    assert [entry.path for entry in context_files(tmp_path, parse_ignore(b"a"), sources)] == ["a", "b"]


def test_digest_ignores_order_and_covers_all_files(tmp_path: Path) -> None:
    files = context_files(make(tmp_path, "a", "b", "c -> a"), NONE, ALL)
    assert digest_of(files) == digest_of(reversed(files))
    assert len({digest_of(files[:count]) for count in range(4)}) == 4
