"""Records of packages in the result, and the bill of materials, checked by the structure of SPDX 2.3."""

from __future__ import annotations

import hashlib
import json
import os
import re

import pytest

from chainbuild.minimize.__main__ import main
from chainbuild.minimize.packages import Package, owned
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.sbom import System, image_sbom, package_url
from tests.support.elf_builder import plant
from tests.unit.minimize.packed import CHAIN, PRODUCTION, run, stanza


def test_records_list_packages_in_status_d(tmp_path):
    out, _ = run(tmp_path, more=["--strip", "1"])
    folder = out / "var/lib/dpkg/status.d"
    assert sorted(os.listdir(folder)) == ["liba1", "liba1.md5sums"]  # python is the production image's own
    assert (folder / "liba1").read_bytes() == stanza("liba1", "1:2.0+b1")[:-1]
    there = hashlib.md5((out / "usr/local/lib/liba.so.1").read_bytes()).hexdigest()
    assert (folder / "liba1.md5sums").read_text() == f"{there}  usr/local/lib/liba.so.1\n"
    assert (out / "usr/share/doc/liba1/copyright").read_bytes() == b"licence"
    assert not (out / "var/lib/dpkg/status").exists()
    ownership = owned(RootFileSystem(str(out)))
    assert ownership.owner("/usr/local/lib/liba.so.1") == "deb:liba1:amd64"


def test_records_list_other_version_next_to_production_package(tmp_path):
    production = {**PRODUCTION, "/var/lib/dpkg/status": stanza("python", "3.10") + stanza("liba1", "1:2.0+b1")}
    out, _ = run(tmp_path, production=production)
    assert sorted(os.listdir(out / "var/lib/dpkg/status.d")) == ["python", "python.md5sums"]
    (out / "var/lib/dpkg/status").write_bytes(production["/var/lib/dpkg/status"])
    ownership = owned(RootFileSystem(str(out)))
    assert sorted(ownership.packages)[:3] == ["deb:liba1:amd64", "deb:python:amd64", "deb:python:amd64@3.11"]
    assert ownership.owner("/usr/bin/python3.11") == "deb:python:amd64@3.11"


@pytest.mark.parametrize(
    "kept",
    [
        "/usr/share/doc/python",
        "/usr/share/doc/liba1",
        "/usr/share/doc/liba-common",
        "/usr/share/doc",
        "/var/lib/dpkg",
        "/var/lib/dpkg/status.d",
        "/usr/share/doc/liba1/copyright",
    ],
)
def test_records_do_not_replace_kept_files(tmp_path, kept):
    """The stage used to fail with "File exists" if a kept folder contained a licence that a record adds too."""
    chain = {
        **CHAIN,
        "/var/lib/dpkg/status.d/liba1": stanza("liba1", "1:2.0+b1"),
        "/usr/share/doc/python/more": "copyright",
    }
    production = {**PRODUCTION, "/var/lib/dpkg/status": b""}
    out, _ = run(tmp_path, chain, production, more=["--additional-files", kept])
    assert (out / "usr/share/doc/liba1/copyright").read_bytes() == b"licence"
    assert (out / "usr/share/doc/python/copyright").read_bytes() == b"python's"
    assert (out / "var/lib/dpkg/status.d/liba1").exists()


def test_records_follow_link_of_production(tmp_path):
    production = {**PRODUCTION, "/usr/share/doc": "../../srv/doc", "/srv/doc/liba1": "/srv/nowhere"}
    out, _ = run(tmp_path, production=production)
    assert (out / "srv/nowhere/copyright").read_bytes() == b"licence"


def test_records_add_os_release_missing_in_production(tmp_path):
    out, _ = run(tmp_path, name="a")
    assert (out / "etc/os-release").read_bytes() == CHAIN["/etc/os-release"]
    own = {**PRODUCTION, "/usr/lib/os-release": b"ID=other\n"}
    out, _ = run(tmp_path, production=own, name="b")
    assert not (out / "etc/os-release").exists()
    out, _ = run(tmp_path, name="c", more=["--package-records", "0"])
    assert not (out / "etc/os-release").exists()


def test_records_are_turned_off_on_request(tmp_path):
    out, _ = run(tmp_path, more=["--package-records", "0"])
    assert not (out / "var").exists()
    assert not (out / "usr/share/doc").exists()


def check(document):
    """Check the rules of SPDX 2.3 that our documents could break (clauses 6 to 11 and the JSON schema)."""
    assert document["spdxVersion"] == "SPDX-2.3"
    assert document["dataLicense"] == "CC0-1.0"
    assert document["SPDXID"] == "SPDXRef-DOCUMENT"
    assert re.fullmatch(r"https://[\w./-]+", document["documentNamespace"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    assert all(re.match(r"(Tool|Person|Organization): ", one) for one in document["creationInfo"]["creators"])
    elements = [document, *document["packages"], *document["files"]]
    identities = [one["SPDXID"] for one in elements]
    assert len(set(identities)) == len(identities)
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", one) for one in identities)
    contained: dict[str, list[str]] = {}
    for relation in document["relationships"]:
        assert set(relation) == {"spdxElementId", "relationshipType", "relatedSpdxElement"}
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= set(identities)
        if relation["relationshipType"] == "CONTAINS":
            contained.setdefault(relation["spdxElementId"], []).append(relation["relatedSpdxElement"])
    assert any(one["relationshipType"] == "DESCRIBES" for one in document["relationships"])
    sums = {}
    for one in document["files"]:
        assert one["fileName"].startswith("./")
        values = {row["algorithm"]: row["checksumValue"] for row in one["checksums"]}
        assert re.fullmatch("[0-9a-f]{40}", values["SHA1"])
        assert re.fullmatch("[0-9a-f]{64}", values["SHA256"])
        sums[one["SPDXID"]] = values["SHA1"]
    for one in document["packages"]:
        assert one["name"]
        assert one["downloadLocation"] == "NOASSERTION"
        if one["filesAnalyzed"]:
            code = hashlib.sha1(
                "".join(sorted(sums[name] for name in contained[one["SPDXID"]] if name in sums)).encode()
            ).hexdigest()
            assert one["packageVerificationCode"]["packageVerificationCodeValue"] == code
        else:
            assert not set(contained.get(one["SPDXID"], ())) & set(sums)
        for reference in one.get("externalRefs", ()):
            assert reference["referenceCategory"] == "PACKAGE-MANAGER"
            assert re.fullmatch(r"pkg:(deb|apk|pypi)/\S+@\S+", reference["referenceLocator"])
    everywhere = [name for names in contained.values() for name in names]
    assert sorted(everywhere) == sorted(set(identities) - {"SPDXRef-DOCUMENT", "SPDXRef-image"})


def test_sbom_describes_minimized_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    out, document = run(tmp_path)
    check(document)
    assert document["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    rows = {one["name"]: one for one in document["packages"]}
    assert set(rows) == {"minimized", "liba1", "python", "One_x.y"}
    assert rows["liba1"]["externalRefs"][0]["referenceLocator"] == (
        "pkg:deb/debian/liba1@1:2.0%2Bb1?arch=amd64&distro=debian-12&upstream=src-liba1"
    )
    assert rows["liba1"]["supplier"] == "Organization: Some One (one@example.org)"
    assert rows["One_x.y"]["externalRefs"][0]["referenceLocator"] == "pkg:pypi/one-x-y@1.5"
    assert rows["One_x.y"]["licenseDeclared"] == "MIT OR Apache-2.0"
    sums = {one["fileName"]: one["checksums"][1]["checksumValue"] for one in document["files"]}
    assert (
        sums["./usr/local/lib/liba.so.1"] == hashlib.sha256((out / "usr/local/lib/liba.so.1").read_bytes()).hexdigest()
    )
    assert any("odd\\xff\nname" in name for name in sums)
    names = {path for path, node in RootFileSystem(str(out)).walk("/") if node.kind == "file"}
    assert len(sums) == len(names)


def test_sbom_is_reproducible(tmp_path):
    one, two = run(tmp_path, name="a"), run(tmp_path, name="b")
    assert one[1] == two[1]


def test_sbom_of_whole_root(tmp_path, capsys):
    root = plant(tmp_path / "r", CHAIN)
    document, unreadable = image_sbom(RootFileSystem(root), "here", None)
    check(document)
    assert unreadable == []
    assert {one["name"] for one in document["packages"]} == {"here", "liba1", "python", "unused", "One_x.y"}
    capsys.readouterr()
    assert main(["sbom", root, "--name", "here"]) == 0
    assert json.loads(capsys.readouterr().out) == document


@pytest.mark.parametrize(
    ("package", "url"),
    [
        (Package(kind="deb", name="g++", version="4:12~x"), "pkg:deb/debian/g%2B%2B@4:12~x?distro=debian-12"),
        (
            Package(kind="apk", name="musl", version="1-r0", arch="x86_64"),
            "pkg:apk/debian/musl@1-r0?arch=x86_64&distro=debian-12",
        ),
    ],
)
def test_package_url_of_each_kind(package, url):
    assert package_url(package, System(name="debian", version="12")) == url
