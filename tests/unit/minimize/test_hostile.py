"""Hostile or unusual trees: nothing outside is read, nothing is lost silently, memory is limited."""

from __future__ import annotations

import errno
import os
import resource
import stat
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainbuild.minimize import problems
from chainbuild.minimize.discover import MinimizeArgs
from chainbuild.minimize.elf import Elf, ElfProblem, read_elf
from chainbuild.minimize.job import Order, pack
from chainbuild.minimize.report import minimize_report
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.trim import SWITCHES, Trim
from chainbuild.minimize.verify import verify
from tests.support.elf_builder import GLIBC, library, plant, program, with_sections

LIB = "/usr/lib/x86_64-linux-gnu"
EVERYTHING = {
    "arguments": MinimizeArgs(keep_dlopen=True, keep_plugins=True, keep_interpreters=True, keep_all_data=True),
    "trim": Trim(**dict.fromkeys(SWITCHES, True)),
    "sbom": True,
}


def errors(outcome):
    return [notice.text for notice in problems.errors(outcome)]


def warnings(outcome):
    return [notice.text for notice in problems.warnings(outcome)]


def job(tmp_path, chain, production=GLIBC, **more):
    order = Order(
        chain=plant(tmp_path / "chain", chain),
        production=plant(tmp_path / "production", production),
        output=str(tmp_path / "out"),
        **{**EVERYTHING, **more},
    )
    outcome = pack(order)
    minimize_report(outcome)
    return outcome


def files(outcome):
    return {path for path, node in RootFileSystem(outcome.order.output).walk("/") if node.kind != "dir"}


def test_data_and_surroundings_outside_root_are_not_followed(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_bytes(b"secret words")
    outside = "../../../../../../../../../../../../" + str(tmp_path / "secret")
    named = f"/usr/share/{outside}/file".encode()
    ssl = f'OPENSSLDIR: "/usr/{outside}"'.encode()
    chain = {
        **GLIBC,
        "/usr/local/bin/x": program("libcrypto.so.3", tail=b"\0" + named + b"\0/usr/share/link/file\0"),
        f"{LIB}/libcrypto.so.3": library("libcrypto.so.3", tail=b"\0" + ssl + b"\0"),
        "/usr/local/bin/script": b"#!/bin/sh\n. " + named + b"\n",
        "/usr/share/link": outside,
        "/opt/venv/pyvenv.cfg": f"home = /usr/{outside}\n".encode(),
        "/opt/venv/bin/python": f"{outside}/file",
    }
    outcome = job(tmp_path, chain)
    assert errors(outcome) == []
    for path in files(outcome):
        assert "secret" not in path
        assert b"secret words" not in (RootFileSystem(outcome.order.output).read(path) or b"")


def test_data_with_many_names_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("chainbuild.minimize.datapaths._MOST_PATHS", 3)
    names = b"".join(b"\0/opt/data/%d" % number for number in range(9))
    chain = {**GLIBC, "/usr/local/bin/x": program(tail=names + b"\0"), **{f"/opt/data/{n}": b"" for n in range(9)}}
    kept = {path for path in files(job(tmp_path, chain)) if path.startswith("/opt/data")}
    assert len(kept) == 3


def test_records_and_manifests_outside_root_are_not_followed(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_bytes(b"\0libsecret.so\0 secret words")
    outside = "../../../../../../../../../../../../" + str(tmp_path / "secret/file")
    chain = {
        **GLIBC,
        "/usr/local/bin/x": program("libvulkan.so.1", tail=f"\0{tmp_path}/secret/file.so\0".encode()),
        f"{LIB}/libvulkan.so.1": library("libvulkan.so.1"),
        "/usr/share/vulkan/icd.d/a.json": b'{"ICD": {"library_path": "' + outside.encode() + b'"}}',
        "/usr/share/vulkan/icd.d/b.json": outside,
        "/var/lib/dpkg/status": outside,
        "/var/lib/dpkg/info/x.list": f"{outside}\n/../../{tmp_path}/secret/file\n".encode(),
        "/var/lib/dpkg/status.d/x": outside,
        "/usr/share/doc/x/copyright": outside,
        "/etc/nsswitch.conf": outside,
        "/usr/local/bin/script": f"#!{outside}\n".encode(),
        "/usr/local/lib/link": outside,
        "/usr/local/lib/up": "../../../..",
        "/usr/local/lib/a.a": outside,
        "/opt/venv/lib/python3.11/site-packages/x.dist-info/RECORD": f"{outside},,\n".encode(),
        "/opt/venv/lib/python3.11/site-packages/x.dist-info/METADATA": b"Name: x\nVersion: 1\n",
    }
    outcome = job(tmp_path, chain)
    assert errors(outcome) == []
    for path in files(outcome):
        there = str(tmp_path / "out") + path
        if not os.path.islink(there):
            with open(there, "rb") as stream:
                assert b"secret words" not in stream.read()
    assert any("/usr/local/lib/link links to " in line and "does not exist" in line for line in warnings(outcome))
    assert any("/usr/local/lib/up links to /, a system folder" in line for line in warnings(outcome))


def test_link_loops_end(tmp_path):
    chain = {
        **GLIBC,
        "/usr/local/lib/a": "b",
        "/usr/local/lib/b": "a",
        "/usr/local/lib/self": ".",
        "/usr/local/lib/deep/up": "..",
        "/usr/local/bin/x": program("liba.so", runpath="$ORIGIN/../lib/self/self/self"),
        "/usr/local/lib/liba.so": library("liba.so", "libb.so"),
        "/usr/local/lib/libb.so": library("libb.so", "liba.so", tail=b"\0liba.so\0"),
        "/etc/ld.so.conf": b"include /etc/ld.so.conf\ninclude /etc/*.conf\n/usr/local/lib\n",
        "/var/lib/dpkg/status.d/loop": "loop",
        "/usr/share/vulkan/icd.d": "icd.d",
    }
    outcome = job(tmp_path, chain)
    assert errors(outcome) == []
    assert {"/usr/local/lib/a", "/usr/local/lib/b", "/usr/local/lib/self", "/usr/local/lib/deep/up"} <= files(outcome)


NAMES = [
    b"\xff\xfe",
    b"new\nline",
    b"tab\there",
    b" lead",
    b"-rf",
    b"quote'\"",
    b"*?[",
    b"\x1b[31m",
    b"$(x)",
    b"a" * 255,
]


def test_unusual_names_survive_every_part(tmp_path):
    chain: dict[str, bytes | str | None] = {**GLIBC}
    for number, raw in enumerate(NAMES):
        name = os.fsdecode(raw)
        chain[f"/usr/local/lib/{name}"] = f"{number}".encode()
        chain[f"/opt/venv/{name}/l"] = f"/usr/local/lib/{name}"
    chain[f"/usr/local/bin/{os.fsdecode(NAMES[0])}"] = program(os.fsdecode(NAMES[1]))
    chain[f"{LIB}/{os.fsdecode(NAMES[1])}"] = library("x")
    listed = b"".join(b"/usr/local/lib/" + raw + b"\n" for raw in NAMES)
    chain["/var/lib/dpkg/info/odd.list"] = listed
    chain["/var/lib/dpkg/status"] = b"Package: odd\nVersion: 1\nArchitecture: all\nStatus: install ok installed\n"
    outcome = job(tmp_path, chain)
    assert errors(outcome) == []
    for number, raw in enumerate(NAMES):
        there = os.fsencode(tmp_path) + b"/out/usr/local/lib/" + raw
        with open(there, "rb") as stream:
            assert stream.read() == f"{number}".encode()
    assert all(line.isprintable() for line in warnings(outcome))


def test_permissions_and_attributes_survive_stripping(tmp_path):
    plant(tmp_path / "chain", {"/usr/local/bin/x": with_sections(program())})
    there = tmp_path / "chain/usr/local/bin/x"
    os.chmod(there, 0o6755)
    try:
        os.setxattr(there, "user.chainbuild", b"kept")
        attributes = True
    except OSError:  # a file system of this machine without attributes
        attributes = False
    os.link(there, tmp_path / "chain/usr/local/bin/y")
    outcome = job(tmp_path, GLIBC)
    after = tmp_path / "out/usr/local/bin/x"
    assert stat.S_IMODE(after.stat().st_mode) == 0o6755
    assert after.stat().st_size < there.stat().st_size
    assert after.stat().st_ino == (tmp_path / "out/usr/local/bin/y").stat().st_ino
    assert list(outcome.written.stripped) == ["/usr/local/bin/x"]
    if attributes:
        assert os.getxattr(after, "user.chainbuild") == b"kept"


def test_capability_is_preserved(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may set one")
    plant(tmp_path / "chain", {"/usr/local/bin/ping": with_sections(program())})
    value = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw+ep
    try:
        os.setxattr(tmp_path / "chain/usr/local/bin/ping", "security.capability", value)
    except OSError:
        pytest.skip("the file system of this machine does not support it")
    job(tmp_path, GLIBC)
    assert os.getxattr(tmp_path / "out/usr/local/bin/ping", "security.capability") == value


def test_sockets_and_pipes_are_reported(tmp_path):
    lib = tmp_path / "chain/usr/local/lib"
    plant(tmp_path / "chain", {"/usr/local/lib/a": b"", "/usr/local/lib/to-pipe": "pipe"})
    os.mkfifo(lib / "pipe")
    os.mknod(lib / "socket", stat.S_IFSOCK | 0o600)
    assert [line for line in warnings(job(tmp_path, GLIBC)) if "device" in line] == [
        f"/usr/local/lib/{name} is left out: a device, socket or pipe" for name in ("pipe", "socket")
    ]


def test_devices_are_reported(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may create one")
    lib = tmp_path / "chain/usr/local/lib"
    plant(tmp_path / "chain", {"/usr/local/lib/a": b""})
    try:
        os.mknod(lib / "block", stat.S_IFBLK | 0o600, os.makedev(7, 200))
        os.mknod(lib / "character", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except OSError:
        pytest.skip("this machine does not allow creating one")
    outcome = job(tmp_path, GLIBC)
    assert sorted(outcome.selection.special) == ["/usr/local/lib/block", "/usr/local/lib/character"]
    assert {path for path in files(outcome) if path.startswith("/usr/local/lib/")} == {"/usr/local/lib/a"}


def test_unreadable_files_are_reported(tmp_path, monkeypatch):
    """Simulate a user without permission, because root, who often runs these tests, may read everything."""
    plant(
        tmp_path / "chain",
        {
            "/usr/local/lib/secret": b"words",
            "/usr/local/lib/secret.so": library("secret.so"),
            "/usr/local/lib/closed/inside": b"",
            "/usr/local/lib/open": b"",
            "/usr/local/bin/x": program("secret.so", runpath="/usr/local/lib"),
        },
    )
    really_open, really_list = os.open, os.listdir

    def refuse(path):
        if "/chain/" in str(path) and str(path).rpartition("/")[2] in ("secret", "secret.so", "closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def opened(path, *more, **named):
        refuse(path)
        return really_open(path, *more, **named)

    def listed(path="."):
        refuse(path)
        return really_list(path)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "listdir", listed)
    outcome = job(tmp_path, GLIBC)
    told = "\n".join(errors(outcome) + warnings(outcome))
    assert "/usr/local/lib/secret: Permission denied" in errors(outcome)
    assert "/usr/local/lib/secret.so: Permission denied" in errors(outcome)
    assert "/usr/local/lib/closed cannot be read: Permission denied" in told
    assert "/usr/local/lib/secret.so is damaged: it cannot be opened" in told
    assert "/usr/local/bin/x needs secret.so" in told
    assert "/usr/local/lib/open" in files(outcome)


def test_huge_sparse_program_uses_little_memory(tmp_path):
    """Process 5 GB of mostly holes as an ELF file in every part of the job."""
    plant(tmp_path / "chain", {**GLIBC, "/usr/local/lib/libhuge.so": library("libhuge.so", "libc.so.6")})
    with (tmp_path / "chain/usr/local/lib/libhuge.so").open("r+b") as stream:
        stream.seek(4 << 30)
        stream.write(b"\0libfar.so\0" * 1000)
        stream.truncate(5 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = job(tmp_path, GLIBC, sbom=False, package_records=False)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 100 << 10  # kB
    written = (tmp_path / "out/usr/local/lib/libhuge.so").stat()
    assert written.st_size == 5 << 30
    assert written.st_blocks < 20_000
    assert errors(outcome) == []
    assert verify(str(tmp_path / "chain")).errors == []


WIDE = with_sections(program("liba.so.1", runpath="/x", needs={"liba.so.1": ("A_1",)}, defines=("B_1",)))
NARROW = program("liba.so.1", bits=32, machine=3, little=True)
BIG = program("liba.so.1", bits=64, machine=22, little=False)
CHANGE = st.tuples(st.integers(0, 1 << 16), st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 127, 128, 255])))


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.sampled_from([WIDE, NARROW, BIG]),
    changes=st.lists(CHANGE, max_size=16),
    words=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2**64 - 1)), max_size=4),
    cut=st.one_of(st.just(0), st.integers(0, 7000)),
)
def test_inconsistent_header_is_problem_not_crash(tmp_path, which, changes, words, cut):
    data = bytearray(which)
    for at, value in words:
        struct.pack_into("<Q", data, at % (len(data) - 8), value)
    for at, value in changes:
        data[at % (400 if at % 3 else len(data)) % len(data)] = value
    where = tmp_path / "elf"
    where.write_bytes(data[: max(len(data) - cut, 0)])
    descriptor = os.open(where, os.O_RDONLY)
    try:
        answer = read_elf(descriptor)
    finally:
        os.close(descriptor)
    assert answer is None or isinstance(answer, Elf | ElfProblem)


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(CHANGE, min_size=1, max_size=12), cut=st.integers(0, 3000))
def test_damaged_files_never_stop_job(tmp_path_factory, changes, cut):
    data = bytearray(WIDE)
    for at, value in changes:
        data[at % 400 if at % 3 else at % len(data)] = value
    damaged = bytes(data[: len(data) - cut])
    tree = {
        **GLIBC,
        "/usr/local/bin/x": damaged,
        "/usr/local/bin/y": program("liba.so.1"),
        f"{LIB}/liba.so.1": damaged,
        "/etc/ld.so.cache": damaged,
        "/var/lib/dpkg/status": damaged,
        "/etc/nsswitch.conf": damaged,
    }
    folder = tmp_path_factory.mktemp("d")
    outcome = job(folder, tree)
    assert errors(outcome) == []
    assert "/usr/local/bin/x" in files(outcome)
    verify(str(folder / "chain"))
