"""The settings of apt in an image: sources (sources.list(5)), preferences (apt_preferences(5)) and apt.conf(5).

Files are read in the order in which apt reads them. What apt would reject is skipped with a problem.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Final

from msgspec import Struct, field

from chainbuild.minimize.packages import paragraphs
from chainbuild.minimize.root import RootFileSystem
from chainbuild.outdated.apt_phasing import Phasing
from chainbuild.patterns import regex

ETC: Final = "/etc/apt"
_KEYRINGS: Final = (".gpg", ".asc", ".pgp")
_NAME: Final = regex(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]*")
_ONE_LINE: Final = regex(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>(?:\s+\S+)*)"
)
_CLEAR: Final = "#clear"
_TOKEN: Final = regex(r'(#clear)\b|//[^\n]*|#[^\n]*|/\*.*?\*/|"([^"]*)"|([{};])|([^\s{};"]+)', re.DOTALL)
_NUMBER: Final = regex(r"\s*([+-]?[0-9]{1,9})")
_BOOLEANS: Final = {
    **dict.fromkeys(("yes", "true", "with", "on", "enable", "1"), True),
    **dict.fromkeys(("no", "false", "without", "off", "disable", "0"), False),
}
_MOST: Final = 1 << 20
LOWEST: Final = -32768
"""The priority `never` (apt 3.1)."""
_OPTIONS: Final = {
    "Architectures": "arch",
    "Architectures-Add": "arch+",
    "Architectures-Remove": "arch-",
    "Targets": "target",
    "Signed-By": "signed-by",
    "Trusted": "trusted",
    "Check-Valid-Until": "check-valid-until",
}
"""The fields of deb822 sources that count here, and the options of the one-line form."""


class AptSource(Struct, frozen=True, kw_only=True):
    """A suite of a repository. `suite` ends in `/` for a repository without components.

    `keyrings` are the paths or the armored keys of Signed-By, `only` the fingerprints in it; without both, every trusted key
    may sign. `architectures`: the only ones, if it names some; `added` and `removed` change them. `has_packages`: apt reads
    its lists of packages, not only other files (Targets).
    """

    uri: str
    suite: str
    components: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    has_packages: bool = True
    keyrings: tuple[str, ...] = ()
    only: str = ""
    trusted: bool = False
    ignores_date: bool = False
    """`Check-Valid-Until: no`."""

    @property
    def name(self) -> str:
        """The source as apt shows it, without its components."""
        return f"{self.uri.rstrip('/')} {self.suite}"

    def chosen(self, architectures: Iterable[str]) -> tuple[str, ...]:
        """Return the architectures among those given whose lists apt reads. `all` needs no mention."""
        named = {*self.architectures, *self.added, "all"} if self.architectures else None
        return tuple(name for name in architectures if name not in self.removed and (named is None or name in named))


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
    phasing: Phasing = Phasing()
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
        read_apt_conf(_text(root, path), values)
    trusted = (f"{ETC}/trusted.gpg", *_parts(root, f"{ETC}/trusted.gpg.d", _KEYRINGS))
    paths = {*trusted, *(path for source in sources for path in source.keyrings if path.startswith("/"))}
    return AptSettings(
        sources=tuple(sources),
        pins=tuple(pins),
        default_release=values.get("apt::default-release", ""),
        phasing=_phasing(values, _text(root, "/etc/machine-id")),
        ignores_dates=not truth_of(values.get("acquire::check-valid-until", ""), default=True),
        trusted=trusted,
        problems=tuple(problems),
        keys={path: content for path in sorted(paths) if (content := root.read(path, _MOST))},
    )


def truth_of(text: str, *, default: bool = False) -> bool:
    """Return whether a value is true, in one of the words that apt takes for it."""
    return _BOOLEANS.get(text.lower(), default)


def _phasing(values: Mapping[str, str], machine: str) -> Phasing:
    def is_set(name: str) -> bool:
        earlier = truth_of(values.get(f"update-manager::{name}-include-phased-updates", ""))
        return truth_of(values.get(f"apt::get::{name}-include-phased-updates", ""), default=earlier)

    return Phasing(
        always=is_set("always"),
        never=is_set("never"),
        by_policy=truth_of(values.get("apt::get::phase-policy", "")),
        machine=values.get("apt::machine-id", "") or machine.partition("\n")[0].strip(),
    )


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
            **{title: options.get(name, "").replace(",", " ") for title, name in _OPTIONS.items()},
        }
        yield from _sources(fields)


def _deb822(text: str, path: str, problems: list[str]) -> Iterator[AptSource]:
    """Yield the sources of a file in the form of deb822(5)."""
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for raw, _ in paragraphs(plain):
        fields = whole_fields(raw)
        if "deb" not in fields.get("types", "").split() or not truth_of(fields.get("enabled", ""), default=True):
            continue
        if not fields.get("uris") or not fields.get("suites"):
            problems.append(f"{path}: a source without URIs or Suites")
            continue
        titles = ("URIs", "Suites", "Components", *_OPTIONS)
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
                added=tuple(fields["Architectures-Add"].split()),
                removed=tuple(fields["Architectures-Remove"].split()),
                has_packages="Packages" in (fields["Targets"].split() or ["Packages"]),
                keyrings=keyrings,
                only=only,
                trusted=truth_of(fields["Trusted"]),
                ignores_date=not truth_of(fields["Check-Valid-Until"], default=True),
            )


# Preferences ----------------------------------------------------------------------------------------------------------


def _pins(text: str, path: str, problems: list[str]) -> Iterator[Pin]:
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for raw, _ in paragraphs(plain):
        fields = whole_fields(raw)
        names = tuple(fields.get("package", "").split())
        kind, _, data = fields.get("pin", "").partition(" ")
        priority = _priority(fields.get("pin-priority", ""))
        is_general = fields.get("package", "") == "*"
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
    match = _NUMBER.match(text)
    number = int(match[1]) if match else 0
    return number if LOWEST < number < -LOWEST else 0


# apt.conf -------------------------------------------------------------------------------------------------------------


def read_apt_conf(text: str, values: MutableMapping[str, str]) -> None:
    """Add the values of apt.conf by lower-case name, such as `apt::default-release`. Lists are ignored."""
    scope: list[str] = []
    words: list[str] = []
    for match in _TOKEN.finditer(text):
        clear, quoted, mark, bare = match.groups()
        if mark == "{":
            scope.append("::".join(words))
            words = []
        elif mark == "}":
            scope = scope[:-1]
            words = []
        elif mark == ";":
            if len(words) == 2 and words[0] != _CLEAR:
                values["::".join([*filter(None, scope), words[0]]).lower()] = words[1]
            for name in words[1:] if words[:1] == [_CLEAR] else ():
                for key in [key for key in values if f"{key}::".startswith(f"{name.lower()}::")]:
                    del values[key]
            words = []
        elif clear is not None or quoted is not None or bare is not None:
            words.append(clear or (bare if quoted is None else quoted))
