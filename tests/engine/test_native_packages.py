"""Native package tools in real emulated builds: the same images as without them, and scripts of packages that run natively."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from .conftest import OTHER, OWN, Lay, Place

pytestmark = [pytest.mark.timeout(1200), pytest.mark.skipif(OWN != "amd64", reason="builds for arm64")]

SCRIPT: Final = (Path(__file__).parent / "programs" / "package.sh").read_text()
INSTALL: Final = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY src/package.sh /
RUN sh /package.sh keep
RUN sh /package.sh purge
"""
# A package whose script notes its own command line, which is not the same with and without native programs.
SHOW: Final = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY src/control src/postinst /p/DEBIAN/
RUN chmod 755 /p/DEBIAN/postinst && dpkg-deb --build /p /how.deb && dpkg -i /how.deb
RUN CHAINBUILD_NATIVE=off dpkg -i /how.deb
"""
# Python's own library is compiled natively, and perl runs natively until there are modules in machine code.
DISTRIBUTION: Final = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get -q update \
 && DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends adduser ca-certificates python3 tzdata \
 && apt-get -q install --yes --no-install-recommends dbus libtext-iconv-perl ucf \
 && apt-get -q purge --yes ucf && apt-get -q autoremove --yes \
 && rm -rf /var/log/* /var/cache/* /var/lib/dbus/machine-id /etc/machine-id
"""
TREE: Final = {
    "packages/10-Dockerfile-install": INSTALL,
    "packages/20-Dockerfile-show": SHOW,
    "distribution/10-Dockerfile-install": DISTRIBUTION,
    "src/package.sh": SCRIPT,
    "src/control": "Package: how\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n",
    "src/postinst": "#!/bin/sh\ntr '\\0' ' ' </proc/$$/cmdline >>/how\necho >>/how\n",
}


@pytest.fixture(scope="module")
def place(lay_newer: Lay) -> Place:
    return lay_newer(files=TREE)


def same(place: Place, option: str, until: str) -> dict[str, Any]:
    """Build with and without native tools, and return the files that both images have."""
    for tag, flags in (("v1", ()), ("off", ("--native=off", "--refresh"))):
        place.build(option, "--until", until, *flags, platform=OTHER, tag=tag)
    names = [f"{tag}-{option}-10-install-{OTHER}" for tag in ("v1", "off")]
    # The base has one layer.
    native, emulated = (place.added(name, 1, OTHER) for name in names)
    assert {path for path in native.keys() | emulated.keys() if native.get(path) != emulated.get(path)} == set()
    configs = [json.loads(place.image(name, OTHER).config.raw) for name in names]
    assert configs[0]["config"] == configs[1]["config"]
    histories = [[entry.get("created_by") for entry in config["history"]] for config in configs]
    assert histories[0] == histories[1]
    assert [path for path in native if "chainbuild" in path or "/usr/local/sbin" in path] == []
    assert [path for path, (content, *_) in native.items() if b"chainbuild-native" in content] == []
    return native


def test_native_package_tools_make_the_same_image(place: Place) -> None:
    files = same(place, "packages", "10")
    state = b"".join(content for path, (content, *_) in files.items() if path.endswith("/var/lib/thing"))
    assert state.count(b" arm64 arm64 aarch64\n") >= 4
    assert b"/usr/bin/perl aarch64-linux-gnu-thread-multi 2 -e x y\n/usr/bin/readlink\n" in state


def test_scripts_of_packages_run_natively(place: Place) -> None:
    place.build("packages", "--until", "20", "--refresh", platform=OTHER, tag="shown")
    name = f"shown-packages-20-show-{OTHER}"
    first, second = place.output(name, "cat", "/how", platform=OTHER).splitlines()
    assert "/.chainbuild-native/real/usr/bin/dash /var/lib/dpkg/info/how.postinst configure" in first
    assert "chainbuild" not in second
    assert re.match(r"apt 3\.\S+, dpkg 1\.\S+[ ,]", place.record(name, OTHER).notes["native"])


@pytest.mark.long
def test_packages_of_the_distribution_are_the_same(place: Place) -> None:
    files = same(place, "distribution", "10")
    assert sum(path.endswith(".pyc") for path in files) > 500
