"""Ids of steps: the value, its text form, and any text that a record may hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild import events
from chainbuild.images.provenance import ProvenanceStep, read_provenance, with_provenance
from chainbuild.model import ImageInput
from chainbuild.records.garbage import _run_of
from chainbuild.records.index import clear_index
from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.records.transfer import read_unsigned
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import CHAIN, REPOSITORY, World

AMD64 = Platform.parse("amd64")
KEY = "k1-" + "a" * 64
NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1)
IDS = st.builds(StepId, NAMES, NAMES, st.text())
TEXTS = st.one_of(st.text(), st.text(st.sampled_from("/ab-. :\n\x1b")))
"""Any text, and texts with many slashes."""


def record_with(step: str) -> Record:
    components = Components(dockerfile="FROM scratch", platform="linux/amd64")
    record = Record(
        key=components.key,
        step=StepId("amd64", "stock", "10-base"),
        family="stock-10-base-amd64",
        image=Digest("sha256:" + "b" * 64),
        identity="sha256:" + "c" * 64,
        size=1,
        added=1,
        seconds=1.0,
        built_at=1.0,
        components=components,
    )
    return Record.parse(json.dumps({**record.as_json(), "step": step}).encode())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("amd64/stock/10-base", ("amd64", "stock", "10-base")),
        ("linux-arm64/stock/minimize", ("linux-arm64", "stock", "minimize")),
        ("amd64/types/lab/tools:x", ("amd64", "types", "lab/tools:x")),
        ("amd64/compat/x-1.0", ("amd64", "compat", "x-1.0")),
        ("singularity/tools.sif", ("singularity", "", "tools.sif")),
        ("bootstrap debian:12", ("", "", "bootstrap debian:12")),
        ("", ("", "", "")),
        ("/", ("", "", "/")),
        ("a/", ("a", "", "")),
        ("//x", ("", "", "//x")),
        ("a//x", ("", "", "a//x")),
        ("/o/n", ("", "o", "n")),
    ],
)
def test_text_is_split_into_platform_option_and_name(text: str, parts: tuple[str, str, str]) -> None:
    step = StepId.parse(text)
    assert (step.platform, step.option, step.name) == parts
    assert str(step) == text


@given(IDS)
def test_parsed_text_of_id_is_the_same_id(step: StepId) -> None:
    assert StepId.parse(str(step)) == step
    assert hash(StepId.parse(str(step))) == hash(step)
    assert step.group.startswith(f"{step.platform}/{step.option}")
    assert step.in_option == f"{step.option}/{step.name}"


@given(TEXTS, TEXTS)
def test_any_text_is_an_id_and_stays_as_it_is(one: str, other: str) -> None:
    first, second = StepId.parse(one), StepId.parse(other)
    assert (str(first), str(second)) == (one, other)
    assert (first == second) == (one == other)
    assert (first < second) + (second < first) + (first == second) == 1
    assert (first.group, first.short_name) == one.rpartition("/")[::2]
    assert first.in_option == one.partition("/")[2]


@given(TEXTS)
def test_record_with_any_step_is_read_and_written_unchanged(step: str) -> None:
    record = record_with(step)
    assert record.as_json()["step"] == step
    assert Record.parse(record.payload) == record
    for tag in ("v1-stock-amd64", "x", f"v1-{step}"):
        option, run = _run_of(tag, record, is_index=False)
        assert not run or (option and tag.startswith(run))


@given(st.lists(TEXTS, max_size=5))
def test_provenance_of_any_steps_is_read_and_written_unchanged(steps: list[str]) -> None:
    trail = tuple(ProvenanceStep(step=StepId.parse(step), key=KEY) for step in steps)
    config = with_provenance(ImageConfig.make(AMD64, ()), trail)
    assert read_provenance(config) == trail
    assert [str(entry.step) for entry in read_provenance(config)] == steps


@given(TEXTS)
def test_event_has_text_of_its_step_in_json(step: str) -> None:
    event = events.StepSkipped(at=1.0, step=StepId.parse(step), reason="r")
    assert json.loads(event.as_json_line())["step"] == step
    row = events.PlannedStep(step=StepId.parse(step), action="build", reason="", image="x")
    started = events.RunStarted(at=1.0, steps=(row,), log_folder=Path("logs"))
    assert json.loads(started.as_json_line())["steps"][0]["step"] == step


def test_stages_are_recognized_by_name() -> None:
    stage = StepId("amd64", "stock", "10-base").sibling("minimize")
    assert stage == StepId("amd64", "stock", "minimize")
    assert stage.is_stage
    assert not StepId("amd64", "stock", "10-minimize").is_stage


def test_image_input_tells_step_from_existing_image() -> None:
    step, image = StepId("amd64", "stock", "10-base"), ImageReference.parse("debian:12")
    parent = ImageInput(name="BASE_IMAGE", source=step, platform=AMD64)
    assert (parent.from_step, parent.external) == (step, None)
    base = replace(parent, source=image)
    assert (base.from_step, base.external) == (None, image)


def test_record_of_no_option_clears_no_index(tmp_path: Path) -> None:
    world, place = World(tmp_path), ImageReference(CHAIN, REPOSITORY)

    def tags_after(step: str) -> tuple[str, ...]:
        clear_index(world.registries, place, StepId.parse(step), world.records.keyring)
        client = world.registries.client(place)
        return client.tags(place.repository) if place.repository in client.repositories() else ()

    for step in ("", "x", "bootstrap debian:12", "a/b", "a//b"):
        assert tags_after(step) == ()
    (tag,) = tags_after("a/b/c")
    assert tag.endswith("-b-a")


@given(TEXTS)
def test_unsigned_record_with_any_step_is_read_or_rejected(step: str) -> None:
    document = {**record_with("amd64/stock/10-base").as_json(), "schema": "chainbuild.record/1", "step": step}
    try:
        record = read_unsigned(json.dumps(document).encode())
    except ValueError:
        assert not StepId.parse(step).option
    else:
        assert str(record.step) == step
