"""The settings of apt in an image: sources (sources.list(5)), preferences (apt_preferences(5)) and apt.conf(5).

Files are read in the order in which apt reads them. What apt would reject is skipped with a problem.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct, field

from chainbuild.minimize.packages import paragraphs
from chainbuild.minimize.root import RootFileSystem
from chainbuild.patterns import regex

ETC: Final = "/etc/apt"
_KEYRINGS: Final = (".gpg", ".asc", ".pgp")
_NAME: Final = regex(r"[A-Za-z0-9_.-]+")
_ONE_LINE: Final = regex(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>(?:\s+\S+)*)"
)
_TOKEN: Final = regex(r'//[^\n]*|#[^\n]*|/\*.*?\*/|"([^"]*)"|([{};])|([^\s{};"]+)', re.DOTALL)
_TRUE: Final = frozenset({"yes", "true", "with", "on", "enable", "1"})
_MOST: Final = 1 << 20
LOWEST: Final = -32768
"""The priority `never` (apt 3.1)."""


class AptSource(Struct, frozen=True, kw_only=True):
    """A suite of a repository. `suite` ends in `/` for a repository without components.

    `keyrings` are the paths or the armored keys of Signed-By, `only` the fingerprints in it; without both, every trusted key
    may sign.
    """

    uri: str
    suite: str
    components: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    keyrings: tuple[str, ...] = ()
    only: str = ""
    trusted: bool = False
    ignores_date: bool = False
    """`Check-Valid-Until: no`."""

    @property
    def name(self) -> str:
        """The source as apt shows it, without its components."""
        return f"{self.uri.rstrip('/')} {self.suite}"


class Pin(Struct, frozen=True, kw_only=True):
    """A record of the preferences: the packages (empty: all), what it matches, and the priority. `place`: its file."""

    packages: tuple[str, ...]
    kind: str
    """`release`, `origin`, `version` or `source-version`."""
    data: str
    priority: int
    place: str


class AptSettings(Struct, frozen=True, kw_only=True):
    """Everything that decides which version apt installs. `trusted` are the paths of keyrings that may sign any source."""

    sources: tuple[AptSource, ...] = ()
    pins: tuple[Pin, ...] = ()
    default_release: str = ""
    never_phased: bool = False
    ignores_dates: bool = False
    trusted: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    keys: Mapping[str, bytes] = field(default_factory=dict)
    """The content of the keyrings by path."""


def read_apt_settings(root: RootFileSystem) -> AptSettings:
    """Return the settings of apt in a root file system. Nothing is run."""
    problems: list[str] = []
    sources: list[AptSource] = []
    for path in (f"{ETC}/sources.list", *_parts(root, f"{ETC}/sources.list.d", (".list", ".sources"))):
        read = _deb822 if path.endswith(".sources") else _one_line
        sources += read(_text(root, path), path, problems)
    pins: list[Pin] = []
    for path in (f"{ETC}/preferences", *_parts(root, f"{ETC}/preferences.d", (".pref", ""))):
        pins += _pins(_text(root, path), path, problems)
    values: dict[str, str] = {}
    for path in (*_parts(root, f"{ETC}/apt.conf.d", (".conf", "")), f"{ETC}/apt.conf"):
        values |= read_apt_conf(_text(root, path))
    trusted = (f"{ETC}/trusted.gpg", *_parts(root, f"{ETC}/trusted.gpg.d", _KEYRINGS))
    paths = {*trusted, *(path for source in sources for path in source.keyrings if path.startswith("/"))}
    return AptSettings(
        sources=tuple(sources),
        pins=tuple(pins),
        default_release=values.get("apt::default-release", ""),
        never_phased=_is_true(values.get("apt::get::never-include-phased-updates", "")),
        ignores_dates=values.get("acquire::check-valid-until", "true").lower() not in _TRUE,
        trusted=trusted,
        problems=tuple(problems),
        keys={path: content for path in sorted(paths) if (content := root.read(path, _MOST))},
    )


def _is_true(text: str) -> bool:
    return text.lower() in _TRUE


def _text(root: RootFileSystem, path: str) -> str:
    return (root.read(path, _MOST) or b"").decode("utf-8", "replace")


def _parts(root: RootFileSystem, folder: str, endings: tuple[str, ...]) -> list[str]:
    """Return the files of a folder that apt reads, in its order. The ending "" means a name without a dot."""
    paths = []
    for name in root.names(folder):
        ending = posixpath.splitext(name)[1]
        if _NAME.fullmatch(name) and ending in endings:
            paths.append(f"{folder}/{name}")
    return sorted(paths)


# Sources --------------------------------------------------------------------------------------------------------------


def _one_line(text: str, path: str, problems: list[str]) -> Iterator[AptSource]:
    """Yield the sources of a file in the one-line form."""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        if not line or line.startswith("deb-src"):
            continue
        match = _ONE_LINE.fullmatch(line)
        if match is None:
            problems.append(f"{path}:{number}: not a source")
            continue
        options = dict(word.partition("=")[::2] for word in (match["options"] or "").split())
        fields = {
            "URIs": match["uri"],
            "Suites": match["suite"],
            "Components": match["components"],
            "Architectures": options.get("arch", "").replace(",", " "),
            "Signed-By": options.get("signed-by", "").replace(",", " "),
            "Trusted": options.get("trusted", ""),
            "Check-Valid-Until": options.get("check-valid-until", ""),
        }
        yield from _sources(fields)


def _deb822(text: str, path: str, problems: list[str]) -> Iterator[AptSource]:
    """Yield the sources of a file in the form of deb822(5)."""
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for raw, _ in paragraphs(plain):
        fields = whole_fields(raw)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in {"no", "false"}:
            continue
        if not fields.get("uris") or not fields.get("suites"):
            problems.append(f"{path}: a source without URIs or Suites")
            continue
        titles = ("URIs", "Suites", "Components", "Architectures", "Signed-By", "Trusted", "Check-Valid-Until")
        yield from _sources({title: fields.get(title.lower(), "") for title in titles})


def whole_fields(raw: str) -> Mapping[str, str]:
    """Return the fields of a paragraph by lower-case name, with their continuation lines."""
    fields: dict[str, str] = {}
    name = ""
    for line in raw.split("\n"):
        if line.startswith((" ", "\t")):
            rest = line.strip()
            fields[name] = f"{fields.get(name, '')}\n{'' if rest == '.' else rest}"
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower() if colon else ""
        fields.setdefault(name, value.strip())
    return fields


def _sources(fields: Mapping[str, str]) -> Iterator[AptSource]:
    signed_by = fields["Signed-By"]
    if "BEGIN PGP" in signed_by:
        keyrings: tuple[str, ...] = (signed_by.strip() + "\n",)
        only = ""
    else:
        words = signed_by.split()
        keyrings = tuple(word for word in words if word.startswith("/"))
        only = " ".join(word for word in words if not word.startswith("/"))
    for uri in fields["URIs"].split():
        for suite in fields["Suites"].split():
            yield AptSource(
                uri=uri,
                suite=suite,
                components=tuple(fields["Components"].split()),
                architectures=tuple(fields["Architectures"].split()),
                keyrings=keyrings,
                only=only,
                trusted=_is_true(fields["Trusted"]),
                ignores_date=fields["Check-Valid-Until"].lower() in {"no", "false", "0"},
            )


# Preferences ----------------------------------------------------------------------------------------------------------


def _pins(text: str, path: str, problems: list[str]) -> Iterator[Pin]:
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for raw, _ in paragraphs(plain):
        fields = whole_fields(raw)
        names = tuple(fields.get("package", "").split())
        kind, _, data = fields.get("pin", "").partition(" ")
        priority = _priority(fields.get("pin-priority", ""))
        is_general = names == ("*",)
        kinds = {"release", "origin"} if is_general else {"release", "origin", "version", "source-version"}
        if not names or kind.lower() not in kinds or not priority:
            problems.append(f"{path}: a record that apt ignores: Package: {fields.get('package', '')}"[:200])
            continue
        yield Pin(
            packages=() if is_general else names, kind=kind.lower(), data=data.strip(), priority=priority, place=path
        )


def _priority(text: str) -> int:
    """Return a priority; 0 if it is invalid."""
    if text == "never":
        return LOWEST
    try:
        number = int(text[:10])
    except ValueError:
        return 0
    return number if LOWEST < number < -LOWEST else 0


# apt.conf -------------------------------------------------------------------------------------------------------------


def read_apt_conf(text: str) -> Mapping[str, str]:
    """Return the values of apt.conf by lower-case name, such as `apt::default-release`. Lists and `#clear` are ignored."""
    values: dict[str, str] = {}
    scope: list[str] = []
    words: list[str] = []
    for match in _TOKEN.finditer(text):
        quoted, mark, bare = match.groups()
        if mark == "{":
            scope.append("::".join(words))
            words = []
        elif mark == "}":
            scope = scope[:-1]
            words = []
        elif mark == ";":
            if len(words) == 2:
                values["::".join([*filter(None, scope), words[0]]).lower()] = words[1]
            words = []
        elif quoted is not None or bare is not None:
            words.append(bare if quoted is None else quoted)
    return values
