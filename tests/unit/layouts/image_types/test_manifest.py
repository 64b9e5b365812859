"""The reader of `casa_distro_docker.yaml`, and its agreement with the JSON schema."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chainbuild.layouts.image_types.dependencies import place_of
from chainbuild.layouts.image_types.manifest import IMAGE_TYPE, MANIFEST, read_manifest, schema
from chainbuild.yamlspec.json_schema import as_text
from chainbuild.yamlspec.nodes import read_nodes
from tests.support.yaml_documents import anything, near

DOCUMENTED = """\
dependencies:
    - ../../casa-dev
image_sources:
  - name: pytorch
    tags:
      - ubuntu-16.04
    visibility: public
"""


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def told(text: str) -> list[str]:
    problems: list[Any] = []
    read_manifest(text.encode(), MANIFEST, problems)
    return [str(one).split("\n")[0] for one in sorted(problems)]


def test_documented_manifest_is_read() -> None:
    problems: list[Any] = []
    manifest = read_manifest(DOCUMENTED.encode(), MANIFEST, problems)
    assert not problems
    assert manifest.dependencies == ((2, "../../casa-dev"),)
    (source,) = manifest.sources
    assert (source.name, source.tags, source.visibility, source.parameters) == (
        "pytorch",
        ("ubuntu-16.04",),
        "public",
        (),
    )
    assert not list(validator().iter_errors(yaml.safe_load(DOCUMENTED)))


def test_visibility_defaults_to_private() -> None:
    (source,) = read_manifest(b"image_sources: [{name: a, tags: [b]}]", MANIFEST, []).sources
    assert source.visibility == "private"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [":1: the file is empty"]),
        ("dependencies: [../../a]\n", [":1: an image type needs 'image_sources'"]),
        ("image_source: []\n", [":1: an image type has no key 'image_source'", ":1: an image type needs"]),
        ("image_sources:\n - name: a\n   tag: [x]\n", [":2: an image needs 'tags'", ":3: an image has no key 'tag'"]),
        (
            "image_sources:\n - name: a\n   tags: [2.10]\n",
            [":3: image_sources[0].tags[0]: expected a tag, found a number"],
        ),
        (
            "image_sources:\n - name: a\n   tags: [x]\n   visibility: secret\n",
            [":4: image_sources[0].visibility: 'secret'"],
        ),
        ("image_sources:\n - name: a\n   tags: []\n", [":3: image_sources[0].tags is an empty list"]),
        ("image_sources: {name: a}\n", [":1: image_sources: expected a list"]),
        ("a: [\n", [":2: not YAML"]),
    ],
)
def test_manifest_errors_have_lines(text: str, expected: list[str]) -> None:
    found = told(text)
    assert len(found) == len(expected)
    for one, start in zip(found, expected, strict=True):
        assert one.startswith(f"{MANIFEST}{start}")


def test_published_schema_is_up_to_date(repository_root: Path) -> None:
    Draft202012Validator.check_schema(schema())
    published = (repository_root / "docs/casa_distro_docker.schema.json").read_text(encoding="utf-8")
    wanted = "python -m chainbuild.layouts.image_types.manifest > docs/casa_distro_docker.schema.json"
    assert published == as_text(schema()), f"run: {wanted}"


@settings(max_examples=300)
@given(near(IMAGE_TYPE) | anything)
def test_reader_and_schema_agree(document: Any) -> None:
    text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False, default_flow_style=False)
    problems = read_nodes(text.encode(), MANIFEST, IMAGE_TYPE).problems
    assert bool(problems) == bool(list(validator().iter_errors(document))), (text, problems)


def test_example_manifests_link_to_schema(repository_root: Path) -> None:
    paths = list(repository_root.glob("examples/types/share/docker/*/*/casa_distro_docker.yaml"))
    assert len(paths) == 4
    for path in paths:
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        place = first.removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / place).resolve() == repository_root / "docs/casa_distro_docker.schema.json"
        problems: list[Any] = []
        read_manifest(path.read_bytes(), str(path), problems)
        assert not problems


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_reported(raw: bytes) -> None:
    problems: list[Any] = []
    manifest = read_manifest(raw, MANIFEST, problems)
    assert problems or manifest.sources


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("../../casa-dev", "casa-dev"),
        ("../../casa-dev/ubuntu-22.04/", "casa-dev/ubuntu-22.04"),
        ("../other", "a/other"),
        ("../..", ""),
        (".", "a/b"),
        ("./../../c/./d", "c/d"),
        ("../../..", None),
        ("../../../outside", None),
        ("/etc", None),
    ],
)
def test_dependency_path_resolves_within_roots(path: str, place: str | None) -> None:
    assert place_of("a/b", path) == place
