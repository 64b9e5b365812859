"""The names that COPY and RUN take files from: `--from=` and the field `from=` of a mount."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from chainbuild.dockerfile.model import Instruction, Place
from chainbuild.dockerfile.words import Span


def csv_fields(line: str) -> Iterator[Span]:
    """The ranges of the fields of a comma-separated line, without the quotes around them."""
    at = 0
    while at <= len(line):
        if line.startswith('"', at):
            end = at + 1
            while end < len(line) and (line[end] != '"' or line.startswith('""', end)):
                end += 2 if line[end] == '"' else 1
            yield at + 1, end
            at = line.find(",", end)
        else:
            end = line.find(",", at)
            yield at, len(line) if end < 0 else end
            at = end
        if at < 0:
            return
        at += 1


def mount_fields(value: str) -> dict[str, str]:
    """The fields of a `--mount`: comma-separated `key=value` or bare keys, quoted as CSV; keys in lower case."""
    fields: dict[str, str] = {}
    aliases = {"src": "source", "dst": "target", "destination": "target"}
    for start, end in csv_fields(value):
        key, equals, text = value[start:end].replace('""', '"').partition("=")
        name = key.lower()
        fields[aliases.get(name, name)] = text if equals else ""
    return fields


def froms(found: Instruction) -> tuple[tuple[str, Literal["COPY --from", "RUN --mount"], Place | None], ...]:
    """The names that an instruction takes files from, by which means, and where they stand (None: in a trigger)."""
    how: Literal["COPY --from", "RUN --mount"] = "COPY --from" if found.keyword == "COPY" else "RUN --mount"
    named: list[tuple[str, Literal["COPY --from", "RUN --mount"], Place | None]] = []
    for index, flag in enumerate(found.flags if found.keyword in {"COPY", "RUN"} else ()):
        name = ""
        if found.keyword == "COPY" and flag.name == "from":
            name = flag.value or ""
        elif found.keyword == "RUN" and flag.name == "mount":
            name = mount_fields(flag.value or "").get("from", "")
        if name:
            named.append((name, how, Place(found.line, index) if found.pieces else None))
    return tuple(named)
