"""Paths in the data of kept programs: what is reported, what is kept on request, and what is noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.minimize.__main__ import main
from chainbuild.minimize.constants import Constants, constants_of, paths_in_text
from chainbuild.minimize.elf import Elf, ElfReader
from chainbuild.minimize.ground import MinimizeArgs
from chainbuild.minimize.job import Order, pack
from chainbuild.minimize.notices import fixes, texts
from chainbuild.minimize.report import minimize_report
from chainbuild.minimize.root import RootFileSystem
from tests.support.elf_builder import GLIBC, library, plant, program

STATUS = b"".join(
    b"Package: %s\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n" % name
    for name in (b"stars", b"moon")
)
CHAIN: dict[str, bytes | str | None] = {
    "/usr/local/bin/x": program(tail=b"\0/usr/share/stars\0/usr/share/moon/map:/usr/share/none\0/opt/own/table\0"),
    "/usr/share/stars/a/catalogue": b"12345",
    "/usr/share/moon/map": "map.1",
    "/usr/share/moon/map.1": b"123",
    "/opt/own/table": b"1",
    "/var/lib/dpkg/status": STATUS,
    "/var/lib/dpkg/info/stars.list": b"/usr\n/usr/share\n/usr/share/stars\n/usr/share/stars/a\n/usr/share/stars/a/catalogue\n",
    "/var/lib/dpkg/info/moon.list": b"/.\n/usr\n/usr/share\n/usr/share/moon\n/usr/share/moon/map\n/usr/share/moon/map.1\n",
}
DATA = {"/usr/share/stars/a/catalogue", "/usr/share/moon/map", "/usr/share/moon/map.1", "/opt/own/table"}


def job(tmp_path, chain=CHAIN, production=GLIBC, *, additional=(), **options):
    order = Order(
        chain=plant(tmp_path / "chain", {**GLIBC, **chain}),
        production=plant(tmp_path / "production", production),
        output=str(tmp_path / "out"),
        additional_files=additional,
        arguments=MinimizeArgs(**options),
        package_records=False,
    )
    report = minimize_report(pack(order))
    walk = RootFileSystem(order.output).walk("/")
    files = {path for path, node in walk if node.kind != "dir"} - {"/etc/ld.so.cache"}
    return files, report


def named(report):
    return {row["name"]: row["state"] for row in report["opened"] if row["kind"] == "data"}


def test_data_named_by_program_is_reported_by_package(tmp_path):
    files, report = job(tmp_path)
    assert files == {"/usr/local/bin/x"}
    assert named(report) == {"/opt/own/table": "left", "/usr/share/moon/map": "left", "/usr/share/stars": "left"}
    assert texts(report["warnings"]) == [
        "files named in program data are left out: /usr/share/stars of the package stars (5 bytes; x names /usr/share/stars)",
        (
            "files named in program data are left out: /usr/share/moon/map of the package moon"
            " (3 bytes; x names /usr/share/moon/map)"
        ),
        "files named in program data are left out: /opt/own/table of no package (1 bytes; x names /opt/own/table)",
    ]
    assert fixes(report["warnings"]) == ("KEEP_DATA=stars moon", "ADDITIONAL_FILES=/opt/own/table")


def test_data_of_package_is_kept_with_link_targets(tmp_path):
    files, report = job(tmp_path, keep_data=("moon",))
    assert files == {"/usr/local/bin/x", "/usr/share/moon/map", "/usr/share/moon/map.1"}
    assert named(report)["/usr/share/moon/map"] == "kept"
    row = next(row for row in report["files"] if row["path"] == "/usr/share/moon/map")
    assert row["reason"] == "data of deb:moon:all that /usr/local/bin/x names"
    assert row["because"] == "/usr/local/bin/x"


def test_data_of_all_packages_is_kept_without_report(tmp_path):
    files, report = job(tmp_path, keep_all_data=True)
    assert files == DATA | {"/usr/local/bin/x"}
    assert report["warnings"] == []


def test_program_kept_as_data_brings_its_needs_and_data(tmp_path):
    chain = {
        "/usr/local/bin/x": program(tail=b"\0/usr/libexec/helper/run\0"),
        "/usr/libexec/helper/run": program("libmore.so", tail=b"\0/opt/own/table\0"),
        "/usr/lib/x86_64-linux-gnu/libmore.so": library("libmore.so"),
        "/opt/own/table": b"1",
    }
    files, _ = job(tmp_path, chain, keep_all_data=True)
    assert files == {"/usr/local/bin/x", "/usr/libexec/helper/run", "/usr/local/lib/libmore.so", "/opt/own/table"}


def test_data_in_result_is_not_reported(tmp_path):
    production = {**GLIBC, "/usr/share/moon/map": b"own", "/opt/own/table": b""}
    files, report = job(tmp_path, CHAIN, production, additional=("/usr/share/stars/a",))
    assert named(report) == {}
    assert files == {"/usr/local/bin/x", "/usr/share/stars/a/catalogue"}


def test_unknown_packages_fail_together_unless_optional(tmp_path):
    _, report = job(tmp_path / "a", keep_data=("star", "none", "moon"))
    assert texts(report["errors"]) == [
        "KEEP_DATA: the chain's image has no package star; nearest: stars; write ?star if it may be missing",
        "KEEP_DATA: the chain's image has no package none; write ?none if it may be missing",
    ]
    _, report = job(tmp_path / "b", keep_data=("none", "moon"), optional_data=frozenset({"none"}))
    assert report["errors"] == []


@pytest.mark.parametrize("value", ["moon, ?none", "1", "0", ""])
def test_command_accepts_packages_switch_or_empty_value(tmp_path, value, capsys):
    chain = plant(tmp_path / "chain", {**GLIBC, **CHAIN})
    words = ["pack", chain, "--production", plant(tmp_path / "p", GLIBC), "--output", str(tmp_path / "out")]
    assert main([*words, "--report", str(tmp_path / "r"), "--keep-data", value, "--package-records", "0"]) == 0
    kept = {path for path, _ in RootFileSystem(str(tmp_path / "out")).walk("/")} & DATA
    assert (
        kept
        == {"moon, ?none": {"/usr/share/moon/map", "/usr/share/moon/map.1"}, "1": DATA, "0": set(), "": set()}[value]
    )
    capsys.readouterr()


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/maps",
        "/dev/null",
        "/tmp/x",
        "/var/cache/x/y",
        "/usr/include/x.h",
        "/usr/share/doc/x",
        "/etc/passwd",
        "/usr/bin/gcc-12",
        "/usr/share/locale/x",
        "/bin/sh",
        "/var/lib/dpkg/x",
        "/usr/lib/x/libx.so.1",
        "/usr/share/x",
        "/etc/hosts",
        "/usr/lib",
        "/usr/local/share",
        "/home/u/x",
    ],
)
def test_noise_is_not_reported(tmp_path, path):
    shared: dict[str, bytes | str | None] = {
        "/usr/share/x/a": b"",
        "/usr/share/x/b": b"",
        "/var/lib/dpkg/status": STATUS,
    }
    shared["/var/lib/dpkg/info/stars.list"] = b"/usr/share/x\n/usr/share/x/a\n"
    shared["/var/lib/dpkg/info/moon.list"] = b"/usr/share/x\n/usr/share/x/b\n"
    chain = {"/usr/local/bin/x": program(tail=b"\0" + path.encode() + b"\0"), **shared}
    if path not in ("/usr/share/x", "/usr/lib", "/usr/local/share"):
        chain[path] = b"data"
    assert named(job(tmp_path, chain)[1]) == {}


def test_empty_folders_count_only_if_programs_write_there(tmp_path):
    chain: dict[str, bytes | str | None] = {
        "/usr/local/bin/x": program(tail=b"\0/var/lib/x/spool\0/usr/share/empty\0"),
        "/var/lib/x/spool": None,
        "/usr/share/empty/more": None,
    }
    assert named(job(tmp_path, chain)[1]) == {"/var/lib/x/spool": "left"}


def test_paths_in_scripts_and_settings_count_even_libraries(tmp_path):
    chain = {
        "/usr/local/bin/x": b"#!/bin/sh\n# /opt/a/comment\n. /opt/a/functions; cat '/opt/a/b c'\n",
        "/etc/ssl/x.cnf": b"module = /opt/a/plug.so\npattern = /opt/b/*.conf\n",
        "/usr/local/lib/data": b"/opt/a/unseen\n",
        "/bin/sh": b"\x7fELF",
        **dict.fromkeys(
            ("/opt/a/comment", "/opt/a/functions", "/opt/a/plug.so", "/opt/a/unseen", "/opt/b/c.conf"), b"x"
        ),
    }
    assert set(named(job(tmp_path, chain)[1])) == {"/opt/a/functions", "/opt/a/plug.so", "/opt/b"}


# Strings in constant data -----------------------------------------------------------------------------------------------


def scanned(tmp_path, data: bytes) -> Constants:
    path = tmp_path / "x"
    path.write_bytes(data)
    elf = ElfReader().read(RootFileSystem(str(tmp_path)), "/x")
    assert isinstance(elf, Elf)
    return constants_of(str(path), elf)


def test_constants_are_names_and_paths_between_zero_bytes(tmp_path):
    data = b"\0/a/b\0x/c/d\0/e/f:/g/h;/i\0/j k/l\0/m/n%s\0libx.so.2\0/o/liby.so\0/p/q/\0"
    found = scanned(tmp_path, program("libz.so", tail=data))
    assert found.libraries == ("/o/liby.so", "libx.so.2")
    assert found.paths == ("/a/b", "/e/f", "/g/h", "/o/liby.so", "/p/q/")


def test_constants_across_pieces_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("chainbuild.minimize.constants._CHUNK", 64)
    data = b"\0".join(b"/path/%04d" % number for number in range(500))
    found = scanned(tmp_path, program(tail=b"\0" + data + b"\0"))
    assert found.paths == tuple(f"/path/{number:04}" for number in range(500))


def test_constants_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("chainbuild.minimize.constants._MOST_BYTES", 1 << 20)
    found = scanned(tmp_path, program(tail=bytes(1 << 21) + b"\0/a/b\0"))
    assert found.paths == ()


@given(st.binary(max_size=4000))
def test_paths_in_arbitrary_text_are_absolute_with_two_parts(text):
    for path in paths_in_text(text):
        assert path.startswith("/")
        assert path.count("/") >= 2
        assert not set(path) & set(" *?%{$\n\0")


@given(st.lists(st.from_regex(rb"/[a-z][a-z0-9._-]{0,20}(/[a-z0-9._-]{1,20}){1,5}", fullmatch=True), max_size=20))
def test_paths_embedded_in_data_are_found(tmp_path_factory, paths):
    found = scanned(tmp_path_factory.mktemp("x"), program(tail=b"\0" + b"\0".join(paths) + b"\0"))
    assert {path.decode() for path in paths} == set(found.paths)


@given(st.binary(max_size=3000))
def test_arbitrary_bytes_in_data_never_raise(tmp_path_factory, data):
    found = scanned(tmp_path_factory.mktemp("x"), program(tail=data))
    assert list(found.paths) == sorted(set(found.paths))
