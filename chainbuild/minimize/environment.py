"""Find the files that variables of the chain's image refer to: the locale (LC_ALL, LANG) and the time zone (TZ).

Locales are looked up as glibc does (locale(7), setlocale(3), localedef(1)): in a folder of their own below
`/usr/lib/locale`, or in `locale-archive`. Time zones are files below `/usr/share/zoneinfo` (tzset(3)).
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
    """A file or folder of the chain's image, and why it is needed; `big` if it is only kept on request."""

    path: str
    why: str
    rule: str
    big: bool = False


def wanted(chain: RootFileSystem, environment: Environment) -> Iterator[WantedPath]:
    """Yield the files that the variables refer to, if the chain's image has them."""
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
    """Yield the path of the locale `name`: its folder, otherwise the archive that has it; nothing for C and POSIX."""
    match = _NAME.fullmatch(name)
    if match is None or name in ("C", "POSIX"):
        return
    names = list(_spellings(match))
    folders = [path for spelling in names if chain.is_folder(path := join(_LOCALES, spelling))]
    if folders:
        yield folders[0]
    elif _archive_has(chain, names):
        yield _ARCHIVE


def _spellings(match: re.Match[str]) -> Iterator[str]:
    """Yield a locale's name with its charset as written, with it normalised (`_nl_normalize_codeset`), and without it."""
    language, charset, modifier = match["language"], match["charset"], match["modifier"] or ""
    if charset:
        plain = re.sub(r"[\W_]", "", charset).lower()
        for spelling in dict.fromkeys((charset, f"iso{plain}" if plain.isdigit() else plain)):
            yield f"{language}.{spelling}{modifier}"
    yield f"{language}{modifier}"


def _archive_has(chain: RootFileSystem, names: list[str]) -> bool:
    """Return whether one of `names` is in the archive's table of names."""
    archive = chain.resolve(_ARCHIVE)
    node = None if archive is None else chain.entry(archive)
    if archive is None or node is None or node.kind != "file":
        return False
    needles = [b"\0" + name.encode() + b"\0" for name in names]
    kept = b""
    for data in chain.pieces(archive, _CHUNK, _MOST_OF_ARCHIVE):
        if any(needle in kept + data for needle in needles):
            return True
        kept = data[-256:]
    return False


def keep_wanted(ground: Ground) -> None:
    """Keep what the variables refer to and the production image lacks, unless it is big or not requested."""
    for item in wanted(ground.chain, ground.places.environment):
        real = ground.chain.resolve(item.path, follow=False) or item.path
        state = "left"
        if ground.has(item.path):
            state = "kept" if real in ground.selection.kept else "production"
        elif ground.arguments.keep_surroundings and not item.big:
            ground.keep(item.path, item.why, "")
            state = "kept"
        node = ground.chain.stat(item.path)
        size = node.size if node is not None else 0
        ground.note(item.rule, item.path, real, "surroundings", item.why, state, rule=item.rule, size=size)
