"""Whether a step's parent can be the result of another build of the same solve."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.builder.links import parent_context
from chainbuild.dockerfile import Facts, ParentConfig, find_facts, parse
from chainbuild.model import ImageInput, Step, StepKind
from chainbuild.references import ImageReference
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import AMD64, ARM64

PARENT = ImageInput(name="BASE_IMAGE", source=StepId.parse("amd64/stock/10-base"), platform=AMD64)
STEP = Step(
    id=StepId.parse("amd64/stock/20-blas"),
    kind=StepKind.BUILD,
    name="20-blas",
    option="stock",
    number=20,
    platform=AMD64,
    dockerfile=Path("Dockerfile"),
    context=Path(),
    images=(PARENT,),
    repository=ImageReference.parse("localhost:5000/team/atom"),
    tag="v1",
)


def facts(text: str) -> Facts:
    return find_facts(
        parse(text.encode(), "Dockerfile"),
        args={"BASE_IMAGE": "parent"},
        target_platform=AMD64,
        build_platform=AMD64,
        parents={("parent", AMD64.oci): ParentConfig(env=("A=1",), onbuild=())},
    )


def name(text: str, step: Step = STEP) -> str:
    return parent_context(step, text.encode(), facts(text))


@pytest.mark.parametrize(
    "text",
    [
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN x\n",
        "ARG BASE_IMAGE=debian\nFROM $BASE_IMAGE AS one\nRUN x\nFROM ${BASE_IMAGE:-debian}\nCOPY --from=one / /\n",
        "# BASE_IMAGE is the parent\nARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG OTHER_BASE_IMAGE\nRUN $OTHER_BASE_IMAGE\n",
    ],
)
def test_dockerfile_with_parent_in_from_only_is_linked(text: str) -> None:
    found = name(text)
    assert found.startswith("chainbuild-parent-")
    assert found not in text
    assert name(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG BASE_IMAGE\nRUN x\n",
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nONBUILD ARG BASE_IMAGE\n",
        "ARG BASE_IMAGE\nARG NAME=$BASE_IMAGE\nFROM ${NAME}\n",
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}-slim\n",
        "ARG BASE_IMAGE\nFROM --platform=$BUILDPLATFORM ${BASE_IMAGE}\n",
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN <<END\necho BASE_IMAGE\nEND\n",
        "# syntax=other/frontend\nARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n",
        "FROM scratch\n",
    ],
)
def test_dockerfile_with_parent_elsewhere_is_not_linked(text: str) -> None:
    assert name(text) == ""


def test_only_the_parent_of_the_same_platform_is_linked() -> None:
    text = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
    assert name(text, replace(STEP, images=(replace(PARENT, platform=ARM64),))) == ""
    assert name(text, replace(STEP, images=(replace(PARENT, as_context=True),))) == ""
    assert name(text, replace(STEP, images=(PARENT, replace(PARENT, name="OTHER")))) == ""
    assert name(text, replace(STEP, parent="OTHER")) == ""


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("FROM $BASE_IMAGE\n", {"A": "1"}),
        ("FROM $BASE_IMAGE\nARG X=2\nENV B=$X A=$A$X\n", {"A": "12", "B": "2"}),
        ("FROM $BASE_IMAGE AS a\nARG X=2\nENV B=1\nFROM a\nENV C=$X\n", {"A": "1", "B": "1", "C": "2"}),
        ("FROM scratch\nENV B=1\n", {"B": "1"}),
        ("FROM other\nENV B=1\n", None),
        ("FROM $BASE_IMAGE\nENV $(x)=1\n", {"A": "1", "$(x)": "1"}),
    ],
)
def test_environment_of_the_result_is_predicted(text: str, env: dict[str, str] | None) -> None:
    found = facts(f"ARG BASE_IMAGE\n{text}").env
    assert (found and {key: value for key, _, value in (one.partition("=") for one in found) if key != "PATH"}) == env
