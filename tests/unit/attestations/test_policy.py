"""Policies: every wrong value is told with its line, and every rule that does not hold with its place."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.attestations.cosign import attestation_layer
from chainbuild.attestations.policy import parse_policy, read_policy, read_verification_key, schema
from chainbuild.attestations.provenance import PROVENANCE_TYPE
from chainbuild.attestations.report import ProvenanceReport, verify_provenance
from chainbuild.attestations.statement import sign_statement
from chainbuild.attestations.writer import sign_image
from chainbuild.errors import WrongUseError
from chainbuild.references import ImageReference
from tests.support.attestations import attested_world, put_layers, result_of, signer, statements
from tests.support.keys import keyring, signing_key
from tests.support.world import World

HEAD = "schema: chainbuild.policy/1\n"
DAY = 24 * 3600.0


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory) -> World:
    return attested_world(tmp_path_factory.mktemp("tree"))


def verified(world: World, rules: str, *, later: float = 0.0) -> ProvenanceReport:
    policy = parse_policy((HEAD + rules).encode(), "policy.yaml", world.root)
    return verify_provenance(world.records, result_of(world).reference, now=world.now + later, policy=policy)


def errors(world: World, rules: str, *, later: float = 0.0) -> list[str]:
    return [str(problem).splitlines()[0] for problem in verified(world, rules, later=later).errors]


KEY_1, KEY_2 = str(signing_key(1).public), str(signing_key(2).public)
HOLDS = (
    f'signed-by:\n  ci: "{KEY_1}"\n',
    f'signed-by:\n  other: "{KEY_2}"\n  ci: "{KEY_1}"\n',
    'base-from: ["fat:*", "slim:1"]\n',
    'base-from: ["docker.io/library/*"]\n',
    'base-from: ["*@sha256:*"]\n',
    "tests-passed: libraries\n",
    'no-unsigned-parent: true\nbase-from: ["*"]\n',
    "not-older-than: 30d\n",
)


@pytest.mark.parametrize("rules", HOLDS)
def test_rule_that_holds_accepts_the_image(attested: World, rules: str) -> None:
    assert errors(attested, rules) == []


def test_base_outside_of_the_patterns_is_a_violation(attested: World) -> None:
    (error,) = errors(attested, 'base-from: "fat:*"\n')
    assert error.startswith("policy.yaml:2: base-from: the base image slim:1 (sha256:")


def test_step_whose_record_was_deleted_violates_rules_about_all_steps(tmp_path: Path) -> None:
    """Anyone with write access can delete a record before the result is attested; its base image is then unknown."""
    world = attested_world(tmp_path)
    image = result_of(world)
    statement = statements(world, image)[PROVENANCE_TYPE]
    definition = statement["predicate"]["buildDefinition"]
    for rows in (definition["externalParameters"]["steps"], definition["internalParameters"]["records"]):
        assert rows.pop(0)["step"] == "amd64/stock/10-base"
    definition["resolvedDependencies"] = [
        row
        for row in definition["resolvedDependencies"]
        if row["annotations"]["chainbuild_step"] != "amd64/stock/10-base"
    ]
    raw = json.dumps(statement).encode()
    layer = attestation_layer(sign_statement(keyring(1), raw), PROVENANCE_TYPE)
    put_layers(world.registries, image, "att", [layer])
    for rule in ('base-from: "*"\n', "tests-passed: libraries\n", 'no-unsigned-parent: true\nbase-from: "*"\n'):
        assert "amd64/stock/10-base, a parent of amd64/stock/20-blas" in errors(world, rule)[0]


def test_proof_that_was_not_run_is_a_violation(attested: World) -> None:
    assert errors(attested, "not-older-than: 9d\ntests-passed: [libraries, test]\n") == [
        "policy.yaml:3: tests-passed: test did not pass on any step; passed: libraries"
    ]


def test_unsigned_base_image_is_a_violation(attested: World) -> None:
    texts = errors(attested, "no-unsigned-parent: true\n")
    assert ["is not signed" in text for text in texts] == [True, True]


def test_signed_base_image_is_accepted(tmp_path: Path) -> None:
    world = attested_world(tmp_path)
    for name in ("fat", "slim"):
        place = ImageReference("docker.io", f"library/{name}")
        digest = world.registries.client(place).manifest(place.repository, "1").digest
        # Publishers sign the index over all platforms.
        sign_image(world.registries, keyring(7), place.with_digest(digest))
    rules = f'no-unsigned-parent: true\nsigned-by:\n  ci: "{KEY_1}"\n  publisher: "{signing_key(7).public}"\n'
    assert errors(world, rules) == []


def test_step_signed_by_another_key_is_a_violation(tmp_path: Path) -> None:
    """The user of key 1 trusts the steps of key 2, but the policy of the receiver does not."""
    world = attested_world(tmp_path)
    world.sign_as(2, trusts=(signing_key(1).public,))
    world.write({"stock/30-Dockerfile-venv": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN make more\n"})
    assert world.run().succeeded
    texts = errors(world, f'no-unsigned-parent: true\nbase-from: "*"\nsigned-by:\n  own: "{KEY_2}"\n')
    assert [text.partition("record of ")[2].split()[0] for text in texts] == [
        "amd64/stock/10-base",
        "amd64/stock/20-blas",
    ]


def test_image_older_than_allowed_is_a_violation(attested: World) -> None:
    assert errors(attested, "not-older-than: 30d\n", later=29 * DAY) == []
    assert errors(attested, "not-older-than: 30d\n", later=31 * DAY) == [
        "policy.yaml:2: not-older-than: the image was built 1970-01-12 13:46 UTC, more than 30 days ago"
    ]
    assert "future" in errors(attested, "not-older-than: 30d\n", later=-9 * DAY)[0]


def test_image_of_another_signer_is_refused(attested: World) -> None:
    report = verified(attested, f'signed-by:\n  other: "{KEY_2}"\n')
    assert report.attested is None
    assert report.errors[0].message.startswith("no accepted key has signed the provenance")
    assert [refusal.what for refusal in report.refused] == ["signature 1", "attestation 1", "attestation 2"]


def test_given_key_counts_instead_of_the_trusted_ones(attested: World) -> None:
    image = result_of(attested).reference
    assert verify_provenance(attested.records, image, now=attested.now).errors == ()
    assert verify_provenance(attested.records, image, now=attested.now, keys=[signer(2)]).errors
    assert verify_provenance(attested.records, image, now=attested.now, keys=[signer(1)]).errors == ()


# Files ----------------------------------------------------------------------------------------------------------------


def test_every_problem_of_a_policy_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        HEAD
        + 'signed-by:\n  a: "ed25519:AA"\n  b: missing.pub\nnot-older-than: soon\nno-unsigned-parent: 3\nbases: []\n'
    )
    with pytest.raises(WrongUseError) as caught:
        read_policy(path)
    assert [problem.line for problem in caught.value.problems] == [3, 4, 5, 6, 7]
    assert all(problem.hint for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("signed-by: {}", "signed-by is an empty table"),
        ("not-older-than: 0d", "'0d' is no limit"),
        ("base-from: ['debian:12', 'https://ghcr.io/acme/*']", "not a pattern of image names"),
    ],
)
def test_rule_that_could_never_fail_or_hold_is_refused(rule: str, why: str) -> None:
    with pytest.raises(WrongUseError, match=why) as caught:
        parse_policy(f"{HEAD}{rule}\n".encode(), "policy.yaml", Path())
    assert caught.value.problems[0].line == 2


def test_policy_without_a_rule_is_refused() -> None:
    with pytest.raises(WrongUseError, match="needs one of"):
        parse_policy(HEAD.encode(), "policy.yaml", Path())


texts = st.text(max_size=100)


@given(st.binary(max_size=200) | texts.map(str.encode) | texts.map(lambda text: (HEAD + text).encode()))
def test_bytes_of_any_form_are_a_policy_or_problems(raw: bytes) -> None:
    with suppress(WrongUseError):
        assert parse_policy(raw, "policy.yaml", Path("/nowhere")).lines


def test_published_schema_is_that_of_the_rules() -> None:
    published = Path(__file__).parents[3] / "docs" / "policy.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == schema()


# Keys -----------------------------------------------------------------------------------------------------------------


def test_key_of_cosign_in_a_file_verifies_its_signatures(tmp_path: Path) -> None:
    """`cosign generate-key-pair` makes ECDSA keys on P-256, and signs with SHA-256."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "cosign.pub").write_bytes(pem)
    key = read_verification_key("cosign.pub", tmp_path)
    assert key.verifies(private.sign(b"claim", ec.ECDSA(SHA256())), b"claim")
    assert not key.verifies(private.sign(b"claim", ec.ECDSA(SHA256())), b"other")
    assert not key.verifies(b"no signature", b"claim")
    assert len(key.id) == 64


@pytest.mark.parametrize(
    "text", ["missing.pub", "other.pub", "binary.pub", "words.pub", "folder", "ed25519:AA", "a\0b"]
)
def test_text_that_is_no_key_is_a_problem(tmp_path: Path, text: str) -> None:
    other = rsa.generate_private_key(65537, 1024).public_key()
    (tmp_path / "other.pub").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "binary.pub").write_bytes(b"\xff\x00")
    (tmp_path / "words.pub").write_text("-----BEGIN PUBLIC KEY-----\nnone\n-----END PUBLIC KEY-----\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WrongUseError) as caught:
        read_verification_key(text, tmp_path)
    assert caught.value.problems[0].hint


@given(st.text())
def test_key_texts_of_any_form_are_keys_or_problems(text: str) -> None:
    with pytest.raises(WrongUseError):
        read_verification_key(text, Path("/nowhere"))
