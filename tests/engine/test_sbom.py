"""`chainbuild sbom`: attached to results as a referrer, and created on demand for other images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from chainbuild.registry.images import read_index
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import referrers_tag, subject_of
from chainbuild.values import replace

from .conftest import OTHER, OWN, Done, Lay, Place, push_files

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def place(lay_once: Lay) -> Place:
    """The case `tiny`, built."""
    place = lay_once("tiny")
    place.build("tiny")
    return place


def sbom(place: Place, name: str, *flags: str) -> Done:
    return place.run("sbom", name, *flags, "--registry", place.host)


def valid(text: str | bytes) -> dict[str, Any]:
    """Return the document after SPDX's own tools have validated it."""
    document: dict[str, Any] = json.loads(text)
    packages = [package for package in document["packages"] if package["SPDXID"] == "SPDXRef-image"]
    assert len(packages) == 1
    # Validating thousands of files takes minutes: check the schema of all, and the rules for image and packages only.
    small = document | {
        "files": [],
        "relationships": [one for one in document["relationships"] if "SPDXRef-File" not in one["relatedSpdxElement"]],
    }
    assert validate_full_spdx_document(JsonLikeDictParser().parse(small)) == []
    JsonLikeDictParser().parse(document)
    return document


def test_sbom_of_result_is_attached_and_read_without_an_engine(place: Place, tmp_path: Path) -> None:
    image = place.image(f"v1-tiny-{OWN}")
    with Registries() as registries:
        index = read_index(registries, place.name(referrers_tag(image.digest)))
    assert index is not None
    assert [row.artifact_type for row in index.manifests].count("application/spdx+json") == 1
    away = tmp_path / "away"
    away.mkdir()
    elsewhere = replace(place, root=away, home=tmp_path / "home", environ={"DOCKER_HOST": "tcp://127.0.0.1:9"})
    done = sbom(elsewhere, f"{place.host}/{place.repo}:v1-tiny-{OWN}")
    assert done.code == 0, done.told()
    document = valid(done.out)
    assert document["packages"][0]["name"] == place.name("v1").repository
    assert document["packages"][0]["versionInfo"] == str(image.digest)
    names = {package["name"] for package in document["packages"]}
    assert {"libc6", "base-files"} <= names
    files = {row["fileName"] for row in document["files"]}
    assert "./usr/local/bin/tool" in files
    assert "./opt/compiler/big" not in files
    index_done = sbom(elsewhere, f"{place.host}/{place.repo}:v1-tiny", "-o", "bill.json")
    assert index_done.code == 0, index_done.told()
    assert (away / "bill.json").read_text(encoding="utf-8") == done.out


def test_sbom_of_other_image_is_created_without_emulation(place: Place) -> None:
    push_files(f"{place.host}/{place.repo}:theirs", {"/opt/file": b"theirs", "/etc/os-release": b"ID=other\n"}, OTHER)
    done = sbom(place, f"{place.host}/{place.repo}:theirs", "--platform", OTHER)
    assert done.code == 0, done.told()
    document = valid(done.out)
    assert [row["fileName"] for row in document["files"]] == ["./etc/os-release", "./opt/file"]
    assert subject_of(referrers_tag(place.image("theirs", OTHER).digest)) is not None
    assert referrers_tag(place.image("theirs", OTHER).digest) not in place.tags(machine=True)


def test_missing_image_or_output_folder_is_reported(place: Place) -> None:
    missing = sbom(place, f"{place.host}/{place.repo}:none")
    assert missing.code == 4, missing.told()
    nowhere = sbom(place, f"{place.host}/{place.repo}:v1-tiny-{OWN}", "-o", "no/such/folder/x.json")
    assert nowhere.code == 2, nowhere.told()
    assert "cannot write" in nowhere.err


def test_gc_deletes_sbom_only_with_its_image(place: Place) -> None:
    first = place.image(f"v1-tiny-{OWN}").digest
    (place.root / "files" / "greeting").write_text("good day\n", encoding="utf-8")
    place.build("tiny", tag="v2")
    second = place.image(f"v2-tiny-{OWN}").digest
    assert {referrers_tag(first), referrers_tag(second)} <= set(place.tags(machine=True))
    done = place.run("registry", "gc", place.repo, "--keep", "1", "--delete", "--registry", place.host)
    assert done.code == 0, done.told()
    tags = set(place.tags(machine=True))
    assert referrers_tag(second) in tags
    assert referrers_tag(first) not in tags
    assert sbom(place, f"{place.host}/{place.repo}:v2-tiny-{OWN}").code == 0
    listed = place.run("registry", "ls", place.repo, "--registry", place.host)
    assert "sha256-" not in listed.out
