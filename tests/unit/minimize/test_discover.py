"""What programs load by name in small chain roots: what is kept, and what is reported."""

from __future__ import annotations

import json

import pytest

from chainbuild.minimize.discover import MinimizeArgs, services_in
from chainbuild.minimize.job import Order, pack
from chainbuild.minimize.notices import texts
from chainbuild.minimize.plugins import libraries_in
from chainbuild.minimize.report import minimize_report
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.scripts import interpreters_of
from tests.support.elf_builder import GLIBC, LD_SO, LOADER, library, plant, program

LIB = "/usr/lib/x86_64-linux-gnu"
OPENS = b"\0libplug.so.2\0"


def job(tmp_path, chain, production=GLIBC, additional=(), **options):
    order = Order(
        chain=plant(tmp_path / "chain", {**GLIBC, **chain}),
        production=plant(tmp_path / "production", production),
        output=str(tmp_path / "out"),
        additional_files=additional,
        arguments=MinimizeArgs(**options),
    )
    report = minimize_report(pack(order))
    walk = RootFileSystem(order.output).walk("/")
    files = {path for path, node in walk if node.kind != "dir"} - {"/etc/ld.so.cache"}
    return files, report, [(row["name"], row["kind"], row["state"]) for row in report["opened"]]


NAMED = {
    "/usr/local/bin/x": program("liba.so.1", tail=OPENS + b"\0libnone.so\0\0libc.so.6\0\0not a lib.so\0\0/%s/b.so\0"),
    f"{LIB}/liba.so.1": library("liba.so.1", tail=b"\0libdeep.so\0"),
    f"{LIB}/libplug.so.2": library("libplug.so.2", "libmore.so"),
    f"{LIB}/libmore.so": library("libmore.so"),
    f"{LIB}/libdeep.so": library("libdeep.so"),
}


def test_library_named_in_data_is_reported_and_not_kept(tmp_path):
    files, report, opened = job(tmp_path, NAMED)
    assert files == {"/usr/local/bin/x", "/usr/local/lib/liba.so.1"}
    assert opened == [("libdeep.so", "dlopen", "left"), ("libplug.so.2", "dlopen", "left")]
    assert texts(report["warnings"]) == [
        "libraries named in program data are left out (KEEP_DLOPEN=1 keeps them): libdeep.so, libplug.so.2"
    ]


def test_library_named_in_data_is_kept_with_needs_on_request(tmp_path):
    files, report, opened = job(tmp_path, NAMED, keep_dlopen=True)
    names = ("liba.so.1", "libplug.so.2", "libmore.so", "libdeep.so")
    assert files == {"/usr/local/bin/x", *(f"/usr/local/lib/{name}" for name in names)}
    assert {state for _, _, state in opened} == {"kept"}
    assert texts(report["warnings"]) == []


def test_library_of_production_is_not_kept(tmp_path):
    production = {**GLIBC, f"{LIB}/libplug.so.2": library("libplug.so.2"), f"{LIB}/liba.so.1": library("liba.so.1")}
    files, _, opened = job(tmp_path, NAMED, production, keep_dlopen=True)
    assert files == {"/usr/local/bin/x"}
    assert opened == [("libplug.so.2", "dlopen", "production")]


def test_original_names_of_wheel_libraries_are_ignored(tmp_path):
    chain = {
        "/usr/local/bin/x": program("liba-0a1b2c3d-11223344.so.1", tail=b"\0liba.so.1\0", runpath="/opt/l"),
        "/opt/l/liba-0a1b2c3d-11223344.so.1": library("liba-0a1b2c3d-11223344.so.1"),
        f"{LIB}/liba.so.1": library("liba.so.1"),
    }
    assert job(tmp_path, chain)[2] == []


GIO = {
    "/usr/local/bin/x": program("libgio-2.0.so.0"),
    f"{LIB}/libgio-2.0.so.0": "libgio-2.0.so.0.7",
    f"{LIB}/libgio-2.0.so.0.7": library("libgio-2.0.so.0"),
    f"{LIB}/gio/modules/libtls.so": library("libtls.so", "libgnutls.so"),
    f"{LIB}/gio/modules/giomodule.cache": b"",
    f"{LIB}/libgnutls.so": library("libgnutls.so"),
    f"{LIB}/gdk-pixbuf-2.0/loaders.cache": b"",
    f"{LIB}/qt5/plugins/platforms/libqxcb.so": library("libqxcb.so"),
}


def test_plugins_are_kept_only_with_library_that_loads_them(tmp_path):
    files, report, _ = job(tmp_path, GIO)
    assert files == {
        "/usr/local/bin/x",
        "/usr/local/lib/libgio-2.0.so.0",
        "/usr/local/lib/libgnutls.so",
        f"{LIB}/gio/modules/libtls.so",
        f"{LIB}/gio/modules/giomodule.cache",
    }
    row = next(row for row in report["files"] if row["path"].endswith("libtls.so"))
    assert row["because"] == f"{LIB}/libgio-2.0.so.0.7"
    assert row["reason"] == f"GIO modules, which {LIB}/libgio-2.0.so.0.7 loads"


def test_plugins_are_only_reported_if_turned_off(tmp_path):
    files, report, opened = job(tmp_path, GIO, keep_plugins=False)
    assert files == {"/usr/local/bin/x", "/usr/local/lib/libgio-2.0.so.0"}
    assert opened == [(f"{LIB}/gio/modules", "plugin", "left")]
    assert any("GIO modules" in line for line in texts(report["warnings"]))


def test_production_library_uses_its_own_plugins(tmp_path):
    files, _, opened = job(tmp_path, GIO, {**GLIBC, f"{LIB}/libgio-2.0.so.0": library("libgio-2.0.so.0")})
    assert (files, opened) == ({"/usr/local/bin/x"}, [])


def icd(path: str) -> bytes:
    return json.dumps({"file_format_version": "1.0.0", "ICD": {"library_path": path}}).encode()


def test_glvnd_and_vulkan_manifests_bring_their_libraries(tmp_path):
    chain = {
        "/usr/local/bin/gl": program("libEGL.so.1", "libvulkan.so.1", "libGLX.so.0"),
        f"{LIB}/libEGL.so.1": library("libEGL.so.1"),
        f"{LIB}/libGLX.so.0": library("libGLX.so.0"),
        f"{LIB}/libGLX_mesa.so.0": library("libGLX_mesa.so.0"),
        f"{LIB}/libvulkan.so.1": library("libvulkan.so.1"),
        f"{LIB}/libEGL_mesa.so.0": library("libEGL_mesa.so.0", "libgbm.so.1"),
        f"{LIB}/libgbm.so.1": library("libgbm.so.1"),
        f"{LIB}/dri/swrast_dri.so": library("swrast_dri.so", "libLLVM.so"),
        f"{LIB}/libLLVM.so": library("libLLVM.so"),
        f"{LIB}/libvulkan_lvp.so": library("libvulkan_lvp.so"),
        f"{LIB}/libvulkan_other.so": library("libvulkan_other.so"),
        "/usr/share/glvnd/egl_vendor.d/50_mesa.json": icd("libEGL_mesa.so.0"),
        "/usr/share/vulkan/icd.d/lvp.json": icd(f"{LIB}/libvulkan_lvp.so"),
        "/usr/share/vulkan/icd.d/odd.json": b"{" * 9000,
    }
    files, _, _ = job(tmp_path, chain)
    assert files == {
        "/usr/local/bin/gl",
        f"{LIB}/dri/swrast_dri.so",
        f"{LIB}/libvulkan_lvp.so",
        "/usr/share/glvnd/egl_vendor.d/50_mesa.json",
        "/usr/share/vulkan/icd.d/lvp.json",
        "/usr/share/vulkan/icd.d/odd.json",
        *(
            f"/usr/local/lib/{name}"
            for name in (
                "libEGL.so.1",
                "libGLX.so.0",
                "libGLX_mesa.so.0",
                "libvulkan.so.1",
                "libEGL_mesa.so.0",
                "libgbm.so.1",
                "libLLVM.so",
            )
        ),
    }


@pytest.mark.parametrize(
    ("manifest", "names"),
    [
        (icd("libx.so"), ("libx.so",)),
        (b'{"layers": [{"library_path": "./liby.so"}, 3, {}]}', ("./liby.so",)),
        (b'\xef\xbb\xbf{"layer": {"library_path": 7}}', ()),
        (b"# cl\nlibpocl.so.2\n\n", ("libpocl.so.2",)),
        (b"{", ()),
        (b"", ()),
    ],
)
def test_manifest_library_names_are_parsed(manifest, names):
    assert libraries_in(manifest) == names


OLD = {LOADER: LD_SO, "/lib/x86_64-linux-gnu/libc.so.6": library("libc.so.6", defines=("GLIBC_2.28",))}
NSS = {
    "/usr/local/bin/x": program("libc.so.6"),
    "/lib/x86_64-linux-gnu/libnss_files.so.2": library("libnss_files.so.2"),
    "/lib/x86_64-linux-gnu/libnss_dns.so.2": library("libnss_dns.so.2"),
    "/lib/x86_64-linux-gnu/libnss_sss.so.2": library("libnss_sss.so.2"),
    "/etc/nsswitch.conf": b"passwd: files sss\nhosts: files [NOTFOUND=return] dns # mdns\n",
}


def nss(files):
    return {path.rpartition("/")[2] for path in files if "libnss" in path}


def test_name_services_are_kept_with_c_library(tmp_path):
    bare = {"/etc/hostname": b""}
    assert nss(job(tmp_path / "a", {**NSS, **OLD}, bare)[0]) == {"libnss_files.so.2", "libnss_dns.so.2"}
    new = {"/lib/x86_64-linux-gnu/libc.so.6": library("libc.so.6", defines=("GLIBC_2.34",))}
    assert nss(job(tmp_path / "b", {**NSS, **new}, bare)[0]) == set()
    files, _, _ = job(tmp_path / "c", {**NSS, **new}, bare, additional=("/etc/nsswitch.conf",))
    assert nss(files) == {"libnss_sss.so.2"}


def test_c_library_of_production_gets_no_foreign_modules(tmp_path):
    files, _, opened = job(tmp_path, NSS, additional=("/etc/nsswitch.conf",))
    assert nss(files) == set()
    assert opened == []


def test_unwinder_is_kept_only_with_c_library(tmp_path):
    chain = {**NSS, "/lib/x86_64-linux-gnu/libgcc_s.so.1": library("libgcc_s.so.1", "libc.so.6")}
    files, _, opened = job(tmp_path / "a", chain, {"/etc/hostname": b""})
    assert "/usr/local/lib/libgcc_s.so.1" in files
    assert ("libgcc_s.so.1", "surroundings", "kept") in opened
    files, _, opened = job(tmp_path / "b", chain)
    assert (files, opened) == ({"/usr/local/bin/x"}, [])
    files, report, _ = job(tmp_path / "c", chain, {"/etc/hostname": b""}, keep_surroundings=False)
    assert "/usr/local/lib/libgcc_s.so.1" not in files
    assert any("libgcc_s.so.1" in line and "left out" in line for line in texts(report["warnings"]))


def test_services_are_read_from_nsswitch():
    text = b"passwd: files sss\nhosts: files mdns4_minimal [NOTFOUND=return] dns\n# shadow: nis\nnothing\n"
    assert services_in(text) == ("files", "sss", "mdns4_minimal", "dns")


SCRIPTS = {
    "/bin": "usr/bin",
    "/usr/bin/sh": "dash",
    "/usr/bin/dash": program("libedit.so"),
    f"{LIB}/libedit.so": library("libedit.so"),
    "/usr/bin/perl": program(),
    "/usr/bin/env": program(),
    "/usr/local/bin/tool": b"#!/bin/sh\n",
    "/usr/local/bin/env": b"#!/usr/bin/env perl\n",
    "/usr/local/bin/none": b"#!/usr/bin/none\n",
}


def test_interpreters_are_reported_or_kept_on_request(tmp_path):
    bare = {"/lib64/ld-linux-x86-64.so.2": LD_SO}
    files, report, opened = job(tmp_path / "a", SCRIPTS, bare)
    assert opened == [
        ("/usr/bin/env", "interpreter", "left"),
        ("perl", "interpreter", "left"),
        ("/bin/sh", "interpreter", "left"),
    ]
    assert len(report["scripts"]) == 3
    files, report, opened = job(tmp_path / "b", SCRIPTS, bare, keep_interpreters=True)
    assert {"/bin", "/usr/bin/sh", "/usr/bin/dash", "/usr/bin/perl", "/usr/bin/env"} <= files
    assert "/usr/local/lib/libedit.so" in files
    assert {state for _, _, state in opened} == {"kept"}
    assert report["scripts"] == {"/usr/local/bin/none": "/usr/bin/none"}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("#!/bin/sh -e", ("/bin/sh",)),
        ("#! /usr/bin/python3", ("/usr/bin/python3",)),
        ("#!/usr/bin/env python3", ("/usr/bin/env", "python3")),
        ("#!/usr/bin/env -S python3 -u", ("/usr/bin/env", "python3")),
        ("#!/usr/bin/env -Spython3 -u", ("/usr/bin/env", "python3")),
        ("#!/usr/bin/env -vS A=1 -u B -C /tmp perl -w", ("/usr/bin/env", "perl")),
        ("#!/usr/bin/env --split-string=ruby -w", ("/usr/bin/env", "ruby")),
        ("#!/usr/bin/env -i", ("/usr/bin/env",)),
        ("#!", ()),
        ("# no script", ()),
    ],
)
def test_interpreters_of_script_line(line, names):
    assert interpreters_of(f"{line}\nrest\n".encode()) == names


LOADS = [
    ("libEGL.so.1", "/etc/glvnd/egl_vendor.d/10_x.json", None),
    ("libGLX.so.0", None, "libGLX_x.so.0"),
    ("libGLX_mesa.so.0", "{lib}/dri/swrast_dri.so", None),
    ("libgbm.so.1", "{lib}/gbm/dri_gbm.so", None),
    ("libvulkan.so.1", "/etc/vulkan/implicit_layer.d/x.json", None),
    ("libOpenCL.so.1", "/etc/OpenCL/vendors/x.icd", None),
    ("libgdk_pixbuf-2.0.so.0", "{lib}/gdk-pixbuf-2.0/2.10.0/loaders/libpixbufloader-svg.so", None),
    ("libgdk_pixbuf-2.0.so.0", "{lib}/gdk-pixbuf-2.0/2.10.0/loaders.cache", None),
    ("libgio-2.0.so.0", "{lib}/gio/modules/libdconfsettings.so", None),
    ("libgirepository-1.0.so.1", "{lib}/girepository-1.0/Gtk-3.0.typelib", None),
    ("libgtk-3.so.0", "{lib}/gtk-3.0/3.0.0/immodules/im-xim.so", None),
    ("libQt5Gui.so.5", "{lib}/qt5/plugins/platforms/libqxcb.so", None),
    ("libQt5Sql.so.5", "{lib}/qt5/plugins/sqldrivers/libqsqlite.so", None),
    ("libQt6Gui.so.6", "{lib}/qt6/plugins/imageformats/libqjpeg.so", None),
    ("libQt6Network.so.6", "{lib}/qt6/plugins/tls/libqopensslbackend.so", None),
    ("libgstreamer-1.0.so.0", "{lib}/gstreamer-1.0/libgstcoreelements.so", None),
    ("libasound.so.2", "{lib}/alsa-lib/libasound_module_pcm_pulse.so", None),
    ("libMagickCore-6.Q16.so.6", "{lib}/ImageMagick-6.9.11/modules-Q16/coders/png.so", None),
]


@pytest.mark.parametrize(("loader", "file", "by_name"), LOADS)
def test_loaders_bring_their_plugins(tmp_path, loader, file, by_name):
    there = file.replace("{lib}", LIB) if file else f"{LIB}/{by_name}"
    content = library(by_name or "plug.so", "libdeep.so") if by_name or there.endswith(".so") else b"words"
    chain = {
        "/usr/local/bin/x": program(loader),
        f"{LIB}/{loader}": library(loader),
        f"{LIB}/libdeep.so": library("libdeep.so"),
        there: content,
    }
    files, report, opened = job(tmp_path, chain)
    assert (f"/usr/local/lib/{by_name}" if by_name else there) in files
    assert ("/usr/local/lib/libdeep.so" in files) is (content != b"words")
    assert [state for _, kind, state in opened if kind == "plugin"] == ["kept"]
    assert all(row["why"] for row in report["opened"])
