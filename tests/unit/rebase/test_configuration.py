"""The configuration of a rebased image: what the new base changed, what the step set, and what cannot be told apart."""

from __future__ import annotations

from typing import Any

import pytest

from chainbuild.dockerfile import parse
from chainbuild.rebase.configuration import ConfigurationConflictError, rebased_config, with_layer
from chainbuild.records.labels import TRAIL_LABEL
from chainbuild.references import Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.oci import digest_of

AMD64 = Platform.parse("amd64")
OLD, NEW, STEP = (digest_of(text) for text in (b"old base", b"new base", b"step"))


def config(*layers: Any, **changes: Any) -> ImageConfig:
    history = [{"created_by": str(layer)} for layer in layers]
    return ImageConfig.make(AMD64, layers, history=history).with_changes(**changes)


def rebased(old: dict[str, Any], new: dict[str, Any], built: dict[str, Any], text: str = "") -> ImageConfig:
    dockerfile = parse(f"FROM base\n{text}\n".encode(), "Dockerfile")
    return rebased_config(config(OLD, **old), config(NEW, **new), config(OLD, STEP, **built), dockerfile)


def conflict(old: dict[str, Any], new: dict[str, Any], built: dict[str, Any], text: str = "") -> str:
    with pytest.raises(ConfigurationConflictError) as caught:
        rebased(old, new, built, text)
    return caught.value.texts[0]


def test_layers_and_history_are_those_of_the_new_base_and_the_step() -> None:
    result = rebased({}, {}, {})
    assert result == config(NEW, STEP)


def test_setting_that_only_one_side_changed_is_taken() -> None:
    result = rebased({"cmd": ["a"]}, {"cmd": ["b"]}, {"cmd": ["a"], "entrypoint": ["mine"]}, "RUN x")
    assert (result.cmd, result.entrypoint) == (("b",), ("mine",))


def test_setting_of_the_step_is_kept_if_the_base_changed_it_too() -> None:
    assert rebased({"cmd": ["a"]}, {"cmd": ["b"]}, {"cmd": ["c"]}, 'CMD ["c"]').cmd == ("c",)
    # A new ENTRYPOINT resets the CMD.
    assert rebased({"cmd": ["a"]}, {"cmd": ["b"]}, {"entrypoint": ["e"]}, 'ENTRYPOINT ["e"]').cmd is None


def test_setting_that_the_step_may_have_repeated_is_a_conflict() -> None:
    assert "the step may set it" in conflict({"cmd": ["a"]}, {"cmd": ["b"]}, {"cmd": ["a"]}, 'CMD ["a"]')
    assert "LABEL" not in conflict({"labels": {"v": "1"}}, {"labels": {"v": "2"}}, {"labels": {"v": "1"}}, "LABEL v=1")


def test_setting_of_a_stage_below_the_last_one_counts_as_of_the_step() -> None:
    stages = 'FROM base AS Below\nCMD ["a"]\nFROM below\nRUN x'
    assert "the step may set it" in conflict({"cmd": ["a"]}, {"cmd": ["b"]}, {"cmd": ["a"]}, stages)
    assert rebased({"cmd": ["a"]}, {"cmd": ["b"]}, {"cmd": ["c"]}, stages).cmd == ("c",)
    beside = 'FROM base AS beside\nCMD ["a"]\nFROM base\nRUN x'
    assert rebased({"cmd": ["a"]}, {"cmd": ["b"]}, {"cmd": ["a"]}, beside).cmd == ("b",)


@pytest.mark.parametrize(
    ("field", "old", "new"), [("env", [("A", "1")], [("A", "2")]), ("user", "a", "b"), ("working_dir", "/a", "/b")]
)
def test_setting_that_instructions_read_is_a_conflict(field: str, old: Any, new: Any) -> None:
    assert "changed in the base" in conflict({field: old}, {field: new}, {field: old})


def test_changed_variable_is_named() -> None:
    old, new = [("PATH", "/bin"), ("V", "1")], [("PATH", "/bin"), ("V", "2")]
    assert conflict({"env": old}, {"env": new}, {"env": old}) == "Env of the configuration changed in the base (V)"


def test_labels_are_merged_by_name() -> None:
    result = rebased({"labels": {"v": "1"}}, {"labels": {"v": "2", "new": "x"}}, {"labels": {"v": "1", "own": "y"}})
    assert dict(result.labels) == {"v": "2", "new": "x", "own": "y"}


def test_provenance_of_the_base_is_not_taken_for_the_step() -> None:
    result = rebased(
        {"labels": {TRAIL_LABEL: "[1]"}}, {"labels": {TRAIL_LABEL: "[2]"}}, {"labels": {TRAIL_LABEL: "[3]"}}
    )
    assert result.label(TRAIL_LABEL) == "[3]"


def test_layer_of_merged_files_is_added_with_its_history() -> None:
    layer = digest_of(b"merged")
    result = with_layer(config(NEW, STEP), layer)
    assert result.diff_ids == (NEW, STEP, layer)
    assert b'"comment":"merged files"' in result.raw
