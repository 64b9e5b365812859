"""A world whose images have packages: each step's layer holds the databases that package managers would have written.

world = PackageWorld(tmp_path)
world.installs("10-base", "libssl3=3.0.15-1")     # what the step has installed after a build
world.offers("libssl3=3.0.17-1", suite="stable-security")
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chainbuild.builder.build_spec import BuildSpec
from tests.support.package_repositories import Mirror, apt_keyring, apt_suite, deb, project_page
from tests.support.tars import tar
from tests.support.world.numbered import World
from tests.support.world.trees import AMD64, ARM64

URI = "http://deb.test/debian"
SOURCES = f"""Types: deb
URIs: {URI}
Suites: stable stable-security
Components: main
Signed-By: /usr/share/keyrings/archive.gpg
"""
SITE = "usr/local/lib/python3.11/site-packages"


class PackageWorld(World):
    """A tree in surroundings with signed apt suites and a Python index, for both platforms."""

    def __init__(self, root: Path) -> None:
        self.mirror = Mirror()
        self.suites: dict[str, dict[str, str]] = {"stable": {}, "stable-security": {}}
        self.steps: dict[str, dict[str, str]] = {}
        self.python: dict[str, dict[str, str]] = {}
        self.old_base = {"libc6": "2.36-1"}
        super().__init__(root)
        self.indices = self.mirror
        self.driver.content = self._layer
        self.driver.encoding = "latin-1"
        self.offers("libc6=2.36-1")

    def external(self, name: str, content: str, **config: Any) -> None:
        """Set the content of an external image: with apt's sources and keys, and the packages of `old_base`."""
        repository, _, tag = name.rpartition(":")
        images = []
        for platform, architecture in ((AMD64, "amd64"), (ARM64, "arm64")):
            files = {
                "etc/apt/sources.list.d/debian.sources": SOURCES.encode(),
                "usr/share/keyrings/archive.gpg": apt_keyring(),
                "var/lib/dpkg/status": status(self.old_base, architecture),
                "content": content.encode(),
            }
            place = f"docker.io/library/{repository}:{platform.name}"
            images.append(self.fake.add_image(place, platform, layers=[packed(files)], **config))
        self.fake.add_index(f"docker.io/library/{repository}:{tag}", images)

    def built(self, tree: Mapping[str, str]) -> None:
        """Write a chain of three steps with libssl3, tool and requests, and build it on both platforms, as new as can be."""
        self.write(tree)
        self.installs("10-base", "libssl3=3.0.15-1")
        self.installs("20-tool", "tool=1.0-1")
        self.installs("30-venv", "requests==2.31.0")
        self.offers("libssl3=3.0.15-1", "tool=1.0-1")
        self.offers_python("requests", "2.31.0")
        self.now += 60
        assert self.run(self.graph((AMD64, ARM64))).succeeded

    def installs(self, step: str, *packages: str) -> None:
        """Set what a step has installed by its next build, as `name=version`; `name==version` are of Python."""
        self.steps[step] = dict(text.split("=") for text in packages if "==" not in text)
        self.python[step] = dict(text.split("==") for text in packages if "==" in text)

    def offers(self, *packages: str, suite: str = "stable", signed_by: str = "archive") -> None:
        """Publish versions in a suite, and serve all suites."""
        self.suites[suite] |= dict(text.split("=") for text in packages)
        for name, versions in self.suites.items():
            blocks = {
                architecture: [
                    deb(package, version, Architecture=architecture) for package, version in versions.items()
                ]
                for architecture in ("amd64", "arm64")
            }
            label = "Label: Debian-Security" if name.endswith("-security") else "Label: Debian"
            self.mirror.add(URI, apt_suite(blocks, name, more=label, key=signed_by))

    def offers_python(self, name: str, *versions: str) -> None:
        """Publish versions of a distribution in the index that pip uses by default."""
        page = project_page(*(f"{name}-{version}.tar.gz" for version in versions))
        self.mirror.files[f"https://pypi.org/simple/{name}/"] = page

    def _layer(self, spec: BuildSpec) -> str:
        """Return the layer of a step: the dpkg status with everything that steps below and the step itself installed."""
        name = spec.step.name
        installed = dict(self.old_base)
        for step in sorted(self.steps):
            if step <= name:
                installed |= self.steps[step]
        architecture = "arm64" if spec.platform.same_as(ARM64) else "amd64"
        files = {"var/lib/dpkg/status": status(installed, architecture)}
        if spec.step.is_stage:
            files = {
                f"var/lib/dpkg/status.d/{package}": status({package: version}, architecture)
                for package, version in installed.items()
            }
        for package, version in self.python.get(name, {}).items():
            folder = f"{SITE}/{package}-{version}.dist-info"
            files[f"{folder}/METADATA"] = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode()
            files[f"{folder}/INSTALLER"] = b"pip\n"
        return packed(files).decode("latin-1")


def status(packages: dict[str, str], architecture: str, held: Iterable[str] = ()) -> bytes:
    """Return a dpkg status file."""
    blocks = [
        f"Package: {name}\nStatus: {'hold' if name in held else 'install'} ok installed\nArchitecture: {architecture}\n"
        f"Version: {version}\nDescription: x\n more\n"
        for name, version in packages.items()
    ]
    return "\n".join(blocks).encode()


def packed(files: dict[str, bytes]) -> bytes:
    """Return a compressed layer."""
    return gzip.compress(tar(files), mtime=0)
