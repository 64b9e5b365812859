from __future__ import annotations

import pytest

from chainbuild.minimize.verify import package_folder, verify
from tests.support.elf_builder import ARM64, CORE, GLIBC, I386, LIBC, REL, build_elf, library, plant, program

LIB = "/usr/lib/x86_64-linux-gnu"
SITE = "/opt/venv/lib/python3.11/site-packages"


def judged(tmp_path, tree, **more):
    verdict = verify(plant(tmp_path / "root", {**GLIBC, **tree}), **more)
    return [(one.severity, one.message) for one in verdict.findings]


def test_complete_image_has_no_findings(tmp_path):
    tree = {"/usr/local/bin/x": program("liba.so", "libc.so.6"), f"{LIB}/liba.so": library("liba.so")}
    verdict = verify(plant(tmp_path / "root", {**GLIBC, **tree}))
    assert (verdict.findings, verdict.checked) == ([], 4)
    assert verdict.document()["ok"] is True


def test_missing_library_is_reported_with_searched_folders(tmp_path):
    tree = {"/usr/local/bin/x": program("libfoo.so.1", runpath="/opt/x")}
    assert judged(tmp_path, tree, library_path="/env") == [
        (
            "error",
            (
                "/usr/local/bin/x needs libfoo.so.1: not found in /env, /opt/x, /lib/x86_64-linux-gnu,"
                " /usr/lib/x86_64-linux-gnu, /lib64, /usr/lib64, /lib, /usr/lib"
            ),
        )
    ]


def test_report_has_errors_and_warnings_with_their_packages(tmp_path):
    tree = {
        "/usr/local/bin/x": program("libfoo.so.1"),
        "/usr/lib/damaged.so": b"\x7fELF damaged",
        "/var/lib/dpkg/status": b"Package: x\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n",
        "/var/lib/dpkg/info/x.list": b"/usr/local/bin/x\n",
    }
    document = verify(plant(tmp_path / "root", {**GLIBC, **tree})).document()
    (error,), (warning,) = document["errors"], document["warnings"]
    assert (error["kind"], error["path"], error["package"], error["fix"]) == (
        "library",
        "/usr/local/bin/x",
        "deb:x:all",
        "",
    )
    assert error["text"] == next(row["message"] for row in document["findings"] if row["severity"] == "error")
    assert (warning["kind"], warning["path"], warning["package"]) == ("damaged", "/usr/lib/damaged.so", "")


def test_missing_version_is_reported_with_newest_provided(tmp_path):
    tree = {
        "/usr/local/lib/libbar.so": library("libbar.so", "libc.so.6", needs={"libc.so.6": ("GLIBC_2.38", "OTHER_1")})
    }
    assert judged(tmp_path, tree) == [
        (
            "error",
            (
                "/usr/local/lib/libbar.so needs GLIBC_2.38 of libc.so.6;"
                " /lib/x86_64-linux-gnu/libc.so.6 provides up to GLIBC_2.36"
            ),
        ),
        (
            "error",
            (
                "/usr/local/lib/libbar.so needs OTHER_1 of libc.so.6;"
                " /lib/x86_64-linux-gnu/libc.so.6 provides no version of that name"
            ),
        ),
    ]


def test_outdated_cache_gives_ldconfig_hint(tmp_path):
    tree = {"/usr/bin/x": program("liba.so"), "/usr/local/lib/liba.so": library("liba.so")}
    ((severity, message),) = judged(tmp_path, tree)
    assert severity == "error"
    assert message.endswith("; it is in /usr/local/lib, but not in ld.so.cache: run ldconfig")


def test_missing_interpreter_is_single_error(tmp_path):
    tree = {"/usr/local/bin/x": program("libnone.so", interpreter="/lib/ld-musl-x86_64.so.1")}
    assert judged(tmp_path, tree) == [
        ("error", "/usr/local/bin/x needs the interpreter /lib/ld-musl-x86_64.so.1: not found")
    ]


def test_files_without_loader_are_not_checked(tmp_path):
    tree = {
        "/usr/local/lib/a.o": build_elf(kind=REL, needed=("libnone.so",)),
        "/usr/local/core": build_elf(kind=CORE, needed=("libnone.so",)),
        "/usr/lib/firmware/blob": build_elf(machine=4242, needed=("libnone.so",)),
        "/usr/aarch64-linux-gnu/lib/x": build_elf(machine=ARM64, needed=("libnone.so",)),
        "/usr/lib32/x": build_elf(bits=32, machine=I386, needed=("libnone.so",)),
        "/usr/lib/debug/x.debug": build_elf(needed=("libnone.so",)),
        "/proc/x": program("libnone.so"),
    }
    verdict = verify(plant(tmp_path / "root", {**GLIBC, **tree}))
    assert verdict.findings == []
    assert verdict.static == 2
    assert dict(verdict.foreign) == {"machine-4242-64-little": 1, "arm64": 1, "i386": 1}


def test_second_interface_with_loader_counts(tmp_path):
    tree = {
        "/lib/ld-linux.so.2": library("ld-linux.so.2", bits=32, machine=I386),
        "/usr/bin/x32": build_elf(bits=32, machine=I386, needed=("liba.so",), kind=2, interpreter="/lib/ld-linux.so.2"),
        f"{LIB}/liba.so": library("liba.so"),
    }
    ((severity, message),) = judged(tmp_path, tree)
    assert severity == "error"
    assert message.startswith("/usr/bin/x32 needs liba.so: not found in ")


def test_damaged_file_is_warning(tmp_path):
    assert judged(tmp_path, {"/usr/local/lib/x": LIBC[:80]})[0][0] == "warning"


@pytest.mark.parametrize(
    ("asker", "provider", "severity"),
    [
        (f"{SITE}/numpy/core/m.so", f"{SITE}/numpy.libs/libblas.so", "warning"),
        (f"{SITE}/pyarrow/lib.so", f"{SITE}/pyarrow/libblas.so", "warning"),
        (f"{LIB}/jvm/lib/m.so", f"{LIB}/jvm/lib/server/libblas.so", "warning"),
        ("/opt/app/plugins/m.so", "/opt/app/lib/libblas.so", "warning"),
        (f"{SITE}/pyarrow/lib.so", "/opt/other/libblas.so", "error"),
        ("/usr/local/lib/m.so", "/usr/local/lib/x/libblas.so", "error"),
    ],
)
def test_library_in_same_package_is_warning(tmp_path, asker, provider, severity):
    tree = {asker: library("m.so", "libblas.so"), provider: library("libblas.so")}
    ((found, message),) = judged(tmp_path, tree)
    assert found == severity
    assert ("found only next to it, as " + provider in message) is (severity == "warning")


def test_program_must_find_its_libraries_itself(tmp_path):
    tree = {"/opt/app/bin/x": program("liba.so"), "/opt/app/lib/liba.so": library("liba.so")}
    assert judged(tmp_path, tree)[0][0] == "error"


def test_library_loaded_by_all_programs_has_no_findings(tmp_path):
    tree = {
        "/usr/local/bin/x": program("libb.so", rpath="/srv/lib"),
        "/srv/lib/libb.so": library("libb.so", "liba.so"),
        "/srv/lib/liba.so": library("liba.so"),
    }
    assert judged(tmp_path, tree) == []


def test_library_failing_in_program_is_reported_once(tmp_path):
    tree = {
        "/usr/local/bin/x": program("libb.so", runpath="/srv/lib"),
        "/usr/local/bin/y": program("libb.so", runpath="/srv/lib"),
        "/srv/lib/libb.so": library("libb.so", "liba.so"),
    }
    ((severity, message),) = judged(tmp_path, tree)
    assert severity == "error"
    assert message.startswith("/srv/lib/libb.so needs liba.so (loaded by /usr/local/bin/x): not found in ")


def test_faults_of_production_image_are_warnings(tmp_path):
    fault = {"/usr/bin/own": program("libnone.so"), "/usr/bin/changed": program("libnone.so")}
    baseline = plant(tmp_path / "baseline", {**GLIBC, **fault, "/usr/bin/changed": program("libnone.so", tail=b"!")})
    found = judged(tmp_path, {**fault, "/usr/bin/new": program("libnone.so")}, baseline=baseline)
    assert [(severity, message.split()[0]) for severity, message in found] == [
        ("error", "/usr/bin/changed"),
        ("error", "/usr/bin/new"),
        ("warning", "/usr/bin/own"),
    ]
    assert found[2][1].endswith("(as in the production image itself)")


def test_musl_ignores_versions(tmp_path):
    tree = {
        "/lib/ld-musl-x86_64.so.1": library("libc.musl-x86_64.so.1"),
        "/usr/lib/liba.so": library("liba.so", defines=("A_1",)),
        "/bin/x": program("liba.so", "libc.so", interpreter="/lib/ld-musl-x86_64.so.1", needs={"liba.so": ("A_9",)}),
    }
    assert verify(plant(tmp_path / "root", tree)).findings == []


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/usr/lib/python3/dist-packages/a/b.so", "/usr/lib/python3/dist-packages"),
        ("/usr/lib/x86_64-linux-gnu/perl/5/x.so", "/usr/lib/x86_64-linux-gnu/perl"),
        ("/usr/lib/x86_64-linux-gnu/x.so", ""),
        ("/usr/lib/x.so", ""),
        ("/usr/lib/jvm/x.so", "/usr/lib/jvm"),
        ("/opt/x.so", ""),
        ("/opt/a/x.so", "/opt/a"),
        ("/x.so", ""),
    ],
)
def test_package_folder_of_library(path, folder):
    assert package_folder(path) == folder
