"""Check that the relations between a distribution's packages still hold after a rebase (dpkg and Debian policy, chapter 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct, field

from chainbuild.distro.debian_versions import debian_key
from chainbuild.patterns import regex
from chainbuild.rebase.merging import paragraphs

_RELATION: Final = regex(
    r"\s*(?P<name>[a-z0-9][a-z0-9+.-]*)(:[a-z0-9-]+)?\s*(\((?P<op><<|<=|=|>=|>>|<|>)\s*(?P<version>[^)]+?)\s*\))?\s*"
)
_NEEDS: Final = ("Pre-Depends", "Depends")
_REFUSES: Final = ("Breaks", "Conflicts")


class Installed(Struct, frozen=True, kw_only=True):
    """An installed package: its version, and its relations, each a field's name and one of its comma-separated parts."""

    name: str
    version: str
    relations: tuple[tuple[str, str], ...] = ()


class Database(Struct, frozen=True, kw_only=True):
    """The installed packages of an image by name (of several architectures the first), and what they provide."""

    packages: Mapping[str, Installed] = field(default_factory=dict)
    provided: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """By virtual name: the packages that provide it, each with the version of the virtual package, if it has one."""


def read_database(status: bytes) -> Database:
    """Read dpkg's status file; packages that are not installed do not count."""
    packages: dict[str, Installed] = {}
    provided: dict[str, list[tuple[str, str]]] = {}
    for text in paragraphs(status, b"Package", b"Architecture").values():
        fields = _fields(text.decode("utf-8", "surrogateescape"))
        name = fields.get("Package", "")
        if not name or not fields.get("Status", "").endswith(" installed"):
            continue
        relations = tuple(
            (kind, part) for kind in (*_NEEDS, *_REFUSES) for part in _parts(fields.get(kind, "")) if part.strip()
        )
        packages.setdefault(name, Installed(name=name, version=fields.get("Version", ""), relations=relations))
        for part in _parts(fields.get("Provides", "")):
            if match := _RELATION.fullmatch(part):
                provided.setdefault(match["name"], []).append((name, match["version"] or ""))
    return Database(packages=packages, provided={name: tuple(by) for name, by in provided.items()})


def broken_relations(database: Database) -> frozenset[str]:
    """Return the relations that do not hold, as texts: `libssl-dev: Depends: libssl3 (= 3.0.15-1)`."""
    return frozenset(
        f"{package.name}: {kind}: {part.strip()}"
        for package in database.packages.values()
        for kind, part in package.relations
        if _is_broken(database, package, kind, part)
    )


def _is_broken(database: Database, package: Installed, kind: str, part: str) -> bool:
    if kind in _NEEDS:
        return not any(_holds(database, choice) for choice in part.split("|"))
    return _holds(database, part, without=package.name)


def _holds(database: Database, text: str, without: str = "") -> bool:
    """Return whether an installed package (other than `without`) fits a relation. What cannot be parsed fits nothing."""
    match = _RELATION.fullmatch(text)
    if match is None:
        return False
    candidates = [(name, version) for name, version in database.provided.get(match["name"], ()) if name != without]
    versions = [version for _, version in candidates]
    own = database.packages.get(match["name"])
    if own is not None and own.name != without:
        versions.append(own.version)
    operator = match["op"]
    if operator is None:
        return bool(versions)
    return any(version and _compare(version, operator, match["version"]) for version in versions)


def _compare(version: str, operator: str, other: str) -> bool:
    try:
        left, right = debian_key(version.strip()), debian_key(other.strip())
    except ValueError:
        return False
    match operator:
        case "<<":
            return left < right
        case "<=" | "<":
            return left <= right
        case "=":
            return left == right
        case ">=" | ">":
            return left >= right
    return left > right


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in text.split("\n"):
        if line[:1] in (" ", "\t"):
            if name:
                fields[name] += line
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _parts(text: str) -> Iterator[str]:
    return iter(text.split(",") if text.strip() else ())
