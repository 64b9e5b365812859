"""The packages of an image, and the settings that say where updates of them come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from chainbuild.comparison.contents import LayeredRoot
from chainbuild.distro.architectures import debian_architecture
from chainbuild.minimize.packages import DPKG, paragraphs
from chainbuild.minimize.root import base, parent
from chainbuild.once import Once
from chainbuild.outdated.alpine import ApkSettings, read_apk_settings
from chainbuild.outdated.apt_settings import AptSettings, read_apt_settings
from chainbuild.outdated.layers import LayerReader
from chainbuild.outdated.model import APK, DEB, PYPI, Installed
from chainbuild.outdated.python_index import PythonSettings, read_python_settings
from chainbuild.registry.images import RemoteImage

_APK: Final = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
_INSTALLERS: Final = ("pip", "uv", "poetry", "pdm")
"""How the names of the programs begin that install from an index. Distributions of others belong to packages."""
_NOT_INSTALLED: Final = frozenset({"not-installed", "config-files"})
_OF_DEBIAN: Final = ("/usr/lib/python3/", "/usr/lib/pypy3/")
_MOST: Final = 1 << 28


class Inventory(Struct, frozen=True, kw_only=True):
    """The packages of an image, its native architecture as Debian names it, and the settings of its package managers."""

    packages: tuple[Installed, ...]
    architecture: str
    apt: AptSettings
    apk: ApkSettings
    python: PythonSettings

    @property
    def identities(self) -> frozenset[tuple[str, ...]]:
        """The identities of all packages."""
        return frozenset(package.identity for package in self.packages)


class InventoryReader:
    """Reads inventories of images, each once. Thread-safe."""

    def __init__(self, layers: LayerReader) -> None:
        self.layers = layers
        self._known: Once[tuple[object, ...], Inventory] = Once()

    def read(self, image: RemoteImage, count: int | None = None) -> Inventory:
        """Return the inventory of an image, or of its lowest layers. Errors: `RegistryError`."""
        key = (*(layer.digest for layer in image.layers[:count]), image.platform.oci, image.config.env)
        return self._known.get(key, lambda: read_inventory(self.layers.root(image, count), image))


def read_inventory(root: LayeredRoot, image: RemoteImage) -> Inventory:
    """Return the inventory of a root file system with the configuration of an image."""
    return Inventory(
        packages=(*installed_by_dpkg(root), *_apk(root), *_python(root)),
        architecture=debian_architecture(image.platform),
        apt=read_apt_settings(root),
        apk=read_apk_settings(root, image.platform.oci),
        python=read_python_settings(
            root,
            image.config.env,
            image.platform.architecture,
            has_musl=any(root.is_file(path) for path in _APK),
        ),
    )


def _text(root: LayeredRoot, path: str) -> str:
    return (root.read(path, _MOST) or b"").decode("utf-8", "surrogateescape")


def installed_by_dpkg(root: LayeredRoot) -> Iterator[Installed]:
    """Yield the packages of dpkg, then those of which a production image has only files."""
    known: set[tuple[str, ...]] = set()
    for _, fields in paragraphs(_text(root, f"{DPKG}/status")):
        status = fields.get("Status", "").lower().split()
        package = _debian(fields, held=status[:1] == ["hold"], only_files=False)
        if package is not None and status and status[-1] not in _NOT_INSTALLED:
            known.add(package.identity)
            yield package
    for name in root.names(f"{DPKG}/status.d"):
        if name.endswith(".md5sums"):
            continue
        for _, fields in paragraphs(_text(root, f"{DPKG}/status.d/{name}")):
            package = _debian(fields, held=False, only_files=True)
            if package is not None and package.identity not in known:
                known.add(package.identity)
                yield package


def _debian(fields: dict[str, str], *, held: bool, only_files: bool) -> Installed | None:
    if not fields.get("Package") or not fields.get("Version"):
        return None
    return Installed(
        kind=DEB,
        name=fields["Package"],
        version=fields["Version"],
        arch=fields.get("Architecture", ""),
        source=fields.get("Source", ""),
        held=held,
        only_files=only_files,
    )


def _apk_blocks(root: LayeredRoot) -> Iterator[list[str]]:
    path = next((path for path in _APK if root.is_file(path)), None)
    for block in _text(root, path).split("\n\n") if path else ():
        yield block.split("\n")


def _apk(root: LayeredRoot) -> Iterator[Installed]:
    for lines in _apk_blocks(root):
        fields = dict(line.split(":", 1) for line in lines if line[1:2] == ":")
        if fields.get("P") and fields.get("V"):
            arch, source = fields.get("A", ""), fields.get("o", "")
            yield Installed(kind=APK, name=fields["P"], version=fields["V"], arch=arch, source=source)


def _python(root: LayeredRoot) -> Iterator[Installed]:
    """Yield the distributions that an installer took from an index; the others belong to packages."""
    of_apk = {f"/{line[2:]}" for lines in _apk_blocks(root) for line in lines if line.startswith("F:")}
    for path in sorted(root.files):
        is_wheel = path.endswith(".dist-info/METADATA")
        if not is_wheel and not path.endswith((".egg-info", ".egg-info/PKG-INFO")):
            continue
        folder = parent(path) if base(path) in {"METADATA", "PKG-INFO"} else path
        entry = root.files[path]
        if entry.kind != "file" or folder in of_apk or folder.startswith(_OF_DEBIAN):
            continue
        if is_wheel and not _text(root, f"{folder}/INSTALLER").strip().lower().startswith(_INSTALLERS):
            continue
        fields: dict[str, list[str]] = {}
        for line in _text(root, path).split("\n"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.strip())
        if fields.get("Name") and fields.get("Version"):
            yield Installed(
                kind=PYPI,
                name=fields["Name"][0],
                version=fields["Version"][0],
                place=parent(folder),
                requires=tuple(fields.get("Requires-Dist", ())),
                from_url=root.is_file(f"{folder}/direct_url.json"),
            )
