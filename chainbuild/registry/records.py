"""Records: what the chain registry remembers of a step's result, under the step's key.

A record lies at the tag `k1-<hex>` of the step's repository. A second tag, `k1-last-…`, remembers the newest record of
each step by its option, name and platform: it only ever explains why a key changed, and never decides what is reused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chainbuild.errors import LoginNeededError, RegistryError, UnreachableError, WrongUseError
from chainbuild.keys import Components
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.artifacts import Artifact, put_artifact, read_artifact
from chainbuild.registry.pool import Registries

SCHEMA: Final = "chainbuild.record/1"
ARTIFACT_TYPE: Final = "application/vnd.chainbuild.record.v1+json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A step's result. `seconds` is what the build took; `built_at` is seconds since the epoch.

    `identity` is the content identity of the image, `env` and `on_build` what its config brings into a stage that starts
    from it; `unpacked` its unpacked size in bytes where something counted it; `verdicts` say which proofs it has passed,
    with their summaries; `notes` are what provenance tells besides; `parents` are the keys of the steps that it was
    built from, by input name.
    """

    key: str
    step: str
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
    notes: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The record's document."""
        return {
            "schema": SCHEMA,
            "key": self.key,
            "step": self.step,
            "image": str(self.image),
            "identity": self.identity,
            "env": list(self.env),
            "on_build": list(self.on_build),
            "size": self.size,
            "added": self.added,
            "unpacked": self.unpacked,
            "seconds": round(self.seconds, 3),
            "built_at": round(self.built_at, 3),
            "builder": self.builder,
            "verdicts": dict(self.verdicts),
            "notes": dict(self.notes),
            "parents": dict(self.parents),
            "components": self.components.as_json(),
        }

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
            raise ValueError("its components do not give its key")
        return record

    @classmethod
    def read(cls, document: Mapping[str, Any], components: Components) -> Record:
        """Read a record's document but for its components. Errors: `ValueError` on anything else."""
        try:
            return cls(
                key=str(document["key"]),
                step=str(document["step"]),
                image=Digest(document["image"]),
                identity=str(document["identity"]),
                env=tuple(str(item) for item in document["env"]),
                on_build=tuple(str(item) for item in document["on_build"]),
                size=int(document["size"]),
                added=int(document["added"]),
                unpacked=int(document["unpacked"]),
                seconds=float(document["seconds"]),
                built_at=float(document["built_at"]),
                builder=str(document["builder"]),
                verdicts={str(key): str(value) for key, value in document["verdicts"].items()},
                notes={str(key): str(value) for key, value in document["notes"].items()},
                parents={str(key): str(value) for key, value in document["parents"].items()},
                components=components,
            )
        except (KeyError, TypeError, AttributeError, ArithmeticError, WrongUseError) as error:
            raise ValueError(f"not a record: {error!r}") from error


class RecordStore:
    """The records of the chain registry. A record that cannot be read is as good as none: a reason to build."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    def read(self, repository: ImageReference, key: str) -> Record | None:
        """The record of a key."""
        record = self.at(repository.with_tag(key))
        return record if record and record.key == key else None

    def last(self, repository: ImageReference, family: str) -> Record | None:
        """The newest record of a step, whatever its key."""
        return self.at(repository.with_tag(last_tag(family)))

    def write(self, repository: ImageReference, family: str, record: Record) -> None:
        """Store a record under its key, and as the newest of its step."""
        content = json.dumps(record.as_json(), sort_keys=True, separators=(",", ":")).encode()
        if self._registries.client(repository).head(repository.repository, record.key) is not None:
            from chainbuild.registry.books import forget

            forget(self._registries, repository, record.step)
        for name in (record.key, last_tag(family)):
            put_artifact(self._registries, repository.with_tag(name), artifact_type=ARTIFACT_TYPE, content=content)

    def image_stands(self, repository: ImageReference, record: Record) -> bool:
        """Whether the registry still has the manifest of the record's image."""
        return self._registries.client(repository).head(repository.repository, record.image) is not None

    def at(self, reference: ImageReference) -> Record | None:
        """The record under a name; None where there is none that can be read. Errors: the registry does not answer."""
        try:
            artifact: Artifact | None = read_artifact(self._registries, reference, ARTIFACT_TYPE)
            return Record.parse(artifact.content) if artifact else None
        except (UnreachableError, LoginNeededError):
            raise
        except (RegistryError, ValueError):
            return None


def is_key(tag: str) -> bool:
    """Whether a tag is a step key: `k1-` and 64 hex digits."""
    return len(tag) == 67 and tag.startswith("k1-") and all(digit in "0123456789abcdef" for digit in tag[3:])


def last_tag(family: str) -> str:
    """The tag under which a step's newest record lies; long names are cut and told apart by a hash."""
    name = f"k1-last-{family}"
    if len(name) <= 128:
        return name
    return f"{name[:111]}-{hashlib.sha256(family.encode()).hexdigest()[:16]}"
