"""Selecting images by name or pattern."""

from __future__ import annotations

import pytest

from chainbuild import limits
from chainbuild.errors import NotFoundInRegistryError, RegistryError, WrongUseError
from chainbuild.execution.session import Session
from chainbuild.references import Platform
from chainbuild.singularity.images import RequestedSif, find_images
from tests.support.fake_registry import Answer, FakeRegistry

OWN = Platform.of_this_machine()
OTHER = Platform.parse("aarch64" if OWN.name == "amd64" else "amd64")


def rows(found: tuple[RequestedSif, ...]) -> list[tuple[str, str]]:
    return [(one.name.file, one.platform.name) for one in found]


def test_name_with_and_without_host_is_the_same_image(fake: FakeRegistry, session: Session) -> None:
    fake.add_image("team/tool:v1", OWN)
    found = find_images(session, ["team/tool:v1", "localhost:5000/team/tool:v1", "team/*"])
    assert rows(found) == [("team_tool_v1.sif", OWN.name)]
    assert found[0].source == "team/tool:v1"


def test_image_with_only_a_foreign_platform_is_selected(fake: FakeRegistry, session: Session) -> None:
    fake.add_image("team/tool:v1", OTHER)
    assert rows(find_images(session, ["team/tool:v1"])) == [("team_tool_v1.sif", OTHER.name)]


def test_machine_platform_is_default_of_multi_platform_image(fake: FakeRegistry, session: Session) -> None:
    images = [fake.add_image(f"team/tool:v1-{one.name}", one, layers=[one.name.encode()]) for one in (OWN, OTHER)]
    fake.add_index("team/tool:v1", images, attested=True)
    assert rows(find_images(session, ["team/tool:v1"])) == [(f"team_tool_v1-{OWN.name}.sif", OWN.name)]
    both = find_images(session, ["team/tool:v1"], (OWN, OTHER))
    assert rows(both) == [(f"team_tool_v1-{one.name}.sif", one.name) for one in (OWN, OTHER)]
    # The tag of a platform's result gives the same file.
    assert sorted(rows(find_images(session, ["team/*"], (OWN, OTHER)))) == sorted(rows(both))


def test_pattern_skips_missing_platform_but_name_fails(fake: FakeRegistry, session: Session) -> None:
    fake.add_image("team/one:v1", OWN)
    fake.add_image("team/two:v1", OTHER)
    assert rows(find_images(session, ["team/*"], (OTHER,))) == [("team_two_v1.sif", OTHER.name)]
    with pytest.raises(NotFoundInRegistryError, match=f"not available for {OTHER.name}, only for {OWN.name}"):
        find_images(session, ["team/one:v1"], (OTHER,))


def test_machine_data_is_not_matched_by_patterns(fake: FakeRegistry, session: Session) -> None:
    fake.add_image("team/tool:k1-local-amd64-1", OWN)
    fake.add_image("team/tool:v1", OWN)
    assert rows(find_images(session, ["*"])) == [("team_tool_v1.sif", OWN.name)]


def test_unmatched_arguments_are_reported_together(fake: FakeRegistry, session: Session) -> None:
    fake.add_image("team/tool:v1", OWN)
    fake.host("docker.io")
    with pytest.raises(WrongUseError, match="'taem/\\*' matches no image") as caught:
        find_images(session, ["taem/*"])
    assert "team/tool:v1" in str(caught.value)
    with pytest.raises(RegistryError) as both:
        find_images(session, ["taem/*", "team/none:1"])
    assert "taem/*" in str(both.value)
    assert "team/none:1" in str(both.value)


def test_images_with_the_same_file_name_are_rejected(fake: FakeRegistry, session: Session) -> None:
    fake.add_image("team/tool:v1", OWN, layers=[b"one"])
    fake.add_image("team_tool:v1", OWN, layers=[b"two"])
    with pytest.raises(WrongUseError, match=r"have the same file name: team_tool_v1\.sif"):
        find_images(session, ["team/tool:v1", "team_tool:v1"])


# ---- registries that cannot answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("words", [["team/tool:v1"], ["team/*"]])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_find_images_with_busy_registry_raises(
    fake: FakeRegistry, session: Session, monkeypatch: pytest.MonkeyPatch, words: list[str], after: int, status: int
) -> None:
    """A pattern skips tags that are not images, but not images that could not be queried."""
    monkeypatch.setattr(limits, "PACE", limits.Pace(waits=()))
    fake.add_image("team/tool:v1", OWN)
    fake.answers = [*[None] * after, *[Answer(status)] * 50]
    with pytest.raises(RegistryError, match=str(status)):
        find_images(session, words)


def test_find_images_skips_damaged_image_for_patterns(fake: FakeRegistry, session: Session) -> None:
    fake.add_image("team/tool:v1", OWN)
    fake.host().damage(fake.add_image("team/tool:v2", OWN, layers=[b"other"]).manifest.config.digest)
    assert rows(find_images(session, ["team/*"])) == [("team_tool_v1.sif", OWN.name)]
    with pytest.raises(RegistryError):
        find_images(session, ["team/tool:v2"])
