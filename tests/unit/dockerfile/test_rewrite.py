"""Replacing words of a Dockerfile, without changing other bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.dockerfile.model import ImageWordPosition, Instruction
from chainbuild.dockerfile.rewrite import Edit, add_run_flags, apply_edits, edits_for, image_words, pin_images
from tests.support.dockerfiles import dockerfiles

PIN = "localhost:5000/team/x@sha256:" + "f" * 64
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("before", "places", "after"),
    [
        ("FROM golang AS golang", [ImageWordPosition(1)], "FROM {} AS golang"),
        ("from\tgolang  as x", [ImageWordPosition(1)], "from\t{}  as x"),
        ("ARG X\nFROM ${X:-golang}", [ImageWordPosition(2)], "ARG X\nFROM {}"),
        ('FROM --platform=$BUILDPLATFORM "golang"', [ImageWordPosition(1)], "FROM --platform=$BUILDPLATFORM {}"),
        ("FROM a\nFROM b\nCOPY --from=a x /", [ImageWordPosition(3, 0)], "FROM a\nFROM b\nCOPY --from={} x /"),
        ("FROM a\nCOPY --link --from='b' x /", [ImageWordPosition(2, 1)], "FROM a\nCOPY --link --from='{}' x /"),
        ('FROM a\nCOPY --fr"om=b" x /', [ImageWordPosition(2, 0)], 'FROM a\nCOPY --fr"om={}" x /'),
        ("FROM a\nCOPY --from=b\\\\c x /", [ImageWordPosition(2, 0)], "FROM a\nCOPY --from={} x /"),
        (
            "FROM a\nRUN --mount=type=bind,from=b,target=/t x",
            [ImageWordPosition(2, 0)],
            "FROM a\nRUN --mount=type=bind,from={},target=/t x",
        ),
        (
            'FROM a\nRUN --mount=\\"from=b\\",target=/t x',
            [ImageWordPosition(2, 0)],
            'FROM a\nRUN --mount=\\"from={}\\",target=/t x',
        ),
        (
            "FROM a\nRUN --network=none --mount=from=b,from=c x",
            [ImageWordPosition(2, 1)],
            "FROM a\nRUN --network=none --mount=from=b,from={} x",
        ),
        ("FROM deb\\\nian\nRUN x", [ImageWordPosition(1)], "FROM \\\n{}\nRUN x"),
        (
            "FROM deb\\ \n# comment\n\nian AS \\\nx\nRUN x",
            [ImageWordPosition(1)],
            "FROM \\ \n# comment\n\n{} AS \\\nx\nRUN x",
        ),
        ("FROM a\nCOPY --from=b\\\n\\\nc x /", [ImageWordPosition(2, 0)], "FROM a\nCOPY --from=\\\n\\\n{} x /"),
        ("# escape=`\nFROM deb`\nian", [ImageWordPosition(2)], "# escape=`\nFROM `\n{}"),
        (
            "\ufeffFROM a\r\nCOPY --from=a x /\r\n",
            [ImageWordPosition(1), ImageWordPosition(2, 0)],
            "\ufeffFROM {}\r\nCOPY --from={} x /\r\n",
        ),
        ("FROM a\nRUN <<E\nFROM a\nE\nFROM a", [ImageWordPosition(5)], "FROM a\nRUN <<E\nFROM a\nE\nFROM {}"),
        ("FROM a\nCOPY --chown=é --from=b x /", [ImageWordPosition(2, 1)], "FROM a\nCOPY --chown=é --from={} x /"),
    ],
)
def test_pin_images_replaces_words_at_their_positions_only(
    before: str, places: list[ImageWordPosition], after: str
) -> None:
    got = pin_images(before.encode(), dict.fromkeys(places, PIN))
    assert got == after.replace("{}", PIN).encode()


def test_pin_images_gives_equal_names_different_references() -> None:
    raw = b"FROM --platform=linux/arm64 debian AS a\nFROM debian\n"
    got = pin_images(raw, {ImageWordPosition(1): "r/a@sha256:1", ImageWordPosition(2): "r/b@sha256:2"})
    assert got == b"FROM --platform=linux/arm64 r/a@sha256:1 AS a\nFROM r/b@sha256:2\n"


@pytest.mark.parametrize("reference", ["", "a b", "a$b", "a,b", 'a"b', "a\\b", "<digest of x>", "a\n"])
def test_pin_images_refuses_references_that_need_quotes(reference: str) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        pin_images(b"FROM a", {ImageWordPosition(1): reference})


def test_pin_images_without_word_at_the_position_is_an_error() -> None:
    with pytest.raises(KeyError):
        pin_images(b"FROM a\nRUN x", {ImageWordPosition(2, 0): PIN})


def test_onbuild_triggers_have_no_image_words() -> None:
    parsed = parse(b"FROM a\nONBUILD COPY --from=b x /\nONBUILD RUN --mount=from=c,target=/c x", "D")
    assert set(image_words(parsed)) == {ImageWordPosition(1)}


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([Edit(0, 2, ""), Edit(1, 3, "")], "overlap"),
        ([Edit(0, 9, "")], "overlap"),
        ([Edit(2, 4, "")], "number of lines"),
        ([Edit(0, 0, "\n")], "number of lines"),
    ],
)
def test_apply_edits_rejects_invalid_edits(edits: list[Edit], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_edits(b"abc\ndef", edits)


def test_edits_insert_a_flag_into_a_continued_run() -> None:
    raw = b"FROM a\nRUN \\\n  # c\n  make \\\n  all\n"
    (run,) = parse(raw, "D").stages[0].instructions
    (edit,) = edits_for(run, [(4, 5)], " ")
    assert raw[edit.start : edit.end] == b" "
    assert apply_edits(raw, [Edit(edit.start, edit.start, "--mount=type=cache,target=/c ")]) == (
        b"FROM a\nRUN \\\n  # c\n--mount=type=cache,target=/c   make \\\n  all\n"
    )


def meaning(found: Instruction, text: dict[ImageWordPosition, str]) -> object:
    """Return an instruction with its replaced words restored."""
    flags = []
    for index, flag in enumerate(found.flags):
        original = text.get(ImageWordPosition(found.line, index))
        value = flag.value.replace(PIN, original) if original is not None and flag.value else flag.value
        flags.append((flag.name, value))
    words = found.words
    if found.keyword == "FROM" and ImageWordPosition(found.line) in text:
        words = (text[ImageWordPosition(found.line)], *words[1:])
    rest = "" if found.keyword == "FROM" else found.rest
    return found.keyword, found.line, found.end_line, flags, words, found.json, found.heredocs, rest, found.trigger


def instructions(parsed: Dockerfile) -> Iterator[Instruction]:
    for stage in parsed.stages:
        assert stage.head is not None
        yield stage.head
        yield from stage.instructions


def check(raw: bytes, chosen: set[int] | None = None) -> None:
    before = parse(raw, "D")
    words = [word for at, word in enumerate(image_words(before).values()) if chosen is None or at in chosen]
    rewritten = pin_images(raw, {word.place: PIN for word in words})
    after = parse(rewritten, "D")
    text = {word.place: word.text for word in words}
    assert rewritten.count(b"\n") == raw.count(b"\n")
    if before.problems:
        return  # An invalid Dockerfile is rejected before the build, so the result is not used.
    assert (after.syntax, after.escape, after.check) == (before.syntax, before.escape, before.check)
    assert after.global_args == before.global_args
    assert not after.problems
    assert [meaning(found, text) for found in instructions(after)] == [
        meaning(found, {}) for found in instructions(before)
    ]
    for word in words:
        assert image_words(after)[word.place].text == PIN
    back = rewritten.replace(PIN.encode(), b"")
    pieces = {edit.start: edit for word in words for edit in word.edits}
    assert len(back.decode("utf-8", "surrogateescape")) == len(raw.decode("utf-8", "surrogateescape")) - sum(
        edit.end - edit.start for edit in pieces.values()
    )


@settings(max_examples=400)
@given(dockerfiles(), st.none() | st.sets(st.integers(0, 8)))
def test_pin_images_of_arbitrary_dockerfile_keeps_other_text(raw: bytes, chosen: set[int] | None) -> None:
    check(raw, chosen)


EXAMPLES = sorted(
    path
    for folder in ("atom", "examples", "extras", "graphics", "stock", "tests/cases", "utilities")
    for path in (ROOT / folder).rglob("*Dockerfile*")
    if path.is_file() and path.suffix != ".dockerignore"
)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pin_images_of_repository_dockerfiles_keeps_other_text(path: Path) -> None:
    raw = path.read_bytes()
    check(raw)
    check(raw.replace(b"\n", b"\r\n"))


def test_example_dockerfiles_are_found() -> None:
    assert len(EXAMPLES) > 30


MOUNTS = ("--mount=type=bind,from=localhost:5000/t@sha256:0,source=/a,target=/.a", "--mount=type=tmpfs,target=/b")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("FROM a\nRUN make", "FROM a\nRUN{} make"),
        ("FROM a\nrun\tmake", "FROM a\nrun{}\tmake"),
        ("FROM a\nRUN \\\n  # c\n  make \\\n  all\n", "FROM a\nRUN{} \\\n  # c\n  make \\\n  all\n"),
        ("FROM a\nRUN\\\n make", "FROM a\nRUN{}\\\n make"),
        ("FROM a\nRU\\\nN make", "FROM a\nRU\\\nN{} make"),
        ("FROM a\nRUN --network=none --mount=target=/x make", "FROM a\nRUN{} --network=none --mount=target=/x make"),
        ('FROM a\nRUN ["make"]', 'FROM a\nRUN{} ["make"]'),
        ("FROM a\nRUN <<E\nRUN x\nE\nRUN y\r\n", "FROM a\nRUN{} <<E\nRUN x\nE\nRUN{} y\r\n"),
        ("FROM a\nONBUILD RUN x\nCOPY a b\n", "FROM a\nONBUILD RUN x\nCOPY a b\n"),
        ("# escape=`\nFROM a\nRUN `\n  make", "# escape=`\nFROM a\nRUN{} `\n  make"),
    ],
)
def test_add_run_flags_writes_after_the_keyword_of_each_run(before: str, after: str) -> None:
    added = "".join(f" {mount}" for mount in MOUNTS)
    assert add_run_flags(before.encode(), dict.fromkeys(range(100), MOUNTS)) == after.replace("{}", added).encode()


def test_add_run_flags_changes_only_the_lines_asked_for() -> None:
    raw = b"FROM a\nRUN x\nFROM b\nRUN y\nFROM c\nRUN z\n"
    flags = {1: ["--mount=a"], 4: ["--network=none"], 5: ["--mount=b"], 6: ["--mount=c", "--mount=d"]}
    written = raw.replace(b"RUN y", b"RUN --network=none y").replace(b"RUN z", b"RUN --mount=c --mount=d z")
    assert add_run_flags(raw, flags) == written


def test_add_run_flags_keeps_variables() -> None:
    flag = "--mount=type=secret,id=a,target=${A}/$B"
    assert add_run_flags(b"FROM a\nRUN x", {2: [flag]}) == f"FROM a\nRUN {flag} x".encode()


@pytest.mark.parametrize(
    "flag", ["--mount=a b", "--mount=`x`", "mount", '--mount="a"', "--mount=a\\", "--mount=a\nRUN"]
)
def test_add_run_flags_refuses_flags_that_need_quotes(flag: str) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        add_run_flags(b"FROM a\nRUN x", {2: [flag]})


def without_flags(found: Instruction, flags: int) -> tuple[object, ...]:
    """Return what an instruction means, without its first flags, and the lines it is on."""
    rest = found.rest, found.words, found.json, found.heredocs, found.trigger, found.older
    return found.keyword, found.line, found.end_line, found.flags[flags:], *rest


@given(raw=dockerfiles(), data=st.data())
def test_dockerfile_with_added_flags_parses_to_the_same_but_for_them(raw: bytes, data: st.DataObject) -> None:
    before = parse(raw, "D")
    lines = [found.line for stage in before.stages for found in stage.instructions]
    chosen = data.draw(st.sets(st.sampled_from([0, *lines])))
    after = parse(add_run_flags(raw, dict.fromkeys(chosen, MOUNTS)), "D")
    assert (after.problems, after.syntax, after.global_args) == (before.problems, before.syntax, before.global_args)
    assert len(after.stages) == len(before.stages)
    for stage, same in zip(before.stages, after.stages, strict=True):
        assert (stage.name, stage.base, stage.platform, stage.line) == (same.name, same.base, same.platform, same.line)
        for old, new in zip(stage.instructions, same.instructions, strict=True):
            added = 2 if old.keyword == "RUN" and old.line in chosen else 0
            assert without_flags(new, added) == without_flags(old, 0)
            assert not added or [f"--{flag.name}={flag.value}" for flag in new.flags[:2]] == list(MOUNTS)
    text = "".join(f" {mount}" for mount in MOUNTS).encode()
    assert add_run_flags(raw, dict.fromkeys(chosen, MOUNTS)).replace(text, b"") == raw
