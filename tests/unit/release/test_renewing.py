"""Renewing a plan: text written by people is kept byte for byte, and no comment is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.release.model import Difference, PlannedImage, Warned
from chainbuild.release.reader import parse_plan
from chainbuild.release.renewing import renew, with_comments
from chainbuild.release.rules import WRITTEN
from chainbuild.release.writing import plan_text
from chainbuild.values import replace
from tests.unit.release.plans import A, B, planned_images

AMD64 = Platform.parse("amd64")


def images(raw: bytes | str) -> dict[str, PlannedImage]:
    raw = raw.encode() if isinstance(raw, str) else raw
    return {image.key: image for image in parse_plan(raw, Path("plan.yaml"), "plan.yaml").images}


def renewed(text: str, *now: PlannedImage) -> str:
    raw = renew(
        text.encode(),
        "plan.yaml",
        {image.key: image for image in now if image.key},
        [image for image in now if not image.key],
    )
    return raw.decode()


TEXT = f"""\
# Ours. Ask Ann.
schema: chainbuild.release-plan/1
release: "2026.11"   # the summer school's

images:
  # the small one
  acme/tools:v1-tools:   # Bob's
    digests:
      # built by hand, on the big machine
      amd64: {A}  # checked by Ann
    decision: release  # Ann, 2026-11-20
    # for everybody
    to: [ghcr.io/acme/tools:latest]   # the moving one
    note: |
      # this is text
      and so is this
    warnings:
      - says: no test
        # Bob found that
        accepted: it has none  # agreed
      - says: built by hand
        accepted: yes indeed
    replaces: {{ghcr.io/acme/tools:latest: nothing}}

  # the big one, which nobody may touch
  acme/tools:v1-extras:
    decision: open
    digests: {{amd64: {B}}}
# the end
"""


def test_renew_keeps_other_parts_byte_for_byte() -> None:
    """Like casa's update: selected images are refreshed; comments, order, quotes and empty lines are kept."""
    image = images(TEXT)["acme/tools:v1-tools"]
    assert image.note == "# this is text\nand so is this\n"
    now = replace(
        image,
        digests={AMD64: Digest(B)},
        decision="open",
        replaces={image.to[0]: Digest(A)},
        differences={"amd64": Difference(size="1 B", packages=("libc6 1 → 2",))},
        warnings=(Warned(says="no test", accepted="it has none"), Warned(says="20 % larger")),
    )
    text = renewed(TEXT, now)
    assert text == TEXT.replace(
        f"      amd64: {A}  # checked by Ann\n", f"      amd64: {B}\n      # checked by Ann\n"
    ).replace("decision: release  #", "decision: open  #").replace(
        "    replaces: {ghcr.io/acme/tools:latest: nothing}\n",
        f"    replaces:\n      ghcr.io/acme/tools:latest: {A}\n"
        '    differences:\n      amd64:\n        size: "1 B"\n        packages:\n          - libc6 1 → 2\n',
    ).replace(
        "      - says: built by hand\n        accepted: yes indeed\n",
        '      - says: "20 % larger"\n        accepted:  # the reason why it is fine\n',
    ).replace(
        "      # built by hand, on the big machine\n" + f"      amd64: {B}\n      # checked by Ann\n",
        f"      amd64: {B}\n      # built by hand, on the big machine\n      # checked by Ann\n",
    )
    assert images(text)["acme/tools:v1-tools"].as_json() == now.as_json()
    assert images(text)["acme/tools:v1-extras"].as_json() == images(TEXT)["acme/tools:v1-extras"].as_json()


def test_renew_of_unchanged_image_changes_no_byte() -> None:
    text = TEXT.replace(
        "    replaces: {ghcr.io/acme/tools:latest: nothing}\n",
        "    replaces:\n      ghcr.io/acme/tools:latest: nothing\n",
    )
    assert renewed(text, images(text)["acme/tools:v1-tools"]) == text
    for raw in (text.replace("\n", "\r\n"), "\ufeff" + text):
        assert renewed(raw, images(raw)["acme/tools:v1-tools"]) == raw
    bare = text.rstrip("\n").removesuffix("\n# the end")
    assert renewed(bare, images(bare)["acme/tools:v1-tools"]) == bare


def test_added_image_follows_the_last_image() -> None:
    new = PlannedImage(name=ImageReference.parse("acme/new:1"), decision="open", digests={AMD64: Digest(A)})
    for text in (TEXT, TEXT.removesuffix("\n# the end\n")):
        after = renewed(text, new)
        assert [*images(after)] == ["acme/tools:v1-tools", "acme/tools:v1-extras", "acme/new:1"]
        assert after.endswith("# the end\n") == text.endswith("# the end\n")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "    decision: open\n    digests: {amd64: " + B + "}\n",
            "    {decision: open, digests: {amd64: " + B + "}}\n",
            27,
        ),
        ("images:\n", "images: {}\nimages2:\n", 0),
    ],
)
def test_image_written_in_braces_is_rejected(old: str, new: str, line: int) -> None:
    text = TEXT.replace(old, new)
    assert text != TEXT
    if not line:
        with pytest.raises(WrongUseError, match="no key 'images2'"):
            images(text)
        return
    with pytest.raises(WrongUseError) as caught:
        renewed(text, images(text)["acme/tools:v1-extras"])
    assert [problem.line for problem in caught.value.problems] == [line]
    with pytest.raises(WrongUseError, match="images is written in braces"):
        renewed(
            "schema: chainbuild.release-plan/1\nrelease: x\nimages: {a:1: {decision: open, digests: {}}}\n",
            PlannedImage(name=ImageReference.parse("b:1"), decision="open", digests={}),
        )


@settings(max_examples=40)
@given(planned_images(), planned_images("acme/tools:v2"), planned_images(), st.data())
def test_arbitrary_plan_can_be_renewed_without_losing_comments(
    first: PlannedImage, second: PlannedImage, now: PlannedImage, data: st.DataObject
) -> None:
    """Written values are read back, the other image is unchanged, and every comment is kept."""
    names = {name for image in (first, second) for name in image.to}
    second = replace(second, to=()) if set(first.to) & set(second.to) else second
    assert names or not first.to
    lines = plan_text("1", [first, second]).split("\n")
    comments = []
    for number in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(lines) - 1))
        comment = f"# comment {number}!"
        comments.append(comment)
        if data.draw(st.booleans()) and lines[place].strip() and not lines[place].lstrip().startswith("#"):
            lines[place] += f"  {comment}"
        else:
            lines.insert(place, " " * data.draw(st.integers(0, 6)) + comment)
    text = "\n".join(lines)
    before = images(text)
    written = {key: getattr(now, key) for key in WRITTEN}
    accepted = {one.says: one for one in now.warnings}
    now = replace(before["acme/tools:v1"], **(written | {"warnings": tuple(accepted.values())}), decision=now.decision)
    after = renewed(text, now)
    assert images(after)["acme/tools:v1"].as_json() == now.as_json()
    assert images(after)["acme/tools:v2"].as_json() == before["acme/tools:v2"].as_json()
    for comment in comments:
        assert after.count(comment) == 1, comment
    assert renewed(after, images(after)["acme/tools:v1"]) == after


def test_comments_of_duplicate_lines_are_kept() -> None:
    old = ["  a:", "    - x  # first", "    - x  # second"]
    assert with_comments(old, ["  a:", "    - x"]) == ["  a:", "    # second", "    - x  # first"]
    assert with_comments(old, ["  a:"]) == ["  a:", "    # second", "    # first"]


def test_comments_stay_with_their_line() -> None:
    old = ["  a:", "    - x  # of x", "    # above y", "    - y", "  b:", "    - x  # of the other x", "  # below"]
    assert with_comments(old, ["  a:", "    - y", "    - z", "  b:", "    - x"]) == [
        "  a:",
        "    # of x",
        "    # above y",
        "    - y",
        "    - z",
        "  b:",
        "    - x  # of the other x",
        "  # below",
    ]
