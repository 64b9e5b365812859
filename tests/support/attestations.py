"""Attested images for tests: a world with a result, and what a registry has of cosign's form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chainbuild.attestations.verification import Signer
from chainbuild.references import ImageReference
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import Descriptor, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.registry.signed_tags import Kind, read_signed
from tests.support.keys import signing_key
from tests.support.world import CHAIN, REPOSITORY, THREE_STEPS, World

RESULT = "v1-stock-amd64"
TREE = {**THREE_STEPS, "stock/20-test": "#!/bin/sh\ntrue\n", "stock/blas-test": "#!/bin/sh\ntrue\n"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCE = "https://example.com/acme/images"


def signer(number: int = 1) -> Signer:
    """Return the signer with the key of that number (see `keys.signing_key`)."""
    return Signer(key=signing_key(number).public, name=f"key {number}")


def attested_world(root: Path) -> World:
    """Return a world after a run: a tree of git, whose result the user of key 1 has attested."""
    return attest(World(root))


def attest(world: World) -> World:
    """Make a world that has not run one as `attested_world` returns."""
    world.write(THREE_STEPS)
    world.notes = {"commit": COMMIT, "dirty": "no", "source": SOURCE}
    world.driver.bill = json.dumps({"spdxVersion": "SPDX-2.3", "name": "the result"}).encode()
    assert world.run().succeeded
    return world


def result_of(world: World, tag: str = RESULT) -> RemoteImage:
    """Return the result of the last run."""
    image: RemoteImage = world.resolved(f"{REPOSITORY}:{tag}")
    return image


def signed(registries: Registries, image: ImageReference, kind: Kind) -> Manifest:
    """Return the manifest with the signatures or attestations of an image."""
    manifest = read_signed(registries, image, kind)
    assert manifest is not None
    return manifest


def content(registries: Registries, image: ImageReference, layer: Descriptor) -> bytes:
    """Return the content of a layer."""
    return registries.client(image).blob(image.repository, layer.digest)


def statements(world: World, image: RemoteImage) -> dict[str, dict[str, Any]]:
    """Return the statements about an image by predicate type, whoever signed them."""
    import base64

    manifest = signed(world.registries, image.reference, "att")
    envelopes = [json.loads(content(world.registries, image.reference, layer)) for layer in manifest.layers]
    documents = [json.loads(base64.b64decode(envelope["payload"])) for envelope in envelopes]
    return {document["predicateType"]: document for document in documents}


def put_layers(
    registries: Registries, image: RemoteImage, kind: Kind, layers: Sequence[tuple[Descriptor, bytes]]
) -> None:
    """Replace an image's signatures or attestations by exactly these layers, as anyone with write access can."""
    before = signed(registries, image.reference, kind)
    client = registries.client(image.reference)
    for _, raw in layers:
        client.put_blob(image.reference.repository, raw)
    manifest = Manifest.make(config=before.config, layers=[layer for layer, _ in layers])
    tag = f"sha256-{image.digest.hex}.{kind}"
    client.put_manifest(image.reference.repository, tag, manifest.raw, manifest.media_type)


HERE = ImageReference(CHAIN, REPOSITORY)
