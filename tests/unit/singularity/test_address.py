"""Parsing the addresses of publish destinations."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.singularity.places.address import Address, parse_address
from chainbuild.singularity.places.sftp import quoted
from chainbuild.singularity.places.webdav import listed


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("pub/sifs", Address(kind="folder", path="pub/sifs")),
        ("/srv/with space", Address(kind="folder", path="/srv/with space")),
        ("file:///srv/with%20space", Address(kind="folder", path="/srv/with space")),
        (
            "sftp://me@host.example:2222/srv/sif%20s/",
            Address(kind="sftp", path="/srv/sif s", host="host.example", port=2222, user="me"),
        ),
        ("sftp://host/~/sifs", Address(kind="sftp", path="sifs", host="host")),
        ("sftp://host", Address(kind="sftp", path="/", host="host")),
        ("https://dav.example/a%20b/", Address(kind="webdav", path="/a%20b", host="dav.example")),
        ("dav://localhost:8080", Address(kind="webdav", path="", host="localhost", port=8080, plain=True)),
        ("oras://ghcr.io/org/sif/", Address(kind="oras", path="org/sif", host="ghcr.io")),
        ("oras://localhost:5000", Address(kind="oras", path="", host="localhost", port=5000)),
    ],
)
def test_address_of_each_kind_is_parsed(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gopher://x/y",
        "file://elsewhere/x",
        "sftp://-oProxyCommand=x/y",
        "sftp://me:secret@host/x",
        "https://me@host/x",
        "https://host/x?y=1",
        "sftp://host:99999/x",
        "sftp://host/a%0ab",
        "oras:///x",
        "sftp://a b/c",
        "sftp://-l@host/x",
    ],
)
def test_invalid_address_is_reported_without_password(text: str) -> None:
    with pytest.raises(WrongUseError) as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


@given(text=st.text(max_size=40))
def test_arbitrary_address_is_parsed_safely_or_rejected(text: str) -> None:
    for scheme in ("", "sftp://", "https://", "oras://", "file://"):
        try:
            address = parse_address(scheme + text)
        except WrongUseError:
            continue
        assert not address.host.startswith("-")
        assert not address.user.startswith("-")
        assert not {"\n", "\r", "\0"} & set(address.path + address.host + address.user)


@given(path=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_arbitrary_path_is_quoted_for_sftp(path: str) -> None:
    assert shlex.split(quoted(path)) == [path]


def test_propfind_response_is_read_with_any_namespace() -> None:
    document = """<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">
      <D:response><D:href>/dav/</D:href></D:response>
      <D:response><D:href>/dav/b_1.sif</D:href></D:response>
      <D:response><D:href>http://host/dav/a%2B&amp;_1.sif</D:href></D:response>
      <D:response><D:href>/dav/.b_1.sif.12.part</D:href></D:response>
      <D:response><D:href>/dav/b_1.sif.sha256</D:href></D:response></D:multistatus>"""
    assert listed(document) == ("a+&_1.sif", "b_1.sif")
    assert listed(document.replace("D:", "")) == ("a+&_1.sif", "b_1.sif")


@given(text=st.text())
def test_arbitrary_propfind_response_never_raises(text: str) -> None:
    assert all(name.endswith(".sif") for name in listed(text))
