"""The trim switches: what each removes, and what none removes; docs/minimize.md describes the costs."""

from __future__ import annotations

import json

import pytest

from chainbuild.minimize.__main__ import main
from chainbuild.minimize.job import Order, pack
from chainbuild.minimize.report import minimize_report
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.trim import SWITCHES, Trim
from tests.support.elf_builder import GLIBC, library, plant, program, with_sections

SITE = "/opt/venv/lib/python3.11/site-packages"
STD = "/usr/lib/python3.11"
CHAIN: dict[str, bytes | str | None] = {
    **GLIBC,
    "/usr/local/include/deep/a": b"h",
    "/usr/local/lib/pkgconfig/a.pc": b"p",
    "/usr/local/lib/liba.a": b"!<arch>\n",
    "/usr/local/lib/liba-1.a": "liba.a",
    "/usr/local/lib/data.a": b"no archive",
    "/usr/local/bin/x": with_sections(program("libz.so.1")),
    "/usr/lib/x86_64-linux-gnu/libz.so.1": with_sections(library("libz.so.1")),
    f"{SITE}/one/__init__.py": b"from . import core\n",
    f"{SITE}/one/__pycache__/__init__.cpython-311.pyc": b"c",
    f"{SITE}/one/__pycache__/__init__.cpython-311.opt-1.pyc": b"c",
    f"{SITE}/one/__pycache__/alone.cpython-311.pyc": b"c",
    f"{SITE}/one/include/one.h": b"h",
    f"{SITE}/one/deep/tests/test_a.py": b"t",
    f"{SITE}/one/tests/data.bin": b"t",
    f"{SITE}/one/testing/a.py": b"stays",
    f"{SITE}/one/locale/de/LC_MESSAGES/one.mo": b"m",
    f"{SITE}/one/locale/en_GB/LC_MESSAGES/one.mo": b"m",
    f"{SITE}/two/__init__.py": b"import os\n\ndef f():\n    from two.tests import helper\n",
    f"{SITE}/two/tests/helper.py": b"t",
    f"{SITE}/tests/top.py": b"a package of that name",
    f"{SITE}/pip/main.py": b"p",
    f"{SITE}/pip-25.0.dist-info/RECORD": b"p",
    f"{SITE}/pipeline/a.py": b"stays",
    "/opt/venv/bin/pip": b"#!/opt/venv/bin/python\nfrom pip._internal.cli.main import main\n",
    "/usr/local/bin/pip3": b"#!/bin/sh\nsomething else\n",
    f"{STD}/os.py": b"",
    f"{STD}/ensurepip/__init__.py": b"",
    f"{STD}/unittest/test/a.py": b"",
    f"{STD}/unittest/case.py": b"",
    f"{STD}/test/support/__init__.py": b"",
}


def kept(tmp_path, chain=None, additional=(), **switches):
    order = Order(
        chain=plant(tmp_path / "chain", CHAIN if chain is None else chain),
        production=plant(tmp_path / "production", GLIBC),
        output=str(tmp_path / "out"),
        trim=Trim(**switches),
        additional_files=additional,
    )
    outcome = pack(order)
    return {path for path, _ in RootFileSystem(order.output).walk("/")}, minimize_report(outcome)


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        (
            "drop_headers",
            {
                "/usr/local/include",
                "/usr/local/include/deep",
                "/usr/local/include/deep/a",
                "/usr/local/lib/pkgconfig",
                "/usr/local/lib/pkgconfig/a.pc",
                f"{SITE}/one/include",
                f"{SITE}/one/include/one.h",
            },
        ),
        ("drop_static", {"/usr/local/lib/liba.a", "/usr/local/lib/liba-1.a"}),
        (
            "drop_bytecode",
            {
                f"{SITE}/one/__pycache__/__init__.cpython-311.pyc",
                f"{SITE}/one/__pycache__/__init__.cpython-311.opt-1.pyc",
            },
        ),
        (
            "drop_pip",
            {
                f"{SITE}/pip",
                f"{SITE}/pip/main.py",
                f"{SITE}/pip-25.0.dist-info",
                f"{SITE}/pip-25.0.dist-info/RECORD",
                "/opt/venv/bin/pip",
                f"{STD}/ensurepip",
                f"{STD}/ensurepip/__init__.py",
                "/opt/venv/bin",
            },
        ),
        (
            "drop_tests",
            {
                f"{SITE}/one/deep",
                f"{SITE}/one/deep/tests",
                f"{SITE}/one/deep/tests/test_a.py",
                f"{SITE}/one/tests",
                f"{SITE}/one/tests/data.bin",
                f"{STD}/unittest/test",
                f"{STD}/unittest/test/a.py",
                f"{STD}/test",
                f"{STD}/test/support",
                f"{STD}/test/support/__init__.py",
            },
        ),
        (
            "drop_locales",
            {
                f"{SITE}/one/locale/de",
                f"{SITE}/one/locale/de/LC_MESSAGES",
                f"{SITE}/one/locale/de/LC_MESSAGES/one.mo",
            },
        ),
        ("strip", set()),
    ],
)
def test_switches_remove_their_files(tmp_path, switch, gone):
    everything, report = kept(tmp_path / "all")
    assert report["saved"] == {}
    rest, report = kept(tmp_path / "less", **{switch: True})
    assert everything - rest == gone
    assert rest <= everything
    assert list(report["saved"]) == [switch.upper()]
    assert {row["path"] for row in report["trimmed"]} == {path for path in gone if path in CHAIN}


def test_strip_applies_to_kept_and_added_files(tmp_path):
    _, report = kept(tmp_path, strip=True)
    rows = {row["path"]: row for row in report["stripped"]}
    assert list(rows) == ["/usr/local/bin/x", "/usr/local/lib/libz.so.1"]
    sizes = {row["path"]: row["bytes"] for row in report["files"]}
    for path, row in rows.items():
        size = (tmp_path / "out" / path[1:]).stat().st_size
        assert (row["bytes"], sizes[path]) == (size, size)
        assert row["before"] - size > 5000
    saving = sum(row["before"] - row["bytes"] for row in rows.values())
    assert report["saved"] == {"STRIP": {"files": 2, "bytes": saving}}


def test_package_importing_its_tests_keeps_them_and_is_reported(tmp_path):
    rest, report = kept(tmp_path, drop_tests=True)
    assert f"{SITE}/two/tests/helper.py" in rest
    assert report["tests_kept"] == {f"{SITE}/two": f"{SITE}/two/__init__.py"}


def test_additional_files_are_never_removed(tmp_path):
    more = (f"{SITE}/one/tests", "/usr/local/lib/*.a")
    rest, _ = kept(tmp_path, additional=more, **dict.fromkeys(SWITCHES, True))
    assert {f"{SITE}/one/tests/data.bin", "/usr/local/lib/liba.a", "/usr/local/lib/liba-1.a"} <= rest
    assert "/usr/local/include/deep/a" not in rest


def test_command_parses_switches(tmp_path, capsys):
    chain, production = plant(tmp_path / "c", CHAIN), plant(tmp_path / "p", GLIBC)
    report = tmp_path / "report.json"
    command = ["pack", chain, "--production", production, "--output", str(tmp_path / "o"), "--report", str(report)]
    assert main([*command, "--drop-pip", "maybe"]) == 2
    assert "'maybe' is not a switch (use 1 or 0)" in capsys.readouterr().err
    assert main([*command, "--drop-pip", "yes", "--strip", "1", "--drop-static", "", "--drop-headers", "0"]) == 0
    assert "DROP_PIP saved" in capsys.readouterr().out
    assert list(json.loads(report.read_text())["saved"]) == ["STRIP", "DROP_PIP"]
