"""Files that variables of the chain's image name: the locale (LC_ALL, LANG) and the time zone (TZ).

Locales are looked for as glibc does (locale(7), setlocale(3), localedef(1)): in a folder of their own below
``/usr/lib/locale``, or in ``locale-archive``. Time zones are files below ``/usr/share/zoneinfo`` (tzset(3)).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from chainbuild.minimize.ground import Environment, Ground
from chainbuild.minimize.root import RootFileSystem, join
from chainbuild.minimize.rules import BIG

_LOCALES = "/usr/lib/locale"
_ARCHIVE = f"{_LOCALES}/locale-archive"
_ZONES = "/usr/share/zoneinfo"
_NAME = re.compile(r"(?P<language>[A-Za-z]\w*)(?:\.(?P<charset>[\w-]+))?(?P<modifier>@\w+)?")
_ZONE = re.compile(r"[A-Za-z][\w+-]*(?:/[A-Za-z][\w+-]*){0,3}")
_MOST_OF_ARCHIVE = 512 << 20
_CHUNK = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedPath:
    """A file or folder of the chain's image, and why; ``big`` if it is only brought by name."""

    path: str
    why: str
    rule: str
    big: bool = False


def wanted(chain: RootFileSystem, environment: Environment) -> Iterator[WantedPath]:
    """What the variables name, as far as the chain's image has it."""
    for variable, name in (("LC_ALL", environment.lc_all), ("LANG", environment.lang)):
        why = f"the locale {name}, which {variable} of the chain's image names"
        for path in locale_paths(chain, name):
            node = chain.stat(path)
            big = path == _ARCHIVE and node is not None and node.size > BIG
            yield WantedPath(path=path, why=why, rule="locale", big=big)
    zone = environment.time_zone.removeprefix(":").removeprefix(f"{_ZONES}/")
    if _ZONE.fullmatch(zone) and chain.is_file(join(_ZONES, zone)):
        why = f"the time zone {zone}, which TZ of the chain's image names"
        yield WantedPath(path=join(_ZONES, zone), why=why, rule="time-zone")


def locale_paths(chain: RootFileSystem, name: str) -> Iterator[str]:
    """Where the chain's image has the locale ``name``: a folder, else the archive if that has it; none for C and POSIX."""
    match = _NAME.fullmatch(name)
    if match is None or name in ("C", "POSIX"):
        return
    names = list(_spellings(match))
    folders = [path for one in names if chain.is_folder(path := join(_LOCALES, one))]
    if folders:
        yield folders[0]
    elif _archive_has(chain, names):
        yield _ARCHIVE


def _spellings(match: re.Match[str]) -> Iterator[str]:
    """A locale's name with its charset as it is written, normalised (_nl_normalize_codeset of glibc), and without it."""
    language, charset, modifier = match["language"], match["charset"], match["modifier"] or ""
    if charset:
        plain = re.sub(r"[\W_]", "", charset).lower()
        for one in dict.fromkeys((charset, f"iso{plain}" if plain.isdigit() else plain)):
            yield f"{language}.{one}{modifier}"
    yield f"{language}{modifier}"


def _archive_has(chain: RootFileSystem, names: list[str]) -> bool:
    """Whether one of ``names`` stands in the archive's table of names."""
    found = chain.resolve(_ARCHIVE)
    node = None if found is None else chain.entry(found)
    if found is None or node is None or node.kind != "file":
        return False
    needles = [b"\0" + name.encode() + b"\0" for name in names]
    kept = b""
    for data in chain.pieces(found, _CHUNK, _MOST_OF_ARCHIVE):
        if any(needle in kept + data for needle in needles):
            return True
        kept = data[-256:]
    return False


def keep_wanted(ground: Ground) -> None:
    """Keep what the variables name and the production image lacks, unless it is big or not wished."""
    for one in wanted(ground.chain, ground.places.environment):
        real = ground.chain.resolve(one.path, follow=False) or one.path
        state = "left"
        if ground.has(one.path):
            state = "kept" if real in ground.selection.kept else "production"
        elif ground.arguments.keep_surroundings and not one.big:
            ground.keep(one.path, one.why, "")
            state = "kept"
        node = ground.chain.stat(one.path)
        size = node.size if node is not None else 0
        ground.note(one.rule, one.path, real, "surroundings", one.why, state, rule=one.rule, size=size)
