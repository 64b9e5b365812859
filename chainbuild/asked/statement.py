"""A statement of what was asked of the stages up to an image, and how it is attached to that.

It is a DSSE envelope (see `trust.envelope`), attached as reports and bills of materials are. The payload is JSON:

    {"schema": "chainbuild.asked/1", "image": "sha256:…", "tag": "v1-stock-amd64", "at": 1795228848.8,
     "asked": [{"name": "ADDITIONAL_FILES", "value": "/srv/site", "option": "stock", "commas": false}]}

One image may have several names, and another thing may have been asked for each: a statement is about one `tag`, and takes
the place of the same key's statement about that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chainbuild import limits
from chainbuild.errors import DamagedContentError, WrongUseError
from chainbuild.model import Ask
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.auth import is_this_machine
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import SLOT, attach, content_of, referrers
from chainbuild.trust.envelope import MEDIA_TYPE, EnvelopeError
from chainbuild.trust.keyring import KeyRing, UntrustedError
from chainbuild.trust.keys import PublicKey

SCHEMA: Final = "chainbuild.asked/1"
PAYLOAD_TYPE: Final = "application/vnd.chainbuild.asked.v1+json"
"""The DSSE payload type, and the artifact type of what is attached."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """What was asked of the stages up to an image, for one of its tags; `at` is in seconds since the epoch."""

    image: Digest
    tag: str
    at: float
    asks: tuple[Ask, ...]

    @property
    def payload(self) -> bytes:
        """The bytes that are signed."""
        document = {
            "schema": SCHEMA,
            "image": str(self.image),
            "tag": self.tag,
            "at": round(self.at, 3),
            "asked": [
                {"name": ask.name, "value": ask.value, "option": ask.option, "commas": ask.commas} for ask in self.asks
            ],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, raw: bytes) -> Statement:
        """Read a statement. Errors: `ValueError` on anything else."""
        try:
            document = limits.read_object(raw, "the statement")
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']!r}")
            return cls(
                image=Digest(document["image"]),
                tag=_text(document["tag"]),
                at=float(document["at"]),
                asks=tuple(_ask(entry) for entry in document["asked"]),
            )
        except (DamagedContentError, KeyError, TypeError, AttributeError, ArithmeticError, WrongUseError) as error:
            raise ValueError(f"not a statement of what was asked: {error!r}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A statement that does not count: why, and the keys that claim to have signed it."""

    why: str
    keys: tuple[PublicKey, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Statements:
    """The statements about an image that count, and the refused ones."""

    trusted: tuple[Statement, ...] = ()
    refused: tuple[Refusal, ...] = ()

    def about(self, tags: Iterable[str]) -> Statement | None:
        """Return the newest one about one of these tags."""
        wanted = frozenset(tags)
        return max((one for one in self.trusted if one.tag in wanted), key=lambda one: one.at, default=None)


def attach_statement(registries: Registries, image: ImageReference, statement: Statement, keyring: KeyRing) -> None:
    """Sign a statement and attach it to the image of that digest, in place of the user's former one about its tag."""
    attach(
        registries,
        image,
        artifact_type=PAYLOAD_TYPE,
        media_type=MEDIA_TYPE,
        content=keyring.sign(statement.payload, PAYLOAD_TYPE).raw,
        title="asked.dsse.json",
        slot=f"{keyring.signing_key.public.id[:16]} {statement.tag}",
        inline=True,
    )


def read_statements(
    registries: Registries, image: ImageReference, keyring: KeyRing, tags: Iterable[str] = ()
) -> Statements:
    """Read the statements that are attached to the image which the reference's digest names.

    If some are about `tags`, as the list says, the others are left alone. One request, but for long statements. Errors:
    those of the registry; what is damaged is refused.
    """
    local = is_this_machine(image.registry.rpartition(":")[0] or image.registry)
    rows = [
        row for row in referrers(registries, image, PAYLOAD_TYPE, tag_first=local) if row.artifact_type == PAYLOAD_TYPE
    ]
    wanted = frozenset(tags)
    rows = [row for row in rows if row.annotation(SLOT).rpartition(" ")[2] in wanted] or rows
    trusted: list[Statement] = []
    refused: list[Refusal] = []
    # The newest come last.
    for row in rows[-limits.ASKED_STATEMENTS.value :]:
        try:
            content = content_of(registries, image, row, inline=True) or b""
            limits.ASKED.check(len(content), "the statement", str(image))
            statement = Statement.parse(keyring.open(content, PAYLOAD_TYPE).payload)
        except UntrustedError as error:
            refused.append(Refusal(why=error.why, keys=error.keys))
        except (EnvelopeError, DamagedContentError, ValueError):
            refused.append(Refusal(why="it is damaged"))
        else:
            if statement.image == image.digest:
                trusted.append(statement)
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
