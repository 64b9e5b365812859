"""Pack a chain with packages of Debian and Python, with a bill of materials."""

from __future__ import annotations

import json

from chainbuild.minimize.__main__ import main
from tests.support.elf_builder import GLIBC, library, plant, program, with_sections

LIB = "/usr/lib/x86_64-linux-gnu"

SITE = "/opt/venv/lib/python3.11/site-packages"


def stanza(name: str, version: str, arch: str = "amd64") -> bytes:
    return (
        f"Package: {name}\nStatus: install ok installed\nMaintainer: Some One <one@example.org>\n"
        f"Architecture: {arch}\nSource: src-{name} (1)\nVersion: {version}\nHomepage: https://example.org/\n\n"
    ).encode()


CHAIN: dict[str, bytes | str | None] = {
    **GLIBC,
    "/etc/os-release": b'PRETTY_NAME="x"\nID=debian\nVERSION_ID="12"\n',
    "/usr/local/bin/x": program("liba.so.1", "libhave.so.1"),
    f"{LIB}/liba.so.1": with_sections(library("liba.so.1")),
    f"{LIB}/libhave.so.1": library("libhave.so.1"),
    "/usr/bin/python3.11": program("libc.so.6"),
    "/usr/bin/unused": b"u",
    "/var/lib/dpkg/status": stanza("liba1", "1:2.0+b1") + stanza("python", "3.11") + stanza("unused", "1"),
    "/var/lib/dpkg/info/liba1:amd64.list": f"{LIB}/liba.so.1\n".encode(),
    "/var/lib/dpkg/info/python.list": b"/usr/bin/python3.11\n",
    "/var/lib/dpkg/info/unused.list": b"/usr/bin/unused\n",
    "/usr/share/doc/liba1": "liba-common",
    "/usr/share/doc/liba-common/copyright": b"licence",
    "/usr/share/doc/python/copyright": b"python's",
    f"{SITE}/one/__init__.py": b"1",
    f"{SITE}/one-1.5.dist-info/METADATA": b"Name: One_x.y\nVersion: 1.5\nLicense-Expression: MIT OR Apache-2.0\n\n",
    f"{SITE}/one-1.5.dist-info/RECORD": b"one/__init__.py,sha256=x,1\n",
    f"{SITE}/odd\udcff\nname": b"odd",
}

PRODUCTION = {**GLIBC, f"{LIB}/libhave.so.1": library("libhave.so.1"), "/var/lib/dpkg/status": stanza("python", "3.11")}


def run(tmp_path, chain=CHAIN, production=PRODUCTION, name="o", more=()):
    roots = [plant(tmp_path / f"{name}-c", chain), plant(tmp_path / f"{name}-p", production)]
    out = [str(tmp_path / name), "--report", str(tmp_path / f"{name}.json"), "--sbom", str(tmp_path / f"{name}.spdx")]
    assert main(["pack", roots[0], "--production", roots[1], "--output", *out, *more]) == 0
    return tmp_path / name, json.loads((tmp_path / f"{name}.spdx").read_text())
