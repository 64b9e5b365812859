"""`chainbuild verify --provenance` and `--rebuild` of a result in a real registry, built by a real builder."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from chainbuild.registry.pool import Registries
from chainbuild.registry.signed_tags import read_signed

from .conftest import OWN, Done, Lay, Place, write_tree

pytestmark = pytest.mark.timeout(900)

TREE = {
    "app/10-Dockerfile-files": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY greeting /srv/greeting\nARG WORD\n"
    'RUN echo "$WORD" > /srv/word\n',
    f"app/files-{OWN}-args": "WORD=hello\n",
    f"app/minimize-{OWN}-args": "ADDITIONAL_FILES=/srv\n",
    "greeting": "good morning\n",
}


@pytest.fixture(scope="module")
def place(lay_once: Lay) -> Place:
    """A chain of one step, whose result can be reproduced, built."""
    place = lay_once()
    write_tree(place.root, TREE)
    place.build("app")
    return place


def verify(place: Place, *flags: str) -> Done:
    return place.run("verify", f"{place.host}/{place.repo}:v1-app-{OWN}", *flags, "--registry", place.host)


def test_result_has_a_signature_that_others_can_verify(place: Place) -> None:
    """As `cosign verify --key` does: the layer's annotation has the signature over the layer's content."""
    done = place.run("trust", "key", "--pem")
    key = load_pem_public_key(done.out.encode())
    assert isinstance(key, Ed25519PublicKey)
    image = place.image(f"v1-app-{OWN}")
    with Registries() as registries:
        manifest = read_signed(registries, image.reference, "sig")
        assert manifest is not None
        (layer,) = manifest.layers
        content = registries.client(image.reference).blob(image.reference.repository, layer.digest)
    key.verify(base64.b64decode(layer.annotation("dev.cosignproject.cosign/signature")), content)
    assert json.loads(content)["critical"]["image"]["docker-manifest-digest"] == str(image.digest)


def test_provenance_of_a_result_is_verified(place: Place) -> None:
    done = verify(place, "--provenance", "--json")
    assert done.code == 0, done.told()
    steps = json.loads(done.out)["provenance"]["steps"]
    assert [step["step"] for step in steps] == [f"{OWN}/app/{name}" for name in ("10-files", "minimize", "production")]
    assert steps[0]["args"] == {"WORD": "hello"}
    assert set(steps[0]["files"]) == {"greeting"}
    assert place.image(f"v1-app-{OWN}").manifest.annotations


@pytest.mark.long
def test_rebuild_gives_the_same_then_names_the_changed_file(place: Place) -> None:
    before = place.tags(machine=True)
    same = verify(place, "--rebuild", "--json")
    assert same.code == 0, same.told()
    assert json.loads(same.out)["same"]
    assert place.tags(machine=True) == before
    write_tree(place.root, {"greeting": "good evening\n"})
    other = verify(place, "--rebuild", "--json")
    assert other.code == 5, other.told()
    (step,) = json.loads(other.out)["steps"]
    assert step["step"] == f"{OWN}/app/10-files"
    assert any("file greeting is another one" in text for text in step["inputs"])
    assert any("/srv/greeting" in text for text in step["content"])
