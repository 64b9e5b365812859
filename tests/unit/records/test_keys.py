"""Step keys: what changes them, what does not, and how a change is told."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.records.keys import Components, changed_lines, changes
from chainbuild.values import replace

TEXT = st.text(max_size=20)
# What a Dockerfile that is not UTF-8 becomes: bytes that stand for themselves.
RAW = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
MAPPING = st.dictionaries(TEXT, TEXT, max_size=4)
COMPONENTS = st.builds(
    Components,
    dockerfile=RAW,
    platform=TEXT,
    target=TEXT,
    args=MAPPING,
    images=MAPPING,
    contexts=MAPPING,
    files=st.dictionaries(RAW, TEXT, max_size=4),
    remotes=MAPPING,
    secrets=st.lists(TEXT, max_size=3).map(tuple),
    facts=MAPPING,
)
ONE = Components(
    dockerfile="ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN one\nRUN two\n",
    platform="linux/amd64",
    args={"CPU": "HASWELL", "JOBS": "4"},
    images={"BASE_IMAGE": "sha256:" + "a" * 64},
    contexts={"sources": "https://example.com/a.git"},
    files={"src": "dir 755 ", "src/a.c": "file 644 " + "1" * 64, "src/link": "symlink 777 a.c"},
    remotes={"https://example.com/x.tar": "etag: 1"},
    secrets=("token",),
    facts={"finish": "1"},
)


@given(COMPONENTS)
def test_json_keeps_everything(components: Components) -> None:
    text = json.dumps(components.as_json())
    assert Components.from_json(json.loads(text)) == components
    assert Components.from_json(json.loads(text)).key == components.key


@given(COMPONENTS, COMPONENTS)
def test_keys_are_equal_only_if_all_components_are(one: Components, other: Components) -> None:
    assert (one.key == other.key) == (one == other)
    assert bool(changes(one, other)) == (one != other)


@given(COMPONENTS, st.data())
def test_changing_any_component_changes_the_key_and_is_reported(before: Components, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(Components.__struct_fields__))
    old = getattr(before, name)
    new: Any
    if isinstance(old, str):
        new = data.draw(RAW.filter(lambda text: text != old))
    elif isinstance(old, tuple):
        new = data.draw(st.lists(TEXT, max_size=3).map(tuple).filter(lambda texts: texts != old))
    else:
        new = data.draw(MAPPING.filter(lambda texts: texts != old))
    now = replace(before, **{name: new})
    assert now.key != before.key
    assert changes(before, now)
    assert changes(before, before) == ()


@given(COMPONENTS)
def test_key_is_a_tag_independent_of_mapping_order(components: Components) -> None:
    assert re.fullmatch(r"k1-[0-9a-f]{64}", components.key)
    turned = replace(components, args=dict(reversed(list(components.args.items()))))
    assert turned.key == components.key


def test_key_is_pinned() -> None:
    """A key that moves without need builds everything again, everywhere: this is the canonical form."""
    assert ONE.key == "k1-" + ONE_HEX


ONE_HEX = "84ce4a220b9a1db0a51fe0464f3367da7ec264c44c707dcf8dda29e095512d33"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dockerfile": ONE.dockerfile.replace("two", "three")}, "Dockerfile changed (line 4)"),
        ({"dockerfile": ONE.dockerfile + "RUN three\nRUN four\n"}, "Dockerfile changed (lines 5-6)"),
        ({"dockerfile": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"}, "Dockerfile changed (lines removed after line 2)"),
        ({"dockerfile": ONE.dockerfile.replace("\n", "\r\n")}, "Dockerfile changed (line ends)"),
        ({"target": "slim"}, "target changed from the last stage to slim"),
        ({"platform": "linux/arm64"}, "platform changed from linux/amd64 to linux/arm64"),
        ({"args": {"CPU": "ZEN", "JOBS": "4"}}, 'arg CPU changed from "HASWELL" to "ZEN"'),
        ({"args": {"CPU": "HASWELL"}}, 'arg JOBS removed (was "4")'),
        ({"args": {**ONE.args, "MORE": "1"}}, 'arg MORE added ("1")'),
        ({"files": {**ONE.files, "src/a.c": "file 644 " + "2" * 64}}, "file src/a.c changed"),
        ({"files": {**ONE.files, "src/a.c": "file 755 " + "1" * 64}}, "file src/a.c mode changed from 644 to 755"),
        (
            {"files": {**ONE.files, "src/a.c": "file 755 " + "2" * 64}},
            "file src/a.c changed, and its mode changed from 644 to 755",
        ),
        ({"files": {**ONE.files, "src/a.c": "symlink 777 b.c"}}, "file src/a.c changed from file to symlink"),
        ({"files": {**ONE.files, "src/link": "symlink 777 b.c"}}, "file src/link changed"),
        ({"files": {**ONE.files, "src/b.c": "file 644 " + "3" * 64}}, "file src/b.c added"),
        ({"files": {"src": "dir 755 ", "src/a.c": ONE.files["src/a.c"]}}, "file src/link removed"),
        ({"contexts": {}}, 'context sources removed (was "https://example.com/a.git")'),
        (
            {"remotes": {"https://example.com/x.tar": "etag: 2"}},
            'remote content https://example.com/x.tar changed from "etag: 1" to "etag: 2"',
        ),
        ({"secrets": ()}, "secrets changed from token to none"),
        ({"secrets": ("other", "token")}, "secrets changed from token to other, token"),
        ({"facts": {"finish": "2"}}, 'finish changed from "1" to "2"'),
        ({"images": {"BASE_IMAGE": "sha256:" + "b" * 64}}, "BASE_IMAGE changed from aaaaaaaaaaaa to bbbbbbbbbbbb"),
    ],
)
def test_change_is_described(change: dict[str, Any], told: str) -> None:
    assert changes(ONE, replace(ONE, **change)) == (told,)


def test_many_files_are_counted() -> None:
    now = replace(ONE, files={**ONE.files, **{f"new/{number}": "file 644 x" for number in range(10)}})
    assert changes(ONE, now) == ("file new/0 added", "file new/1 added", "file new/2 added", "and 7 more files")


def test_change_closest_to_the_user_comes_first() -> None:
    now = replace(ONE, dockerfile="FROM scratch\n", args={}, files={}, images={})
    kinds = [text.split()[0] for text in changes(ONE, now)]
    assert kinds == ["Dockerfile", "arg", "arg", "file", "file", "file", "BASE_IMAGE"]


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("a\nb\nc\n", "a\nX\nc\n", "line 2"),
        ("a\nb\nc\n", "X\nb\nX\n", "lines 1, 3"),
        ("a\nb\nc\nd\ne\n", "a\nX\nc\n", "line 2, lines removed after line 3"),
        ("a\nb\nc\nd\ne\nf\ng\nh\n", "A\nb\nC\nd\nE\nf\nG\nh\n", "lines 1, 3, 5, …"),
        ("a\n", "", "lines removed before line 1"),
        ("", "a\n", "line 1"),
        ("a", "a\n", "line ends"),
    ],
)
def test_changed_lines(before: str, now: str, told: str) -> None:
    assert changed_lines(before, now) == told


@given(RAW, RAW)
def test_changed_lines_always_says_something(before: str, now: str) -> None:
    assert changed_lines(before, now)


def test_long_values_of_inputs_are_shortened() -> None:
    now = replace(ONE, contexts={"sources": "https://example.com/" + "a" * 100})
    assert len(changes(ONE, now)[0]) < 140
