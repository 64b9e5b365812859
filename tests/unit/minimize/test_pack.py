"""Pack small chain and production roots, and check the result and its messages."""

from __future__ import annotations

import json
import os
import stat

import pytest

from chainbuild.minimize import problems
from chainbuild.minimize.__main__ import main
from chainbuild.minimize.job import Order, pack
from chainbuild.minimize.ldcache import read_cache
from chainbuild.minimize.report import minimize_report
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.verify import verify
from tests.support.elf_builder import ARM64, GLIBC, LD_SO, LIBC, LOADER, library, plant, program

LIB = "/usr/lib/x86_64-linux-gnu"
STD_OLD = library("libstdc++.so.6", "libc.so.6", defines=("CXX_1",))
STD_NEW = library("libstdc++.so.6", "libc.so.6", defines=("CXX_1", "CXX_2"))
ARM_LD = "/lib/ld-linux-aarch64.so.1"


def errors(outcome):
    return [notice.text for notice in problems.errors(outcome)]


def warnings(outcome):
    return [notice.text for notice in problems.warnings(outcome)]


@pytest.fixture
def do(tmp_path):
    def run(chain, production=GLIBC, **more):
        order = Order(
            chain=plant(tmp_path / "chain", chain),
            production=plant(tmp_path / "production", production),
            output=str(tmp_path / "out"),
            **more,
        )
        return pack(order)

    return run


def files(outcome):
    root = RootFileSystem(outcome.order.output)
    return {path: (node.target or node.kind) for path, node in root.walk("/") if node.kind != "dir"}


def test_missing_libraries_are_added_and_no_others(do):
    chain = {
        **GLIBC,
        "/usr/local/bin/x": program("liba.so.1", "libhave.so.1", "libc.so.6"),
        f"{LIB}/liba.so.1": "liba.so.1.2",
        f"{LIB}/liba.so.1.2": library("liba.so.1", "libb.so.1"),
        f"{LIB}/libb.so.1": library("libb.so.1", "libc.so.6"),
        f"{LIB}/libhave.so.1": library("libhave.so.1"),
        f"{LIB}/libnobody.so.1": library("libnobody.so.1"),
        "/usr/bin/gcc": program("libc.so.6"),
        "/opt/venv/lib/m.py": b"",
        "/usr/lib/python3.11/os.py": b"",
        "/usr/bin/python3": "python3.11",
        "/usr/bin/python3.11": program("libc.so.6"),
        "/usr/local/include/a.h": b"",
    }
    outcome = do(chain, {**GLIBC, f"{LIB}/libhave.so.1": library("libhave.so.1")})
    assert files(outcome) == {
        "/etc/ld.so.cache": "file",
        "/opt/venv/lib/m.py": "file",
        "/usr/bin/python3": "python3.11",
        "/usr/bin/python3.11": "file",
        "/usr/lib/python3.11/os.py": "file",
        "/usr/local/bin/x": "file",
        "/usr/local/include/a.h": "file",
        "/usr/local/lib/liba.so.1": "file",
        "/usr/local/lib/libb.so.1": "file",
    }
    assert (errors(outcome), warnings(outcome)) == ([], [])
    report = minimize_report(outcome)
    assert report["libraries"][1]["chain"] == [
        {"asker": "/usr/local/bin/x", "name": "liba.so.1"},
        {"asker": f"{LIB}/liba.so.1.2", "name": "libb.so.1"},
    ]
    assert [one["path"] for one in report["from_production"]] == [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib64/ld-linux-x86-64.so.2",
        f"{LIB}/libhave.so.1",
    ]


def test_result_finds_libraries_by_its_own_cache(do, tmp_path):
    chain = {**GLIBC, "/usr/local/bin/x": program("liba.so.1"), f"{LIB}/liba.so.1": library("liba.so.1")}
    outcome = do(chain)
    merged = plant(tmp_path / "merged", GLIBC)
    for path in files(outcome):
        os.makedirs(os.path.dirname(merged + path), exist_ok=True)
        os.replace(outcome.order.output + path, merged + path)
    assert [one.path for one in read_cache(RootFileSystem(merged)) or ()] == [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/local/lib/liba.so.1",
        "/lib64/ld-linux-x86-64.so.2",
    ]
    assert verify(merged).findings == []


def test_older_production_library_is_overridden(do):
    chain = {
        **GLIBC,
        "/usr/local/bin/x": program("libstdc++.so.6", needs={"libstdc++.so.6": ("CXX_2",)}),
        f"{LIB}/libstdc++.so.6": STD_NEW,
    }
    outcome = do(chain, {**GLIBC, f"{LIB}/libstdc++.so.6": STD_OLD})
    assert "/usr/local/lib/libstdc++.so.6" in files(outcome)
    assert "has no CXX_2" in outcome.packing.brought["/usr/local/lib/libstdc++.so.6"].reason
    assert warnings(outcome) == []


def test_older_production_library_searched_first_is_overridden(do):
    arm = {
        ARM_LD: library("ld-linux-aarch64.so.1", machine=ARM64),
        "/etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\n",
        "/etc/ld.so.conf.d/aarch64-linux-gnu.conf": b"/usr/lib/aarch64-linux-gnu\n",
        "/etc/ld.so.conf.d/libc.conf": b"/usr/local/lib\n",
    }
    where = "/usr/lib/aarch64-linux-gnu/libstdc++.so.6"
    old = library("libstdc++.so.6", machine=ARM64, defines=("CXX_1",))
    new = library("libstdc++.so.6", machine=ARM64, defines=("CXX_1", "CXX_2"))
    x = program("libstdc++.so.6", machine=ARM64, interpreter=ARM_LD, needs={"libstdc++.so.6": ("CXX_2",)})
    outcome = do({**arm, "/usr/local/bin/x": x, where: new}, {**arm, where: old})
    assert {"/usr/local/lib/libstdc++.so.6", "/etc/ld.so.conf.d/00-chainbuild.conf"} <= set(files(outcome))
    assert warnings(outcome) == []


def test_library_folder_is_added_to_search_path(do):
    plain = {path: what for path, what in GLIBC.items() if "conf" not in path}
    chain = {**GLIBC, "/usr/local/bin/x": program("liba.so"), f"{LIB}/liba.so": library("liba.so")}
    outcome = do(chain, {**plain, "/etc/ld.so.conf": b"/opt/lib\n"})
    text = RootFileSystem(outcome.order.output).read("/etc/ld.so.conf")
    assert text == b"/usr/local/lib\n/opt/lib\n"
    assert warnings(outcome) == []


def test_second_c_library_is_never_added(do):
    newer = library("libc.so.6", defines=("GLIBC_2.36", "GLIBC_2.38"), interpreter=LOADER)
    chain = {
        **GLIBC,
        "/lib/x86_64-linux-gnu/libc.so.6": newer,
        "/usr/local/lib/libc.so.6": newer,
        "/usr/local/bin/x": program("libc.so.6", "libm.so.6", needs={"libc.so.6": ("GLIBC_2.38",)}),
        f"{LIB}/libm.so.6": library("libm.so.6"),
    }
    outcome = do(chain)
    assert set(files(outcome)) == {"/usr/local/bin/x"}
    assert warnings(outcome) == [
        "/usr/local/bin/x needs libm.so.6: not in the result",
        "/usr/local/bin/x needs GLIBC_2.38 of libc.so.6; newest provided: /lib/x86_64-linux-gnu/libc.so.6: GLIBC_2.36",
        "/usr/local/lib/libc.so.6 is left out: it belongs to the C library, which the production image has itself",
    ]


def test_library_too_new_for_c_library_does_not_override(do):
    newer = library("libc.so.6", defines=("GLIBC_2.36", "GLIBC_2.38"), interpreter=LOADER)
    std = library("libstdc++.so.6", "libc.so.6", defines=("CXX_1", "CXX_2"), needs={"libc.so.6": ("GLIBC_2.38",)})
    x = program("libstdc++.so.6", "libc.so.6", needs={"libstdc++.so.6": ("CXX_2",)})
    chain = {
        **GLIBC,
        "/lib/x86_64-linux-gnu/libc.so.6": newer,
        "/usr/local/bin/x": x,
        f"{LIB}/libstdc++.so.6": std,
    }
    outcome = do(chain, {**GLIBC, f"{LIB}/libstdc++.so.6": STD_OLD})
    assert set(files(outcome)) == {"/usr/local/bin/x"}
    assert [line.split(";")[0] for line in warnings(outcome)] == ["/usr/local/bin/x needs CXX_2 of libstdc++.so.6"]


def test_production_without_c_library_gets_that_of_chain(do):
    outcome = do({**GLIBC, "/usr/local/bin/x": program("libc.so.6")}, {"/etc/hostname": b"bare\n"})
    assert {LOADER, "/lib/x86_64-linux-gnu/libc.so.6", "/usr/local/bin/x"} <= set(files(outcome))
    assert warnings(outcome) == []


def test_musl_libraries_are_added(do):
    loader = "/lib/ld-musl-x86_64.so.1"
    musl = {loader: library("libc.musl-x86_64.so.1"), "/lib/libc.musl-x86_64.so.1": "ld-musl-x86_64.so.1"}
    x = program("liba.so", "libc.musl-x86_64.so.1", interpreter=loader)
    chain = {**musl, "/usr/local/bin/x": x, "/usr/lib/liba.so": library("liba.so", "libc.musl-x86_64.so.1")}
    outcome = do(chain, {**musl, "/etc/ld-musl-x86_64.path": b"/lib\n"})
    assert set(files(outcome)) == {"/usr/local/bin/x", "/usr/local/lib/liba.so", "/etc/ld-musl-x86_64.path"}
    assert RootFileSystem(outcome.order.output).read("/etc/ld-musl-x86_64.path") == b"/lib\n/usr/local/lib\n"
    assert warnings(outcome) == []


def test_additional_locations_are_analysed_and_files_kept(do):
    chain = {
        **GLIBC,
        f"{LIB}/dri/driver.so": library("driver.so", "liba.so"),
        f"{LIB}/liba.so": library("liba.so"),
        f"{LIB}/libb.so": library("libb.so"),
        "/opt/app/run": program("libb.so"),
        "/opt/app/data": b"d",
    }
    more: dict[str, object] = {"library_locations": (f"{LIB}/dri/*.so", "/none/*")}
    more |= {"additional_files": ("/opt/a*", "/etc/none"), "optional_files": frozenset(["/etc/none"])}
    more |= {"optional_locations": frozenset(["/none/*"])}
    outcome = do(chain, **more)
    assert set(files(outcome)) - {"/etc/ld.so.cache"} == {
        "/opt/app/data",
        "/opt/app/run",
        "/usr/local/lib/liba.so",
        "/usr/local/lib/libb.so",
    }
    assert (errors(outcome), warnings(outcome)) == ([], [])


def test_unmatched_patterns_fail_together_with_nearest_paths(do):
    """A typo used to be only a warning in a log file, and the image was tagged without the file."""
    chain = {**GLIBC, "/usr/share/tool/data": b"d", "/opt/other/table.csv": b"t", "/usr/local/bin/x": b"x"}
    files_wanted = ("/usr/share/tol/data", "/srv/table.csv", "/usr/local/bin/x", "/etc/maybe")
    outcome = do(
        chain, additional_files=files_wanted, optional_files=frozenset(["/etc/maybe"]), library_locations=("/none/*",)
    )
    assert errors(outcome) == [
        (
            "ADDITIONAL_FILES: /usr/share/tol/data matches nothing in the chain's image; nearest: /usr/share/tool/data;"
            " write ?/usr/share/tol/data if it may be missing"
        ),
        (
            "ADDITIONAL_FILES: /srv/table.csv matches nothing in the chain's image; nearest: /opt/other/table.csv, /usr;"
            " write ?/srv/table.csv if it may be missing"
        ),
        (
            "ADDITIONAL_LIB_LOCATIONS: /none/* matches nothing in the chain's image; nearest: /;"
            " write ?/none/* if it may be missing"
        ),
    ]
    assert files(outcome) == {}
    assert minimize_report(outcome)["nothing"][1] == {
        "argument": "ADDITIONAL_FILES",
        "pattern": "/srv/table.csv",
        "nearest": ["/opt/other/table.csv", "/usr"],
    }


def test_folder_links_of_kept_path_are_kept(do):
    """A path through a link to a folder used to be kept only at the link's target, and its own name was missing."""
    chain = {
        "/opt/tool/current": "versions/latest",
        "/opt/tool/versions/latest": "1.2",
        "/opt/tool/versions/1.2/bin/tool": b"tool",
        "/opt/tool/versions/1.2/share/manual": b"m" * 100,
        "/usr/local/bin/tool": "/opt/tool/current/bin/tool",
        "/srv/data": "/mnt/disk",
        "/mnt/disk/table": b"t",
    }
    outcome = do(chain, additional_files=("/srv/data/table",))
    assert set(files(outcome)) == set(chain) - {"/opt/tool/versions/1.2/share/manual"}
    assert (errors(outcome), warnings(outcome)) == ([], [])


def test_target_folder_of_link_gets_files_missing_in_production(do):
    """An empty folder of the production image used to be accepted as the target of the link."""
    chain = {
        "/usr/local/lib/certs": "/var/certs",
        "/var/certs/a": b"chain",
        "/var/certs/b": b"chain",
        "/var/certs/deep/c": b"chain",
    }
    outcome = do(chain, {"/var/certs/a": b"mine", "/var/certs/deep": None})
    assert set(files(outcome)) == {"/usr/local/lib/certs", "/var/certs/b", "/var/certs/deep/c"}


def test_kept_library_outside_search_path_is_linked(do):
    chain = {
        **GLIBC,
        "/etc/ld.so.conf.d/app.conf": b"/opt/app\n",
        "/opt/app/liba.so": library("liba.so"),
        "/usr/local/bin/x": program("liba.so"),
    }
    outcome = do(chain, additional_files=("/opt/app",))
    assert files(outcome)["/usr/local/lib/liba.so"] == "/opt/app/liba.so"


def test_libraries_with_same_name_do_not_collide(do):
    chain = {
        **GLIBC,
        "/usr/local/bin/one": program("liba.so", runpath="/opt/one"),
        "/usr/local/bin/two": program("liba.so", runpath="/opt/two"),
        "/opt/one/liba.so": library("liba.so", defines=("A_1",)),
        "/opt/two/liba.so": library("liba.so", defines=("A_2",)),
    }
    chain["/usr/local/bin/two"] = program("liba.so", runpath="/opt/two", needs={"liba.so": ("A_2",)})
    outcome = do(chain)
    assert {"/usr/local/lib/liba.so", "/opt/two/liba.so"} <= set(files(outcome))
    assert warnings(outcome) == []


def test_kept_files_use_folders_of_production(do):
    chain = {**GLIBC, "/opt/venv/lib64/m.so": library("m.so"), "/usr/local/bin/t": b"t"}
    outcome = do(chain, {**GLIBC, "/usr/local": "/srv/local", "/srv/local/bin": None})
    assert set(files(outcome)) == {"/opt/venv/lib64/m.so", "/srv/local/bin/t"}


@pytest.mark.parametrize(
    ("chain", "production", "says"),
    [
        (
            {"/usr/local/lib/x/y": b""},
            {"/usr/local/lib/x": b""},
            "/usr/local/lib/x is a folder, but /usr/local/lib/x of the production image is a file",
        ),
        (
            {"/usr/local/lib/x": "elsewhere"},
            {"/usr/local/lib/x/y": b""},
            "/usr/local/lib/x is a symbolic link, but /usr/local/lib/x of the production image is a folder",
        ),
        (
            {"/usr/local/lib/q": b"1", "/opt/venv/q": b"2"},
            {"/opt/venv": "/usr/local/lib", "/usr/local/lib": None},
            "/usr/local/lib/q and /opt/venv/q differ, but the production image has /usr/local/lib/q for both",
        ),
    ],
)
def test_conflicts_are_reported_and_nothing_is_written(do, chain, production, says):
    outcome = do(chain, production)
    assert says in errors(outcome)
    assert files(outcome) == {}


def test_link_targets_are_kept(do):
    chain = {
        "/etc/ssl/certs/a.pem": "/usr/share/ca-certificates/a.crt",
        "/usr/share/ca-certificates/a.crt": b"CERT",
        "/usr/share/ca-certificates/b.crt": b"CERT",
        "/usr/local/bin/tool": "/etc/alternatives/tool",
        "/etc/alternatives/tool": "/usr/bin/tool-1",
        "/usr/bin/tool-1": b"tool",
        "/usr/local/lib/data": "/srv/data",
        "/srv/data/deep/file": b"",
        "/usr/local/lib/all": "/usr",
        "/usr/local/lib/shell": "/bin/sh",
        "/bin/sh": b"",
        "/usr/local/lib/gone": "/nowhere",
    }
    outcome = do(chain, {"/bin/sh": b"mine"})
    assert set(files(outcome)) == set(chain) - {"/usr/share/ca-certificates/b.crt", "/bin/sh"}
    assert warnings(outcome) == [
        "/usr/local/lib/gone links to /nowhere, which does not exist",
        "/usr/local/lib/all links to /usr, a system folder, which is left out",
    ]


def test_scripts_without_interpreter_are_reported(do):
    chain = {
        "/usr/local/bin/good": b"#!/bin/sh\n",
        "/usr/local/bin/bad": b"#!/usr/bin/perl -w\n",
        "/usr/local/bin/env": b"#!/usr/bin/env -S A=1 ruby\n",
        "/opt/venv/bin/own": b"#!/usr/bin/env mine\n",
        "/opt/venv/bin/mine": b"\x7fELF",
        "/usr/local/lib/not-a-program": b"#!/none\n",
    }
    production = {"/bin/sh": b"", "/usr/bin/env": b""}
    assert do(chain, production).scripts == {"/usr/local/bin/bad": "/usr/bin/perl", "/usr/local/bin/env": "ruby"}


def test_scripts_without_env_are_reported(do):
    chain = {"/opt/venv/bin/own": b"#!/usr/bin/env mine\n", "/opt/venv/bin/mine": b"\x7fELF"}
    assert do(chain, {}).scripts == {"/opt/venv/bin/own": "/usr/bin/env"}


def test_metadata_is_kept_and_times_are_clamped(do, tmp_path):
    lib = tmp_path / "chain/usr/local/lib"
    plant(tmp_path / "chain", {"/usr/local/lib/a": b"a", "/usr/local/lib/old": b"", "/usr/local/lib/link": "a"})
    os.link(lib / "a", lib / "b")
    os.chmod(lib / "a", 0o4750)
    os.chmod(lib, 0o751)
    os.utime(lib / "old", (1000, 1000))
    with (lib / "sparse").open("wb") as stream:
        stream.truncate(5 << 30)
        stream.seek(1 << 30)
        stream.write(b"data")
    os.mkfifo(lib / "pipe")
    (lib / os.fsdecode(b"\xff\nname")).write_bytes(b"odd")
    outcome = do({}, {}, epoch=2000)
    out = tmp_path / "out/usr/local/lib"
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o4750
    assert stat.S_IMODE(out.stat().st_mode) == 0o751
    assert (out / "a").stat().st_ino == (out / "b").stat().st_ino
    assert [int((out / name).lstat().st_mtime) for name in ("a", "old", "link", "")] == [2000, 1000, 2000, 2000]
    assert (out / "sparse").stat().st_size == 5 << 30
    assert (out / "sparse").stat().st_blocks < 10_000
    assert (out / os.fsdecode(b"\xff\nname")).read_bytes() == b"odd"
    assert not (out / "pipe").exists()
    assert warnings(outcome) == ["/usr/local/lib/pipe is left out: a device, socket or pipe"]
    json.dumps(minimize_report(outcome))


def test_folders_keep_metadata_of_production(do, tmp_path):
    plant(tmp_path / "production", {"/usr/local/lib/there": b""})
    os.chmod(tmp_path / "production/usr/local/lib", 0o2775)
    do({"/usr/local/lib/a": b"a"}, {})
    assert stat.S_IMODE((tmp_path / "out/usr/local/lib").stat().st_mode) == 0o2775


def test_damaged_files_are_kept_and_reported(do):
    outcome = do({**GLIBC, "/usr/local/lib/liba.so": LIBC[:90], "/usr/local/lib/libld.so": LD_SO})
    assert "/usr/local/lib/liba.so" in files(outcome)
    assert list(outcome.damaged) == ["/usr/local/lib/liba.so"]


def test_inaccessibly_deep_path_is_reported(tmp_path):
    plant(tmp_path / "chain", {"/usr/local/lib": None})
    plant(tmp_path / "production", {})
    here = os.open(tmp_path / "chain/usr/local/lib", os.O_RDONLY)
    for _ in range(80):  # longer in total than the longest path that the system allows
        os.mkdir("d" * 60, dir_fd=here)
        deeper = os.open("d" * 60, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    outcome = pack(
        Order(chain=str(tmp_path / "chain"), production=str(tmp_path / "production"), output=str(tmp_path / "out"))
    )
    assert any("cannot be accessed" in line for line in warnings(outcome))


def test_command_exit_codes_and_output(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    chain = plant(
        tmp_path / "c", {**GLIBC, "/usr/local/bin/x": program("liba.so"), f"{LIB}/liba.so": library("liba.so")}
    )
    production = plant(tmp_path / "p", GLIBC)
    report = tmp_path / "report.json"
    command = ["pack", chain, "--production", production, "--output", str(tmp_path / "o"), "--report", str(report)]
    assert main(command) == 0
    assert "1 libraries added" in capsys.readouterr().out
    assert json.loads(report.read_text())["schema"] == "chainbuild.minimize/2"
    assert main(command) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["verify", chain, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert main(["verify", str(tmp_path / "o")]) == 1
    assert "needs the interpreter" in capsys.readouterr().out
    assert main(["closure", chain, "/usr/local/bin", "--json", "--each"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["libraries"] == ["/lib64/ld-linux-x86-64.so.2", f"{LIB}/liba.so"]
    assert document["each"] == {"/usr/local/bin/x": document["libraries"]}
    assert main(["verify", "/none/at/all"]) == 2
    assert main([]) == 2


# Libraries that search next to their own file ---------------------------------------------------------------------------

ASKING = {
    **GLIBC,
    "/usr/local/bin/x": program("libplay.so.1", "liba.so.1"),
    f"{LIB}/libplay.so.1": "libplay.so.1.2",
    f"{LIB}/libplay.so.1.2": library("libplay.so.1", calls=["dladdr"]),
    f"{LIB}/liba.so.1": library("liba.so.1"),
}


def test_library_using_own_path_is_not_moved(do):
    """A library that looks for plugins next to itself used to find none after it was moved."""
    brought = files(do(ASKING))
    assert brought[f"{LIB}/libplay.so.1"] == "file"
    assert brought["/usr/local/lib/liba.so.1"] == "file"
    assert "/usr/local/lib/libplay.so.1" not in brought


def test_library_using_own_path_gets_link_in_search_path(do):
    chain = {**ASKING, "/usr/local/bin/x": program("libplay.so.1", runpath="/opt/play")}
    chain["/opt/play/libplay.so.1"] = chain.pop(f"{LIB}/libplay.so.1.2")
    del chain[f"{LIB}/libplay.so.1"]
    assert files(do(chain))["/opt/play/libplay.so.1"] == "file"


def test_library_using_own_path_never_replaces_production_library(do):
    chain = {
        **ASKING,
        "/usr/local/bin/x": program("libplay.so.1", needs={"libplay.so.1": ["PLAY_2"]}),
        f"{LIB}/libplay.so.1.2": library("libplay.so.1", calls=["dladdr"], defines=["PLAY_1", "PLAY_2"]),
    }
    old = {**GLIBC, f"{LIB}/libplay.so.1": library("libplay.so.1", defines=["PLAY_1"])}
    assert files(do(chain, old))["/usr/local/lib/libplay.so.1"] == "file"


def test_library_using_own_path_outside_search_path_is_linked(do):
    chain = {
        **ASKING,
        "/etc/ld.so.conf.d/x.conf": b"/srv/play\n",
        "/srv/play/libplay.so.1": library("libplay.so.1", calls=["dladdr"]),
    }
    del chain[f"{LIB}/libplay.so.1"], chain[f"{LIB}/libplay.so.1.2"]
    brought = files(do(chain))
    assert brought["/srv/play/libplay.so.1"] == "file"
    assert brought["/usr/local/lib/libplay.so.1"] == "/srv/play/libplay.so.1"


def test_library_next_to_its_user_gives_no_warning(do):
    chain = {
        **GLIBC,
        "/usr/local/lib/jvm/lib/libjava.so": library("libjava.so", "libjvm.so"),
        "/usr/local/lib/jvm/lib/server/libjvm.so": library("libjvm.so"),
        "/usr/local/lib/other/libx.so": library("libx.so", "libjvm.so"),
    }
    assert [one for one in warnings(do(chain)) if "libjvm" in one] == [
        "/usr/local/lib/other/libx.so needs libjvm.so: not in the chain's image"
    ]
