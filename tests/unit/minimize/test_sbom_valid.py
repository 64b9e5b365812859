"""Bills of materials under SPDX's own validator: the whole specification, not only the form of the JSON."""

from __future__ import annotations

import json

import pytest
from spdx_tools.spdx.model.document import Document
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from chainbuild.minimize.__main__ import main
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.sbom import image_sbom
from tests.support.elf_builder import plant
from tests.unit.minimize.packed import CHAIN, run

NAME = "team/atom@sha256:" + "ab" * 32


def parsed(document: dict[str, object]) -> Document:
    """Return the document as parsed by SPDX's tools, and fail with everything that they find wrong."""
    read: Document = JsonLikeDictParser().parse(document)
    wrong = [f"{one.context.spdx_id}: {one.validation_message}" for one in validate_full_spdx_document(read)]
    assert wrong == []
    return read


def test_sbom_of_whole_image_is_valid(tmp_path):
    document, _ = image_sbom(RootFileSystem(plant(tmp_path / "r", CHAIN)), NAME, 0)
    read = parsed(document)
    assert {package.name for package in read.packages} == {"team/atom", "liba1", "python", "unused", "One_x.y"}
    assert len(read.files) > len(read.packages)


def test_sbom_of_minimized_files_is_valid(tmp_path):
    _, document = run(tmp_path)
    assert {package.name for package in parsed(document).packages} == {"minimized", "liba1", "python", "One_x.y"}


def test_sbom_of_empty_image_is_valid(tmp_path):
    parsed(image_sbom(RootFileSystem(plant(tmp_path / "r", {})), "nothing", None)[0])


def test_sbom_identifies_pinned_image(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    root = plant(tmp_path / "r", CHAIN)
    assert main(["sbom", root, "--name", NAME]) == 0
    image = json.loads(capsys.readouterr().out)["packages"][0]
    assert (image["name"], image["versionInfo"]) == ("team/atom", "sha256:" + "ab" * 32)
    assert image["externalRefs"][0]["referenceLocator"] == f"pkg:oci/atom@sha256%3A{'ab' * 32}"
    assert main(["sbom", root]) == 0
    plain = json.loads(capsys.readouterr().out)["packages"][0]
    assert "versionInfo" not in plain
    assert "externalRefs" not in plain


def test_validator_rejects_invalid_document(tmp_path):
    document, _ = image_sbom(RootFileSystem(plant(tmp_path / "r", CHAIN)), NAME, 0)
    document["packages"][0]["SPDXID"] = "no identifier"
    with pytest.raises(AssertionError, match="SPDXRef"):
        parsed(document)
