"""in-toto statements: what is said about which image, in a signed envelope.

A statement has the form of in-toto's Statement v1 (in-toto/attestation, spec/v1/statement.md), and its parts that of its
ResourceDescriptor v1 (spec/v1/resource_descriptor.md). It is signed as the payload of a DSSE envelope with the payload type
`application/vnd.in-toto+json` (spec/v1/envelope.md).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

from chainbuild import limits
from chainbuild.errors import DamagedContentError
from chainbuild.references import Digest
from chainbuild.registry.oci import canonical
from chainbuild.trust.envelope import Envelope
from chainbuild.trust.keyring import KeyRing
from chainbuild.values import convert

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_READ_TYPES: Final = frozenset({STATEMENT_TYPE, "https://in-toto.io/Statement/v0.1"})
"""`cosign attest` still writes version 0.1, which differs in nothing that is read here."""
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
SPDX_TYPE: Final = "https://spdx.dev/Document"
"""The predicate type of bills of materials (spec/predicates/spdx2.md), as `cosign attest --type spdxjson` writes it."""


class StatementError(ValueError):
    """The bytes are not an in-toto statement, or not one about the image."""


class Resource(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A ResourceDescriptor; it has a `uri`, a `digest` (values by algorithm, in hex) or a `content` (base64)."""

    name: str = ""
    uri: str = ""
    digest: Mapping[str, str] = field(default_factory=dict)
    content: str = ""
    media_type: str = field(name="mediaType", default="")
    annotations: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.uri or self.digest or self.content):
            raise ValueError("a resource without uri, digest and content")

    @property
    def sha256(self) -> str:
        """Return the sha256 in hex; empty if it has none."""
        return self.digest.get("sha256", "")

    @property
    def text(self) -> str:
        """Return the content as text; empty if it has none. Errors: `ValueError`."""
        try:
            return base64.b64decode(self.content, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError(f"a resource with unreadable content: {error}") from error

    def annotation(self, name: str) -> str:
        """Return an annotation that is text; empty if there is none."""
        value = self.annotations.get(name, "")
        return value if isinstance(value, str) else ""


def text_content(text: str) -> str:
    """Return a text as the `content` of a resource."""
    return base64.b64encode(text.encode("utf-8", "backslashreplace")).decode("ascii")


class Statement(Struct, frozen=True, kw_only=True):
    """A statement: the subjects, and what its predicate says about them."""

    type: str = field(name="_type")
    subject: tuple[Resource, ...]
    predicate_type: str = field(name="predicateType")
    predicate: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: bytes) -> Statement:
        """Read a statement. Errors: `StatementError`, also if a key occurs twice, which programs read in different ways."""
        if len(raw) > limits.STATEMENT.value:
            raise StatementError(f"larger than {limits.STATEMENT.shown}")
        try:
            statement = convert(read_unambiguous(raw, "the statement"), cls)
        except DamagedContentError as error:
            raise StatementError(error.message) from error
        except ValueError as error:
            raise StatementError(f"not an in-toto statement: {error}") from error
        if statement.type not in _READ_TYPES:
            raise StatementError(f"not an in-toto statement of version 1 or 0.1, but {statement.type[:80]!r}")
        if not statement.subject:
            raise StatementError("it has no subject")
        if not all(subject.digest for subject in statement.subject):
            raise StatementError("it has a subject without a digest")
        return statement

    def is_about(self, image: Digest) -> bool:
        """Return whether one of the subjects is the image of that digest."""
        return any(subject.digest.get(image.algorithm) == image.hex for subject in self.subject)


def statement_bytes(name: str, image: Digest, predicate_type: str, predicate: bytes) -> bytes:
    """Return a statement about the image of a digest. `predicate` is the JSON of an object, and stays as it is."""
    head = canonical(
        {
            "_type": STATEMENT_TYPE,
            "predicateType": predicate_type,
            "subject": [{"name": name, "digest": {image.algorithm: image.hex}}],
        }
    )
    return head[:-1] + b',"predicate":' + predicate + b"}"


def sign_statement(keyring: KeyRing, statement: bytes) -> Envelope:
    """Sign a statement with the user's key, in an envelope with no fields of our own. Errors: as `KeyRing.sign`."""
    return Envelope.sign(statement, PAYLOAD_TYPE, keyring.signing_key, shows_key=False)


def read_unambiguous(raw: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object in which every key occurs once: programs disagree on the value of a key that occurs twice.

    Errors: as `limits.read_object`.
    """
    document = limits.read_object(raw, what)
    try:
        json.loads(raw, object_pairs_hook=_once)
    except ValueError as error:
        raise DamagedContentError(f"{what} is ambiguous: {error}") from error
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key occurs twice in an object")
    return document
