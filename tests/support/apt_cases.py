"""Random settings, sources and packages of apt, for the comparison with apt itself (tests/engine/test_apt_choices.py).

A case has the files of a root file system and the files of its repositories by address. Names, versions and settings are
few, so that they often meet.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from tests.support.package_repositories import Files, apt_suite, deb

NATIVE: Final = "amd64"
FOREIGN: Final = "arm64"
NAMES: Final = ("lib", "libx", "tool", "doc", "a.b+c", "lib-dev", "other", "gone")
_SOURCES: Final = {"libx": "lib", "lib-dev": "lib", "tool": "suite", "doc": "suite"}
_SHARES: Final = {0: 0, 1: 10, 2: 50, 3: 90, 4: 100}
_VERSIONS: Final = (
    "0.9", "1.0~~", "1.0~rc1-1", "1.0", "1.0-1", "1.0-1+b1", "1.0-1+deb12u1", "1.0-2~bpo12+1", "1.0-2", "1.1-1",
    "1.10-1",
    "2.0", "2.0+dfsg-1", "1:0.5", "1:0.5-1ubuntu0.1",
)  # fmt: skip
_SUITES: Final = (
    ("deb.test/debian", "stable", "Origin: Debian\nLabel: Debian\nVersion: 12.5\nCodename: bookworm"),
    ("deb.test/debian", "stable-updates", ("Origin: Debian\nLabel: Debian\n"
     "Version: 12-updates\nCodename: bookworm-updates")),
    ("deb.test/debian", "testing", "Origin: Debian\nLabel: Debian\nCodename: trixie"),
    ("sec.test/security", "stable-security", ("Origin: Debian\nLabel: Debian-Security\n"
     "Version: 12\nCodename: bookworm-security")),
    ("deb.test/debian", "backports", ("Origin: Debian Backports\nLabel: Debian Backports\n"
     "NotAutomatic: yes\nButAutomaticUpgrades: yes")),
    ("deb.test/debian", "experimental", "Origin: Debian\nLabel: Debian\nNotAutomatic: yes\nCodename: rc-buggy"),
    ("ppa.test:8080/u", "noble-security", "Origin: Ubuntu\nLabel: Ubuntu\nVersion: 24.04\nCodename: noble"),
    ("ppa.test:8080/u", "odd", "ButAutomaticUpgrades: yes\nVersion: 12.5"),
    ("ppa.test:8080/u", "yes", "NotAutomatic: True\nLabel: PPA for x"),
)  # fmt: skip
_PACKAGES: Final = (
    *NAMES, *NAMES, "*", "*", "*", "l*", "/^li/", "/o/", "lib:arm64", "lib:any", "tool:amd64", "doc:amd64",
    "doc:all", "src:lib", "src:suite",
    "src:s*", "src:suite:any", "tool lib", "* lib", "LIB", "?oc", "[lt]*", "*:arm64", "lib*:any", "none",
)  # fmt: skip
_PINS: Final = (
    "version 1.0*", "version 1.0-1", "version *", "version /^1\\.0/", "version 1.?-1", "version 1.0-1*",
    "version [12].0", "version 9",
    "version 1.0-1+B1", "version *-1", "release a=stable", "release n=bookworm", "release o=Debian,a=stable",
    "release o=Debian, l=Debian",
    "release l=Debian-Security", "release c=main", "release c=contrib", "release v=12.5", "release v=12*",
    "release v=12", "release b=arm64",
    "release b=amd64", "release stable", "release bookworm", "release 12*", "release 12.5", "release *",
    "release a=now", "release now",
    "release n=book*", "release a=/^stable/", "release x=foo", "release a=*", "release c=*", "release a=STABLE",
    "release stable*",
    "release l=PPA for x", "release o=Debian Backports", "origin deb.test", 'origin "deb.test"', "origin *.test",
    'origin ""', "origin ppa.test",
    "origin sec.test", "RELEASE a=testing", "release a=testing", "release A=testing", "release a=backports",
    "release a=experimental", "release a=,c=main",
    "release l=*", "release n=*", "release o=*", "release v=*", "release b=*", "release",
)  # fmt: skip
_PRIORITIES: Final = (
    "-1", "-10", "1", "50", "99", "100", "101", "499", "500", "501", "989", "990", "991", "999", "1000", "1001",
    "1001", "32767", "0500", "+500", "500x", "500 # x",
)  # fmt: skip
_PREFERENCES: Final = (
    "preferences", "preferences", "preferences.d/a", "preferences.d/b.pref", "preferences.d/Z.pref",
    "preferences.d/c.txt", "preferences.d/d.pref.bak",
    "preferences.d/.hidden", "preferences.d/.pref", "preferences.d/h:i", "preferences.d/f g", "preferences.d/9",
    "preferences.d/x.y.pref", "preferences.d/x.y",
)  # fmt: skip
_RELEASES: Final = (
    "stable",
    "testing",
    "bookworm",
    "12.5",
    "12*",
    "n=bookworm",
    "stab*",
    "/^stable/",
    "a=backports",
    "now",
    "STABLE",
    "c=contrib",
)
_STATES: Final = (
    "install ok installed", "install ok installed", "install ok installed", "install ok installed",
    "hold ok installed", "deinstall ok installed",
    "deinstall ok config-files", "install ok triggers-pending", "install ok triggers-awaited",
    "install ok half-configured", "Install OK Installed",
)  # fmt: skip


@dataclass
class Case:
    """The files of a root file system by path, and the files of the repositories by address."""

    files: dict[str, str] = field(default_factory=dict)
    repositories: dict[str, Files] = field(default_factory=dict)
    machine: str = ""

    def add(self, path: str, text: str) -> None:
        """Append to a file."""
        self.files[path] = self.files.get(path, "") + text

    def served(self) -> Mapping[str, bytes]:
        """Return the content of all repositories by address."""
        return {f"{uri}/{path}": raw for uri, files in self.repositories.items() for path, raw in files.items()}


def random_case(seed: int) -> Case:
    """Return the case of a number."""
    chance = random.Random(seed)
    case = Case()
    _add_repositories(case, chance)
    _add_pins(case, chance)
    _add_configuration(case, chance)
    case.files["/var/lib/dpkg/status"] = "\n".join(_installed(chance))
    if chance.random() < 0.3:
        case.files["/etc/machine-id"] = f"{chance.getrandbits(128):032x}\n"
    return case


def _installed(chance: random.Random) -> Iterator[str]:
    # With different versions of a package for two architectures, apt finds the versions, but calculates no upgrade.
    twins = chance.random() < 0.25
    for name in NAMES:
        version = chance.choice(_VERSIONS)
        arch = FOREIGN if name == "gone" or chance.random() < 0.2 else _architecture(name, version, NATIVE)
        yield _stanza(name, version, arch, Status=chance.choice(_STATES))
        if twins and arch != FOREIGN:
            yield _stanza(name, chance.choice(_VERSIONS), FOREIGN, Status=chance.choice(_STATES))


def _architecture(name: str, version: str, arch: str) -> str:
    """Return `all` for some versions. apt takes versions of a package with other architectures for other builds."""
    return "all" if crc32(f"{name} {version}".encode()) % 4 == 0 else arch


def _stanza(name: str, version: str, arch: str, **more: str) -> str:
    source = _SOURCES.get(name, "")
    fields = {"Source": f"{source} (1.0-1)" if version.endswith("+b1") else source} if source else {}
    if arch != "all":
        fields["Multi_Arch"] = "same"
    fields |= more
    return deb(name, version, Architecture=arch, Maintainer="x <x@example.org>", Description=name, **fields)


# Sources --------------------------------------------------------------------------------------------------------------


def _add_repositories(case: Case, chance: random.Random) -> None:
    phased = chance.random() < 0.3
    for host, suite, more in chance.sample(_SUITES, chance.randint(1, 5)):
        uri = f"http://{host}"
        architectures = [NATIVE, FOREIGN, *(["all"] if chance.random() < 0.3 else [])]
        components = ("main", "contrib") if chance.random() < 0.3 else ("main",)
        files: Files = {}
        for component in components:
            packages = {arch: [*_offered(arch, chance, phased=phased)] for arch in architectures}
            files |= _merged(
                files, apt_suite(packages, suite, key=None, ending="", component=component, more=more), suite, more
            )
        case.repositories[uri] = case.repositories.get(uri, {}) | files
        _add_source(case, chance, uri, suite, components)
    if chance.random() < 0.2:
        blocks = [*_offered(NATIVE, chance, phased=phased), *_offered(FOREIGN, chance, phased=phased)]
        case.repositories["http://flat.test/repo"] = _flat(blocks)
        case.add("/etc/apt/sources.list", "deb [trusted=yes] http://flat.test/repo ./\n")


def _merged(one: Files, other: Files, suite: str, more: str) -> Files:
    """Return the files of a suite with the lists of two components, and only with the names that it is to have."""
    path = f"dists/{suite}/Release"
    other[path] = other[path].replace(f"Codename: {suite}\n".encode(), b"", 1)
    if "Label: PPA" in more:
        other[path] = other[path].replace(f"Suite: {suite}\n".encode(), b"")
    if path in one:
        other[path] += one[path].partition(b"SHA256:\n")[2]
    return other


def _flat(blocks: list[str]) -> Files:
    files = apt_suite({NATIVE: blocks}, key=None, ending="", more="Origin: flat\nLabel: flat")
    release = files["dists/stable/Release"].replace(b"main/binary-amd64/", b"")
    return {"./Release": release, "./Packages": files["dists/stable/main/binary-amd64/Packages"]}


def _offered(arch: str, chance: random.Random, *, phased: bool) -> Iterator[str]:
    for name in NAMES[:-1]:
        for version in chance.sample(_VERSIONS, chance.choice((0, 1, 1, 2))):
            fields = {"Filename": f"pool/{name}_{version}.deb", "Size": "1", "SHA256": "0" * 64}
            share = crc32(f"{version} {name}".encode()) % 11
            if phased and share in _SHARES:
                fields["Phased_Update_Percentage"] = str(_SHARES[share])
            own = _architecture(name, version, NATIVE if arch == "all" else arch)
            # As in real repositories, the list of a foreign architecture has no `all` package that the native one lacks.
            if arch in {own, NATIVE}:
                yield _stanza(name, version, own, **fields)


def _add_source(case: Case, chance: random.Random, uri: str, suite: str, components: tuple[str, ...]) -> None:
    words = " ".join(components)
    chosen = chance.choice(("", "", "", "", "amd64", "arm64", "amd64,arm64", "+arm64", "-arm64", "-amd64", "+i386"))
    if chance.random() < 0.5:
        sign = chosen[:1] if chosen[:1] in {"+", "-"} else ""
        option = f" arch{sign}={chosen.removeprefix(sign)}" if chosen else ""
        line = f"deb [{chance.choice(('', ' '))}trusted=yes{option}{chance.choice(('', ' '))}] {uri} {suite} {words}"
        path = chance.choice(("sources.list", "sources.list.d/a.list", "sources.list.d/b.list", "sources.list.d/.list"))
        case.add(f"/etc/apt/{path}", f"# a comment\n{line}{chance.choice(('', ' # more'))}\n\n")
        return
    name = {"+": "Architectures-Add", "-": "Architectures-Remove"}.get(chosen[:1], "Architectures")
    fields = ["Types: deb", f"URIs: {uri}", "# a comment", f"Suites: {suite}", f"Components: {words}", "Trusted: yes"]
    if chosen:
        fields.append(f"{name}: {chosen.lstrip('+-').replace(',', ' ')}")
    if chance.random() < 0.3:
        fields.append(f"Enabled: {chance.choice(('no', 'No', 'false', '0', 'off', 'yes', 'true', 'disable', 'with'))}")
    if chance.random() < 0.1:
        fields.append(f"Targets: {chance.choice(('Packages', 'Translations', 'Packages Translations'))}")
    path = chance.choice(("a.sources", "b.sources", "c.sources.save", "x:y.sources"))
    case.add(f"/etc/apt/sources.list.d/{path}", "\n".join(fields) + "\n\n")


# Preferences and configuration ----------------------------------------------------------------------------------------


def _add_pins(case: Case, chance: random.Random) -> None:
    for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4, 6))):
        lines = [f"Package: {chance.choice(_PACKAGES)}", f"Pin: {chance.choice(_PINS)}"]
        lines.append(f"Pin-Priority: {chance.choice(_PRIORITIES)}")
        if chance.random() < 0.2:
            lines.insert(chance.randrange(3), "# a comment")
        if chance.random() < 0.2:
            lines.insert(0, "Explanation: why\n more of it")
        case.add(f"/etc/apt/{chance.choice(_PREFERENCES)}", "\n".join(lines) + "\n\n")


def _add_configuration(case: Case, chance: random.Random) -> None:
    if chance.random() < 0.25:
        release = chance.choice(_RELEASES)
        path = chance.choice(("apt.conf", "apt.conf.d/10x", "apt.conf.d/x.conf", "apt.conf.d/x.bak", "apt.conf.d/.x"))
        forms = ('APT::Default-Release "{}";\n', 'APT {{ Default-Release "{}"; }};\n', 'apt::default-release "{}";\n')
        case.add(f"/etc/apt/{path}", chance.choice(forms).format(release))
    for name in ("APT::Get::Never-Include", "APT::Get::Always-Include", "Update-Manager::Never-Include"):
        if chance.random() < 0.1:
            value = chance.choice(("true", "1", "no", "false", "yes"))
            case.add("/etc/apt/apt.conf.d/20phased", f'{name}-Phased-Updates "{value}";\n')
    if chance.random() < 0.05:
        case.add("/etc/apt/apt.conf.d/20phased", 'APT::Get::Phase-Policy "true";\n')
    if chance.random() < 0.05:
        case.add("/etc/apt/apt.conf.d/30clear", "#clear APT::Default-Release;\n")
