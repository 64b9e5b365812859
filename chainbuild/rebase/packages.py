"""Check that the relations between a distribution's packages still hold after a rebase (dpkg and Debian policy, chapter 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from chainbuild.distro.debian_versions import debian_key
from chainbuild.patterns import regex
from chainbuild.rebase.merging import paragraphs

_RELATION: Final = regex(
    r"\s*(?P<name>[a-z0-9][a-z0-9+.-]*)(:(?P<architecture>[a-z0-9-]+))?\s*(\((?P<op><<|<=|=|>=|>>|<|>)\s*(?P<version>[^)]+?)\s*\))?\s*"
)
_NEEDS: Final = ("Pre-Depends", "Depends")
_REFUSES: Final = ("Breaks", "Conflicts")


class Installed(Struct, frozen=True, kw_only=True):
    """An installed package: its version, and its relations, each a field's name and one of its comma-separated parts.

    `multi_arch` is the value of its field Multi-Arch (deb-control(5)).
    """

    name: str
    version: str
    architecture: str = ""
    multi_arch: str = ""
    relations: tuple[tuple[str, str], ...] = ()


class Database(Struct, frozen=True, kw_only=True):
    """The installed packages of an image by name, one for each architecture, and what they provide."""

    packages: Mapping[str, Sequence[Installed]] = field(default_factory=dict)
    provided: Mapping[str, Sequence[tuple[Installed, str]]] = field(default_factory=dict)
    """By virtual name: the packages that provide it, each with the version of the virtual package, if it has one."""


def read_database(status: bytes) -> Database:
    """Read dpkg's status file; packages that are not installed do not count."""
    packages: dict[str, list[Installed]] = {}
    provided: dict[str, list[tuple[Installed, str]]] = {}
    for text in paragraphs(status, b"Package", b"Architecture").values():
        fields = _fields(text.decode("utf-8", "surrogateescape"))
        name = fields.get("Package", "")
        if not name or not fields.get("Status", "").endswith(" installed"):
            continue
        relations = tuple(
            (kind, part) for kind in (*_NEEDS, *_REFUSES) for part in _parts(fields.get(kind, "")) if part.strip()
        )
        package = Installed(
            name=name,
            version=fields.get("Version", ""),
            architecture=fields.get("Architecture", ""),
            multi_arch=fields.get("Multi-Arch", ""),
            relations=relations,
        )
        packages.setdefault(name, []).append(package)
        for part in _parts(fields.get("Provides", "")):
            if match := _RELATION.fullmatch(part):
                provided.setdefault(match["name"], []).append((package, match["version"] or ""))
    return Database(packages=packages, provided=provided)


def broken_relations(database: Database) -> frozenset[str]:
    """Return the relations that do not hold, as texts: `libssl-dev: Depends: libssl3 (= 3.0.15-1)`."""
    broken: set[str] = set()
    for name, packages in database.packages.items():
        versions = {package.version for package in packages}
        if len(versions) > 1 and any(package.multi_arch == "same" for package in packages):
            broken.add(f"{name}: Multi-Arch: same, with the versions {' and '.join(sorted(versions))}")
        for package in packages:
            broken |= {
                f"{name}: {kind}: {part.strip()}"
                for kind, part in package.relations
                if _is_broken(database, package, kind, part)
            }
    return frozenset(broken)


def _is_broken(database: Database, package: Installed, kind: str, part: str) -> bool:
    if kind in _NEEDS:
        return not any(_holds(database, package, choice) for choice in part.split("|"))
    return _holds(database, package, part, refuses=True)


def _holds(database: Database, package: Installed, text: str, *, refuses: bool = False) -> bool:
    """Return whether an installed package fits a relation of `package`. What cannot be parsed fits nothing.

    What a package refuses does not apply to itself, and applies to every architecture.
    """
    match = _RELATION.fullmatch(text)
    if match is None:
        return False
    candidates = [(found, found.version) for found in database.packages.get(match["name"], ())]
    candidates += database.provided.get(match["name"], ())
    versions = [
        version
        for found, version in candidates
        if (found.name != package.name if refuses else _serves(found, package, match["architecture"] or ""))
    ]
    operator = match["op"]
    if operator is None:
        return bool(versions)
    return any(version and _compare(version, operator, match["version"]) for version in versions)


def _serves(found: Installed, package: Installed, qualifier: str) -> bool:
    """Return whether a package has an architecture that satisfies the dependency of another one."""
    if qualifier:
        return qualifier == "any" or found.architecture in (qualifier, "all")
    is_independent = "all" in (found.architecture, package.architecture) or found.multi_arch == "foreign"
    return is_independent or found.architecture == package.architecture


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
