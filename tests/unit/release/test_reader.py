"""Reading and writing release plans: problems are reported together, with their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chainbuild.errors import WrongUseError
from chainbuild.references import ImageReference
from chainbuild.release.model import PlannedImage
from chainbuild.release.planning import undecided
from chainbuild.release.reader import parse_plan, read_plan
from chainbuild.release.rules import FILE_NAME, PLAN, schema
from chainbuild.release.writing import plan_text, scalar
from chainbuild.yamlspec.json_schema import as_text
from chainbuild.yamlspec.nodes import read_nodes
from tests.support.yaml_documents import anything, near
from tests.unit.release.plans import GOOD, TEXTS, A, B, parse, planned_images


def problems(text: str) -> list[str]:
    with pytest.raises(WrongUseError) as caught:
        parse(text)
    assert all(problem.line for problem in caught.value.problems)
    return [str(problem).split("\n")[0] for problem in caught.value.problems]


def left(text: str) -> list[str]:
    return [f"{problem.line}: {problem.message}" for problem in undecided(parse(text))]


def test_plan_is_read_completely() -> None:
    (image,) = parse(GOOD).images
    assert image.name == ImageReference.parse("acme/tools:v1-tools")
    assert image.to == (ImageReference.parse("ghcr.io/acme/tools:latest"),)
    assert {platform.oci: str(digest) for platform, digest in image.digests.items()} == {
        "linux/amd64": A,
        "linux/arm64": B,
    }
    assert image.replaces == {image.to[0]: None}
    assert image.warnings[0].accepted == "it has none"
    assert not undecided(parse(GOOD))


def test_plan_problems_are_reported_together_with_lines() -> None:
    text = GOOD.replace("decision: release", "decision: relase").replace(A, "sha256:12").replace("to:\n", "too:\n")
    told = problems(text + "    colour: red\n")
    assert [line.split(" ")[0] for line in told] == ["plan.yaml:5:", "plan.yaml:6:", "plan.yaml:10:", "plan.yaml:17:"]
    assert "'relase' is not a decision" in told[0]


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("tools:latest\n    note", "tools\n    note", 7, "ghcr.io/acme/tools has no tag"),
        ("tools:latest\n    note", f"tools:latest@{A}\n    note", 7, "must not have a digest"),
        ("tools:latest\n    note", "tools:k1-last-x\n    note", 7, "is reserved for machine data"),
        ("      - ghcr", "      - ghcr.io/acme/tools:latest\n      - ghcr", 8, "duplicate entry"),
        ("arm64", "x86_64", 11, "x86_64 and amd64 are the same platform"),
        ("arm64", "arm46", 11, "unknown platform 'arm46'"),
        ("acme/tools:v1-tools:", "acme//tools:v1-tools:", 4, "is not a repository name"),
        ("acme/tools:v1-tools:", f"acme/tools@{A}:", 4, "must not have a digest"),
        ('release: "2026.11"', "release: 2026.11", 2, "expected the name of the release, found a number"),
        ("plan/1", "plan/2", 1, "is not the schema"),
        ("note: for", "note: &n for", 0, ""),
        ("      amd64: " + A, "      <<: {}\n      amd64: " + A, 10, ""),
    ],
)
def test_invalid_value_is_reported_with_its_line(old: str, new: str, line: int, told: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if not line:
        parse(text)
        return
    assert any(one.startswith(f"plan.yaml:{line}: ") and told in one for one in problems(text)), problems(text)


def test_duplicate_target_error_has_the_other_image() -> None:
    image = GOOD.partition("images:\n")[2]
    other = image.replace("v1-tools", "v1-extras")
    assert problems(GOOD + other) == ["plan.yaml:20: acme/tools:v1-tools has the name ghcr.io/acme/tools:latest, too"]
    twice = image.replace("acme/tools:v1-tools", "docker.io/acme/tools:v1-tools")
    assert "plan.yaml:17: docker.io/acme/tools:v1-tools: duplicate image; first listed in line 4" in problems(
        GOOD + twice
    )


def test_yaml_aliases_are_rejected() -> None:
    assert any(
        "YAML aliases are not allowed in a release plan (*d)" in line
        for line in problems(GOOD.replace(A, f"&d {A}").replace(B, "*d"))
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file is empty"),
        ("[", "not YAML"),
        ("a: b: c", "not YAML"),
        ("[" * 2000, "not YAML"),
        ("- a", "expected a release plan"),
        ("release: x", "needs 'schema'"),
    ],
)
def test_other_document_is_rejected_as_plan(text: str, told: str) -> None:
    assert any(told in line for line in problems(text))


def test_missing_plan_error_has_the_create_command(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match="Run chainbuild release create to create it"):
        read_plan(tmp_path / "plan.yaml")
    (tmp_path / "plan.yaml").write_bytes(b"a: \xff")
    with pytest.raises(WrongUseError, match="not UTF-8"):
        read_plan(tmp_path / "plan.yaml")


# Open decisions -------------------------------------------------------------------------------------------------------


def test_undecided_lists_open_missing_and_failed_entries() -> None:
    """Like casa_distro_admin, apply refuses errors, open warnings and missing values."""
    assert left(GOOD.replace("decision: release", "decision: open")) == ["5: acme/tools:v1-tools: no decision yet"]
    assert left(GOOD.replace("accepted: it has none", "accepted:")) == ["15: acme/tools:v1-tools: no test"]
    assert left(GOOD + "    errors: [its test failed]\n") == ["17: acme/tools:v1-tools: its test failed"]
    assert left(GOOD.replace("    to:\n      - ghcr.io/acme/tools:latest\n", "    to: []\n")) == [
        "6: acme/tools:v1-tools: no image name given"
    ]
    assert left(GOOD.replace("tools:latest\n    note", "tools:stable\n    note")) == [
        "7: acme/tools:v1-tools: the plan does not say what ghcr.io/acme/tools:stable replaces"
    ]


def test_skipped_image_needs_no_decisions() -> None:
    assert left(GOOD.replace("decision: release", "decision: skip").replace("accepted: it has none", "accepted:")) == []


# Writing --------------------------------------------------------------------------------------------------------------


@given(TEXTS)
def test_arbitrary_text_is_written_as_portable_yaml(text: str) -> None:
    text = text.encode("utf-8", "replace").decode("utf-8")
    written = scalar(text)
    assert "\n" not in written
    for loader in (yaml.SafeLoader, yaml.BaseLoader):
        assert yaml.load(f"- {written}", Loader=loader) == [text]
        assert list(yaml.load(f"{written}: 1", Loader=loader)) == [text]


@settings(max_examples=50)
@given(planned_images(), TEXTS.filter(bool))
def test_written_plan_is_read_back(image: PlannedImage, release: str) -> None:
    text = plan_text(release, [image])
    assert list(Draft202012Validator(schema()).iter_errors(yaml.safe_load(text))) == []
    plan = parse(text)
    assert plan.release == release
    assert [one.as_json() for one in plan.images] == [image.as_json()]


def test_published_schema_is_up_to_date(repository_root: Path) -> None:
    Draft202012Validator.check_schema(schema())
    published = (repository_root / "docs/release_plan.schema.json").read_text(encoding="utf-8")
    wanted = "python -m chainbuild.release.rules > docs/release_plan.schema.json"
    assert published == as_text(schema()), f"run: {wanted}"


@settings(max_examples=200)
@given(near(PLAN) | anything)
def test_reader_and_schema_agree(document: Any) -> None:
    text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False, default_flow_style=False)
    found = read_nodes(text.encode(), FILE_NAME, PLAN).problems
    assert bool(found) == bool(list(Draft202012Validator(schema()).iter_errors(document))), (text, found)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_reported(raw: bytes) -> None:
    try:
        parse_plan(raw, Path("plan.yaml"), "plan.yaml")
    except WrongUseError as error:
        assert error.problems  # noqa: PT017


@given(st.data())
def test_mutated_plan_is_read_or_reported(data: st.DataObject) -> None:
    lines = GOOD.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["drop", "twice", "indent", "text", "cut"]))
        line = lines[index]
        lines[index : index + 1] = {
            "drop": [],
            "twice": [line, line],
            "indent": [f"  {line}"],
            "cut": [line.partition(":")[0]],
            "text": [line + data.draw(TEXTS)],
        }[kind] or [""]
    try:
        parse("\n".join(lines))
    except WrongUseError as error:
        assert all(problem.path == "plan.yaml" for problem in error.problems)  # noqa: PT017
