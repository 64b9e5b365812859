"""Statements: the stage settings that apply up to an image, signed and attached to it.

They are DSSE envelopes (see `trust.envelope`), attached like reports and bills of materials. The payload is JSON:

    {"schema": "chainbuild.asked/1", "image": "sha256:…", "tags": [["v1-stock-amd64", 1795228848.8]],
     "asked": [{"name": "ADDITIONAL_FILES", "value": "/srv/site", "option": "stock", "commas": false}]}

An image may have several tags with different settings, so a statement is about one tag. The statements of
a key with the same settings share a document, so that documents do not accumulate when every run adds a tag.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import DamagedContentError, WrongUseError
from chainbuild.model import Ask
from chainbuild.patterns import regex
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.artifacts import attach, content_of
from chainbuild.registry.http.auth import is_this_machine
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import referrers
from chainbuild.trust.envelope import MEDIA_TYPE, EnvelopeError
from chainbuild.trust.keyring import KeyRing, UntrustedError
from chainbuild.trust.keys import PublicKey
from chainbuild.values import Compared, replace

SCHEMA: Final = "chainbuild.asked/1"
PAYLOAD_TYPE: Final = "application/vnd.chainbuild.asked.v1+json"
"""The DSSE payload type, and the artifact type of what is attached."""
_NAME: Final = regex(r"[A-Za-z_][A-Za-z0-9_]*")


class StageStatement(Compared, frozen=True, kw_only=True):
    """The stage settings up to an image, for one of its tags; `at` is in seconds since the epoch.

    `signer` is the id of the key that signed it; empty if no one has yet.
    """

    image: Digest
    tag: str
    at: float
    asks: tuple[Ask, ...]
    signer: str = ""

    def compared(self) -> tuple[object, ...]:
        """Return what counts in a comparison: not who signed it."""
        return self.image, self.tag, self.at, self.asks


def payload_of(statements: Sequence[StageStatement]) -> bytes:
    """Return the document of statements about one image with the same settings: the bytes to sign."""
    first, newest = (
        statements[0],
        {statement.tag: statement.at for statement in sorted(statements, key=lambda statement: statement.at)},
    )
    tags = sorted(newest.items(), key=lambda item: (item[1], item[0]))[-limits.ASKED_TAGS.value :]
    document = {
        "schema": SCHEMA,
        "image": str(first.image),
        "tags": [[tag, round(at, 3)] for tag, at in tags],
        "asked": [
            {"name": ask.name, "value": ask.value, "option": ask.option, "commas": ask.commas} for ask in first.asks
        ],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def read_payload(raw: bytes, signer: str = "") -> tuple[StageStatement, ...]:
    """Read the statements of a document. Errors: `ValueError` on anything else."""
    try:
        document = limits.read_object(raw, "the statement")
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']!r}")
        image, asks = Digest(document["image"]), tuple(_ask(entry) for entry in document["asked"])
        tags = [(_text(tag), float(at)) for tag, at in document["tags"]]
    except (DamagedContentError, KeyError, TypeError, AttributeError, ArithmeticError, WrongUseError) as error:
        raise ValueError(f"not a stage statement: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"not a stage statement: {error}") from error
    return tuple(StageStatement(image=image, tag=tag, at=at, asks=asks, signer=signer) for tag, at in tags)


class Refusal(Struct, frozen=True, kw_only=True):
    """A rejected statement: the reason, and the keys that claim to have signed it."""

    why: str
    keys: tuple[PublicKey, ...] = ()


class Statements(Struct, frozen=True, kw_only=True):
    """The trusted and the rejected statements about an image."""

    trusted: tuple[StageStatement, ...] = ()
    refused: tuple[Refusal, ...] = ()

    def about(self, tags: Iterable[str]) -> StageStatement | None:
        """Return the newest one about one of these tags."""
        selected = frozenset(tags)
        return max(
            (statement for statement in self.trusted if statement.tag in selected),
            key=lambda statement: statement.at,
            default=None,
        )


def attach_statement(
    registries: Registries, image: ImageReference, statement: StageStatement, keyring: KeyRing, others: Statements
) -> None:
    """Sign a statement and attach it to the image of that digest.

    `others` are the existing ones: the user's own with the same settings go into the same document.
    """
    own = keyring.signing_key.public.id
    same = [
        other
        for other in others.trusted
        if (other.signer, other.asks) == (own, statement.asks) and other.tag != statement.tag
    ]
    content_id = hashlib.sha256(payload_of([replace(statement, tag="", at=0.0)])).hexdigest()
    attach(
        registries,
        image,
        artifact_type=PAYLOAD_TYPE,
        media_type=MEDIA_TYPE,
        content=keyring.sign(payload_of([*same, statement]), PAYLOAD_TYPE).raw,
        title="asked.dsse.json",
        slot=f"{own[:16]} {content_id[:16]}",
        inline=True,
    )


def read_statements(registries: Registries, image: ImageReference, keyring: KeyRing) -> Statements:
    """Read the statements that are attached to the image which the reference's digest names.

    Takes one request, except for long statements. Errors: those of the registry; damaged ones are rejected.
    """
    local = is_this_machine(image.registry.rpartition(":")[0] or image.registry)
    rows = [
        row for row in referrers(registries, image, PAYLOAD_TYPE, tag_first=local) if row.artifact_type == PAYLOAD_TYPE
    ]
    trusted: list[StageStatement] = []
    refused: list[Refusal] = []
    # The newest come last.
    for row in rows[-limits.ASKED_DOCUMENTS.value :]:
        try:
            content = content_of(registries, image, row, inline=True) or b""
            limits.ASKED.check(len(content), "the statement", str(image))
            verified = keyring.open(content, PAYLOAD_TYPE)
            statements = read_payload(verified.payload, verified.signer.key.id)
        except UntrustedError as error:
            refused.append(Refusal(why=error.why, keys=error.keys))
        except (EnvelopeError, DamagedContentError, ValueError):
            refused.append(Refusal(why="it is damaged"))
        else:
            if all(statement.image == image.digest for statement in statements):
                trusted += statements
            else:
                refused.append(Refusal(why="it is about another image"))
    return Statements(trusted=tuple(trusted), refused=tuple(refused))


def _ask(entry: Mapping[str, Any]) -> Ask:
    name = _text(entry["name"])
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:40]!r} is not a stage argument")
    return Ask(
        name=name, value=_text(entry["value"]), option=_text(entry["option"]), commas=entry.get("commas") is True
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where text is expected")
    return value
