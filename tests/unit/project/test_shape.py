"""The reader of `chainbuild.yaml`, and its agreement with the JSON schema."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chainbuild import references
from chainbuild.project.schema import _PLATFORMS, LAYER, PROJECT, SCHEMA_PLACE, put_schema, schema, schema_text
from chainbuild.yamlspec.nodes import read_nodes
from chainbuild.yamlspec.rules import ListRule, Rule, TableRule
from tests.support.yaml_documents import anything, near

FILE = "chainbuild.yaml"
WHOLE = """\
platforms: [amd64, linux/arm64]
repo: acme/tools
tag: v1
base: os
production: debian:bookworm-slim
options: [stock, graphics]
layers:
  - folder: os
    image: acme/os:latest
  - {folder: release, image: acme/release, name: release, base: os, base-arg: BASEIMAGE, context: ., tests: false, \
tags: v2, dockerfile: d, image-key: a.b, packages: c, skip-packages: d, search-dirs: .,
     build-args: {RELEASE: 21.2, DEBUG: on, EMPTY: "", FROM_OUTSIDE: }}
science: {root: ., repo: acme}
registry: ghcr.io/acme
trust: {ci: "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}
registry-port: 5001
registry-data: .chainbuild/registry
builders: {aarch64: far}
context: .
build-args: {CPU: 0x10}
build-contexts: {src: ./src}
secrets: {token: {env: TOKEN}}
refresh-after: 7d
deadline: 4h30m
jobs: 2
keep-going: true
strict: true
native: {stock/*: "off", "*": check:5%}
tests: false
push: false
load: true
base-arg: BASE
"""


def told(text: str | bytes) -> list[str]:
    raw = text if isinstance(text, bytes) else text.encode()
    return [
        f"{one.where.removeprefix(FILE)}: {one.message} | {one.hint}" for one in read_nodes(raw, FILE, PROJECT).problems
    ]


def test_complete_file_is_read_with_lines() -> None:
    content = read_nodes(WHOLE.encode(), FILE, PROJECT)
    assert not content.problems
    assert set(content.values) == set(PROJECT.keys)
    assert set(content.values["layers"][1]) == set(PROJECT.keys["layers"].rule.item.keys)  # type: ignore[union-attr]
    # Args keep their spelling; YAML types do not apply.
    assert content.values["layers"][1]["build-args"] == {
        "RELEASE": "21.2",
        "DEBUG": "on",
        "EMPTY": "",
        "FROM_OUTSIDE": None,
    }
    assert content.values["build-args"] == {"CPU": "0x10"}
    assert content.line("layers", 1, "build-args", "RELEASE") == 11
    assert content.line("jobs") == 24
    assert content.line("layers", 7) == 7


def test_platform_choices_match_known_platforms() -> None:
    assert {references.Platform.parse(name).oci for name in _PLATFORMS} == {
        "/".join(part for part in ("linux", *family) if part) for family in references._FAMILIES
    }


WRONG = [
    ("", "the file is empty"),
    ("# nothing\n", "the file is empty"),
    ("- a\n", ":1: the file: expected a project, found a list"),
    ("option: stock\n", ":1: a project has no key 'option' | Perhaps you meant 'options'."),
    (
        "options: stock\nrefresh_after: 7d\n",
        ":2: a project has no key 'refresh_after' | Perhaps you meant 'refresh-after'.",
    ),
    (
        "layers:\n  - folder: a\n    image: b\n    basearg: X\n",
        ":4: a layer has no key 'basearg' | Perhaps you meant 'base-arg'.",
    ),
    ("repo: a\n", ":1: a project needs one of: options, layers, science"),
    ("layers:\n\n  - image: b\n", ":3: a layer needs 'folder'"),
    ("options: []\n", ":1: options is an empty list"),
    ("options: [a, b, a]\n", ":1: options: duplicate entry 'a'"),
    ("options: {a: b}\n", ":1: options: expected a list, found a table"),
    ("options: a\noptions: b\n", ":2: duplicate key 'options'; first set in line 1"),
    ("options: a\ntag: 1.10\n", ':2: tag: expected a tag, found a number (1.10) | Put it in quotes: "1.10".'),
    ("options: a\ntag: ''\n", ":2: tag is empty"),
    ("options: a\ntag: a b\n", ":2: tag: 'a b' is not a tag"),
    ("options: a\nplatforms: [amd65]\n", ":2: platforms[0]: 'amd65' is not a platform | Perhaps you meant 'amd64'."),
    ("options: a\nbuilders: {amd65: x}\n", ":2: builders: 'amd65' is not a platform"),
    (
        "options: a\nbuilders: [x]\n",
        ":2: builders: expected a buildx builder, or a table with a builder for each platform, found a list",
    ),
    ("options: a\ntests: yes\n", ":2: tests: expected true or false, found a string"),
    ("options: a\njobs: 0\n", ":2: jobs: 0 is out of range | Use 1 or more."),
    ("options: a\njobs: 1.5\n", ":2: jobs: expected a whole number, found a number"),
    ("options: a\nregistry-port: 70000\n", ":2: registry-port: 70000 is out of range | Use 1 to 65535."),
    ("options: a\nrefresh-after: soon\n", ":2: refresh-after: 'soon' is not a duration"),
    ("options: a\nbuild-args: {A: [b]}\n", ":2: build-args.A: expected the value of a build arg, found a list"),
    ("options: a\nbuild-args: {1A: b}\n", ":2: build-args: '1A' is not the name of an arg"),
    ("options: a\nbuild-args: [A=b]\n", ":2: build-args: expected a table, found a list"),
    ("options: a\nsecrets: {t: {file: x}}\n", ":2: a secret has no key 'file'"),
    ("options: a\n? [x]\n: y\n", ":2: a key of a project is a list"),
    ("options: a\n<<: {tag: x}\n", ":2: a project has no key '<<'"),
    ("options: !!python/object:os.system a\n", ":1: options: expected a list, found a tag:yaml.org,2002:python"),
    ("options: a\n tag: b\n", ":2: not YAML: mapping values are not allowed here"),
    ("options: [a\n", ":2: not YAML: "),
    ("options: a\n---\noptions: b\n", ":2: not YAML: but found another document"),
    ("options: a\ntag: \x07\n", "not YAML: special characters are not allowed"),
    (b"options: a\ntag: \xff\n", ":2: not UTF-8 text"),
    ("&a options: &b [*b]\n", ":1: options[0]: expected a folder, found a list"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[repr(one[0])[:50] for one in WRONG])
def test_error_has_its_line_and_nearest_key(text: str | bytes, message: str) -> None:
    found = told(text)
    assert any(message in one for one in found), found
    assert all(one.partition(" | ")[2] for one in found)


def test_errors_are_reported_together() -> None:
    found = told("option: a\ntag: [x]\njobs: many\nlayers:\n  - folder: 1\n    imag: b\n")
    assert [one.partition(" ")[0] for one in found] == [":1:", ":2:", ":3:", ":5:", ":6:", ":5:"]


# Agreement with the schema --------------------------------------------------------------------------------------------


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def test_published_schema_is_valid_and_up_to_date(repository_root: Path) -> None:
    Draft202012Validator.check_schema(schema())
    published = (repository_root / "docs/chainbuild.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), "run: python -m chainbuild.project.schema > docs/chainbuild.schema.json"


def test_keys_have_a_description() -> None:
    def about(rule: Rule) -> None:
        if isinstance(rule, TableRule):
            for name, key in rule.keys.items():
                assert re.fullmatch(r"[A-Z].*\.", key.about), name
                about(key.rule)
        if isinstance(rule, ListRule):
            about(rule.item)

    about(PROJECT)


def agree(document: Any) -> bool:
    """Check that the reader and the schema agree, and return whether the document is valid."""
    text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False, default_flow_style=False)
    problems = read_nodes(text.encode(), FILE, PROJECT).problems
    errors = [error.message for error in validator().iter_errors(document)]
    assert bool(problems) == bool(errors), (text, problems, errors)
    return not problems


def test_schema_agrees_with_reader_on_test_documents() -> None:
    assert agree(yaml.safe_load(WHOLE))
    for text, _ in WRONG:
        if isinstance(text, str) and not any(part in text for part in ("---", "<<", "? [", "yes", "\x07", "!!", "&")):
            try:
                document = yaml.safe_load(text)
            except yaml.YAMLError:
                continue
            if text.count("options:") < 2:  # a schema cannot see duplicate keys
                assert not agree(document), text


@settings(max_examples=400)
@given(near(PROJECT) | anything)
def test_reader_and_schema_agree_on_arbitrary_documents(document: Any) -> None:
    agree(document)


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(
        {"options": st.just("a")},
        optional={name: near(key.rule) for name, key in PROJECT.keys.items() if name != "options"},
    )
)
def test_reader_and_schema_agree_on_nearly_valid_documents(document: Any) -> None:
    agree(document)


def test_schema_copy_for_editors_is_written_and_updated(tmp_path: Path) -> None:
    put_schema(tmp_path)
    path = tmp_path / SCHEMA_PLACE
    assert json.loads(path.read_text())["title"] == FILE
    path.write_text("old")
    put_schema(tmp_path)
    assert path.read_text() == schema_text()
    (tmp_path / "file").touch()
    put_schema(tmp_path / "file")  # cannot be written: ignored


def test_examples_link_to_the_schema(repository_root: Path) -> None:
    for path in repository_root.glob("examples/*/chainbuild.yaml"):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        place = first.removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / place).resolve() == repository_root / "docs/chainbuild.schema.json"
        assert not read_nodes(path.read_bytes(), str(path), PROJECT).problems


def test_keys_are_documented(repository_root: Path) -> None:
    page = (repository_root / "docs/project-file.md").read_text(encoding="utf-8")
    tables = [line for line in page.splitlines() if line.startswith("| `")]
    documented = {name for line in tables for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])}
    assert documented == {*PROJECT.keys, *LAYER.keys}
