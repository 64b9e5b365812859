"""SLSA provenance of an image: what each step of its chain was built from, and what was proven of it.

The predicate is that of SLSA 1.0 and later (slsa-framework/slsa, spec/build-provenance.md), `https://slsa.dev/provenance/v1`:

| field | content |
| --- | --- |
| `externalParameters` | the step whose image it is, and for each step, lowest first, what users can set |
| `internalParameters` | `records`: for each step its key, its image, who signed its record, when it was built |
| `resolvedDependencies` | Dockerfiles, files, images and remote content, each with its digest, and the git commit |
| `byproducts` | the verdicts of the proofs and tests, with their summaries |

What chainbuild adds to a resource are annotations that begin with `chainbuild_`, as the specification asks for.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct, to_builtins

from chainbuild import __version__
from chainbuild.attestations.statement import Resource, text_content
from chainbuild.errors import WrongUseError
from chainbuild.images.resolver import EMPTY
from chainbuild.records.notes import BASE, COMMIT, DIRTY, DOCKERFILE, SOURCE, digest_note, image_note
from chainbuild.records.record import Record
from chainbuild.records.tags import PREFIX
from chainbuild.references import ImageReference
from chainbuild.registry.oci import canonical
from chainbuild.step_id import StepId
from chainbuild.text import without_login
from chainbuild.values import replace

PROVENANCE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "https://chainbuild.github.io/provenance/chain/v1"
"""Defined in docs/provenance.md, "The build type"."""
BUILDER_ID: Final = "https://chainbuild.github.io/provenance/builder/v1"
"""chainbuild on the machine of whoever signs; see docs/provenance.md, "The builder"."""
MARK: Final = "chainbuild_"
_SHA256: Final = "sha256:"
_PASSED: Final = "passed"
_FAILED: Final = "failed"


class BuiltStep(Struct, frozen=True, kw_only=True):
    """A step of the chain: its record, and the id of the trusted key that signed it; empty if none did."""

    record: Record
    signed_by: str = ""


def provenance_predicate(steps: Sequence[BuiltStep]) -> bytes:
    """Return the predicate for the image of the last step. `steps` has the whole chain, lowest first, at least one."""
    steps = _with_unique_ids(steps)
    records = [step.record for step in steps]
    by_key = {record.key: record for record in records}
    started = min(record.built_at - max(record.seconds, 0.0) for record in records)
    document = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "result": str(records[-1].step),
                "steps": [_parameters(record) for record in records],
            },
            "internalParameters": {"records": [_internal(step, by_key) for step in steps]},
            "resolvedDependencies": [
                to_builtins(resource) for record in records for resource in _dependencies(record, by_key)
            ],
        },
        "runDetails": {
            "builder": {"id": BUILDER_ID, "version": {"chainbuild": __version__}},
            "metadata": {
                "invocationId": f"{records[-1].key}@{round(records[-1].built_at, 3)}",
                "startedOn": timestamp(started),
                "finishedOn": timestamp(max(record.built_at for record in records)),
            },
            "byproducts": [to_builtins(resource) for record in records for resource in _byproducts(record)],
        },
    }
    return canonical(_plain(document))


def _with_unique_ids(steps: Sequence[BuiltStep]) -> list[BuiltStep]:
    """Return the steps with ids that occur once: a base image may come from a tree with the same names.

    The upper step keeps its id; that of the lower one gets the start of its key.
    """
    upper: set[StepId] = set()
    unique: list[BuiltStep] = []
    for step in reversed(steps):
        record = step.record
        if record.step in upper:
            mark = record.key.removeprefix(PREFIX)[:12]
            record = replace(record, step=replace(record.step, name=f"{record.step.name}@{mark}"))
        upper.add(record.step)
        unique.append(replace(step, record=record))
    return unique[::-1]


def timestamp(seconds: float) -> str:
    """Return a time in seconds since the epoch as SLSA's Timestamp (RFC 3339, UTC)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _parameters(record: Record) -> dict[str, Any]:
    components = record.components
    values = {
        "step": str(record.step),
        "platform": components.platform,
        "dockerfile": record.notes.get(DOCKERFILE, ""),
        "target": components.target,
        "args": dict(components.args),
        "secrets": list(components.secrets),
        "contexts": dict(components.contexts),
    }
    return {name: value for name, value in values.items() if value}


def _internal(step: BuiltStep, by_key: Mapping[str, Record]) -> dict[str, Any]:
    record = step.record
    parents = {name: str(by_key[key].step) if key in by_key else key for name, key in record.parents.items()}
    known = {COMMIT, DIRTY, SOURCE, DOCKERFILE, BASE}
    notes = {
        name: text
        for name, text in record.notes.items()
        if name not in known and not name.startswith((digest_note(""), image_note("")))
    }
    values = {
        "step": str(record.step),
        "key": record.key,
        "image": str(record.image),
        "identity": record.identity,
        "signedBy": step.signed_by,
        "builtAt": timestamp(record.built_at),
        "seconds": round(record.seconds, 3),
        "builder": record.builder,
        "parents": parents,
        "unknownImages": [name for name in sorted(record.components.images) if _is_unknown(record, name)],
        "facts": dict(record.components.facts),
        "notes": notes,
        "warnings": record.warnings.total,
    }
    return {name: value for name, value in values.items() if value not in ("", {}, [], 0)}


# Dependencies ---------------------------------------------------------------------------------------------------------


def _dependencies(record: Record, by_key: Mapping[str, Record]) -> Iterator[Resource]:
    components = record.components
    yield _resource(
        record,
        "dockerfile",
        name=record.notes.get(DOCKERFILE, "Dockerfile"),
        digest={"sha256": hashlib.sha256(components.dockerfile.encode("utf-8", "surrogateescape")).hexdigest()},
    )
    for path, text in sorted(components.files.items()):
        yield _file(record, path, text)
    for name in sorted(components.images):
        if (image := _image(record, name, by_key)) is not None:
            yield image
    for address, identity in sorted(components.remotes.items()):
        yield _resource(
            record, "remote", uri=without_login(address), digest=_remote_digest(identity), identity=identity
        )
    if commit := record.notes.get(COMMIT):
        source = record.notes.get(SOURCE, "")
        yield _resource(
            record,
            "source",
            uri=f"git+{source}@{commit}" if source else "",
            digest={"gitCommit": commit},
            dirty=record.notes.get(DIRTY, ""),
        )


def _file(record: Record, path: str, text: str) -> Resource:
    """Return a file of a context. `text` is `kind mode digest` (see `records.keys`), or of a link `kind mode target`."""
    kind, mode, content = ([*text.split(" ", 2), "", ""])[:3]
    if kind == "file" and len(content) >= 64 and not content[:64].strip("0123456789abcdef"):
        return _resource(record, "file", name=path, digest={"sha256": content[:64]}, mode=mode)
    return _resource(record, kind or "file", name=path, content=text_content(text or "file"), mode=mode)


def _image(record: Record, name: str, by_key: Mapping[str, Record]) -> Resource | None:
    """Return an image input; None for `scratch`, which is no image, and for one that is not known."""
    if name in record.parents:
        parent = by_key.get(record.parents[name])
        if parent is None:
            return None
        return _resource(record, "step", name=name, digest={"sha256": parent.image.hex}, parent=str(parent.step))
    digest = _hex(record.notes.get(digest_note(name), ""))
    reference = record.notes.get(image_note(name), "")
    if not digest:
        return None
    kind = "base" if record.notes.get(BASE) == name else "image"
    return _resource(
        record,
        kind,
        name=name,
        uri=_purl(reference, digest) if reference else "",
        digest={"sha256": digest},
        reference=reference,
    )


def _is_unknown(record: Record, name: str) -> bool:
    """Return whether an image input has no digest in the record, and is not a step's or `scratch`."""
    note = record.notes.get(digest_note(name), "")
    return name not in record.parents and not _hex(note) and note != EMPTY


def _remote_digest(identity: str) -> dict[str, str]:
    """Return the digest in the identity of remote content (see `context.remote`); none if it only has an ETag."""
    kind, _, value = identity.rpartition(" ")
    if kind == "commit":
        return {"gitCommit": value}
    return {"sha256": digest} if (digest := _hex(value)) else {}


def _purl(text: str, digest: str) -> str:
    """Return the package URL of an image (purl-spec, type `oci`)."""
    try:
        reference = ImageReference.parse(text)
    except WrongUseError:
        return ""
    last = reference.repository.rpartition("/")[2]
    tag = f"&tag={quote(reference.tag)}" if reference.tag else ""
    return f"pkg:oci/{last}@sha256%3A{digest}?repository_url={quote(reference.name)}{tag}"


def _hex(digest: str) -> str:
    return digest.removeprefix(_SHA256) if digest.startswith(_SHA256) and len(digest) == 71 else ""


# Verdicts -------------------------------------------------------------------------------------------------------------


def _byproducts(record: Record) -> Iterator[Resource]:
    for proof, summary in sorted(record.verdicts.items()):
        yield _resource(
            record,
            "verdict",
            name=proof,
            content=text_content(summary or _PASSED),
            media_type="text/plain",
            outcome=_FAILED if summary.startswith(_FAILED) else _PASSED,
        )


def _resource(
    record: Record,
    kind: str,
    *,
    name: str = "",
    uri: str = "",
    digest: Mapping[str, str] | None = None,
    content: str = "",
    media_type: str = "",
    **annotations: str,
) -> Resource:
    marks = {"step": str(record.step), "kind": kind, **{key: text for key, text in annotations.items() if text}}
    return Resource(
        name=name,
        uri=uri,
        digest=digest or {},
        content=content,
        media_type=media_type,
        annotations={MARK + key: text for key, text in marks.items()},
    )


def _plain(value: Any) -> Any:
    r"""Return a document whose texts are all Unicode: bytes of file names that are no UTF-8 become `\xNN`."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if _odd(value) else value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _odd(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
