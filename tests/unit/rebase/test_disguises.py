"""Steps that look as if they fit another base, and do not; and steps that fit although much differs."""

from __future__ import annotations

import pytest

from tests.support.elf_builder import build_elf, library, program
from tests.support.rebases import BASE, LIBRARIES, Files, proven

COMPILES = "FROM base\nRUN make install\n"
EXE = (0o755, b"program")


def conflicts(
    step: Files, new: Files, old: Files = BASE, dockerfile: str = "FROM base\nRUN apt-get install x\n"
) -> str:
    return "\n".join(proven(step, new, old, dockerfile=dockerfile).conflicts)


# Folders -------------------------------------------------------------------------------------------------------------


def test_opaque_folder_that_hides_a_new_file_is_a_conflict() -> None:
    step: Files = {"/srv": None, "/srv/.wh..wh..opq": b"", "/srv/mine": b"x"}
    assert "/srv/theirs: the step's layers delete it" in conflicts(step, {**BASE, "/srv": None, "/srv/theirs": b"y"})


def test_deletion_of_a_path_that_only_the_new_base_has_is_a_conflict() -> None:
    assert "/srv: the step's layers delete it" in conflicts({"/.wh.srv": b""}, {**BASE, "/srv": b"x"})


def test_folder_that_became_a_file_is_a_conflict() -> None:
    assert "/srv: the step writes into this folder" in conflicts(
        {"/srv/x": b"x"}, {**BASE, "/srv": b"file"}, {**BASE, "/srv": None}
    )


def test_program_below_a_folder_that_became_a_link_is_a_conflict() -> None:
    ssl = f"{LIBRARIES}/libssl.so.3"
    old: Files = {**BASE, "/opt/tools": None, ssl: library("libssl.so.3", exports=("connect",))}
    new: Files = {**BASE, "/srv": None, "/opt/tools": "/srv", ssl: library("libssl.so.3")}
    step: Files = {"/opt/tools/x": (0o755, program("libssl.so.3", imports=("connect",)))}
    assert "is a link in one of the bases" in conflicts(step, new, old)


def test_copy_of_a_folder_that_has_more_files_is_a_conflict() -> None:
    old: Files = {**BASE, "/etc/skel": None, "/etc/skel/.profile": b"1", "/etc/skel/.bashrc": b"2"}
    new: Files = {**old, "/etc/skel/.inputrc": b"3"}
    step: Files = {"/home/me": None, "/home/me/.profile": b"1", "/home/me/.bashrc": b"2"}
    assert "the new base added /etc/skel/.inputrc" in conflicts(step, new, old)
    assert not conflicts({"/home/me": None, "/home/me/.vimrc": b"1"}, new, old)


# Versions of languages -----------------------------------------------------------------------------------------------

PY11: Files = {**BASE, "/usr/bin/python3.11": EXE, "/usr/bin/python3": "python3.11", "/usr/lib/python3.11/os.py": b"o"}
PY12: Files = {**BASE, "/usr/bin/python3.12": EXE, "/usr/bin/python3": "python3.12", "/usr/lib/python3.12/os.py": b"o"}
BOTH: Files = {**PY11, **PY12}


def test_modules_for_a_python_that_is_gone_are_a_conflict() -> None:
    step: Files = {"/usr/local/lib/python3.11/dist-packages/x.py": b"x"}
    assert "a folder python3.11, and the new base has no folder of that name" in conflicts(step, PY12, PY11)
    assert not conflicts(step, {**PY11, "/usr/bin/python3.11": (0o755, b"patched")}, PY11)


def test_virtual_environment_of_another_python_is_a_conflict() -> None:
    step: Files = {"/opt/venv/bin/python": "/usr/bin/python3", "/opt/venv/lib/python3.11/x.py": b"x"}
    assert "it leads to /usr/bin/python3.12 on the new base" in conflicts(step, BOTH, PY11)


def test_script_of_another_python_is_a_conflict() -> None:
    step: Files = {"/usr/bin/tool": (0o755, b"#!/usr/bin/env -S python3 -u\n")}
    assert "its interpreter python3 is /usr/bin/python3.12 in the new base" in conflicts(step, BOTH, PY11)


def test_modules_for_a_perl_that_is_gone_are_a_conflict() -> None:
    old, new = ({**BASE, f"/usr/share/perl/{version}": None} for version in ("5.36.0", "5.38.2"))
    step: Files = {"/usr/local/share/perl/5.36.0/X.pm": b"x"}
    assert "a folder 5.36.0" in conflicts(step, new, old)


def test_link_to_a_library_with_the_same_soname_fits() -> None:
    old: Files = {
        **BASE,
        f"{LIBRARIES}/libz.so.1": "libz.so.1.2",
        f"{LIBRARIES}/libz.so.1.2": library("libz.so.1"),
    }
    new: Files = {
        **BASE,
        f"{LIBRARIES}/libz.so.1": "libz.so.1.3",
        f"{LIBRARIES}/libz.so.1.3": library("libz.so.1", tail=b"3"),
    }
    assert not conflicts({"/opt/libz.so": f"{LIBRARIES}/libz.so.1"}, new, old)


# Removed programs ----------------------------------------------------------------------------------------------------


def test_program_that_is_gone_is_found_although_another_file_has_its_name() -> None:
    completions = "/usr/share/bash-completion/completions/curl"
    new: Files = {**BASE, completions: b"c", "/usr/share/doc/curl": None}
    step: Files = {"/opt/run": (0o755, b"#!/bin/sh\ncurl -s x\n")}
    assert "/opt/run: it mentions curl, which the new base lacks" in conflicts(step, new, {**new, "/usr/bin/curl": EXE})


def test_program_that_is_gone_is_found_by_its_path_in_a_merged_usr() -> None:
    merged: Files = {**BASE, "/sbin": "usr/sbin", "/usr/bin/tune": EXE}
    step: Files = {"/opt/run": b"exec /sbin/tune\n"}
    assert "/opt/run: it mentions /sbin/tune" in conflicts(step, merged, {**merged, "/usr/sbin/tune": EXE})


def test_symbol_that_a_plugin_takes_from_a_program_is_missed() -> None:
    host = "/usr/bin/host"
    old: Files = {**BASE, host: program("libc.so.6", exports=("register", "log"))}
    new: Files = {**BASE, host: program("libc.so.6", exports=("log",))}
    plugin: Files = {"/opt/plugin.so": build_elf(needed=("libc.so.6",), imports=("register",))}
    assert "/opt/plugin.so: it needs the symbol register" in conflicts(plugin, new, old)
    assert not conflicts({"/opt/plugin.so": build_elf(imports=("log",))}, new, old)
    assert not conflicts(plugin, {**old, host: program("libc.so.6", exports=("register",))}, old)


# Copies --------------------------------------------------------------------------------------------------------------


def test_changelog_of_a_package_from_the_same_source_fits() -> None:
    log = "/usr/share/doc/libssl3/changelog.Debian.gz"
    triggers = "/var/lib/dpkg/info/libssl3:amd64.triggers"
    old: Files = {**BASE, log: b"1", triggers: b"activate-noawait ldconfig\n"}
    step: Files = {
        "/usr/share/doc/openssl/changelog.Debian.gz": b"1",
        "/var/lib/dpkg/info/libx:amd64.triggers": b"activate-noawait ldconfig\n",
    }
    assert not conflicts(step, {**BASE, log: b"2", triggers.replace("ssl", "tls"): b"x\n"}, old)
    assert "it is a copy of" in conflicts({"/etc/log": b"1"}, {**BASE, log: b"2"}, old)


@pytest.mark.parametrize(
    ("derived", "source"),
    [
        ("/usr/lib/x/gtk-3.0/3.0.0/immodules.cache", "/usr/lib/x/gtk-3.0/3.0.0/immodules/im-x.so"),
        ("/usr/lib/udev/hwdb.bin", "/usr/lib/udev/hwdb.d/20-x.hwdb"),
        ("/var/lib/systemd/catalog/database", "/usr/lib/systemd/catalog/x.catalog"),
        ("/usr/lib/x/vlc/plugins/plugins.dat", "/usr/lib/x/vlc/plugins/access/libx_plugin.so"),
        ("/var/lib/texmf/ls-R", "/usr/share/texlive/texmf-dist/x.sty"),
        ("/var/lib/ghc/package.conf.d/package.cache", "/var/lib/ghc/package.conf.d/x.conf"),
        ("/usr/lib/jvm/java-17/lib/server/classes.jsa", "/usr/lib/jvm/java-17/lib/modules"),
        ("/usr/share/fonts/X11/misc/fonts.dir", "/usr/share/fonts/X11/misc/x.pcf"),
    ],
)
def test_cache_of_a_folder_in_which_the_bases_differ_is_a_conflict(derived: str, source: str) -> None:
    old, new = ({**BASE, source: text} for text in (b"1", b"2"))
    assert f"{derived}: it is made of files such as {source}" in conflicts({derived: b"cache"}, new, old)


# Users ---------------------------------------------------------------------------------------------------------------


def test_every_pair_of_users_with_the_same_id_is_compared() -> None:
    old = b"root:x:0:0::/:\ntoor:x:0:0::/:\n"
    step: Files = {"/etc/passwd": old + b"me:x:99:9::/:\n"}
    new: Files = {**BASE, "/etc/passwd": old + b"it:x:99:9::/:\n"}
    assert "the same id to it and me" in conflicts(step, new, {**BASE, "/etc/passwd": old})
    fits: Files = {**BASE, "/etc/passwd": old + b"it:x:98:9::/:\n"}
    assert not conflicts(step, fits, {**BASE, "/etc/passwd": old})


def test_two_users_with_the_same_range_of_subordinate_ids_are_a_conflict() -> None:
    old: Files = {**BASE, "/etc/subuid": b""}
    new: Files = {**BASE, "/etc/subuid": b"it:100000:65536\n"}
    assert "/etc/subuid: the step and the base gave" in conflicts({"/etc/subuid": b"me:100000:65536\n"}, new, old)


# Releases and compilers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "fits"), [("3.20.4", True), ("3.21.0", False)])
def test_update_of_an_alpine_release_fits(version: str, fits: bool) -> None:
    old, new = ({**BASE, "/etc/os-release": f"ID=alpine\nVERSION_ID={text}\n".encode()} for text in ("3.20.3", version))
    assert (not conflicts({"/opt/x": b"x"}, new, old)) is fits


@pytest.mark.parametrize(
    "path",
    ["/opt/eigen/include/Eigen/Dense", "/usr/local/go/bin/go", "/usr/bin/xml2-config", "/usr/share/java/x.jar"],
)
def test_changed_build_tools_outside_of_usr_concern_steps_that_compile(path: str) -> None:
    old, new = {**BASE, path: b"1"}, {**BASE, path: b"2"}
    assert path in conflicts({"/opt/tool": b"x"}, new, old, COMPILES)


def test_other_compiler_by_its_alternative_concerns_steps_that_compile() -> None:
    both: Files = {**BASE, "/usr/bin/gcc-12": EXE, "/usr/bin/gcc-13": EXE}
    old, new = ({**both, "/etc/alternatives/cc": f"/usr/bin/gcc-{version}"} for version in (12, 13))
    assert "/etc/alternatives/cc" in conflicts({"/opt/tool": b"x"}, new, old, COMPILES)


def test_library_found_by_the_same_name_concerns_steps_that_compile() -> None:
    both: Files = {
        **BASE,
        f"{LIBRARIES}/libx.so.1": library("libx.so.1"),
        f"{LIBRARIES}/libx.so.2": library("libx.so.2"),
    }
    link = f"{LIBRARIES}/libx.so"
    old, new = {**both, link: "libx.so.1"}, {**both, link: "libx.so.2"}
    assert link in conflicts({"/opt/tool": b"x"}, new, old, COMPILES)
    assert not conflicts({"/opt/tool": b"x"}, new, old)
