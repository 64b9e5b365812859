"""Package owners of files, the account of every byte, and the explanations for a file."""

from __future__ import annotations

import json
import os

import pytest

from chainbuild.minimize.__main__ import main
from chainbuild.minimize.packages import owned
from chainbuild.minimize.root import RootFileSystem
from tests.support.elf_builder import GLIBC, library, plant, program, with_sections

LIB = "/usr/lib/x86_64-linux-gnu"
SITE = "/opt/venv/lib/python3.11/site-packages"
STATUS = b"""Package: liba1
Status: install ok installed
Maintainer: A <a@example.org>
Architecture: amd64
Version: 1.0-1
Description: a
 more

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 3

Package: tool
Status: install ok installed
Architecture: all
Version: 2:7
"""
CHAIN: dict[str, bytes | str | None] = {
    **{path: what for path, what in GLIBC.items() if not path.startswith("/lib/")},
    "/lib": "usr/lib",
    f"{LIB}/libc.so.6": GLIBC["/lib/x86_64-linux-gnu/libc.so.6"],
    "/usr/local/bin/x": with_sections(program("liba.so.1", "libc.so.6")),
    f"{LIB}/liba.so.1": "liba.so.1.2",
    f"{LIB}/liba.so.1.2": library("liba.so.1", "libb.so.1"),
    f"{LIB}/libb.so.1": library("libb.so.1", "libgone.so", tail=b"\0libplug.so\0"),
    f"{LIB}/libplug.so": library("libplug.so"),
    "/usr/bin/tool": b"t" * 3000,
    "/usr/bin/tool-link": "tool",
    "/usr/local/bin/y": "x",
    "/usr/share/tool/data": b"d" * 500,
    "/srv/own": b"o" * 70,
    "/etc/same": b"same",
    "/var/lib/dpkg/status": STATUS,
    "/var/lib/dpkg/info/liba1:amd64.list": b"/.\n/lib\n/lib/x86_64-linux-gnu/liba.so.1\n"
    b"/lib/x86_64-linux-gnu/liba.so.1.2\n/usr/local/bin\n",
    "/var/lib/dpkg/info/tool.list": b"/usr/bin/tool\n/usr/share/tool/data\n/usr/bin/none\n",
    "/var/lib/dpkg/status.d/old": b"Package: tzdata\nVersion: 1\nArchitecture: all\n",
    "/var/lib/dpkg/status.d/old.md5sums": b"00000000000000000000000000000000  srv/own\n",
    f"{SITE}/one/__init__.py": b"1",
    f"{SITE}/one/__pycache__/__init__.cpython-311.pyc": b"22",
    f"{SITE}/one/tests/t.py": b"333",
    f"{SITE}/one-1.5.dist-info/METADATA": b"Metadata-Version: 2.4\nName: one\nVersion: 1.5\n\nVersion: 9\n",
    f"{SITE}/one-1.5.dist-info/RECORD": b'one/__init__.py,sha256=x,1\n"one/tests/t.py",,\n../../../bin/one,,\n',
    "/opt/venv/bin/one": b"#!/opt/venv/bin/python\n",
}


def test_owners_by_dpkg_and_python_records(tmp_path):
    ownership = owned(RootFileSystem(plant(tmp_path, CHAIN)))
    assert sorted(ownership.packages) == ["deb:liba1:amd64", "deb:tool:all", "deb:tzdata:all", "pypi:one"]
    assert ownership.packages["deb:liba1:amd64"].version == "1.0-1"
    assert ownership.packages["pypi:one"].version == "1.5"
    assert {path: ownership.owner(path) for path in CHAIN if ownership.owner(path)} == {
        f"{LIB}/liba.so.1": "deb:liba1:amd64",
        f"{LIB}/liba.so.1.2": "deb:liba1:amd64",
        "/usr/bin/tool": "deb:tool:all",
        "/usr/share/tool/data": "deb:tool:all",
        "/srv/own": "deb:tzdata:all",
        f"{SITE}/one/__init__.py": "pypi:one",
        f"{SITE}/one/__pycache__/__init__.cpython-311.pyc": "pypi:one",
        f"{SITE}/one/tests/t.py": "pypi:one",
        "/opt/venv/bin/one": "pypi:one",
    }


def test_owners_by_apk_records(tmp_path):
    installed = (
        b"P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nm:M <m@x>\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\nF:\nR:top\n\n"
    )
    tree = {"/lib/apk/db/installed": installed, "/lib/ld-musl-x86_64.so.1": b"", "/top": b""}
    ownership = owned(RootFileSystem(plant(tmp_path, tree)))
    package = ownership.packages["apk:musl:x86_64"]
    assert (package.version, package.licence, package.supplier) == ("1.2.5-r0", "MIT", "M <m@x>")
    assert sorted(ownership.files) == ["/lib/ld-musl-x86_64.so.1", "/top"]


@pytest.mark.parametrize(
    "text", [b"", b"\n\n\n", b":::\n", b"Package: x\n", b"\xff\xfe: y\n" * 9, b"Package:\nVersion:\n"]
)
def test_malformed_records_own_nothing(tmp_path, text):
    tree = dict.fromkeys(("/var/lib/dpkg/status", "/lib/apk/db/installed", f"{SITE}/a.dist-info/METADATA"), text)
    assert owned(RootFileSystem(plant(tmp_path, tree))).packages == {}


@pytest.fixture
def report(tmp_path):
    chain = plant(tmp_path / "c", CHAIN)
    os.link(tmp_path / "c/usr/bin/tool", tmp_path / "c/usr/bin/tool-again")
    production = plant(tmp_path / "p", {**GLIBC, "/etc/same": b"same"})
    report = tmp_path / "report.json"
    more = ["--strip", "1", "--drop-tests", "1"]
    main(["pack", chain, "--production", production, "--output", str(tmp_path / "o"), "--report", str(report), *more])
    return report


def test_account_covers_every_byte(report):
    document = json.loads(report.read_text())
    rows = {row["package"]: row for row in document["packages"]}
    assert rows["deb:tool:all"]["bytes"] == {"kept": 0, "production": 0, "trimmed": 0, "left": 3500}
    assert rows["deb:tool:all"]["largest"] == [
        {"path": "/usr/bin/tool", "bytes": 3000},
        {"path": "/usr/share/tool/data", "bytes": 500},
    ]
    assert rows["pypi:one"]["files"] == {"kept": 3, "production": 0, "trimmed": 1, "left": 0}
    assert rows["dir:/etc"]["files"]["production"] == 2
    assert rows["deb:liba1:amd64"]["bytes"]["left"] == 0
    local = rows["dir:/usr/local/bin"]["bytes"]
    assert local["kept"] + local["trimmed"] == len(with_sections(program("liba.so.1", "libc.so.6")))
    assert sum(sum(row["bytes"].values()) for row in document["packages"]) == document["sizes"]["chain"]


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        (
            "/usr/local/lib/libb.so.1",
            [
                "/usr/local/lib/libb.so.1: file, * bytes, from /usr/lib/x86_64-linux-gnu/libb.so.1 of the chain's image",
                "  /usr/local/bin/x: documented folder /usr/local/bin",
                "    /usr/local/bin/x needs liba.so.1",
                "      /usr/lib/x86_64-linux-gnu/liba.so.1.2 needs libb.so.1 (the production image has none)",
            ],
        ),
        (
            "liba.so.1.2",
            [
                (
                    "/usr/local/lib/liba.so.1: file, * bytes, of deb:liba1:amd64, from"
                    " /usr/lib/x86_64-linux-gnu/liba.so.1.2 of the chain's image"
                ),
                "  /usr/local/bin/x: documented folder /usr/local/bin",
                "    /usr/local/bin/x needs liba.so.1 (the production image has none)",
            ],
        ),
        (
            "libc.so.6",
            [
                "/lib/x86_64-linux-gnu/libc.so.6: the production image has it; needed by",
                "  /usr/local/bin/x",
            ],
        ),
        (f"{SITE}/one/tests/t.py", [f"{SITE}/one/tests/t.py: removed by DROP_TESTS (3 bytes)"]),
        (
            "libplug.so",
            [
                f"{LIB}/libplug.so: left out; {LIB}/libb.so.1 loads it (named in its data)",
            ],
        ),
        (
            "libgone.so",
            [
                f"libgone.so: not in the chain's image; {LIB}/libb.so.1 needs it",
            ],
        ),
        (
            "/usr/bin/tool",
            [
                (
                    "/usr/bin/tool (of deb:tool:all): left out: it is in no kept folder, and no kept file"
                    " needs it. Add it to ADDITIONAL_FILES to keep it."
                ),
            ],
        ),
        (
            "/usr/bin/nothing",
            [
                "/usr/bin/nothing is not in the result, and the chain's image has no file or link of this name",
            ],
        ),
        (
            f"{LIB}/liba.so.1",
            [
                f"{LIB}/liba.so.1: a link of the chain's image to {LIB}/liba.so.1.2; the link itself is not in the result",
                (
                    "  /usr/local/lib/liba.so.1: file, * bytes, of deb:liba1:amd64, from"
                    " /usr/lib/x86_64-linux-gnu/liba.so.1.2 of the chain's image"
                ),
                "    /usr/local/bin/x: documented folder /usr/local/bin",
                "      /usr/local/bin/x needs liba.so.1 (the production image has none)",
            ],
        ),
        (
            "tool-link",
            [
                "/usr/bin/tool-link: a link of the chain's image to /usr/bin/tool; the link itself is not in the result",
                (
                    "  /usr/bin/tool (of deb:tool:all): left out: it is in no kept folder, and no kept file"
                    " needs it. Add it to ADDITIONAL_FILES to keep it."
                ),
            ],
        ),
        (
            "/usr/local/bin/y",
            [
                "/usr/local/bin/y: symbolic link, 0 bytes, to x",
                "  /usr/local/bin/y: documented folder /usr/local/bin",
            ],
        ),
    ],
)
def test_explain_describes_file(report, capsys, wanted, lines):
    capsys.readouterr()
    code = main(["explain", str(report), wanted])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(lines)
    for line, expected in zip(said, lines, strict=True):
        start, star, end = expected.partition("* bytes")
        assert line.startswith(start)
        assert line.endswith(end) if star else line == expected
    kept = ("/usr/local/lib/libb.so.1", "liba.so.1.2", "libc.so.6", f"{LIB}/liba.so.1", "/usr/local/bin/y")
    assert code == (0 if wanted in kept else 1)


def test_removed_lists_packages_and_files(report, capsys):
    capsys.readouterr()
    assert main(["removed", str(report), "--files"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["package", "left", "out", "trimmed", "files", "stays", "version"]
    sizes = [line for line in lines[1:-1] if not line.startswith(" ")]
    assert any(line.split() == ["deb:tool:all", "3.5", "kB", "-", "2", "-", "2:7"] for line in sizes)
    assert any(line.split() == ["3.0", "kB", "/usr/bin/tool"] for line in lines)
    assert any(line.startswith("pypi:one ") for line in lines)
    assert main(["removed", "/none"]) == 2
    assert main(["explain", str(report), "/none"]) == 1
