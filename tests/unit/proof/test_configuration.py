"""The proof of the configuration: errors, warnings, and the line that fixes each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from chainbuild.proof.chain_files import Owned, Question
from chainbuild.proof.configuration import (
    Configuration,
    ConfigurationFault,
    Judgement,
    MissingFile,
    doubtful_fields,
    judge,
    read_configuration,
    settings_of,
)
from chainbuild.references import Platform
from chainbuild.registry.config import Healthcheck, ImageConfig

TINI = ConfigurationFault(
    field="ENTRYPOINT", kind="program", text="ENTRYPOINT: tini is not in the image", sought=("/a/tini", "/b/tini")
)
OWNED = Owned(path="/b/tini", kind="deb", package="tini", version="0.19", type="file")


def config(**changes: Any) -> ImageConfig:
    return ImageConfig.make(Platform.parse("arm64"), []).with_changes(**changes)


def judged(
    configuration: Configuration, files: dict[str, Owned], doubtful: Sequence[str] = ()
) -> tuple[Judgement, list[Question]]:
    asked: list[Question] = []

    def ask(questions: Sequence[Question]) -> Sequence[tuple[Owned, ...]]:
        asked.extend(questions)
        return [(files[one.name],) if one.name in files else () for one in questions]

    return judge(configuration, ask, doubtful=frozenset(doubtful), platform="amd64"), asked


@pytest.mark.parametrize(
    ("has_apt", "more"), [(True, ", or PRODUCTION_PACKAGES=tini in production-amd64-args)"), (False, ")")]
)
def test_missing_program_is_error_with_fix_line(has_apt: bool, more: str) -> None:
    result, asked = judged(Configuration(summary="", faults=(TINI,), has_apt=has_apt), {"/b/tini": OWNED})
    assert [one.name for one in asked] == ["/a/tini", "/b/tini"]
    assert result.errors == (
        "ENTRYPOINT: tini is not in the image; the chain's image has /b/tini, of the Debian package tini 0.19"
        " (ADDITIONAL_FILES=/b/tini in minimize-amd64-args" + more,
    )
    assert result.warnings == ()


def test_program_missing_in_both_images_is_error(tmp_path: object) -> None:
    result, _ = judged(Configuration(summary="", faults=(TINI,)), {})
    assert result.errors == ("ENTRYPOINT: tini is not in the image; it is missing in the chain's image too",)


def test_missing_user_is_error_without_lookup() -> None:
    fault = ConfigurationFault(
        field="USER", kind="user", text="USER: the image has no user app (/etc/passwd)", path="/etc/passwd"
    )
    result, asked = judged(Configuration(summary="", faults=(fault,)), {})
    assert asked == []
    assert "KEEP_USERS=1 in minimize-amd64-args" in result.errors[0]


def test_configuration_of_production_image_is_warning() -> None:
    result, _ = judged(Configuration(summary="", faults=(TINI,)), {"/b/tini": OWNED}, ["ENTRYPOINT"])
    assert result.errors == ()
    assert [one.package for one in result.warnings] == ["tini"]


@pytest.mark.parametrize(
    ("kind", "file", "errors", "warnings"),
    [
        ("argument", Owned(path="/app/x", type="dir"), 1, 0),
        ("argument", None, 0, 0),
        ("file", Owned(path="/app/x", type="file"), 1, 0),
        ("file", Owned(path="/app/x", type="dir"), 0, 0),
        ("folder", Owned(path="/app/x/y", type="file"), 0, 1),
        ("folder", None, 0, 0),
    ],
)
def test_path_only_in_chain_counts_by_kind(kind: str, file: Owned | None, errors: int, warnings: int) -> None:
    absent = MissingFile(field="WORKDIR" if kind == "folder" else "CMD", kind=kind, path="/app/x")
    result, asked = judged(Configuration(summary="", absent=(absent,)), {"/app/x": file} if file else {})
    assert [one.kind for one in asked] == ["folder" if kind == "folder" else "path"]
    assert (len(result.errors), len(result.warnings)) == (errors, warnings)
    for text in (*result.errors, *map(str, result.warnings)):
        assert "ADDITIONAL_FILES=/app/x in minimize-amd64-args" in text


def test_complete_image_needs_no_lookup() -> None:
    assert judged(Configuration(summary="tini, as root"), {}) == (Judgement(), [])


def test_fields_of_production_and_base_shell_are_doubtful() -> None:
    image = config(cmd=["serve"], user="own", healthcheck=Healthcheck(test=("CMD", "x")))
    chain = config(cmd=["serve"], healthcheck=Healthcheck(test=("CMD", "x")))
    assert doubtful_fields(image, chain=chain, production=config(user="own")) == {"USER"}
    assert doubtful_fields(config(cmd=["bash"]), chain=config(cmd=["bash"]), production=config()) == {"CMD"}
    shell = config(cmd=["bash"], entrypoint=["x"])
    assert doubtful_fields(shell, chain=shell, production=config()) == set()


def test_analysis_gets_only_variable_path() -> None:
    given = config(env=[("PATH", "/bin"), ("TOKEN", "secret")], user="app", cmd=["x"], labels={"a": "b"})
    assert json.loads(settings_of(given)) == {
        "User": "app",
        "Cmd": ["x"],
        "Env": ["PATH=/bin"],
        "architecture": "arm64",
    }


def test_report_without_configuration_is_none() -> None:
    assert read_configuration(None) is None
    document = {"summary": "s", "faults": [asdict(TINI)], "absent": [], "apt": True}
    assert read_configuration(json.loads(json.dumps(document))) == Configuration(
        summary="s", faults=(TINI,), has_apt=True
    )


@given(
    st.dictionaries(
        st.sampled_from(["summary", "faults", "absent", "apt"]), st.none() | st.text() | st.lists(st.text())
    )
)
def test_arbitrary_report_is_read_or_rejected(document: dict[str, Any]) -> None:
    try:
        read_configuration(document)
    except (ValueError, KeyError, TypeError):
        return
