"""The loaders' rules on small roots: which libraries a program's process loads, and why not others."""

from __future__ import annotations

import pytest

from chainbuild.minimize.abi import abi_of, is_c_library
from chainbuild.minimize.elf import DF_1_NODEFLIB, Elf, ElfReader
from chainbuild.minimize.ldcache import CacheEntry, built_in_folders, configured_folders, encode_cache
from chainbuild.minimize.loader import Loader
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.search import Search, SearchSettings
from tests.support.elf_builder import (
    ARM,
    ARM64,
    GLIBC,
    I386,
    LD_SO,
    build_elf,
    library,
    plant,
    program,
)

LIB = "/usr/lib/x86_64-linux-gnu"
A = library("liba.so")
MUSL = {"/lib/ld-musl-x86_64.so.1": library("libc.musl-x86_64.so.1")}
MUSL_LOADER = "/lib/ld-musl-x86_64.so.1"


def run(tmp_path, tree, path="/bin/x", *, secure=False, base=GLIBC, **settings):
    root = RootFileSystem(plant(tmp_path / "root", {**base, **tree}))
    reader = ElfReader()
    elf = reader.read(root, path)
    assert isinstance(elf, Elf)
    return Loader(Search(root, reader, SearchSettings(**settings))).run(path, elf, secure=secure)


def found(process, name):
    loaded = process.names.get(name)
    return None if loaded is None else loaded.path


RULES = [
    ("built into the loader", {"/bin/x": program("liba.so"), f"{LIB}/liba.so": A}, {}, f"{LIB}/liba.so"),
    (
        "RUNPATH before the default",
        {"/bin/x": program("liba.so", runpath="/opt/lib"), f"{LIB}/liba.so": A, "/opt/lib/liba.so": A},
        {},
        "/opt/lib/liba.so",
    ),
    (
        "LD_LIBRARY_PATH before RUNPATH",
        {"/bin/x": program("liba.so", runpath="/opt/lib"), "/env/liba.so": A, "/opt/lib/liba.so": A},
        {"library_path": "/none:/env"},
        "/env/liba.so",
    ),
    (
        "RPATH before LD_LIBRARY_PATH",
        {"/bin/x": program("liba.so", rpath="/opt/lib"), "/env/liba.so": A, "/opt/lib/liba.so": A},
        {"library_path": "/env"},
        "/opt/lib/liba.so",
    ),
    (
        "RPATH is void beside RUNPATH",
        {"/bin/x": program("liba.so", rpath="/one", runpath="/two"), "/one/liba.so": A, "/two/liba.so": A},
        {},
        "/two/liba.so",
    ),
    (
        "$ORIGIN in braces and without",
        {"/opt/x/bin/x": program("liba.so", runpath="${ORIGIN}/no:$ORIGIN/../lib"), "/opt/x/lib/liba.so": A},
        {"path": "/opt/x/bin/x"},
        "/opt/x/bin/../lib/liba.so",
    ),
    (
        "$ORIGIN is not the beginning of another word",
        {"/bin/x": program("liba.so", runpath="/q$ORIGINAL:/opt"), "/q/binAL/liba.so": A, "/opt/liba.so": A},
        {},
        "/opt/liba.so",
    ),
    (
        "$LIB and $PLATFORM",
        {"/bin/x": program("liba.so", runpath="/o/$LIB/$PLATFORM"), "/o/lib/x86_64-linux-gnu/x86_64/liba.so": A},
        {},
        "/o/lib/x86_64-linux-gnu/x86_64/liba.so",
    ),
    (
        "another class or machine is passed over",
        {
            "/bin/x": program("liba.so", runpath="/one:/two:/three"),
            "/one/liba.so": library("liba.so", bits=32, machine=I386),
            "/two/liba.so": library("liba.so", machine=ARM64),
            "/three/liba.so": A,
        },
        {},
        "/three/liba.so",
    ),
    (
        "a folder or a broken link of that name is passed over",
        {
            "/bin/x": program("liba.so", runpath="/one:/two:/3"),
            "/one/liba.so": None,
            "/two/liba.so": "no",
            "/3/liba.so": A,
        },
        {},
        "/3/liba.so",
    ),
    (
        "a script stops the loader",
        {"/bin/x": program("liba.so", runpath="/one"), "/one/liba.so": b"INPUT(x)"},
        {},
        None,
    ),
    (
        "the configuration counts only through the cache",
        {"/bin/x": program("liba.so"), "/usr/local/lib/liba.so": A},
        {},
        None,
    ),
    (
        "unless ldconfig is taken as run",
        {"/bin/x": program("liba.so"), "/usr/local/lib/liba.so": A, f"{LIB}/liba.so": A},
        {"fresh": True},
        "/usr/local/lib/liba.so",
    ),
    (
        "an absolute link stays inside the root",
        {"/bin/x": program("liba.so", runpath="/opt/lib"), "/opt/lib": "/srv/real", "/srv/real/liba.so": A},
        {},
        "/opt/lib/liba.so",
    ),
    ("a path is a path", {"/bin/x": program("/srv/q.so"), "/srv/q.so": library("liba.so")}, {}, "/srv/q.so"),
    (
        "a relative folder has no meaning",
        {"/bin/x": program("liba.so", runpath="lib::."), "/bin/lib/liba.so": A, "/bin/liba.so": A},
        {},
        None,
    ),
]


@pytest.mark.parametrize(("tree", "more", "where"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_glibc_search_order(tmp_path, tree, more, where):
    assert found(run(tmp_path, tree, **more), "liba.so") == where


def test_rpath_is_inherited_and_runpath_is_not(tmp_path):
    tree = {"/opt/libb.so": library("libb.so", "liba.so"), "/opt/liba.so": A}
    down = run(tmp_path / "1", {**tree, "/bin/x": program("libb.so", rpath="/opt")})
    assert found(down, "liba.so") == "/opt/liba.so"
    stays = run(tmp_path / "2", {**tree, "/bin/x": program("libb.so", runpath="/opt")})
    assert found(stays, "liba.so") is None
    assert [(one.asker.file, one.name) for one in stays.missing] == [("/opt/libb.so", "liba.so")]
    own = {**tree, "/opt/libb.so": library("libb.so", "liba.so", runpath="/none")}
    cut = run(tmp_path / "3", {**own, "/bin/x": program("libb.so", rpath="/opt")})
    assert found(cut, "liba.so") is None


def test_loaded_library_is_not_searched_again(tmp_path):
    tree = {
        "/bin/x": program("/opt/first.so", "libb.so", runpath="/opt"),
        "/opt/first.so": library("liba.so"),
        "/opt/libb.so": library("libb.so", "liba.so"),
        f"{LIB}/liba.so": A,
    }
    process = run(tmp_path, tree)
    assert [one.file for one in process.objects] == [
        "/bin/x",
        "/lib64/ld-linux-x86-64.so.2",
        "/opt/first.so",
        "/opt/libb.so",
    ]


def test_file_with_two_names_is_single_object(tmp_path):
    tree = {"/bin/x": program("liba.so", "libz.so"), f"{LIB}/liba.so": build_elf(), f"{LIB}/libz.so": "liba.so"}
    assert len(run(tmp_path, tree).objects) == 3


def test_cache_is_trusted(tmp_path):
    entries = (CacheEntry(name="liba.so", flags=0x303, path="/srv/liba.so"),)
    tree = {
        "/bin/x": program("liba.so"),
        "/srv/liba.so": A,
        f"{LIB}/liba.so": A,
        "/etc/ld.so.cache": encode_cache(entries, little=True),
    }
    assert found(run(tmp_path / "1", tree), "liba.so") == "/srv/liba.so"
    del tree["/srv/liba.so"]
    assert found(run(tmp_path / "2", tree), "liba.so") == f"{LIB}/liba.so"
    tree["/etc/ld.so.cache"] = b"glibc-ld.so.cache1.1 and rubbish"
    assert found(run(tmp_path / "3", tree), "liba.so") == f"{LIB}/liba.so"


def test_cache_entry_for_other_machine_is_ignored(tmp_path):
    entries = (CacheEntry(name="liba.so", flags=0xA03, path="/srv/liba.so"),)
    tree = {"/bin/x": program("liba.so"), "/srv/liba.so": A, "/etc/ld.so.cache": encode_cache(entries, little=True)}
    assert found(run(tmp_path, tree), "liba.so") is None


def test_hwcaps_folders_are_variants(tmp_path):
    tree = {
        "/bin/x": program("liba.so", runpath="/opt"),
        "/opt/liba.so": A,
        "/opt/glibc-hwcaps/x86-64-v3/liba.so": A,
        "/opt/haswell/liba.so": A,
    }
    loaded = run(tmp_path, tree).names["liba.so"]
    assert loaded.path == "/opt/liba.so"
    assert loaded.variants == ("/opt/glibc-hwcaps/x86-64-v3/liba.so", "/opt/haswell/liba.so")


def test_nodeflib_skips_system_folders(tmp_path):
    tree = {"/bin/x": build_elf(needed=("liba.so",), flags_1=DF_1_NODEFLIB, interpreter="/lib64/ld-linux-x86-64.so.2")}
    assert found(run(tmp_path, {**tree, f"{LIB}/liba.so": A}), "liba.so") is None


def test_set_uid_program_ignores_environment(tmp_path):
    tree = {
        "/bin/x": program("liba.so", "libb.so", runpath="$ORIGIN"),
        "/env/liba.so": A,
        "/bin/libb.so": library("libb.so"),
    }
    free = run(tmp_path / "1", tree, library_path="/env")
    assert (found(free, "liba.so"), found(free, "libb.so")) == ("/env/liba.so", "/bin/libb.so")
    bound = run(tmp_path / "2", tree, library_path="/env", secure=True)
    assert (found(bound, "liba.so"), found(bound, "libb.so")) == (None, None)


def test_versions_are_checked_like_loader(tmp_path):
    tree = {
        "/bin/x": program(
            "liba.so",
            "libc.so.6",
            "libold.so",
            runpath="/opt",
            needs={"liba.so": ("A_1", "A_9", "A_w"), "libc.so.6": ("GLIBC_2.36", "GLIBC_2.38"), "libold.so": ("O_1",)},
            weak=("A_w",),
        ),
        "/opt/liba.so": library("liba.so", defines=("A_1",)),
        "/opt/libold.so": library("libold.so"),
    }
    process = run(tmp_path, tree)
    assert [(bad.name, bad.version) for bad in process.bad_versions] == [
        ("liba.so", "A_9"),
        ("libc.so.6", "GLIBC_2.38"),
    ]
    assert [(asker.file, library_.file) for asker, library_ in process.unversioned] == [("/bin/x", "/opt/libold.so")]


MUSL_RULES = [
    ("its default", {"/bin/x": ("liba.so", {}), "/usr/local/lib/liba.so": A}, {}, "/usr/local/lib/liba.so"),
    (
        "its path file instead",
        {"/bin/x": ("liba.so", {}), "/lib/liba.so": A, "/x/liba.so": A, "/etc/ld-musl-x86_64.path": b"/y:/x\n"},
        {},
        "/x/liba.so",
    ),
    (
        "the environment before RPATH",
        {"/bin/x": ("liba.so", {"rpath": "/one"}), "/one/liba.so": A, "/env/liba.so": A},
        {"library_path": "/env"},
        "/env/liba.so",
    ),
    ("no cache", {"/bin/x": ("liba.so", {}), "/etc/ld.so.conf": b"/opt\n", "/opt/liba.so": A}, {"fresh": True}, None),
    (
        "another machine stops it",
        {"/bin/x": ("liba.so", {}), "/lib/liba.so": library("liba.so", machine=ARM64), "/usr/lib/liba.so": A},
        {},
        None,
    ),
]


@pytest.mark.parametrize(
    ("tree", "more", "where"), [rule[1:] for rule in MUSL_RULES], ids=[rule[0] for rule in MUSL_RULES]
)
def test_musl_search_order(tmp_path, tree, more, where):
    name, extra = tree.pop("/bin/x")
    tree = {**tree, "/bin/x": program(name, interpreter=MUSL_LOADER, **extra)}
    assert found(run(tmp_path, tree, base=MUSL, **more), "liba.so") == where


def test_musl_inherits_runpath_and_is_its_own_c_library(tmp_path):
    tree = {
        "/bin/x": program("libb.so", "libc.so", "libpthread.so.0", interpreter=MUSL_LOADER, runpath="$ORIGIN/../opt"),
        "/opt/libb.so": library("libb.so", "liba.so", needs={"liba.so": ("NO_1",)}),
        "/opt/liba.so": library("liba.so", defines=("A_1",)),
    }
    process = run(tmp_path, tree, base=MUSL)
    assert found(process, "liba.so") == "/bin/../opt/liba.so"
    assert found(process, "libc.so") == MUSL_LOADER
    assert (process.missing, process.bad_versions) == ([], [])


def test_configuration_is_read_with_includes(tmp_path):
    root = RootFileSystem(
        plant(
            tmp_path / "r",
            {
                "/etc/ld.so.conf": b"include ld.so.conf.d/*.conf # all\n/opt/one=libc6\n\thwcap 1 x\nrelative\n",
                "/etc/ld.so.conf.d/b.conf": b"/opt/b\n",
                "/etc/ld.so.conf.d/a.conf": b"# comment\n  /opt/a  \ninclude /etc/ld.so.conf\ninclude /none/*\n",
            },
        )
    )
    assert configured_folders(root) == ("/opt/a", "/opt/b", "/opt/one")


def test_built_in_folders_are_read_from_loader(tmp_path):
    own = LD_SO + b"\0/lib/odd/\0/usr/lib/odd/\0/lib/\0/usr/lib/\0rest"
    root = RootFileSystem(plant(tmp_path / "r", {"/ld.so": own, "/none.so": LD_SO}))
    elf = ElfReader().read(root, "/none.so")
    assert isinstance(elf, Elf)
    assert built_in_folders(root, "/ld.so", abi_of(elf)) == ("/lib/odd", "/usr/lib/odd", "/lib", "/usr/lib")
    assert built_in_folders(root, "/none.so", abi_of(elf))[0] == "/lib/x86_64-linux-gnu"


RISCV64 = 243
MACHINES = {
    "i386": ({"bits": 32, "machine": I386}, "/lib/ld-linux.so.2", "i386-linux-gnu", "i386", "i686"),
    "arm64": ({"machine": ARM64}, "/lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu", "aarch64", "aarch64"),
    "armhf": (
        {"bits": 32, "machine": ARM, "flags": 0x400},
        "/lib/ld-linux-armhf.so.3",
        "arm-linux-gnueabihf",
        "armhf",
        "v7l",
    ),
    "armel": (
        {"bits": 32, "machine": ARM, "flags": 0x200},
        "/lib/ld-linux.so.3",
        "arm-linux-gnueabi",
        "arm",
        "v5l",
    ),
    "riscv64": (
        {"machine": RISCV64},
        "/lib/ld-linux-riscv64-lp64d.so.1",
        "riscv64-linux-gnu",
        "riscv64",
        "",
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_machines_have_their_own_loader_and_folders(tmp_path, name):
    kind, loader, triplet, _, platform = MACHINES[name]
    other = library("liba.so")  # amd64's
    tree = {
        loader: library(loader.rpartition("/")[2], **kind),
        "/bin/x": program("liba.so", "libb.so", "libc.so", runpath="/o/$LIB/$PLATFORM", interpreter=loader, **kind),
        f"/o/lib/{triplet}/{platform}/libb.so": library("libb.so", **kind),
        f"/lib/{triplet}/liba.so": other,
        f"/usr/lib/{triplet}/liba.so": library("liba.so", **kind),
        f"/usr/lib/{triplet}/libc.so": library("libc.so", "libd.so", **kind),
        "/usr/lib/libd.so": library("libd.so", **kind),
    }
    process = run(tmp_path, tree, base={})
    assert (process.abi.name, process.interpreter_found) == (name, True)
    assert process.missing == []
    assert found(process, "liba.so") == f"/usr/lib/{triplet}/liba.so"
    assert found(process, "libb.so") == _joined(f"/o/lib/{triplet}", platform, "libb.so")
    assert found(process, "libd.so") == "/usr/lib/libd.so"


def _joined(*parts):
    return "/".join(part for part in parts if part)


@pytest.mark.parametrize("name", MACHINES)
def test_machines_have_their_own_musl_loader(tmp_path, name):
    kind, _, _, musl, _ = MACHINES[name]
    loader = f"/lib/ld-musl-{musl}.so.1"
    tree = {
        loader: library(f"libc.musl-{musl}.so.1", **kind),
        f"/etc/ld-musl-{musl}.path": b"/a\n/b",
        "/bin/x": program("liba.so", f"libc.musl-{musl}.so.1", interpreter=loader, **kind),
        "/b/liba.so": library("liba.so", f"libc.musl-{musl}.so.1", **kind),
    }
    process = run(tmp_path, tree, base={})
    assert [one.path for one in process.objects] == ["/bin/x", loader, "/b/liba.so"]
    assert process.missing == []


MERGED = {
    **{link: f"usr{link}" for link in ("/bin", "/lib", "/lib64")},
    "/usr/lib64/ld-linux-x86-64.so.2": LD_SO,
    f"{LIB}/libc.so.6": GLIBC["/lib/x86_64-linux-gnu/libc.so.6"],
    f"{LIB}/liba.so.1": "liba.so.1.2",
    f"{LIB}/liba.so.1.2": library("liba.so.1", "libc.so.6"),
    "/usr/bin/x": program("liba.so.1", "/lib/x86_64-linux-gnu/liba.so.1", "libc.so.6"),
}


def test_merged_usr_file_is_single_object_by_any_path(tmp_path):
    process = run(tmp_path, MERGED, path="/usr/bin/x", base={})
    assert process.missing == []
    assert [one.file for one in process.objects] == [
        "/usr/bin/x",
        "/usr/lib64/ld-linux-x86-64.so.2",
        f"{LIB}/liba.so.1.2",
        f"{LIB}/libc.so.6",
    ]


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"bits": 32, "machine": I386}, "i386"),
        ({"machine": ARM64}, "arm64"),
        ({"bits": 32, "machine": ARM, "flags": 0x400}, "armhf"),
        ({"bits": 32, "machine": ARM, "flags": 0x200}, "armel"),
        ({"bits": 32, "machine": ARM, "interpreter": "/lib/ld-linux.so.3"}, "armel"),
        ({"bits": 32}, "x32"),
        ({"machine": 243}, "riscv64"),
        ({"machine": 22, "little": False}, "s390x"),
        ({"machine": 4242, "little": False}, "machine-4242-64-big"),
    ],
)
def test_interface_of_machine_is_recognised(tmp_path, more, name):
    elf = ElfReader().read(RootFileSystem(plant(tmp_path / "r", {"/x": build_elf(**more)})), "/x")
    assert isinstance(elf, Elf)
    assert abi_of(elf).name == name


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("libc.so.6", True),
        ("libm.so.6", True),
        ("ld-linux-x86-64.so.2", True),
        ("libnss_files.so.2", True),
        ("/lib/ld-musl-aarch64.so.1", True),
        ("libpthread.so.0", True),
        ("libc.musl-x86_64.so.1", True),
        ("ld-linux-riscv64-lp64d.so.1", True),
        ("libnsl.so.1", True),
        ("libc-2.31.so", True),
        ("libcrypt.so.1", False),
        ("libnsl.so.2", False),
        ("libnss3.so", False),
        ("libgcc_s.so.1", False),
        ("libstdc++.so.6", False),
        ("libcap.so.2", False),
        ("libcurl.so.4", False),
        ("libc.so", False),
    ],
)
def test_c_library_members_are_recognised(name, belongs):
    assert is_c_library(name) is belongs
