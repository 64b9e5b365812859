"""Keys and DSSE envelopes: what is signed, and what of anything else never counts."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.trust.envelope import MOST_SIGNATURES, Envelope, EnvelopeError, pae
from chainbuild.trust.keys import PublicKey, SigningKey
from tests.support.keys import signing_key

# RFC 8032, section 7.1, TEST 1: a seed, its public key and its signature over nothing.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)
TYPE = "application/vnd.example+json"
ONE, OTHER = signing_key(1), signing_key(2)


def test_keys_and_signatures_are_those_of_rfc_8032() -> None:
    key = SigningKey(SEED)
    assert key.public.raw == PUBLIC
    assert key.sign(b"") == SIGNATURE
    assert key.public.verifies(SIGNATURE, b"")
    assert not key.public.verifies(SIGNATURE, b"x")


def test_encoding_is_that_of_the_dsse_specification() -> None:
    """The example of the DSSE protocol document."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(st.binary(min_size=32, max_size=32))
def test_key_texts_read_back(raw: bytes) -> None:
    key = SigningKey(raw)
    assert PublicKey.parse(str(key.public)) == key.public
    assert PublicKey.parse(key.public.pem) == key.public
    assert SigningKey.parse(key.secret_text, where="here").seed == raw
    assert base64.b64encode(raw).decode() not in repr(key)


@given(st.text())
def test_text_of_any_form_is_a_key_or_a_problem_without_the_secret(text: str) -> None:
    with suppress(WrongUseError):
        PublicKey.parse(text)
    with suppress(WrongUseError):
        SigningKey.parse(text, where="CHAINBUILD_SIGNING_KEY")
    secret = f"ed25519-private:{text}"
    with pytest.raises(WrongUseError) as caught:
        SigningKey.parse(secret + "!", where="CHAINBUILD_SIGNING_KEY")
    # What the message says of every key does not count.
    with pytest.raises(WrongUseError) as other:
        SigningKey.parse("ed25519-private:!", where="CHAINBUILD_SIGNING_KEY")
    assert text in other.value.message or text not in caught.value.message


def test_signing_key_is_no_public_key() -> None:
    with pytest.raises(WrongUseError, match="signing key") as caught:
        PublicKey.parse(ONE.secret_text)
    assert ONE.secret_text not in str(caught.value)


@given(st.binary(max_size=200))
def test_envelope_reads_back_and_verifies(payload: bytes) -> None:
    envelope = Envelope.sign(payload, TYPE, ONE)
    read = Envelope.parse(envelope.raw)
    assert read == envelope
    assert read.valid_keys([OTHER.public, ONE.public]) == (ONE.public,)
    both = read.with_signature(OTHER)
    assert both.valid_keys([OTHER.public, ONE.public]) == (OTHER.public, ONE.public)
    assert both.with_signature(OTHER) is both


def test_signature_holds_for_one_type_and_one_payload() -> None:
    envelope = json.loads(Envelope.sign(b"{}", TYPE, ONE).raw)
    for change in ({"payloadType": f"{TYPE}x"}, {"payload": base64.b64encode(b"[]").decode()}):
        changed = Envelope.parse(json.dumps(envelope | change).encode())
        assert changed.valid_keys([ONE.public]) == ()


def test_signature_of_an_unknown_key_does_not_count_under_a_known_id() -> None:
    envelope = json.loads(Envelope.sign(b"{}", TYPE, OTHER).raw)
    envelope["signatures"][0] |= {"keyid": ONE.public.id}
    del envelope["signatures"][0]["publicKey"]
    assert Envelope.parse(json.dumps(envelope).encode()).valid_keys([ONE.public]) == ()


GOOD = json.loads(Envelope.sign(b"{}", TYPE, ONE).raw)
BAD: dict[str, Any] = {
    "nothing": None,
    "a list": [],
    "no signatures": {"payload": "", "payloadType": TYPE},
    "payload not base64": GOOD | {"payload": "*"},
    "payload a number": GOOD | {"payload": 7},
    "type a list": GOOD | {"payloadType": []},
    "signature without sig": GOOD | {"signatures": [{"keyid": "x"}]},
    "signature of a number": GOOD | {"signatures": [7]},
    "key of another id": GOOD | {"signatures": [GOOD["signatures"][0] | {"keyid": OTHER.public.id}]},
    "key that is none": GOOD | {"signatures": [GOOD["signatures"][0] | {"publicKey": "ed25519:x"}]},
    "too many": GOOD | {"signatures": GOOD["signatures"] * (MOST_SIGNATURES + 1)},
}


@pytest.mark.parametrize("document", BAD.values(), ids=BAD.keys())
def test_invalid_envelope_is_refused(document: Any) -> None:
    with pytest.raises(EnvelopeError):
        Envelope.parse(json.dumps(document).encode())


RAW = Envelope.sign(b"{}", TYPE, ONE).raw


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 200_000,
        RAW[:-1] + b',"x":' + b"[" * 200_000,
        RAW[:-1] + b',"x":"\xff"}',
        RAW[:-1] + b',"x":"\\ud800"}',
        RAW[:-1] + b',"x":NaN}',
        RAW[:-1] + b',"payload":7}',
        b"\xef\xbb\xbf" + RAW,
    ],
    ids=["deep", "deep in an unknown field", "not UTF-8", "half a surrogate pair", "NaN", "second key", "BOM"],
)
def test_envelope_of_hostile_bytes_is_refused(raw: bytes) -> None:
    with pytest.raises(EnvelopeError):
        Envelope.parse(raw)


def test_envelope_bytes_stay_the_same() -> None:
    """Digests of artifacts depend on them."""
    key = SigningKey(SEED)
    envelope = Envelope.sign(b"{}", "application/é", key).with_signature(ONE)
    first, second = (base64.b64encode(signature.value).decode() for signature in envelope.signatures)
    rows = (
        f'{{"keyid":"{key.public.id}","publicKey":"{key.public}","sig":"{first}"}},'
        f'{{"keyid":"{ONE.public.id}","publicKey":"{ONE.public}","sig":"{second}"}}'
    )
    expected = f'{{"payload":"e30=","payloadType":"application/\\u00e9","signatures":[{rows}]}}'
    assert envelope.raw == expected.encode()


def test_envelope_with_unknown_fields_and_without_key_id_is_read() -> None:
    """DSSE makes `keyid` optional and allows further fields."""
    envelope = Envelope.parse(b'{"payload":"e30=","payloadType":"t","signatures":[{"sig":"AA==","x":1}],"y":[2]}')
    assert [(signature.key_id, signature.value, signature.key) for signature in envelope.signatures] == [
        ("", b"\0", None)
    ]
    assert json.loads(envelope.raw)["signatures"] == [{"keyid": "", "sig": "AA=="}]


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_envelope_parser_never_raises_anything_else(raw: bytes) -> None:
    with pytest.raises(EnvelopeError):
        Envelope.parse(raw)
