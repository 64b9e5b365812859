"""Statements of what was asked of the stages up to an image, and how they are attached to that.

They come in DSSE envelopes (see `trust.envelope`), attached as reports and bills of materials are. The payload is JSON:

    {"schema": "chainbuild.asked/1", "image": "sha256:…", "tags": [["v1-stock-amd64", 1795228848.8]],
     "asked": [{"name": "ADDITIONAL_FILES", "value": "/srv/site", "option": "stock", "commas": false}]}

One image may have several names, and another thing may have been asked for each. So a statement is about one tag. Those of
one key that ask for the same share a document, so that an image which every run names anew does not gather documents.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.errors import DamagedContentError, WrongUseError
from chainbuild.model import Ask
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.artifacts import attach, content_of, referrers
from chainbuild.registry.auth import is_this_machine
from chainbuild.registry.pool import Registries
from chainbuild.trust.envelope import MEDIA_TYPE, EnvelopeError
from chainbuild.trust.keyring import KeyRing, UntrustedError
from chainbuild.trust.keys import PublicKey
from chainbuild.values import replace

SCHEMA: Final = "chainbuild.asked/1"
PAYLOAD_TYPE: Final = "application/vnd.chainbuild.asked.v1+json"
"""The DSSE payload type, and the artifact type of what is attached."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageStatement:
    """What was asked of the stages up to an image, for one of its tags; `at` is in seconds since the epoch.

    `signer` is the id of the key that signed it; empty if no one has yet.
    """

    image: Digest
    tag: str
    at: float
    asks: tuple[Ask, ...]
    signer: str = field(default="", compare=False)


def payload_of(statements: Sequence[StageStatement]) -> bytes:
    """Return the document of statements about one image that ask for the same: the bytes that are signed."""
    first, newest = statements[0], {one.tag: one.at for one in sorted(statements, key=lambda one: one.at)}
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
        raise ValueError(f"not a statement of what was asked: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"not a statement of what was asked: {error}") from error
    return tuple(StageStatement(image=image, tag=tag, at=at, asks=asks, signer=signer) for tag, at in tags)


class Refusal(Struct, frozen=True, kw_only=True):
    """A statement that does not count: why, and the keys that claim to have signed it."""

    why: str
    keys: tuple[PublicKey, ...] = ()


class Statements(Struct, frozen=True, kw_only=True):
    """The statements about an image that count, and the refused ones."""

    trusted: tuple[StageStatement, ...] = ()
    refused: tuple[Refusal, ...] = ()

    def about(self, tags: Iterable[str]) -> StageStatement | None:
        """Return the newest one about one of these tags."""
        wanted = frozenset(tags)
        return max((one for one in self.trusted if one.tag in wanted), key=lambda one: one.at, default=None)


def attach_statement(
    registries: Registries, image: ImageReference, statement: StageStatement, keyring: KeyRing, others: Statements
) -> None:
    """Sign a statement and attach it to the image of that digest.

    `others` are those that are there: the user's own ones that ask for the same go into the same document.
    """
    own = keyring.signing_key.public.id
    same = [
        one for one in others.trusted if (one.signer, one.asks) == (own, statement.asks) and one.tag != statement.tag
    ]
    asked = hashlib.sha256(payload_of([replace(statement, tag="", at=0.0)])).hexdigest()
    attach(
        registries,
        image,
        artifact_type=PAYLOAD_TYPE,
        media_type=MEDIA_TYPE,
        content=keyring.sign(payload_of([*same, statement]), PAYLOAD_TYPE).raw,
        title="asked.dsse.json",
        slot=f"{own[:16]} {asked[:16]}",
        inline=True,
    )


def read_statements(registries: Registries, image: ImageReference, keyring: KeyRing) -> Statements:
    """Read the statements that are attached to the image which the reference's digest names.

    One request, but for long statements. Errors: those of the registry; what is damaged is refused.
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
            found = read_payload(verified.payload, verified.signer.key.id)
        except UntrustedError as error:
            refused.append(Refusal(why=error.why, keys=error.keys))
        except (EnvelopeError, DamagedContentError, ValueError):
            refused.append(Refusal(why="it is damaged"))
        else:
            if all(one.image == image.digest for one in found):
                trusted += found
            else:
                refused.append(Refusal(why="it is about another image"))
    return Statements(trusted=tuple(trusted), refused=tuple(refused))


def _ask(entry: Mapping[str, Any]) -> Ask:
    name = _text(entry["name"])
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:40]!r} is no argument")
    return Ask(
        name=name, value=_text(entry["value"]), option=_text(entry["option"]), commas=entry.get("commas") is True
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where text is expected")
    return value
