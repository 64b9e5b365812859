"""Values of HTTP headers that a registry sends, parsed strictly and in linear time.

Everything here is a function of text. Malformed text raises `ValueError`, or is skipped if the
protocol requires it; no other exception is raised for any text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

from chainbuild import limits
from chainbuild.patterns import regex

# A label of a host name (RFC 1123): Python's IDNA codec raises for empty and overlong ones.
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST: Final = regex(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])")
_LONGEST_HOST: Final = 253
_TOKEN: Final = regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, 5.6.2."""
_VISIBLE: Final = regex(r"[!-~]+")
_DIGITS: Final = regex(r"[0-9]{1,19}")
_LARGEST_PORT: Final = 65_535


def whole_number(text: str) -> int | None:
    """Return the decimal number that a header holds; None if it is anything else (`²`, `+5`, `1_0`, 400 digits)."""
    text = text.strip(" \t")
    return int(text) if _DIGITS.fullmatch(text) else None


def is_secret_header(text: str) -> bool:
    """Return whether a token can be sent in a header: visible ASCII letters, and no more than a header may have."""
    return bool(_VISIBLE.fullmatch(text)) and len(text) <= limits.HEADER.value


def origin(address: str) -> tuple[str, str]:
    """Return the scheme and the host with port of an address that `address_of` or the user gave."""
    parts = urlsplit(address)
    return parts.scheme, parts.netloc


def address_of(text: str, base: str) -> str:
    """Return the absolute HTTP address that a header names, as seen from the address `base`.

    Errors: `ValueError` with a message for users, if it is unusable: another scheme, an invalid host or port, a
    user name in it, spaces, control characters, more than ASCII.
    """
    if len(text) > limits.ADDRESS.value:
        raise ValueError(f"it is longer than {limits.ADDRESS.shown}")
    if not _VISIBLE.fullmatch(text):
        raise ValueError("it is empty, or has characters that an address cannot have")
    try:
        address = urljoin(base, text)
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ValueError(str(error) or "it cannot be parsed") from error
    if parts.scheme not in {"http", "https"}:
        raise ValueError("it is neither http nor https")
    if "@" in parts.netloc:
        raise ValueError("it has a user name in it")
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc.removesuffix(":")
    if not _HOST.fullmatch(host) or len(host) > _LONGEST_HOST:
        raise ValueError("its host is not a host name")
    if port is not None and not 0 < port <= _LARGEST_PORT:
        raise ValueError("its port is not a port")
    return address


# ---- WWW-Authenticate ------------------------------------------------------------------------------------------------


class Challenge(Struct, frozen=True):
    """One way in which a server accepts a login (RFC 9110, 11.3): the scheme in lower case, and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(header: str) -> tuple[Challenge, ...]:
    """Return the challenges of a `WWW-Authenticate` header, in order. What cannot be parsed ends the list.

    Several headers, joined by commas, are one list. The first value of a parameter counts.
    """
    if len(header) > limits.HEADER.value:
        return ()
    challenges: list[tuple[str, dict[str, str]]] = []
    at = 0
    while (at := _skip(header, at, " \t,")) < len(header):
        word = _TOKEN.match(header, at)
        if word is None:
            break
        after = _skip(header, word.end(), " \t")
        if header[after : after + 1] == "=" and challenges:
            value, at = _value(header, _skip(header, after + 1, " \t"))
            if value is None:
                break
            challenges[-1][1].setdefault(word[0].lower(), value)
        else:
            challenges.append((word[0].lower(), {}))
            at = word.end()
    return tuple(Challenge(scheme, parameters) for scheme, parameters in challenges)


def _skip(text: str, at: int, letters: str) -> int:
    while at < len(text) and text[at] in letters:
        at += 1
    return at


def _value(text: str, at: int) -> tuple[str | None, int]:
    """Return a token or a quoted string (RFC 9110, 5.6.4) and where it ends; None if there is neither."""
    if text[at : at + 1] != '"':
        # Registries also write addresses and scopes without quotes.
        end = at
        while end < len(text) and text[end] not in ' \t,"':
            end += 1
        return (text[at:end], end) if end > at else (None, at)
    letters: list[str] = []
    at += 1
    while at < len(text):
        letter = text[at]
        if letter == '"':
            return "".join(letters), at + 1
        if letter == "\\" and at + 1 < len(text):
            at += 1
            letter = text[at]
        letters.append(letter)
        at += 1
    return None, at


# ---- Link ------------------------------------------------------------------------------------------------------------


def next_link(header: str) -> str | None:
    """Return the target of the first link with `rel=next` in a `Link` header (RFC 8288); None if there is none.

    Errors: `ValueError` for what is not a list of links. It must not pass for the end of a list.
    """
    if len(header) > limits.HEADER.value:
        raise ValueError(f"it is longer than {limits.HEADER.shown}")
    at, found = 0, None
    while (at := _skip(header, at, " \t,")) < len(header):
        end = header.find(">", at)
        if header[at] != "<" or end < 0:
            raise ValueError("it has no address in angle brackets")
        target = header[at + 1 : end].strip(" \t")
        relations, at = _relations(header, end + 1)
        if "next" in relations and found is None:
            found = target
        if header[at : at + 1] not in {"", ","}:
            raise ValueError("it has something between its links")
    return found


def _relations(text: str, at: int) -> tuple[frozenset[str], int]:
    """Return the relation types of a link whose parameters begin at `at`, and where its parameters end."""
    relations: frozenset[str] = frozenset()
    while text[(at := _skip(text, at, " \t")) : at + 1] == ";":
        word = _TOKEN.match(text, _skip(text, at + 1, " \t"))
        if word is None:
            raise ValueError("it has a parameter without a name")
        at = _skip(text, word.end(), " \t")
        value = ""
        if text[at : at + 1] == "=":
            found, at = _link_value(text, _skip(text, at + 1, " \t"))
            if found is None:
                raise ValueError("it has a parameter without a value")
            value = found
        if word[0].lower() == "rel" and not relations:
            relations = frozenset(value.lower().split())
    return relations, at


def _link_value(text: str, at: int) -> tuple[str | None, int]:
    if text[at : at + 1] == '"':
        return _value(text, at)
    word = _TOKEN.match(text, at)
    return (word[0], word.end()) if word else (None, at)
