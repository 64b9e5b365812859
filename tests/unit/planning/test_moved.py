"""Which steps can be rebased: only their base has other content than in their newest record."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.model import Step, StepKind
from chainbuild.planning.moved import moved_images
from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.step_id import StepId
from chainbuild.values import replace

STEP = Step(
    id=StepId("amd64", "stock", "10-base"),
    kind=StepKind.BUILD,
    name="10-base",
    option="stock",
    number=10,
    platform=Platform.parse("amd64"),
    dockerfile=Path("Dockerfile"),
    context=Path(),
    repository=ImageReference.parse("localhost:5000/team/app"),
    tag="v1",
)
BEFORE = Components(
    dockerfile="FROM x", platform="linux/amd64", images={"BASE_IMAGE": "sha256:1", "tool:1": "sha256:2"}
)
LAST = Record(
    key=BEFORE.key,
    step=STEP.id,
    family=STEP.family,
    image=Digest("sha256:" + 64 * "a"),
    identity="",
    size=0,
    added=0,
    seconds=0.0,
    built_at=0.0,
    components=BEFORE,
)


def now(**images: str) -> Components:
    return replace(BEFORE, images={**BEFORE.images, **{name.replace("__", ":"): text for name, text in images.items()}})


def test_step_whose_base_moved_can_be_rebased() -> None:
    assert moved_images(STEP, LAST, now(BASE_IMAGE="sha256:9")) == ("BASE_IMAGE",)


@pytest.mark.parametrize(
    "components",
    [
        BEFORE,
        now(tool__1="sha256:9"),
        now(BASE_IMAGE="sha256:9", tool__1="sha256:9"),
        now(BASE_IMAGE="scratch"),
        replace(now(BASE_IMAGE="sha256:9"), dockerfile="FROM y"),
        replace(now(BASE_IMAGE="sha256:9"), args={"A": "1"}),
        replace(now(BASE_IMAGE="sha256:9"), files={"a": "file 644 x"}),
    ],
)
def test_step_with_any_other_change_cannot_be_rebased(components: Components) -> None:
    assert moved_images(STEP, LAST, components) == ()


def test_step_without_a_record_or_without_a_build_cannot_be_rebased() -> None:
    assert moved_images(STEP, None, now(BASE_IMAGE="sha256:9")) == ()
    assert moved_images(replace(STEP, kind=StepKind.JOIN), LAST, now(BASE_IMAGE="sha256:9")) == ()
