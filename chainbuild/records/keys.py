"""Step keys: the digest of everything that decides a step's result, and a description of changes. No I/O.

A key depends on no clock, machine path or user. What a RUN downloads is not part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import asdict

from chainbuild.model import UNKNOWN
from chainbuild.records.tags import key_tag
from chainbuild.values import convert

SCHEMA: Final = "k2"
"""The key's schema. Raise it if the set of components or their meaning changes."""
SHOWN_CHANGES: Final = 3
"""How many changed lines or files a reason lists; the rest are counted."""


class Components(Struct, frozen=True, kw_only=True):
    """Everything that decides a step's result.

    `images` maps each image input to its content identity; `contexts` maps each named context to its identity (for other
    contexts than images, the spec as written); `files` maps every reachable context file, `[context://]path`, to
    `kind mode digest`; `remotes` maps addresses to the identity of the downloaded content; `facts` is anything else, by name.
    """

    dockerfile: str
    platform: str
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    remotes: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the key, which is also a tag of the chain registry: the sha256 of canonical JSON."""
        raw = json.dumps({"schema": SCHEMA, **self.as_json()}, sort_keys=True, separators=(",", ":")).encode()
        return key_tag(hashlib.sha256(raw).hexdigest())

    @property
    def unknown_remotes(self) -> tuple[tuple[str, str], ...]:
        """Return the addresses that could not be queried, each with the reason."""
        return tuple(
            (address, identity.removeprefix(UNKNOWN))
            for address, identity in sorted(self.remotes.items())
            if identity.startswith(UNKNOWN)
        )

    def as_json(self) -> dict[str, Any]:
        """Return the components as stored in a record."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Components:
        """Read what `as_json` wrote. Errors: `KeyError`, `TypeError`, `ValueError` on anything else."""
        if missing := set(cls.__struct_fields__).difference(document):
            raise KeyError(min(missing))
        return convert(document, cls)


def changes(before: Components, now: Components, *, shown: int | None = SHOWN_CHANGES) -> tuple[str, ...]:
    """Describe the differences, those closest to the user first: Dockerfile, args, files, then images and other inputs.

    At most `shown` files are listed and the others counted; None lists all.
    """
    return tuple(_changes(before, now, shown))


def _changes(before: Components, now: Components, shown: int | None) -> Iterator[str]:
    if before.platform != now.platform:
        yield f"platform changed from {before.platform} to {now.platform}"
    if before.dockerfile != now.dockerfile:
        yield f"Dockerfile changed ({changed_lines(before.dockerfile, now.dockerfile)})"
    if before.target != now.target:
        yield f"target changed from {before.target or 'the last stage'} to {now.target or 'the last stage'}"
    for name, old, new in _differences(before.args, now.args):
        if old is None:
            yield f"arg {name} added ({_quoted(new)})"
        elif new is None:
            yield f"arg {name} removed (was {_quoted(old)})"
        else:
            yield f"arg {name} changed from {_quoted(old)} to {_quoted(new)}"
    yield from _file_changes(before.files, now.files, shown)
    for address, old, new in _differences(before.remotes, now.remotes):
        yield f"remote content {address} {_moved(old, new)}"
    for name, old, new in _differences(before.contexts, now.contexts):
        yield f"context {name} {_moved(old, new)}"
    if before.secrets != now.secrets:
        yield f"secrets changed from {', '.join(before.secrets) or 'none'} to {', '.join(now.secrets) or 'none'}"
    for name, old, new in _differences(before.facts, now.facts):
        yield f"{name} {_moved(old, new)}"
    for name, old, new in _differences(before.images, now.images):
        yield f"{name} {_moved(old, new)}"


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[tuple[str, str | None, str | None]]:
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old != new:
            yield name, old, new


def _file_changes(before: Mapping[str, str], now: Mapping[str, str], shown: int | None) -> Iterator[str]:
    changed = list(_differences(before, now))
    for name, old, new in changed[:shown]:
        yield f"file {name} {_file_change(old, new)}"
    if shown is not None and len(changed) > shown:
        yield f"and {len(changed) - shown} more files"


def _file_change(old: str | None, new: str | None) -> str:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    old_kind, old_mode, old_content = ([*old.split(" ", 2), "", ""])[:3]
    new_kind, new_mode, new_content = ([*new.split(" ", 2), "", ""])[:3]
    if old_kind != new_kind:
        return f"changed from {old_kind} to {new_kind}"
    if old_content != new_content:
        return "changed" if old_mode == new_mode else f"changed, and its mode changed from {old_mode} to {new_mode}"
    return f"mode changed from {old_mode} to {new_mode}"


def changed_lines(before: str, now: str) -> str:
    """Return where the new text differs from the old, such as `lines 3-5, 9`; numbers are lines of the new text."""
    import difflib  # only for explanations

    matcher = difflib.SequenceMatcher(None, before.splitlines(), now.splitlines(), autojunk=False)
    places: list[str] = []
    removed: list[str] = []
    for tag, _, _, first, last in matcher.get_opcodes():
        if tag == "delete":
            removed.append(f"after line {first}" if first else "before line 1")
        elif tag != "equal":
            places.append(f"{first + 1}-{last}" if last > first + 1 else f"{first + 1}")
    parts = []
    if places:
        several = len(places) > 1 or "-" in places[0]
        parts.append(f"line{'s' if several else ''} {_first_few(places)}")
    if removed:
        parts.append(f"lines removed {_first_few(removed)}")
    return ", ".join(parts) or "line ends"


def _first_few(places: list[str]) -> str:
    return ", ".join(places[:SHOWN_CHANGES]) + (", …" if len(places) > SHOWN_CHANGES else "")


def _moved(old: str | None, new: str | None) -> str:
    if old is None:
        return f"added ({_short(new)})"
    return f"removed (was {_short(old)})" if new is None else f"changed from {_short(old)} to {_short(new)}"


def _short(text: str | None) -> str:
    """Shorten a digest; quote any other text."""
    text = text or ""
    if text.startswith("sha256:"):
        return text[7:19]
    return _quoted(text if len(text) <= 60 else f"{text[:57]}…")


def _quoted(text: str | None) -> str:
    return f'"{text or ""}"'
