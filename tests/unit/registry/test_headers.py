"""Headers of registry answers: any value is parsed or rejected."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.registry.http.headers import (
    Challenge,
    address_of,
    challenges,
    is_secret_header,
    next_link,
    whole_number,
)

BASE = "https://registry.example:5000/v2/team/app/blobs/uploads/"
# Parts of real headers, and text that breaks parsers.
pieces = st.lists(
    st.sampled_from(
        [
            "Bearer",
            "Basic",
            "realm",
            "rel",
            "next",
            "=",
            '"',
            "\\",
            ",",
            ";",
            "<",
            ">",
            " ",
            "\t",
            "/",
            ":",
            "[",
            "]",
            "@",
            "http",
            "https",
            "//",
            "::1",
            "%",
            "?",
            "#",
            "..",
            "a" * 70,
            "²",
            "é",
            "\x00",
            "\r\n",
            "99999999",
        ]
    )
    | st.text(max_size=3),
    max_size=20,
).map("".join)
texts = st.text(max_size=80) | pieces


# ---- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), (" 12\t", 12), ("9" * 19, int("9" * 19))])
def test_whole_number_of_digits_is_their_value(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "²", "+5", "-5", "1_0", "0x10", "1.5", "1e3", "９", "5, 5", "9" * 20, "nan", "5\n5"]
)
def test_whole_number_of_other_text_is_none(text: str) -> None:
    """`int` and `str.isdigit` accept several of these, each others than the other."""
    assert whole_number(text) is None


@given(texts)
def test_whole_number_of_any_text_is_a_number_or_none(text: str) -> None:
    number = whole_number(text)
    assert number is None or 0 <= number < 10**19


# ---- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/v2/team/app/blobs/uploads/1?_state=x", "https://registry.example:5000/v2/team/app/blobs/uploads/1?_state=x"),
        ("2", f"{BASE}2"),
        ("https://storage.example/a?X-Amz-Signature=1", "https://storage.example/a?X-Amz-Signature=1"),
        ("//other.example/x", "https://other.example/x"),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000/"),
        ("http://[::1]:5000/x", "http://[::1]:5000/x"),
        ("https://under_score.example/x", "https://under_score.example/x"),
    ],
)
def test_address_of_a_location_is_absolute(text: str, address: str) -> None:
    assert address_of(text, BASE) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "http://registry.example:99999999/x",
        "http://registry.example:0/x",
        "http://registry.example:x/y",
        "http://registry.example:-1/y",
        "http://a b/",
        "/with space",
        "http://[::1",
        "http://[zz]/",
        "http://]x/",
        "http://" + "a" * 64 + ".example/",
        "http://a..b/",
        "http://.a/",
        "http:///x",
        "http://ünï.example/",
        "http://xn--" + "a" * 70 + "/",
        "ftp://a/x",
        "file:///etc/passwd",
        "javascript:1",
        "http://user:pw@a/x",
        "/new\nline",
        "/ctrl\x1b",
        "/é",
        "http://" + "a." * 200 + "b/",
        "/" + "a" * 9000,
        "https://a/\x00",
    ],
)
def test_address_that_cannot_be_requested_raises_value_error(text: str) -> None:
    """Ports, hosts, brackets and letters on which urllib, http.client and the IDNA codec raise, each something else."""
    with pytest.raises(ValueError, match=r"it |its |IPv6|[Pp]ort|Invalid|netloc"):
        address_of(text, BASE)


@given(texts, st.sampled_from([BASE, "http://localhost:5000/v2/", ""]))
def test_address_of_any_text_is_valid_or_rejected(text: str, base: str) -> None:
    try:
        address = address_of(text, base)
    except ValueError:
        return
    parts = urlsplit(address)
    assert parts.scheme in {"http", "https"}
    assert parts.hostname
    assert parts.port is None or 0 < parts.port < 65536
    parts.hostname.encode("idna")
    assert address.isascii()
    assert not any(letter <= " " for letter in address)


# ---- challenges -------------------------------------------------------------------------------------------------------

HARBOR = 'Bearer realm="https://harbor.example/service/token",service="harbor-registry",scope="repository:a/b:pull"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            HARBOR,
            [
                (
                    "bearer",
                    {
                        "realm": "https://harbor.example/service/token",
                        "service": "harbor-registry",
                        "scope": "repository:a/b:pull",
                    },
                )
            ],
        ),
        ('Basic realm="Registry Realm"', [("basic", {"realm": "Registry Realm"})]),
        (
            'Basic realm="x", Bearer realm="y",service=z',
            [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "service": "z"})],
        ),
        ("BEARER Realm=https://a/token", [("bearer", {"realm": "https://a/token"})]),
        (r'Bearer realm="a\"b\\c"', [("bearer", {"realm": r'a"b\c'})]),
        ("Negotiate, Basic realm=a", [("negotiate", {}), ("basic", {"realm": "a"})]),
        ('Bearer realm="one",realm="two"', [("bearer", {"realm": "one"})]),
        ("Bearer", [("bearer", {})]),
        ("", []),
        ("=", []),
        ('Bearer realm="not closed', [("bearer", {})]),
    ],
)
def test_challenges_of_a_header_are_schemes_with_parameters(header: str, expected: list[tuple[str, dict[str, str]]]):
    assert challenges(header) == tuple(Challenge(scheme, parameters) for scheme, parameters in expected)


@given(texts)
def test_challenges_of_any_text_are_tokens(header: str) -> None:
    for challenge in challenges(header):
        assert challenge.scheme.isascii()
        assert challenge.scheme == challenge.scheme.lower()


@pytest.mark.parametrize("letter", ["A", '"', "\\", "=", ",", 'a="', "A=", "a=\\"])
def test_challenges_of_a_very_long_header_are_none(letter: str) -> None:
    """65 kB without a parameter took minutes when a regular expression looked for one at each letter."""
    assert challenges("Bearer " + letter * 65_000) == ()


@given(st.dictionaries(st.sampled_from(["realm", "service", "scope", "error"]), st.text(max_size=20)))
def test_challenges_of_quoted_values_return_them(parameters: dict[str, str]) -> None:
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in parameters.items()}
    header = "Bearer " + ",".join(f'{name}="{value}"' for name, value in quoted.items())
    assert challenges(header) == (Challenge("bearer", parameters),)


@pytest.mark.parametrize("token", ["", "a\r\nX-Evil: 1", "a b", "tökén", "a\x00", "x" * 20_000])
def test_is_secret_header_of_an_unsendable_text_is_false(token: str) -> None:
    """http.client raises for most of these when it is too late for a clear message."""
    assert not is_secret_header(token)


# ---- Link -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('</v2/a/tags/list?last=b&n=2>; rel="next"', "/v2/a/tags/list?last=b&n=2"),
        ("</v2/_catalog?n=1>; rel=next", "/v2/_catalog?n=1"),
        ('<a>; rel="prev", <b>; title="x, <y>"; rel="next"', "b"),
        ('<a> ; REL = "Next last"', "a"),
        ('<a>; rel="prev"; rel="next"', None),
        ('<a>; title="rel=next"', None),
        ('<a>; rel="nextish"', None),
        ("<a>", None),
        ("", None),
        (",", None),
    ],
)
def test_next_link_of_a_header_is_the_target(header: str, target: str | None) -> None:
    assert next_link(header) == target


@pytest.mark.parametrize(
    "header", ["/v2/a", "<a; rel=next", '<a>; rel="next', "<a>; =x", "<a> rel=next", "<a>; rel=", "<" * 20_000]
)
def test_next_link_of_a_malformed_header_raises(header: str) -> None:
    """A malformed link must not count as the end of a list: missing entries would be deleted or rebuilt."""
    with pytest.raises(ValueError, match="it"):
        next_link(header)


@given(texts)
def test_next_link_of_any_text_is_a_target_or_a_value_error(header: str) -> None:
    try:
        target = next_link(header)
    except ValueError:
        return
    assert target is None or target in header
