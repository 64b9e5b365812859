"""What programs need around them: what the rules bring into small chain roots, and what they report."""

from __future__ import annotations

import re
import runpy

import pytest

from chainbuild.minimize.environment import locale_paths
from chainbuild.minimize.ground import Environment, MinimizeArgs
from chainbuild.minimize.job import Order, pack
from chainbuild.minimize.plugins import PLUGINS
from chainbuild.minimize.report import minimize_report
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.rules import BIG, Rule, Rules, filled
from chainbuild.minimize.surroundings import SURROUNDINGS
from tests.support.elf_builder import GLIBC, LD_SO, LOADER, library, plant, program

LIB = "/usr/lib/x86_64-linux-gnu"
BARE = {"/etc/hostname": b""}


def job(tmp_path, chain, production=GLIBC, *, additional=(), environment=None, **options):
    order = Order(
        chain=plant(tmp_path / "chain", {**GLIBC, **chain}),
        production=plant(tmp_path / "production", production),
        output=str(tmp_path / "out"),
        additional_files=additional,
        arguments=MinimizeArgs(**options),
        environment=environment or Environment(),
        package_records=False,
    )
    report = minimize_report(pack(order))
    walk = RootFileSystem(order.output).walk("/")
    files = {path for path, node in walk if node.kind != "dir"} - {"/etc/ld.so.cache"}
    return files, report


def fixes(report, kind="surroundings"):
    return [row["fix"] for row in report["warnings"] if row["kind"] == kind]


# The tables ---------------------------------------------------------------------------------------------------------


def test_rules_have_unique_name_trigger_subject_and_source():
    rules = (*PLUGINS, *SURROUNDINGS)
    assert len({rule.name for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.libraries or rule.programs or rule.imports or rule.mentions, rule.name
        assert rule.brings or rule.opens or rule.manifests or rule.named, rule.name
        assert all((rule.source, rule.what, rule.of)), rule.name


def test_page_of_rules_matches_tables(repository_root):
    done = runpy.run_path(str(repository_root / "docs" / "surroundings_page.py"))
    assert done["page"]() == (repository_root / "docs" / "surroundings.md").read_text(encoding="utf-8"), (
        "run: python docs/surroundings_page.py"
    )


def test_rules_use_only_defined_placeholders():
    for rule in (*PLUGINS, *SURROUNDINGS):
        groups = set(re.compile(rule.programs).groupindex) if rule.programs else set()
        known = {"lib", "triplet", *groups, *(("read",) if rule.reads else ())}
        for pattern in (*rule.brings, *rule.requires, *rule.manifests, *rule.opens):
            assert set(re.findall(r"\{(\w+)\}", pattern)) <= known, (rule.name, pattern)


def test_folder_with_wildcard_characters_is_literal():
    assert filled("{lib}/x*", "/opt/a[1]/b", {}) == "/opt/a\\[1]/x*"
    assert filled("{home}/x", "/opt/b", {"home": "/a*"}) == "/a\\*/x"


def test_program_rules_match_whole_path():
    rules = Rules(SURROUNDINGS)
    assert [rule.name for rule, _ in rules.of_program("/usr/bin/git")] == ["git"]
    assert rules.of_program("/usr/share/doc/git") == []
    assert rules.of_program("/usr/bin/git-lfs") == []


# OpenSSL ------------------------------------------------------------------------------------------------------------

SSL = (
    b'\0OPENSSLDIR: "/usr/lib/ssl"\0ENGINESDIR: "/usr/lib/x86_64-linux-gnu/engines-3"\0'
    b'MODULESDIR: "/usr/lib/x86_64-linux-gnu/ossl-modules"\0'
)
OPENSSL = {
    "/usr/local/bin/x": program("libssl.so.3"),
    f"{LIB}/libssl.so.3": library("libssl.so.3", "libcrypto.so.3"),
    f"{LIB}/libcrypto.so.3": library("libcrypto.so.3", tail=SSL),
    "/usr/lib/ssl/cert.pem": "/etc/pki/all.pem",
    "/usr/lib/ssl/certs": "/etc/pki/certs",
    "/usr/lib/ssl/openssl.cnf": "/etc/pki/openssl.cnf",
    "/usr/lib/ssl/misc/CA.pl": b"#!/usr/bin/perl\n",
    "/etc/pki/all.pem": b"all",
    "/etc/pki/openssl.cnf": b"",
    "/etc/pki/certs/one.pem": "/usr/share/ca-certificates/one.crt",
    "/usr/share/ca-certificates/one.crt": b"one",
    f"{LIB}/ossl-modules/legacy.so": library("legacy.so", "libcrypto.so.3"),
    f"{LIB}/engines-3/afalg.so": library("afalg.so", "libcrypto.so.3"),
}


def test_openssl_brings_folder_certificates_and_modules(tmp_path):
    files, report = job(tmp_path, OPENSSL)
    assert files == {
        "/usr/local/bin/x",
        "/usr/local/lib/libssl.so.3",
        "/usr/local/lib/libcrypto.so.3",
        "/usr/lib/ssl/cert.pem",
        "/usr/lib/ssl/certs",
        "/usr/lib/ssl/openssl.cnf",
        "/etc/pki/all.pem",
        "/etc/pki/openssl.cnf",
        "/etc/pki/certs/one.pem",
        "/usr/share/ca-certificates/one.crt",
        f"{LIB}/ossl-modules/legacy.so",
        f"{LIB}/engines-3/afalg.so",
    }
    row = next(row for row in report["files"] if row["path"] == "/usr/lib/ssl/cert.pem")
    assert row["reason"].startswith("OpenSSL's folder")
    assert row["because"] == f"{LIB}/libcrypto.so.3"


def test_openssl_of_production_gets_missing_certificates(tmp_path):
    there = {
        f"{LIB}/libssl.so.3": OPENSSL[f"{LIB}/libssl.so.3"],
        f"{LIB}/libcrypto.so.3": OPENSSL[f"{LIB}/libcrypto.so.3"],
    }
    files, _ = job(tmp_path, OPENSSL, {**GLIBC, **there, "/etc/pki/openssl.cnf": b"own"})
    assert {"/usr/lib/ssl/cert.pem", "/etc/pki/all.pem"} <= files
    assert "/etc/pki/openssl.cnf" not in files


def test_openssl_folder_is_read_from_library(tmp_path):
    chain = {
        "/usr/local/bin/x": program("libcrypto.so.1.1"),
        "/opt/ssl/lib/libcrypto.so.1.1": library("libcrypto.so.1.1", tail=b'\0OPENSSLDIR: "/opt/ssl/etc"\0'),
        "/etc/ld.so.conf.d/ssl.conf": b"/opt/ssl/lib\n",
        "/opt/ssl/etc/cert.pem": b"x",
    }
    assert "/opt/ssl/etc/cert.pem" in job(tmp_path, chain)[0]


@pytest.mark.parametrize("folder", [b"/usr/lib", b"/", b"/opt/../etc"])
def test_openssl_folder_of_whole_system_is_not_brought(tmp_path, folder):
    chain = {
        "/usr/local/bin/x": program("libcrypto.so.3"),
        f"{LIB}/libcrypto.so.3": library("libcrypto.so.3", tail=b'\0OPENSSLDIR: "' + folder + b'"\0'),
        "/etc/other/x": b"",
        "/usr/lib/other/x": b"",
    }
    files, _ = job(tmp_path, chain)
    assert files == {"/usr/local/bin/x", "/usr/local/lib/libcrypto.so.3"}


def test_disabled_surroundings_are_reported_with_fix_line(tmp_path):
    files, report = job(tmp_path, OPENSSL, keep_surroundings=False)
    assert files == {"/usr/local/bin/x", "/usr/local/lib/libssl.so.3", "/usr/local/lib/libcrypto.so.3"}
    assert fixes(report) == [
        "ADDITIONAL_FILES=/usr/lib/ssl",
        f"ADDITIONAL_FILES={LIB}/engines-3",
        f"ADDITIONAL_FILES={LIB}/ossl-modules",
    ]


# The unwinder ---------------------------------------------------------------------------------------------------------

GCC_S = {"/lib/x86_64-linux-gnu/libgcc_s.so.1": library("libgcc_s.so.1", "libc.so.6")}


def test_unwinder_is_kept_for_threads_on_image_with_c_library(tmp_path):
    chain = {"/usr/local/bin/x": program("libc.so.6", calls=["pthread_exit"]), **GCC_S}
    assert job(tmp_path / "a", chain)[0] == {"/usr/local/bin/x", "/usr/local/lib/libgcc_s.so.1"}
    plain = {**chain, "/usr/local/bin/x": program("libc.so.6", calls=["pthread_create"])}
    assert job(tmp_path / "b", plain)[0] == {"/usr/local/bin/x"}
    assert job(tmp_path / "c", chain, {**GLIBC, **GCC_S})[0] == {"/usr/local/bin/x"}


# Programs ---------------------------------------------------------------------------------------------------------------


def test_git_brings_its_commands_and_their_needs(tmp_path):
    chain = {
        "/usr/bin/git": program(),
        "/usr/lib/git-core/git-remote-http": program("libcurl.so.4"),
        "/usr/lib/git-core/git-remote-https": "git-remote-http",
        "/usr/share/git-core/templates/HEAD": b"",
        f"{LIB}/libcurl.so.4": library("libcurl.so.4"),
    }
    files, _ = job(tmp_path, chain, additional=("/usr/bin/git",))
    assert files == {*chain, "/usr/local/lib/libcurl.so.4"} - {f"{LIB}/libcurl.so.4"}


def test_java_behind_links_brings_home_without_sources(tmp_path):
    home = "/usr/lib/jvm/java-17"
    chain = {
        "/usr/bin/java": "/etc/alternatives/java",
        "/etc/alternatives/java": f"{home}/bin/java",
        f"{home}/bin/java": program("libjli.so", runpath="$ORIGIN/../lib"),
        f"{home}/lib/libjli.so": library("libjli.so"),
        f"{home}/lib/server/libjvm.so": library("libjvm.so"),
        f"{home}/lib/libjava.so": library("libjava.so", "libjvm.so"),
        f"{home}/lib/jvm.cfg": "/etc/java-17/jvm.cfg",
        f"{home}/lib/src.zip": b"",
        f"{home}/conf/security/java.security": "/etc/java-17/java.security",
        "/etc/java-17/jvm.cfg": b"-server KNOWN\n",
        "/etc/java-17/java.security": b"",
    }
    files, report = job(tmp_path, chain, additional=("/usr/bin/java",))
    assert files == set(chain) - {f"{home}/lib/src.zip"}
    assert report["warnings"] == []


def test_java_without_java_home_brings_nothing(tmp_path):
    chain = {"/opt/x/bin/java": b"#!/bin/sh\n", "/opt/x/lib/data": b""}
    assert job(tmp_path, chain, additional=("/opt/x/bin",))[0] == {"/opt/x/bin/java"}


def test_perl_brings_folders_named_in_its_data(tmp_path):
    named = b"\0/etc/perl\0/usr/share/perl/5.36\0/usr/share/perl5\0/usr/share/other\0"
    chain = {
        "/usr/bin/perl": program(tail=named),
        "/etc/perl/Net/x.pm": b"",
        "/usr/share/perl/5.36": "5.36.0",
        "/usr/share/perl/5.36.0/strict.pm": b"",
        "/usr/share/perl5/More.pm": b"",
        "/usr/share/other/x": b"",
    }
    files, _ = job(tmp_path, chain, additional=("/usr/bin/perl",))
    assert files == set(chain) - {"/usr/share/other/x"}


def test_virtual_environment_brings_standard_library(tmp_path):
    home = "/root/.local/share/uv/python/cpython-3.11"
    chain = {
        "/opt/venv/pyvenv.cfg": f"home = {home}/bin\nversion = 3.11.9\n".encode(),
        "/opt/venv/bin/python": f"{home}/bin/python3.11",
        f"{home}/bin/python3.11": program(),
        f"{home}/lib/python3.11/encodings/__init__.py": b"",
        f"{home}/lib/python3.11/config-3.11/Makefile": b"",
        f"{home}/share/man/x": b"",
    }
    files, _ = job(tmp_path, chain)
    assert files == set(chain) - {f"{home}/lib/python3.11/config-3.11/Makefile", f"{home}/share/man/x"}


def test_big_data_is_left_out_and_reported_with_size(tmp_path, monkeypatch):
    chain = {
        "/usr/local/bin/x": program("libtinfo.so.6"),
        f"{LIB}/libtinfo.so.6": library("libtinfo.so.6"),
        "/usr/share/terminfo/x/xterm": b"x" * 2000,
    }
    assert "/usr/share/terminfo/x/xterm" in job(tmp_path / "a", chain)[0]
    monkeypatch.setattr("chainbuild.minimize.applying.BIG", 1000)
    files, report = job(tmp_path / "b", chain)
    assert "/usr/share/terminfo/x/xterm" not in files
    (warning,) = report["warnings"]
    assert "2.0 kB" in warning["text"]
    assert warning["fix"] == "ADDITIONAL_FILES=/usr/share/terminfo"
    assert BIG > 1 << 20


def test_fonts_are_reported_and_configuration_is_brought(tmp_path):
    chain = {
        "/usr/local/bin/x": program("libfontconfig.so.1"),
        f"{LIB}/libfontconfig.so.1": library("libfontconfig.so.1"),
        "/etc/fonts/conf.d/10-x.conf": "/usr/share/fontconfig/conf.avail/10-x.conf",
        "/usr/share/fontconfig/conf.avail/10-x.conf": b"",
        "/usr/share/fonts/truetype/a.ttf": b"",
    }
    files, report = job(tmp_path / "a", chain)
    assert {"/etc/fonts/conf.d/10-x.conf", "/usr/share/fontconfig/conf.avail/10-x.conf"} <= files
    assert fixes(report) == ["ADDITIONAL_FILES=/usr/share/fonts"]
    files, report = job(tmp_path / "b", chain, additional=("/usr/share/fonts",))
    assert fixes(report) == []


# Character sets, locales, time zones ------------------------------------------------------------------------------------

GCONV = {
    "/usr/local/bin/x": program("libc.so.6", calls=["iconv_open"]),
    f"{LIB}/gconv/GB18030.so": library("GB18030.so"),
    f"{LIB}/gconv/gconv-modules.cache": b"",
}


def test_character_sets_are_brought_only_for_same_c_library(tmp_path):
    both = {f"{LIB}/gconv/GB18030.so", f"{LIB}/gconv/gconv-modules.cache"}
    assert both <= job(tmp_path / "a", GCONV, BARE)[0]
    assert both <= job(tmp_path / "b", GCONV)[0]
    other = {
        LOADER: LD_SO,
        "/lib/x86_64-linux-gnu/libc.so.6": library("libc.so.6", defines=("GLIBC_2.36", "GLIBC_2.40")),
    }
    assert not both & job(tmp_path / "c", GCONV, {**GLIBC, **other})[0]


LOCALES = {
    "/usr/local/bin/x": program("libc.so.6"),
    "/usr/lib/locale/C.utf8/LC_CTYPE": b"",
    "/usr/lib/locale/de_DE.utf8/LC_CTYPE": b"",
    "/usr/lib/locale/locale-archive": b"\x09\x01\x02\xde\0\0fr_FR.utf8\0de_AT.utf8\0\0",
    "/usr/share/zoneinfo/Europe/Berlin": b"TZif",
}


@pytest.mark.parametrize(
    ("environment", "kept"),
    [
        (Environment(lang="C.UTF-8"), {"/usr/lib/locale/C.utf8/LC_CTYPE"}),
        (Environment(lang="de_DE.UTF-8"), {"/usr/lib/locale/de_DE.utf8/LC_CTYPE"}),
        (Environment(lc_all="fr_FR.UTF-8"), {"/usr/lib/locale/locale-archive"}),
        (Environment(lang="C", lc_all="it_IT.UTF-8", time_zone="../../etc/shadow"), set()),
        (Environment(time_zone=":Europe/Berlin"), {"/usr/share/zoneinfo/Europe/Berlin"}),
        (Environment(lang="../../../etc"), set()),
    ],
)
def test_chain_environment_brings_locale_and_time_zone(tmp_path, environment, kept):
    files, _ = job(tmp_path, LOCALES, BARE, environment=environment)
    assert {path for path in files if path.startswith(("/usr/lib/locale", "/usr/share/zoneinfo"))} == kept


def test_locale_paths_of_invalid_name_are_empty(tmp_path):
    root = RootFileSystem(plant(tmp_path / "root", LOCALES))
    assert list(locale_paths(root, "de_DE@euro")) == []
    assert list(locale_paths(root, "")) == []
    assert list(locale_paths(root, "a" * 5000)) == []


def test_empty_production_image_gets_all_needs_of_program(tmp_path):
    chain = {
        "/usr/bin/x": program("libsasl2.so.2", "libc.so.6"),
        f"{LIB}/libsasl2.so.2": library("libsasl2.so.2", "libc.so.6"),
        f"{LIB}/sasl2/libplain.so": library("libplain.so"),
        **GCC_S,
    }
    files, report = job(tmp_path, chain, {}, additional=("/usr/bin/x",))
    assert {"/usr/bin/x", f"{LIB}/sasl2/libplain.so", "/lib/x86_64-linux-gnu/libc.so.6", LOADER} <= files
    assert report["errors"] == []


def test_library_rules_match_whole_name():
    rule = Rule(name="a", what="a", of="a", source="a", libraries="liba", brings=("/a",))
    assert Rules([rule]).of_library("liba") == [rule]
    assert Rules([rule]).of_library("liba2") == []
    assert Rules([]).of_program("/usr/bin/x") == []
