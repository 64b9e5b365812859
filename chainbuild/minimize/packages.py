"""Map the files of a root file system to packages: the records of dpkg, apk and Python's installers.

Formats: dpkg's status file and `info/*.list` (deb-control(5), dpkg(1)), `status.d` of distroless images, apk's
`installed` (apk-package(5)), `*.dist-info` (PyPA, "Recording installed projects") and `*.egg-info`. The records are
read natively; nothing in the root is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from chainbuild.minimize.root import RootFileSystem, base, join, parent

DPKG = "/var/lib/dpkg"
_APK = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
_PYTHON_HOMES = ("/usr/lib/python3*/*-packages", "/usr/local/lib/python3*/*-packages", "/opt/*/lib/python3*/*-packages")
MOST_CLAIMS = 4
_LIMIT = 256 << 20
_RECORD_LIMIT = 32 << 20
_CACHE = re.compile(r"(?P<stem>[^.]+)\..*pyc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """An installed package. `kind` is `deb`, `apk` or `pypi`; fields missing in its record are empty.

    `control` is dpkg's whole paragraph.
    """

    kind: str
    name: str
    version: str
    arch: str = ""
    source: str = ""
    supplier: str = ""
    homepage: str = ""
    licence: str = ""
    control: str = ""

    @property
    def key(self) -> str:
        """Return the identifier of the package in a root and in reports: `deb:libc6:amd64`."""
        return ":".join(part for part in (self.kind, self.name, self.arch) if part)


@dataclass(kw_only=True, slots=True)
class Ownership:
    """The packages by key, and the package key of each file by real path (without links above it)."""

    packages: dict[str, Package] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)
    """Keys of the packages whose records list a folder, by real path; at most `MOST_CLAIMS` per folder."""

    def owner(self, path: str) -> str:
        """Return the key of the package that owns `path`, or `""`; byte code belongs to its source's package."""
        key = self.files.get(path)
        if key is None and path.endswith(".pyc") and base(parent(path)) == "__pycache__":
            match = _CACHE.fullmatch(base(path))
            if match is not None:
                key = self.files.get(join(parent(parent(path)), match["stem"] + ".py"))
        return key or ""

    def source(self, key: str) -> str:
        """Return the name of the source package of the package `key`, or `key` itself if that is unknown."""
        package = self.packages.get(key)
        return key if package is None else package.source.partition(" ")[0] or package.name


def owned(tree: RootFileSystem) -> Ownership:
    """Read all package records of `tree`. If two packages claim a file, it belongs to the distribution's."""
    result = Ownership()
    _read_dpkg(tree, result)
    _read_apk(tree, result)
    _read_python(tree, result)
    return result


def paragraphs(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the paragraphs of a control file: the raw text, and the first line of each field."""
    for raw in re.split(r"\n(?:[ \t]*\n)+", text.strip("\n")):
        fields: dict[str, str] = {}
        for line in raw.split("\n"):
            name, colon, value = line.partition(":")
            if colon and not line.startswith((" ", "\t")):
                fields.setdefault(name, value.strip())
        if fields:
            yield raw, fields


def _text(tree: RootFileSystem, path: str, limit: int = _LIMIT) -> str:
    return (tree.read(path, limit) or b"").decode("utf-8", "surrogateescape")


def _claim(tree: RootFileSystem, result: Ownership, key: str, path: str) -> None:
    """Record that `path`, as written in a package record, is a file of the package `key`."""
    where = tree.resolve(path, follow=False)
    node = None if where is None else tree.entry(where)
    if node is not None and node.kind == "link" and tree.is_folder(path):
        return  # a folder in the package, a link in the system: merged /usr
    if where is None or node is None:
        return
    if node.kind != "dir":
        result.files.setdefault(where, key)
        return
    claims = result.folders.setdefault(where, [])
    if key not in claims and len(claims) < MOST_CLAIMS:
        claims.append(key)


def _read_dpkg(tree: RootFileSystem, result: Ownership) -> None:
    # Read each list once, even if a status file repeats its package.
    lists: set[str] = set()
    for raw, fields in paragraphs(_text(tree, f"{DPKG}/status")):
        package = _debian(raw, fields)
        if package is None or not fields.get("Status", "").endswith(" installed"):
            continue
        result.packages[package.key] = package
        for name in (package.name, f"{package.name}:{package.arch}"):
            if name in lists:
                continue
            lists.add(name)
            for line in _text(tree, f"{DPKG}/info/{name}.list").split("\n"):
                if line.startswith("/") and len(line) > 2:
                    _claim(tree, result, package.key, line)
    for path in tree.glob(f"{DPKG}/status.d/*"):
        if path.endswith(".md5sums"):
            continue
        for raw, fields in paragraphs(_text(tree, path)):
            package = _debian(raw, fields)
            if package is None:
                continue
            earlier = result.packages.setdefault(package.key, package)
            key = package.key
            if earlier.version != package.version:  # both versions exist: one from each image
                key = f"{key}@{package.version}"
                result.packages[key] = package
            for line in _text(tree, f"{path}.md5sums").split("\n"):
                name = line.partition("  ")[2]
                if name:
                    _claim(tree, result, key, f"/{name.removeprefix('./')}")


def _debian(raw: str, fields: dict[str, str]) -> Package | None:
    if not fields.get("Package") or not fields.get("Version"):
        return None
    return Package(
        kind="deb",
        name=fields["Package"],
        version=fields["Version"],
        arch=fields.get("Architecture", ""),
        source=fields.get("Source", ""),
        supplier=fields.get("Maintainer", ""),
        homepage=fields.get("Homepage", ""),
        control=raw,
    )


def _read_apk(tree: RootFileSystem, result: Ownership) -> None:
    database = next((path for path in _APK if tree.is_file(path)), None)
    for raw in _text(tree, database).split("\n\n") if database else ():
        fields: dict[str, str] = {}
        folder, files = "", []
        for line in raw.split("\n"):
            name, _, value = line.partition(":")
            if name == "F":
                folder = value
            elif name == "R":
                files.append(f"/{folder}/{value}" if folder else f"/{value}")
            elif len(name) == 1:
                fields.setdefault(name, value)
        if not fields.get("P") or not fields.get("V"):
            continue
        package = Package(
            kind="apk",
            name=fields["P"],
            version=fields["V"],
            arch=fields.get("A", ""),
            source=fields.get("o", ""),
            supplier=fields.get("m", ""),
            homepage=fields.get("U", ""),
            licence=fields.get("L", ""),
        )
        result.packages[package.key] = package
        for path in files:
            _claim(tree, result, package.key, path)


def _read_python(tree: RootFileSystem, result: Ownership) -> None:
    for home in dict.fromkeys(path for pattern in _PYTHON_HOMES for path in tree.glob(pattern)):
        for record in tree.names(home):
            where = join(home, record)
            if record.endswith(".dist-info"):
                package = _distribution(_text(tree, join(where, "METADATA"), 1 << 20))
            elif record.endswith(".egg-info"):
                metadata = join(where, "PKG-INFO") if tree.is_folder(where) else where
                package = _distribution(_text(tree, metadata, 1 << 20))
            else:
                continue
            if package is None:
                continue
            result.packages.setdefault(package.key, package)
            for path in _recorded_paths(_text(tree, join(where, "RECORD"), _RECORD_LIMIT)):
                _claim(tree, result, package.key, path if path.startswith("/") else join(home, path))


def _distribution(metadata: str) -> Package | None:
    """Parse the core metadata (PyPA) of a distribution; the description after the first empty line is not read."""
    fields = next((fields for _, fields in paragraphs(metadata.partition("\n\n")[0])), {})
    if not fields.get("Name") or not fields.get("Version"):
        return None
    return Package(
        kind="pypi",
        name=fields["Name"],
        version=fields["Version"],
        supplier=fields.get("Author", "") or fields.get("Author-email", ""),
        homepage=fields.get("Home-page", ""),
        licence=fields.get("License-Expression", ""),
    )


def _recorded_paths(record: str) -> Iterator[str]:
    """Yield the paths of a RECORD file: the first column of its CSV."""
    for line in record.split("\n"):
        if line.startswith('"'):
            yield line[1:].partition('",')[0].replace('""', '"')
        elif line.count(",") >= 2:
            yield line.rsplit(",", 2)[0]
