"""The modes of native tools, as they are written and as they apply to steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.native.settings import NativeChoice, NativeMode, NativeSettings
from tests.support.world import THREE_STEPS, World


@pytest.mark.parametrize("text", ["auto", "off", "check", "check:1%", "check:5%", "check:99%"])
def test_mode_is_written_as_it_is_parsed(text: str) -> None:
    assert str(NativeChoice.parse(text)) == text


def test_sample_has_its_share() -> None:
    assert NativeChoice.parse("check:5%") == NativeChoice(mode=NativeMode.CHECK, percent=5)
    assert NativeChoice.parse("check:005%").percent == 5
    assert NativeChoice.parse("check:100%") == NativeChoice.parse("check")
    assert NativeChoice().mode is NativeMode.AUTO


OTHER = ["", "on", "Auto", "OFF", " off", "auto\n", "off:5%", "check:", "check:5", "check:%", "check:0%", "check:101%"]
OTHER += ["check:-5%", "check:5.5%", "check:1000%", "check:٥%", "check:5%\n"]


@pytest.mark.parametrize("text", OTHER)
def test_other_text_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(WrongUseError, match="is not a mode of native tools") as caught:
        NativeChoice.parse(text)
    assert "check:5% for a sample" in str(caught.value)


@given(st.text(max_size=20))
def test_any_text_is_a_mode_or_refused(text: str) -> None:
    try:
        choice = NativeChoice.parse(text)
    except WrongUseError:
        return
    assert NativeChoice.parse(str(choice)) == choice


OFF, CHECK = NativeChoice.parse("off"), NativeChoice.parse("check")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({}, ["auto", "auto", "auto"]),
        ({"stock/20-blas": "off"}, ["auto", "off", "auto"]),
        ({"stock/*": "off"}, ["off", "off", "off"]),
        ({"*": "off"}, ["off", "off", "off"]),
        ({"*/20-*": "check:5%"}, ["auto", "check:5%", "auto"]),
        ({"*": "off", "stock/2?-*": "check"}, ["off", "check", "off"]),
        ({"stock/2?-*": "check", "*": "off"}, ["off", "off", "off"]),
        ({"stock/[13]0-*": "off"}, ["off", "auto", "off"]),
        ({"blas": "off", "20-blas": "off", "STOCK/*": "off", "": "off", "stock": "off"}, ["auto", "auto", "auto"]),
    ],
)
def test_last_pattern_that_matches_applies(tmp_path: Path, steps: dict[str, str], expected: list[str]) -> None:
    world = World(tmp_path)
    world.write(THREE_STEPS)
    settings = NativeSettings(steps={pattern: NativeChoice.parse(text) for pattern, text in steps.items()})
    chain = [step for step in world.graph() if step.name[:2].isdigit()]
    assert [str(settings.of(step)) for step in chain] == expected
    other = NativeSettings(default=CHECK, steps=settings.steps)
    assert [str(other.of(step)) for step in chain] == ["check" if text == "auto" else text for text in expected]
