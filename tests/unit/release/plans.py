"""Release plans as text and as values."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.release.model import Difference, PlannedImage, ReleasePlan, Warned
from chainbuild.release.reader import parse_plan

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64

GOOD = f"""\
schema: chainbuild.release-plan/1
release: "2026.11"
images:
  acme/tools:v1-tools:
    decision: release
    to:
      - ghcr.io/acme/tools:latest
    note: for the summer school
    digests:
      amd64: {A}
      arm64: {B}
    replaces:
      ghcr.io/acme/tools:latest: nothing
    warnings:
      - says: no test
        accepted: it has none
"""


def parse(text: str) -> ReleasePlan:
    return parse_plan(text.encode("utf-8"), Path("plan.yaml"), "plan.yaml")


TEXTS = st.text(
    st.one_of(
        st.sampled_from(" #:-'\"\\{}[],&*!|>%@`\t\n\r\x85\u2028\ufeff\x1b→~?="),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=30,
)

LINES = st.lists(TEXTS.filter(bool), max_size=3, unique=True).map(tuple)

DIGESTS = st.sampled_from([Digest(A), Digest(B)])

PLATFORMS = st.sampled_from([Platform.parse("amd64"), Platform.parse("aarch64")])

NAMES = st.sampled_from([ImageReference.parse(f"ghcr.io/acme/tools:{tag}") for tag in ("1", "2", "latest")])


@st.composite
def planned_images(draw: st.DrawFn, name: str = "acme/tools:v1") -> PlannedImage:
    differences = st.builds(
        Difference, to=TEXTS, size=TEXTS, packages=LINES, python=LINES, configuration=LINES, steps=LINES, files=TEXTS
    )
    warnings = draw(st.lists(st.builds(Warned, says=TEXTS.filter(bool), accepted=TEXTS), max_size=3))
    return PlannedImage(
        name=ImageReference.parse(name),
        decision=draw(st.sampled_from(["open", "release", "skip"])),
        to=tuple(draw(st.lists(NAMES, max_size=2, unique=True))),
        note=draw(TEXTS),
        digests=draw(st.dictionaries(PLATFORMS, DIGESTS, min_size=1)),
        replaces=draw(st.dictionaries(NAMES, st.one_of(st.none(), DIGESTS))),
        differences=draw(st.dictionaries(st.sampled_from(["amd64", "aarch64"]), differences)),
        tests=draw(st.dictionaries(st.sampled_from(["amd64", "aarch64"]), LINES)),
        errors=draw(LINES),
        warnings=tuple(warnings),
    )
