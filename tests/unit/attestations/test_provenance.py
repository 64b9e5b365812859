"""Provenance of a chain: held against the published definitions of in-toto and SLSA, and against what was built."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import resource_descriptor_pb2, statement, statement_pb2

from chainbuild.attestations.account import read_account
from chainbuild.attestations.provenance import (
    BUILD_TYPE,
    BUILDER_ID,
    PROVENANCE_TYPE,
    BuiltStep,
    provenance_predicate,
)
from chainbuild.attestations.statement import SPDX_TYPE, Statement, StatementError, statement_bytes
from chainbuild.images.attachments import attach_bill
from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.references import Digest
from chainbuild.registry.signed_tags import KINDS, signed_tag
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.attestations import COMMIT, SOURCE, attested_world, result_of, statements
from tests.support.keys import signing_key
from tests.support.world import REPOSITORY, World

IMAGE = Digest("sha256:" + "a" * 64)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return attested_world(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def document(world: World) -> dict[str, Any]:
    return statements(world, result_of(world))[PROVENANCE_TYPE]


def of_kind(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    definition = document["predicate"]["buildDefinition"]
    rows = [*definition["resolvedDependencies"], *document["predicate"]["runDetails"]["byproducts"]]
    return [row for row in rows if row["annotations"]["chainbuild_kind"] == kind]


# The published definitions ---------------------------------------------------------------------------------------------


def test_statement_is_one_of_in_toto(world: World) -> None:
    """The protocol buffers of in-toto/attestation, which reject unknown fields and values of other types."""
    for document in statements(world, result_of(world)).values():
        parsed = json_format.ParseDict(document, statement_pb2.Statement())
        statement.Statement.copy_from_pb(parsed).validate()
        assert [subject.digest["sha256"] for subject in parsed.subject] == [result_of(world).digest.hex]


def test_predicate_is_provenance_of_slsa(document: dict[str, Any]) -> None:
    """The protocol buffer of the predicate `https://slsa.dev/provenance/v1`, in in-toto/attestation."""
    parsed = json_format.ParseDict(document["predicate"], provenance_pb2.Provenance())
    assert parsed.build_definition.build_type == BUILD_TYPE
    assert parsed.run_details.builder.id == BUILDER_ID
    assert parsed.run_details.metadata.started_on.ToSeconds() <= parsed.run_details.metadata.finished_on.ToSeconds()
    assert parsed.build_definition.resolved_dependencies
    # Required by SLSA's text: "buildType, externalParameters" and "builder".
    assert parsed.build_definition.external_parameters["result"] == "amd64/stock/production"


def test_resources_have_what_the_specification_requires(document: dict[str, Any]) -> None:
    """spec/v1/resource_descriptor.md: uri, digest or content; names of our own annotations; small contents."""
    definition = document["predicate"]["buildDefinition"]
    rows = [*definition["resolvedDependencies"], *document["predicate"]["runDetails"]["byproducts"]]
    for row in rows:
        json_format.ParseDict(row, resource_descriptor_pb2.ResourceDescriptor())
        assert row.keys() & {"uri", "digest", "content"}
        assert all(name.startswith("chainbuild_") for name in row["annotations"])
        assert len(row.get("content", "")) < 1024
    assert not definition["externalParameters"].keys() & definition["internalParameters"].keys()


# Completeness ----------------------------------------------------------------------------------------------------------


def test_provenance_has_every_step_lowest_first(document: dict[str, Any]) -> None:
    definition = document["predicate"]["buildDefinition"]
    names = ["10-base", "20-blas", "30-venv", "minimize", "production"]
    assert [row["step"] for row in definition["externalParameters"]["steps"]] == [
        f"amd64/stock/{name}" for name in names
    ]
    records = definition["internalParameters"]["records"]
    assert all(row["signedBy"] == signing_key(1).public.id for row in records)
    assert records[1]["parents"] == {"BASE_IMAGE": "amd64/stock/10-base"}


def test_provenance_has_dockerfiles_args_and_files(document: dict[str, Any], world: World) -> None:
    digests = {
        row["annotations"]["chainbuild_step"]: row["digest"]["sha256"] for row in of_kind(document, "dockerfile")
    }
    raw = (world.root / "stock" / "20-Dockerfile-blas").read_bytes()
    assert digests["amd64/stock/20-blas"] == hashlib.sha256(raw).hexdigest()
    steps = document["predicate"]["buildDefinition"]["externalParameters"]["steps"]
    assert steps[1]["args"] == {"CPU": "HASWELL"}
    files = {row["name"]: row["digest"]["sha256"] for row in of_kind(document, "file")}
    assert files == {"src/setup.py": hashlib.sha256(b"setup()\n").hexdigest()}


def test_provenance_has_base_images_with_digest_and_name(document: dict[str, Any]) -> None:
    bases = {row["annotations"]["chainbuild_reference"]: row for row in of_kind(document, "base")}
    assert set(bases) == {"fat:1", "slim:1"}
    digest = bases["fat:1"]["digest"]["sha256"]
    purl = f"pkg:oci/fat@sha256%3A{digest}?repository_url=docker.io/library/fat&tag=1"
    assert bases["fat:1"]["uri"] == purl


def test_provenance_has_the_commit_and_verdicts(document: dict[str, Any]) -> None:
    sources = of_kind(document, "source")
    assert {row["uri"] for row in sources} == {f"git+{SOURCE}@{COMMIT}"}
    assert {row["digest"]["gitCommit"] for row in sources} == {COMMIT}
    assert "libraries" in {row["name"] for row in of_kind(document, "verdict")}


def test_bill_of_materials_is_attested_unchanged(world: World) -> None:
    assert statements(world, result_of(world))[SPDX_TYPE]["predicate"] == json.loads(world.driver.bill)


def test_attached_bill_of_another_author_is_not_signed(tmp_path: Path) -> None:
    """Anyone with write access can attach a bill of materials, and have the result considered again."""
    world = attested_world(tmp_path)
    image = result_of(world)
    attach_bill(world.registries, image.reference, b'{"spdxVersion":"SPDX-2.3","name":"forged"}')
    for kind in KINDS:
        world.host.tags.pop((REPOSITORY, signed_tag(image.digest, kind)))
    world.drop_indexes()
    assert world.run().succeeded
    assert set(statements(world, image)) == {PROVENANCE_TYPE}
    assert any("bill of materials is not signed" in text for text in world.messages)


def test_account_tells_what_the_provenance_says(document: dict[str, Any]) -> None:
    account = read_account(Statement.parse(json.dumps(document).encode()))
    assert account.is_own
    assert [base.reference for base in account.bases] == ["fat:1", "slim:1"]
    assert account.steps[2].files == {"src/setup.py": hashlib.sha256(b"setup()\n").hexdigest()}
    assert account.finished == 1_000_000.0
    assert [(source.commit, source.dirty) for source in account.sources] == [(COMMIT, False)]


# Records of any content ------------------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["\udcff", "a b", "sha256:" + "b" * 64])
texts = st.dictionaries(words, words, max_size=4)
addresses = st.dictionaries(words.filter(bool), words, max_size=4)


@given(args=texts, files=texts, images=texts, remotes=addresses, notes=texts, verdicts=texts, dockerfile=words)
def test_any_record_gives_provenance_that_reads_back(
    args: dict[str, str],
    files: dict[str, str],
    images: dict[str, str],
    remotes: dict[str, str],
    notes: dict[str, str],
    verdicts: dict[str, str],
    dockerfile: str,
) -> None:
    components = Components(
        dockerfile=dockerfile, platform="linux/amd64", args=args, files=files, images=images, remotes=remotes
    )
    record = Record(
        key=components.key,
        step=StepId("amd64", "stock", "10-base"),
        family="stock-10-base-amd64",
        image=IMAGE,
        identity=str(IMAGE),
        size=1,
        added=1,
        seconds=1.0,
        built_at=1_000_000.0,
        components=components,
        verdicts=verdicts,
        notes=notes,
    )
    raw = statement_bytes("team/atom", IMAGE, PROVENANCE_TYPE, provenance_predicate([BuiltStep(record=record)]))
    parsed = json_format.ParseDict(json.loads(raw)["predicate"], provenance_pb2.Provenance())
    assert len(parsed.run_details.byproducts) == len(verdicts)
    account = read_account(Statement.parse(raw))
    assert len(account.steps[0].verdicts) == len(verdicts)


@given(
    st.binary()
    | st.recursive(st.none() | st.text(), lambda each: st.dictionaries(st.text(), each)).map(json.dumps).map(str.encode)
)
def test_bytes_of_any_form_are_a_statement_or_an_error(raw: bytes) -> None:
    try:
        read_account(Statement.parse(raw))
    except StatementError:
        return
    pytest.fail("nothing of this form is provenance")


def test_remote_content_has_no_login_in_its_address(tmp_path: Path) -> None:
    components = Components(
        dockerfile="",
        platform="linux/amd64",
        remotes={"https://me:secret@example.com/a.tgz": "checksum sha256:" + "c" * 64},
    )
    record = Record.parse(_raw(components))
    predicate = provenance_predicate([BuiltStep(record=record)])
    assert b"secret" not in predicate
    row = json.loads(predicate)["buildDefinition"]["resolvedDependencies"][1]
    assert (row["uri"], row["digest"]) == ("https://example.com/a.tgz", {"sha256": "c" * 64})


def test_image_without_a_recorded_digest_is_a_gap_and_scratch_is_not() -> None:
    """Records of versions before 0.2 have no digests of the images that a step was built from."""
    components = Components(dockerfile="", platform="linux/amd64", images={"BASE_IMAGE": "x", "EMPTY": "y"})
    record = replace(Record.parse(_raw(components)), notes={"digest of EMPTY": "scratch", "image of EMPTY": "scratch"})
    raw = statement_bytes("team/atom", IMAGE, PROVENANCE_TYPE, provenance_predicate([BuiltStep(record=record)]))
    account = read_account(Statement.parse(raw))
    assert account.gaps == ("the image that amd64/stock/10-base was built from as BASE_IMAGE",)


def test_base_chain_with_the_same_step_ids_stays_distinct() -> None:
    """Two trees may both have an option `stock`, and one can be built on the other's result."""
    lower = Record.parse(_raw(Components(dockerfile="FROM a", platform="linux/amd64")))
    upper = Record.parse(_raw(Components(dockerfile="FROM b", platform="linux/amd64")))
    steps = [BuiltStep(record=lower), BuiltStep(record=replace(upper, parents={"BASE_IMAGE": lower.key}))]
    raw = statement_bytes("team/atom", IMAGE, PROVENANCE_TYPE, provenance_predicate(steps))
    account = read_account(Statement.parse(raw))
    below, own = account.steps
    assert own.step == "amd64/stock/10-base"
    assert below.step == f"amd64/stock/10-base@{lower.key.removeprefix('k1-')[:12]}"
    assert own.parents == {"BASE_IMAGE": below.step}
    assert [step.dockerfile_sha256 for step in account.steps] == [
        hashlib.sha256(text).hexdigest() for text in (b"FROM a", b"FROM b")
    ]


def test_resource_of_a_missing_step_is_refused(document: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(document))
    resources = changed["predicate"]["buildDefinition"]["resolvedDependencies"]
    resources[0]["annotations"]["chainbuild_step"] = "amd64/stock/99-other"
    with pytest.raises(StatementError, match="a step that it does not have"):
        read_account(Statement.parse(json.dumps(changed).encode()))


def _raw(components: Components) -> bytes:
    record = Record(
        key=components.key,
        step=StepId("amd64", "stock", "10-base"),
        family="f",
        image=IMAGE,
        identity=str(IMAGE),
        size=1,
        added=1,
        seconds=1.0,
        built_at=1.0,
        components=components,
    )
    return record.payload
