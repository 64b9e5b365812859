"""Python distributions: the index of an image, and the version that an installer would choose there.

Formats: the simple repository API (PyPA), as JSON or HTML; version specifiers (PEP 440), markers and tags of wheels, by
`packaging`. Indices are not signed: TLS decides. PyPI's own JSON API lists known vulnerabilities and the versions that fix
them; other indices do not, and then it is unknown whether an update is for security.
"""

from __future__ import annotations

import configparser
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from msgspec import Struct
from packaging.markers import InvalidMarker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from chainbuild import limits
from chainbuild.errors import DamagedContentError
from chainbuild.minimize.root import RootFileSystem
from chainbuild.outdated.fetching import Fetcher
from chainbuild.outdated.model import Finding, Installed, SourceError, SourceState, State
from chainbuild.patterns import regex
from chainbuild.values import replace

DEFAULT: Final = "https://pypi.org/simple"
ACCEPT: Final = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"
_CONFIGURATIONS: Final = ("/etc/pip.conf", "/root/.pip/pip.conf", "/root/.config/pip/pip.conf", "/usr/local/pip.conf")
_VARIABLES: Final = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
_EXTRA_VARIABLES: Final = ("PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
_MOST: Final = 1 << 20
_PLACE: Final = regex(r".*/(?:python|pypy)(\d+)\.(\d+)/.*")
_MACHINES: Final = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "386": "i686",
    "arm": "armv7l",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


class PythonSettings(Struct, frozen=True, kw_only=True):
    """The indices of an image, the first one first; the machine as in wheels' tags, and whether its C library is musl."""

    indices: tuple[str, ...] = (DEFAULT,)
    machine: str = ""
    has_musl: bool = False


def read_python_settings(
    root: RootFileSystem, env: Iterable[tuple[str, str]], architecture: str, *, has_musl: bool
) -> PythonSettings:
    """Return where pip takes distributions from, by the image's variables and pip.conf. Nothing is run.

    `architecture` is OCI's name.
    """
    variables = dict(env)
    main, extra = "", ""
    for path in _CONFIGURATIONS:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string((root.read(path, _MOST) or b"").decode("utf-8", "replace"))
        except configparser.Error:
            continue
        for section in ("global", "install"):
            main = parser.get(section, "index-url", fallback=main)
            extra = parser.get(section, "extra-index-url", fallback=extra)
    main = next((variables[name] for name in _VARIABLES if variables.get(name)), main) or DEFAULT
    extra = next((variables[name] for name in _EXTRA_VARIABLES if variables.get(name)), extra)
    indices = tuple(dict.fromkeys(address.rstrip("/") for address in (main, *extra.split())))
    return PythonSettings(indices=indices, machine=_MACHINES.get(architecture, architecture), has_musl=has_musl)


# Pages of projects ----------------------------------------------------------------------------------------------------


class File(Struct, frozen=True, kw_only=True):
    """A file of a project in an index."""

    name: str
    requires_python: str = ""
    is_yanked: bool = False


def parse_page(raw: bytes, url: str) -> tuple[File, ...]:
    """Return the files of a project's page, in JSON or HTML. Errors: `SourceError` if it is neither."""
    if raw.lstrip()[:1] == b"{":
        try:
            document = limits.read_json(raw, "the page of a project", url)
            return tuple(
                File(
                    name=str(row["filename"]),
                    requires_python=str(row.get("requires-python") or ""),
                    is_yanked=bool(row.get("yanked")),
                )
                for row in document["files"]
            )
        except (DamagedContentError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(SourceState.UNSUPPORTED, f"{url} is not a page of an index: {error}"[:200]) from None
    parser = _Page()
    try:
        parser.feed(raw.decode("utf-8", "replace"))
    except (AssertionError, ValueError) as error:  # html.parser asserts that declarations are well-formed
        raise SourceError(SourceState.UNSUPPORTED, f"{url} is not a page of an index: {error}"[:200]) from None
    return tuple(parser.files)


class _Page(HTMLParser):
    """The links of a page in HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[File] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and values.get("href"):
            path = urlsplit(values["href"] or "").path
            self.files.append(
                File(
                    name=posixpath.basename(path),
                    requires_python=values.get("data-requires-python") or "",
                    is_yanked="data-yanked" in values,
                )
            )


def versions_of(files: Iterable[File], python: tuple[int, int], settings: PythonSettings) -> tuple[Version, ...]:
    """Return the versions that an installer would consider, the newest first: not yanked, for this Python and machine."""
    found: set[Version] = set()
    for file in files:
        version = _version_of(file.name, python, settings)
        if version is not None and not file.is_yanked and _fits(file.requires_python, python):
            found.add(version)
    return tuple(sorted(found, reverse=True))


def _version_of(name: str, python: tuple[int, int], settings: PythonSettings) -> Version | None:
    """Return the version of a file; None if it is for another Python or machine, or no distribution."""
    try:
        if name.endswith(".whl"):
            _, version, _, tags = parse_wheel_filename(name)
            return version if any(_suits(tag, python, settings) for tag in tags) else None
        return parse_sdist_filename(name)[1]
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def _suits(tag: Tag, python: tuple[int, int], settings: PythonSettings) -> bool:
    """Return whether a wheel with the tag can be installed (PyPA, "Platform compatibility tags"); libc versions are ignored."""
    major, minor = python
    exact, interpreter = f"cp{major}{minor}", tag.interpreter
    older = interpreter[:3] == f"cp{major}" and interpreter[3:].isdecimal() and int(interpreter[3:]) <= minor
    if tag.abi == "none":
        pure = interpreter[:2] == "py" and interpreter[2:3] == str(major)
        fits = exact == interpreter or (pure and int(interpreter[3:] or "0") <= minor)
    else:
        fits = (tag.abi == "abi3" and older) or (tag.abi == exact and interpreter == exact)
    libraries = ("musllinux_",) if settings.has_musl else ("manylinux", "linux_")
    own = tag.platform.startswith(libraries) and tag.platform.endswith(f"_{settings.machine}")
    return fits and (tag.platform == "any" or own)


def _fits(specifier: str, python: tuple[int, int]) -> bool:
    """Return whether a Python of that minor version may be one that the specifier allows."""
    if not specifier:
        return True
    try:
        # Only the minor version is known: take its newest release.
        return SpecifierSet(specifier).contains(f"{python[0]}.{python[1]}.99")
    except (InvalidSpecifier, InvalidVersion):
        return True


# The choice -----------------------------------------------------------------------------------------------------------


class PythonIndex:
    """The projects of indices, each read once. Thread-safe."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._versions: dict[object, tuple[tuple[Version, ...], str] | None] = {}

    def versions(
        self, name: str, python: tuple[int, int], settings: PythonSettings
    ) -> tuple[tuple[Version, ...], str] | None:
        """Return the versions of a project, the newest first, and the first index that has it; None if none has.

        Errors: `SourceError` if an index does not answer.
        """
        key = (str(canonicalize_name(name)), python, settings)
        if key not in self._versions:
            files, index = self._files(name, settings.indices)
            self._versions[key] = (versions_of(files, python, settings), index) if index else None
        return self._versions[key]

    def _files(self, name: str, indices: Iterable[str]) -> tuple[tuple[File, ...], str]:
        """Return the files of all indices that have a project, and the address of the first one."""
        files: tuple[File, ...] = ()
        first = ""
        for index in indices:
            url = f"{index}/{canonicalize_name(name)}/"
            try:
                files += parse_page(self._fetcher.get(url, limits.PROJECT_PAGE, accept=ACCEPT), url)
                first = first or index
            except SourceError as error:
                if error.state is not SourceState.MISSING:
                    raise
        return files, first

    def fixes(self, package: Installed, own: Version, candidate: Version, index: str) -> bool | None:
        """Return whether a version up to the candidate fixes a known vulnerability of the installed one; None if unknown."""
        if not index.endswith("/simple"):
            return None
        name = canonicalize_name(package.name)
        url = urljoin(f"{index}/", f"../pypi/{name}/{package.version}/json")
        try:
            document = limits.read_json(self._fetcher.get(url, limits.PROJECT_PAGE), "the data of a release", url)
        except (SourceError, DamagedContentError):
            return None
        rows = document.get("vulnerabilities") if isinstance(document, dict) else None
        if not isinstance(rows, list):
            return None
        return any(own < fixed <= candidate for row in rows for fixed in _fixed_in(row))


class PythonPolicy:
    """The choices of an installer for the environments of an image."""

    def __init__(self, index: PythonIndex, settings: PythonSettings, packages: Sequence[Installed]) -> None:
        """`packages` are all distributions of the image: what they require limits which versions are taken."""
        self._index = index
        self._settings = settings
        self._wishes: dict[tuple[str, str], list[tuple[str, SpecifierSet]]] = {}
        for package in packages:
            for name, specifier in _requirements(package, settings):
                self._wishes.setdefault((package.place, name), []).append((package.name, specifier))

    def find(self, package: Installed) -> Finding:
        """Return what is known about a distribution. Errors: `SourceError` if no index answers."""
        if package.from_url:
            return Finding(package=package, state=State.UNKNOWN, note="installed from an address, not from an index")
        found = self._index.versions(package.name, python_of(package.place), self._settings)
        if found is None:
            return Finding(package=package, state=State.GONE, note="no index of the image has it")
        try:
            own = Version(package.version)
        except InvalidVersion:
            return Finding(package=package, state=State.UNKNOWN, note="its version is not one of PEP 440")
        versions, index = found
        # A pre-release is only an update of a pre-release.
        newer = [one for one in versions if one > own and (own.is_prerelease or not one.is_prerelease)]
        if not newer:
            if versions and versions[0] < own:
                note = f"the newest version of its index is {versions[0]}"
                return Finding(package=package, state=State.AHEAD, note=note)
            return Finding(package=package, state=State.CURRENT)
        wishes = self._wishes.get((package.place, str(canonicalize_name(package.name))), [])
        allowed = [one for one in newer if all(limit.contains(one, prereleases=True) for _, limit in wishes)]
        chosen = (allowed or newer)[0]
        finding = Finding(
            package=package,
            state=State.OUTDATED,
            candidate=str(chosen),
            security=self._index.fixes(package, own, chosen, index),
            origin=urlsplit(index).hostname or index,
        )
        if allowed:
            return finding
        others = ", ".join(f"{name} requires {limit}" for name, limit in wishes if not limit.contains(chosen))
        return replace(finding, state=State.PINNED, note=others[:200])


def _fixed_in(row: Any) -> Iterator[Version]:
    """Yield the versions that fix a vulnerability, unless its report was withdrawn."""
    if not isinstance(row, dict) or row.get("withdrawn") or not isinstance(row.get("fixed_in"), list):
        return
    for text in row["fixed_in"]:
        try:
            yield Version(str(text))
        except InvalidVersion:
            continue


def python_of(place: str) -> tuple[int, int]:
    """Return the version of Python that uses a folder of distributions: 3.11 for `/usr/lib/python3.11/site-packages`."""
    match = _PLACE.fullmatch(place)
    return (int(match[1]), int(match[2][:4])) if match else (3, 99)


def _requirements(package: Installed, settings: PythonSettings) -> Iterator[tuple[str, SpecifierSet]]:
    """Yield what a distribution requires in its environment, without extras."""
    major, minor = python_of(package.place)
    environment = {
        "python_version": f"{major}.{minor}",
        "python_full_version": f"{major}.{minor}.99",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": settings.machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    for text in package.requires:
        try:
            requirement = Requirement(text)
            if requirement.specifier and (requirement.marker is None or requirement.marker.evaluate(environment)):
                yield str(canonicalize_name(requirement.name)), requirement.specifier
        except (InvalidRequirement, InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, InvalidVersion):
            continue
