"""Check that the relations between Alpine's packages still hold after a rebase (apk-package(5)).

The database `installed` has a paragraph for each package: `P` its name, `V` its version, `D` what it needs (`!x` refuses x),
and `p` what it provides: libraries (`so:`), commands (`cmd:`), and other names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from chainbuild.distro.alpine_versions import alpine_fits
from chainbuild.patterns import regex
from chainbuild.rebase.merging import paragraphs

INSTALLED: Final = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
_RELATION: Final = regex(r"(?P<name>[^<>=~]+)((?P<op>[<>=~]+)(?P<version>.+))?")
_Versions = Mapping[str, Iterable[tuple[str, str]]]


def broken_apk_relations(installed: bytes) -> frozenset[str]:
    """Return the relations that do not hold, as texts: `musl-dev: musl=1.2.4-r2`."""
    needs: list[tuple[str, str]] = []
    versions: dict[str, list[tuple[str, str]]] = {}
    for text in paragraphs(installed, b"P").values():
        fields = dict(
            line.split(":", 1) for line in text.decode("utf-8", "surrogateescape").split("\n") if line[1:2] == ":"
        )
        package = fields.get("P", "")
        versions.setdefault(package, []).append((package, fields.get("V", "")))
        needs += ((package, need) for need in fields.get("D", "").split())
        for name, version in _names(fields.get("p", "").split()):
            versions.setdefault(name, []).append((package, version))
    return frozenset(f"{package}: {need}" for package, need in needs if _is_broken(versions, package, need))


def _names(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, _, version = word.partition("=")
        yield name, version


def _is_broken(versions: _Versions, package: str, need: str) -> bool:
    match = _RELATION.fullmatch(need.removeprefix("!"))
    if match is None:
        return True
    providers = versions.get(match["name"], ())
    if need.startswith("!"):
        return any(owner != package and _fits(version, match["op"], match["version"]) for owner, version in providers)
    return not any(_fits(version, match["op"], match["version"]) for _, version in providers)


def _fits(version: str, operator: str | None, other: str) -> bool:
    """Return whether a version fits; one that is no version fits no other."""
    try:
        return alpine_fits(version, operator or "", other)
    except ValueError:
        return False
