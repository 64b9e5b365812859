"""A record: what the chain registry stores about a step's result, under the step's key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import asdict

from chainbuild.errors import WrongUseError
from chainbuild.model import CHAIN_IMAGE
from chainbuild.records.keys import Components
from chainbuild.records.labels import identity_of
from chainbuild.references import Digest
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor
from chainbuild.step_id import StepId
from chainbuild.step_warnings import WarningList
from chainbuild.trust.envelope import Envelope
from chainbuild.trust.keyring import TrustedKey
from chainbuild.values import convert

SCHEMA: Final = "chainbuild.record/2"
PAYLOAD_TYPE: Final = "application/vnd.chainbuild.record.v2+json"
"""The DSSE payload type of a record, and the artifact type of the manifest that holds the signed record."""
REFRESHED: Final = "refreshed for"
"""The note with the updates of packages for which a step was renewed: renewing it for them again would gain nothing."""
UNSIGNED_ARTIFACT_TYPE: Final = "application/vnd.chainbuild.record.v1+json"
"""The artifact type of the unsigned records of earlier versions."""


class Record(Struct, frozen=True, kw_only=True):
    """A step's result. `seconds` is the build's duration; `built_at` is in seconds since the epoch; sizes are in bytes.

    `family` identifies the step independently of the run's TAG (see `model.Step.family`).

    `identity` is the content identity of the image; `env` and `on_build` are what its config adds to a stage that starts
    from it; `unpacked` is its unpacked size, 0 if unknown; `verdicts` are the proofs it has passed, with their summaries;
    `warnings` are those about the image; `notes` hold further provenance; `parents` are the keys of the steps that it was
    built from, by input name.
    """

    key: str
    step: StepId
    family: str
    image: Digest
    identity: str
    size: int
    added: int
    seconds: float
    built_at: float
    components: Components
    env: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    unpacked: int = 0
    builder: str = ""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    warnings: WarningList = field(default_factory=WarningList)
    notes: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_image(
        cls,
        image: RemoteImage,
        components: Components,
        *,
        step: StepId,
        family: str,
        built_at: float,
        seconds: float = 0.0,
    ) -> Record:
        """Return the record of an image that adds all of its size, without verdicts, notes and parents."""
        return cls(
            key=components.key,
            step=step,
            family=family,
            image=image.digest,
            identity=identity_of(image.config),
            env=tuple(f"{name}={value}" for name, value in image.config.env),
            on_build=image.config.on_build,
            size=image.size,
            added=image.size,
            seconds=seconds,
            built_at=built_at,
            components=components,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the record's document."""
        changed = {
            "step": str(self.step),
            "image": str(self.image),
            "seconds": round(self.seconds, 3),
            "built_at": round(self.built_at, 3),
            "warnings": self.warnings.as_json(),
            "components": self.components.as_json(),
        }
        document = {"schema": SCHEMA, **asdict(self), **changed}
        if not self.warnings:
            del document["warnings"]
        return document

    @property
    def chain_parent(self) -> str:
        """The key of the step that it was built on, if the ARG of its Dockerfile is `BASE_IMAGE` or it has one parent."""
        keys = set(self.parents.values())
        return self.parents.get(CHAIN_IMAGE, "") or (keys.pop() if len(keys) == 1 else "")

    @property
    def payload(self) -> bytes:
        """Return the bytes to sign."""
        return json.dumps(self.as_json(), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, raw: bytes) -> Record:
        """Read a record's document. Errors: `ValueError` on anything else."""
        try:
            document = json.loads(raw)
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']!r}")
            record = cls.read(document, Components.from_json(document["components"]))
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a record: {error!r}") from error
        if record.components.key != record.key:
            raise ValueError("its components do not match its key")
        return record

    @classmethod
    def read(cls, document: Mapping[str, Any], components: Components) -> Record:
        """Read a record's document except for its components. Errors: `ValueError` on anything else."""
        try:
            if missing := _REQUIRED.difference(document):
                raise KeyError(min(missing))
            values = {
                "step": StepId.parse(document["step"]),
                "image": Digest(document["image"]),
                "warnings": WarningList.read(document.get("warnings")),
            }
            return convert({**document, **values, "components": components}, cls)
        except (KeyError, TypeError, AttributeError, WrongUseError) as error:
            raise ValueError(f"not a record: {error!r}") from error


_REQUIRED: Final = frozenset(Record.__struct_fields__) - {"components", "warnings"}


def base_layers(added: int, layers: Sequence[Descriptor]) -> int:
    """Return the number of layers that a step's image shares with its parent, from the number of bytes that the step added.

    Configs differ by a few bytes, so a layer of a few bytes may be
    assigned to the wrong side, which is invisible in the report.
    """
    above = 0
    best, nearest = len(layers), abs(added)
    for count in range(len(layers) - 1, -1, -1):
        above += layers[count].size
        if abs(added - above) < nearest:
            best, nearest = count, abs(added - above)
    return best


class Lookup(Struct, frozen=True, kw_only=True):
    """The record under a key or tag. `refusal` is the reason why an existing record is not valid.

    `envelope` is the signed form of `record`; `signer` is the trusted key that signed it.
    """

    record: Record | None = None
    refusal: str = ""
    signer: TrustedKey | None = None
    envelope: Envelope | None = None
    repository: str = ""
    """The image's repository, if the record names it (a copy does)."""
