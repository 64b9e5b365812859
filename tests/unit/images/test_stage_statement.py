"""Statements of what was asked of the stages: signed, one for each tag, attached to an image."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild import limits
from chainbuild.images.stage_statement import (
    PAYLOAD_TYPE,
    StageStatement,
    attach_statement,
    payload_of,
    read_payload,
    read_statements,
)
from chainbuild.limits import Limit
from chainbuild.model import Ask
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.artifacts import attach
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import referrers
from chainbuild.trust.envelope import MEDIA_TYPE
from chainbuild.values import replace
from tests.support.fake_registry import FakeRegistry
from tests.support.keys import keyring, signing_key

IMAGE = Digest("sha256:" + "a" * 64)
WORD = Ask(name="ADDITIONAL_FILES", value="/srv", option="stock", commas=True)


class Place:
    def __init__(self, *, lists: bool) -> None:
        self.fake = FakeRegistry()
        self.fake.host().lists_referrers = lists
        self.registries = Registries(transport=self.fake.transport, credentials=lambda host: None)
        self.image = self.fake.add_image("team/app:1").reference
        assert self.image.digest
        self.digest = self.image.digest

    def state(self, tag: str, *values: str, at: float = 1.0, number: int = 1, about: Digest | None = None) -> None:
        asks = tuple(Ask(name="ADDITIONAL_FILES", value=value, option="stock") for value in values)
        statement = StageStatement(image=about or self.digest, tag=tag, at=at, asks=asks)
        there = read_statements(self.registries, self.image, keyring(number))
        attach_statement(self.registries, self.image, statement, keyring(number), there)

    def values(self, tag: str, *, number: int = 1, trusts: tuple[int, ...] = ()) -> list[str] | None:
        trusted = tuple(signing_key(one).public for one in trusts)
        found = read_statements(self.registries, self.image, keyring(number, trusts=trusted)).about([tag])
        return None if found is None else [ask.value for ask in found.asks]


@pytest.fixture(params=[False, True])
def place(request: pytest.FixtureRequest) -> Place:
    """An image in a registry without and with the list of referrers."""
    return Place(lists=request.param)


def test_statement_is_read_back_for_its_tag(place: Place) -> None:
    place.state("v1", "/a", "/b")
    place.state("v2", "/c")
    assert place.values("v1") == ["/a", "/b"]
    assert place.values("v2") == ["/c"]
    assert place.values("v3") is None


def test_newer_statement_takes_the_place_of_the_same_keys_older_one(place: Place) -> None:
    place.state("v1", "/a", at=1.0)
    place.state("v1", at=2.0)
    assert place.values("v1") == []


def test_tags_that_ask_for_the_same_share_a_document(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ASKED_TAGS", Limit("tags", 3, "entries"))
    for number in range(5):
        place.state(f"v{number}", "/a", at=float(number))
    place.state("other", "/b", at=9.0)
    found = read_statements(place.registries, place.image, keyring())
    assert [one.tag for one in found.trusted if one.asks[0].value == "/a"] == ["v2", "v3", "v4"]
    assert len(referrers(place.registries, place.image)) == 2


def test_registry_that_deletes_nothing_keeps_older_documents(place: Place) -> None:
    place.fake.host().can_delete = False
    place.state("v1", "/a", at=1.0)
    place.state("v1", "/b", at=2.0)
    place.state("v2", "/b", at=3.0)
    assert place.values("v1") == place.values("v2") == ["/b"]


def test_tag_that_asks_for_something_else_and_back_has_the_newest(place: Place) -> None:
    for at, value in ((1.0, "/a"), (2.0, "/b"), (3.0, "/a")):
        place.state("v1", value, at=at)
        assert place.values("v1") == [value]


def test_statements_of_others_do_not_get_the_users_signature(place: Place) -> None:
    place.state("theirs", "/a", number=2)
    trusted = keyring(1, trusts=(signing_key(2).public,))
    statement = StageStatement(image=place.digest, tag="mine", at=2.0, asks=(replace(WORD, value="/a", commas=False),))
    there = read_statements(place.registries, place.image, trusted)
    attach_statement(place.registries, place.image, statement, trusted, there)
    assert place.values("mine") == ["/a"]
    assert place.values("theirs") is None


def test_newest_of_two_trusted_keys_counts(place: Place) -> None:
    place.state("v1", "/mine", at=5.0)
    place.state("v1", "/theirs", at=2.0, number=2)
    assert place.values("v1", trusts=(2,)) == ["/mine"]
    assert place.values("v1", number=2) == ["/theirs"]


def test_long_statement_is_read_as_well(place: Place) -> None:
    many = [f"/srv/{number:04}" for number in range(500)]
    place.state("v1", *many)
    assert place.values("v1") == many


@pytest.mark.parametrize("lists", [False, True])
def test_statement_is_read_in_a_single_request(lists: bool) -> None:
    place = Place(lists=lists)
    place.state("v1", "/a")
    place.fake.log.clear()
    found = read_statements(place.registries, place.image, keyring())
    assert found.trusted
    # A registry on this machine is asked for the tag first.
    assert len(place.fake.log) == (2 if lists else 1)


def test_statement_of_an_untrusted_key_is_refused(place: Place) -> None:
    place.state("v1", "/a", number=2)
    found = read_statements(place.registries, place.image, keyring(1))
    assert found.trusted == ()
    (refusal,) = found.refused
    assert refusal.keys == (signing_key(2).public,)


def test_statement_about_another_image_is_refused(place: Place) -> None:
    place.state("v1", "/a", about=IMAGE)
    found = read_statements(place.registries, place.image, keyring(1))
    assert found.trusted == ()
    assert [refusal.why for refusal in found.refused] == ["it is about another image"]


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", json.dumps({"payload": 1}).encode()])
def test_damaged_statement_is_refused(place: Place, content: bytes) -> None:
    attach(
        place.registries,
        place.image,
        artifact_type=PAYLOAD_TYPE,
        media_type=MEDIA_TYPE,
        content=content,
        title="x",
        inline=True,
    )
    assert [one.why for one in read_statements(place.registries, place.image, keyring()).refused] == ["it is damaged"]


def test_image_without_statements_has_none(place: Place) -> None:
    found = read_statements(place.registries, ImageReference.parse(place.image.pinned), keyring())
    assert found.trusted == ()
    assert found.refused == ()


@given(
    st.lists(
        st.builds(
            Ask,
            name=st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,8}\Z"),
            value=st.text(max_size=20),
            option=st.text(max_size=8),
            commas=st.booleans(),
        ),
        max_size=4,
    ),
    st.text(max_size=8),
)
def test_statement_is_parsed_as_it_is_written(asks: list[Ask], tag: str) -> None:
    statement = StageStatement(image=IMAGE, tag=tag, at=12.5, asks=tuple(asks))
    assert read_payload(payload_of([statement])) == (statement,)


@given(st.binary(max_size=60))
def test_statement_of_any_bytes_parses_or_raises_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a stage statement"):
        read_payload(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=5,
    ),
    st.sampled_from(["schema", "image", "tags", "asked"]),
)
def test_statement_of_any_value_parses_or_raises_value_error(value: object, name: str) -> None:
    document = json.loads(payload_of([StageStatement(image=IMAGE, tag="v1", at=1.0, asks=(WORD,))])) | {name: value}
    try:
        found = read_payload(json.dumps(document).encode())
    except ValueError as error:
        assert "not a stage statement" in str(error)  # noqa: PT017
        return
    assert all(one.image and isinstance(one.tag, str) for one in found)
