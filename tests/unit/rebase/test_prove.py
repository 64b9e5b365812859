"""The proof that a step fits another base: accepted, merged, or refused with names."""

from __future__ import annotations

import io

import pytest

from chainbuild.minimize.ldcache import LD_SO_CACHE, CacheEntry, encode_cache, parse_cache
from chainbuild.rebase.images import merged_layer
from chainbuild.registry.tar import members
from tests.support.elf_builder import LOADER, library, program
from tests.support.rebases import BASE, LIBRARIES, OS, Files, proven
from tests.unit.comparison.layers import Content, dpkg

SSL = f"{LIBRARIES}/libssl.so.3"
WITH_SSL: dict[str, Content] = {**BASE, SSL: library("libssl.so.3", "libc.so.6", exports=("connect", "close"))}
PATCHED = {**WITH_SSL, SSL: library("libssl.so.3", "libc.so.6", exports=("connect", "close"), tail=b"fixed")}
CLIENT: Files = {"/opt/client": (0o755, program("libssl.so.3", "libc.so.6", imports=("connect",)))}
COMPILES = "FROM base\nRUN make install\n"
COMPILED: Files = {"/opt/tool": (0o755, program("libc.so.6"))}


def without(files: Files, *paths: str) -> dict[str, Content]:
    return {path: content for path, content in files.items() if path not in paths}


def refused(step: Files, new: Files, old: Files = BASE, dockerfile: str = "FROM base\nRUN apt-get install x\n") -> str:
    verdict = proven(step, new, old, dockerfile=dockerfile)
    assert verdict.conflicts
    return verdict.conflicts[0]


# Paths ---------------------------------------------------------------------------------------------------------------


def test_step_beside_changed_files_fits() -> None:
    verdict = proven({"/opt/x": b"x"}, {**BASE, "/etc/motd": b"other"})
    assert (verdict.conflicts, verdict.merged) == ((), ())
    assert verdict.summary == "1 path and 0 ELF files fit the new base"


def test_file_that_both_changed_is_a_conflict() -> None:
    assert refused({"/etc/motd": b"mine"}, {**BASE, "/etc/motd": b"theirs"}).startswith(
        "/etc/motd: the step changed it"
    )
    assert "removed it" in refused({"/etc/motd": b"mine"}, without(BASE, "/etc/motd"))
    assert "both added" in refused({"/etc/issue": b"mine"}, {**BASE, "/etc/issue": b"theirs"})


def test_file_that_both_changed_alike_fits() -> None:
    assert not proven({"/etc/motd": b"same"}, {**BASE, "/etc/motd": b"same"}).conflicts


def test_folder_that_the_new_base_lacks_is_a_conflict() -> None:
    old = {**BASE, "/srv": None, "/srv/data": b"1"}
    assert refused({"/srv": None, "/srv/mine": b"2"}, BASE, old).startswith("/srv: the step writes into this folder")


def test_folder_that_became_a_link_is_a_conflict() -> None:
    old, new = {**BASE, "/lib/modules": None}, {**BASE, "/srv": None, "/lib/modules": "/srv"}
    assert "is a link in one of the bases" in refused({"/lib/modules/x": b"x"}, new, old)


def test_logs_lists_and_backups_of_the_step_are_kept() -> None:
    paths = ("/var/log/dpkg.log", "/var/lib/apt/lists/x", "/etc/passwd-", "/var/cache/ldconfig/aux-cache", "/tmp/x")
    step, new = dict.fromkeys(paths, b"mine"), {**BASE, **dict.fromkeys(paths, b"theirs")}
    assert not proven(step, new, {**BASE, **dict.fromkeys(paths, b"old")}).conflicts


def test_deletion_beside_new_files_is_a_conflict() -> None:
    old = {**BASE, "/usr/share/a/1": b"1"}
    assert not proven({"/usr/share/a/.wh.1": b""}, {**old, "/etc/motd": b"2"}, old).conflicts
    assert "differs between the bases" in refused({"/usr/share/a/.wh.1": b""}, {**old, "/usr/share/a/2": b"2"}, old)


# What is derived from the base ---------------------------------------------------------------------------------------


def test_copy_of_a_changed_file_is_a_conflict() -> None:
    assert refused({"/opt/motd": b"welcome\n"}, {**BASE, "/etc/motd": b"2"}).startswith(
        "/opt/motd: it is a copy of /etc/motd"
    )


def test_link_to_a_removed_file_is_a_conflict() -> None:
    conflict = refused({"/opt/motd": "../etc/motd"}, without(BASE, "/etc/motd"))
    assert conflict == "/opt/motd: it links to ../etc/motd, which the new base lacks"


def test_bytecode_of_a_changed_source_is_deleted() -> None:
    module = "/usr/lib/python3.11/os.py"
    step = {"/usr/lib/python3.11/__pycache__/os.cpython-311.pyc": b"compiled"}
    verdict = proven(step, {**BASE, module: b"new"}, {**BASE, module: b"old"})
    assert not verdict.conflicts
    assert [(file.path, file.entry) for file in verdict.merged] == [(*step, None)]


def test_bundle_of_changed_certificates_is_a_conflict() -> None:
    source = "/usr/share/ca-certificates/mozilla/x.crt"
    conflict = refused({"/etc/ssl/certs/ca-certificates.crt": b"all"}, {**BASE, source: b"2"}, {**BASE, source: b"1"})
    assert conflict.startswith(
        "/etc/ssl/certs/ca-certificates.crt: it is made of files such as /usr/share/ca-certificates"
    )


def test_script_without_its_interpreter_is_a_conflict() -> None:
    old = {**BASE, "/usr/bin/perl5": (0o755, b"perl")}
    step = {"/opt/tool": (0o755, b"#!/usr/bin/env perl5\n")}
    conflicts = proven(step, BASE, old).conflicts
    assert "/opt/tool: it mentions perl5, which the new base lacks" in conflicts
    assert "/opt/tool: its interpreter perl5 is not in the new base" in conflicts


@pytest.mark.parametrize(
    "path", ["/usr/include/zlib.h", f"{LIBRARIES}/libz.a", "/usr/lib/gcc/x/12/cc1", "/usr/bin/x86_64-linux-gnu-gcc-12"]
)
def test_changed_compiler_input_concerns_only_steps_that_compile(path: str) -> None:
    old, new = {**BASE, path: b"1"}, {**BASE, path: b"2"}
    conflict = refused(COMPILED, new, old, COMPILES)
    assert conflict == f"{path}: it changed in the base, and line 2 of the Dockerfile may compile with it"
    assert not proven(COMPILED, new, old).conflicts


def test_changed_linker_script_concerns_steps_that_compile() -> None:
    path = f"{LIBRARIES}/libc.so"
    assert path in refused(COMPILED, {**BASE, path: b"GROUP(b)"}, {**BASE, path: b"GROUP(a)"}, COMPILES)


# Databases -----------------------------------------------------------------------------------------------------------


def test_package_database_is_merged_into_a_file_on_top() -> None:
    step = {"/var/lib/dpkg/status": dpkg(libc6="2.36-9", curl="7")}
    verdict = proven(step, {**BASE, "/var/lib/dpkg/status": dpkg(libc6="2.36-10")})
    assert not verdict.conflicts
    (file,) = verdict.merged
    assert file.entry is not None
    assert file.entry.data == dpkg(libc6="2.36-10", curl="7") + b"\n"
    assert verdict.summary.endswith("merged: /var/lib/dpkg/status")


def test_package_that_needs_the_old_version_is_a_conflict() -> None:
    dev = b"Package: libc6-dev\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nDepends: libc6 (= 2.36-9)\n"
    step = {"/var/lib/dpkg/status": dpkg(libc6="2.36-9") + b"\n" + dev}
    conflict = refused(step, {**BASE, "/var/lib/dpkg/status": dpkg(libc6="2.36-10")})
    assert conflict.endswith("a package's relation no longer holds: libc6-dev: Depends: libc6 (= 2.36-9)")


def test_merged_file_has_the_rights_that_one_side_changed() -> None:
    old: Files = {**BASE, "/etc/shadow": (0o644, b"root:*:1\n")}
    new: Files = {**BASE, "/etc/shadow": (0o600, b"root:*:2\n")}
    step: Files = {"/etc/shadow": (0o644, b"root:*:1\nme:!:1\n")}
    (file,) = proven(step, new, old).merged
    assert file.entry is not None
    assert (file.entry.mode, file.entry.data) == (0o600, b"root:*:2\nme:!:1\n")
    other: Files = {"/etc/shadow": (0o640, b"root:*:1\nme:!:1\n")}
    assert "its mode, owner or attributes were changed by the step and in the base" in refused(other, new, old)


def test_file_capability_that_the_base_and_the_step_changed_is_a_conflict() -> None:
    old: Files = {**BASE, "/bin/ping": (0o755, b"ping", b"\x01old")}
    new: Files = {**BASE, "/bin/ping": (0o755, b"ping", b"\x01new")}
    assert refused({"/bin/ping": (0o700, b"ping", b"\x01old")}, new, old).startswith("/bin/ping: ")
    # A step that has what the new base has, too, has only done the same.
    assert not proven({"/bin/ping": (0o755, b"ping", b"\x01new")}, new, old).conflicts


def test_merged_file_keeps_the_attributes_of_the_side_that_changed_them() -> None:
    old: Files = {**BASE, "/etc/shells": b"/bin/sh\n"}
    new: Files = {**BASE, "/etc/shells": (0o644, b"/bin/sh\n/bin/dash\n", b"\x00\xff")}
    (file,) = proven({"/etc/shells": b"/bin/sh\n/bin/zsh\n"}, new, old).merged
    assert file.entry is not None
    assert file.entry.xattrs == (("security.capability", b"\x00\xff"),)
    (member,) = members(io.BytesIO(merged_layer([file])), "the layer")
    assert member.xattrs == file.entry.xattrs


def test_user_with_an_id_of_the_new_base_is_a_conflict() -> None:
    root = b"root:x:0:0:root:/root:/bin/sh\n"
    conflict = refused({"/etc/passwd": root + b"me:x:99:9::/:\n"}, {**BASE, "/etc/passwd": root + b"it:x:99:9::/:\n"})
    assert conflict == "/etc/passwd: the step and the base gave the same id to it and me"


def test_base_of_another_release_fits_no_step() -> None:
    new = {**BASE, "/etc/os-release": OS.replace(b"12", b"13")}
    assert refused({"/opt/x": b"x"}, new) == "os-release: VERSION_ID changed from '12' to '13'"


def test_changed_id_of_a_user_of_the_base_fits_no_step() -> None:
    old, new = ({**BASE, "/etc/group": b"root:x:0:\nwww:x:%d:\n" % number} for number in (33, 34))
    assert refused({"/opt/x": b"x"}, new, old) == "/etc/group: the ids of www changed in the base"


# ELF files -----------------------------------------------------------------------------------------------------------


def test_program_fits_a_patched_library() -> None:
    verdict = proven(CLIENT, PATCHED, WITH_SSL)
    assert (verdict.conflicts, verdict.elves) == ((), 1)


def test_program_without_its_library_is_a_conflict() -> None:
    new = {**without(WITH_SSL, SSL), f"{LIBRARIES}/libssl.so.4": library("libssl.so.4", exports=("connect",))}
    conflicts = proven(CLIENT, new, WITH_SSL).conflicts
    assert "/opt/client: it needs libssl.so.3, which is not in the new base" in conflicts
    assert not proven({"/opt/settings": b"x"}, new, WITH_SSL).conflicts


def test_program_without_a_symbol_is_a_conflict() -> None:
    new = {**WITH_SSL, SSL: library("libssl.so.3", "libc.so.6", exports=("close",))}
    assert refused(CLIENT, new, WITH_SSL) == f"/opt/client: it needs the symbol connect, which {SSL} no longer has"
    assert not proven({"/opt/client": (0o755, program("libssl.so.3", imports=("close",)))}, new, WITH_SSL).conflicts


def test_symbol_that_moved_to_another_library_is_found() -> None:
    crypto = f"{LIBRARIES}/libcrypto.so.3"
    old = {**WITH_SSL, crypto: library("libcrypto.so.3")}
    new = {**old, SSL: library("libssl.so.3"), crypto: library("libcrypto.so.3", exports=("connect",))}
    assert not proven({"/opt/c": program("libssl.so.3", "libcrypto.so.3", imports=("connect",))}, new, old).conflicts


def test_program_without_a_symbol_version_is_a_conflict() -> None:
    old, new = ({**BASE, SSL: library("libssl.so.3", defines=versions)} for versions in (("V_1", "V_2"), ("V_1",)))
    step = {"/opt/c": program("libssl.so.3", needs={"libssl.so.3": ("V_2",)})}
    assert (
        refused(step, new, old) == f"/opt/c: it needs V_2 of libssl.so.3, which {SSL} of the new base does not define"
    )


def test_library_that_was_missing_before_may_be_missing() -> None:
    assert not proven({"/opt/c": program("libgone.so.1")}, PATCHED, WITH_SSL).conflicts


def test_library_of_step_before_one_of_the_base_is_checked_for_all() -> None:
    user = {"/usr/bin/user": (0o755, program("libssl.so.3", needs={"libssl.so.3": ("V_2",)}))}
    old = {**BASE, SSL: library("libssl.so.3", defines=("V_1",))}
    new = {**BASE, SSL: library("libssl.so.3", defines=("V_1", "V_2")), **user}
    own = "/lib/x86_64-linux-gnu/libssl.so.3"
    conflict = refused({own: library("libssl.so.3", defines=("V_1",), tail=b"own")}, new, old)
    assert conflict.startswith("/usr/bin/user: it needs V_2 of libssl.so.3")


# ld.so.cache ---------------------------------------------------------------------------------------------------------


def cache(*paths: str) -> bytes:
    entries = (CacheEntry(name=path.rpartition("/")[2], flags=0x0303, path=path) for path in (*paths, LOADER))
    return encode_cache(tuple(sorted(entries, key=lambda entry: entry.name, reverse=True)), little=True)


LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
OWN = "/usr/local/lib/libown.so.1"
OWN_STEP: dict[str, Content] = {OWN: library("libown.so.1"), LD_SO_CACHE: cache(LIBC, OWN)}


def test_cache_is_made_anew_if_the_base_has_other_libraries() -> None:
    old = {**BASE, LD_SO_CACHE: cache(LIBC)}
    new = {**BASE, SSL: library("libssl.so.3"), LD_SO_CACHE: cache(LIBC, SSL)}
    verdict = proven(OWN_STEP, new, old)
    assert not verdict.conflicts
    (file,) = verdict.merged
    assert file.entry is not None
    assert file.entry.data is not None
    entries = parse_cache(file.entry.data)
    assert entries is not None
    assert [entry.path for entry in entries] == [SSL, OWN, LIBC, LOADER]


def test_cache_that_lists_the_same_is_kept() -> None:
    verdict = proven(OWN_STEP, {**BASE, "/etc/motd": b"2", LD_SO_CACHE: cache(LIBC)})
    assert (verdict.conflicts, verdict.merged) == ((), ())


def test_cache_that_ldconfig_did_not_make_is_a_conflict() -> None:
    new = {**BASE, SSL: library("libssl.so.3")}
    step = {**OWN_STEP, LD_SO_CACHE: cache(LIBC)}
    assert refused(step, new) == f"{LD_SO_CACHE}: it is not what ldconfig makes of the image that was built"
