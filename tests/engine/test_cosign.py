"""What chainbuild signs, verified by the program cosign of Debian sid, and what that program signs, verified by chainbuild.

No service of sigstore is needed: everything is signed with keys, and without an entry in a transparency log.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import OWN, Lay, Place, docker, push_files, write_tree

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

SID = "debian:sid-slim"
TREE = {
    "app/10-Dockerfile-files": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY greeting /srv/greeting\n",
    f"app/minimize-{OWN}-args": "ADDITIONAL_FILES=/srv\n",
    "greeting": "good morning\n",
}
NO_LOG = ("--use-signing-config=false", "--tlog-upload=false", "--yes")
PREDICATE = {
    "buildDefinition": {"buildType": "https://example.com/by-hand", "externalParameters": {}},
    "runDetails": {"builder": {"id": "https://example.com/vendor"}},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cosign:
    """A container with cosign, which has the host's network. `keys` is its working folder."""

    container: str
    keys: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run cosign with these arguments."""
        return docker("exec", "--env", "COSIGN_PASSWORD=secret", "--workdir", "/keys", self.container, "cosign", *words)

    def verify(self, key: str, image: str, *flags: str, what: str = "verify") -> subprocess.CompletedProcess[str]:
        """Verify an image with the public key in a file of `keys`."""
        return self.run(what, "--key", key, "--insecure-ignore-tlog", *flags, image)

    def attest(self, image: str, *flags: str) -> None:
        """Sign an image and a statement of its provenance with cosign's key."""
        for words in (("sign",), ("attest", "--type", "slsaprovenance1", "--predicate", "predicate.json")):
            done = self.run(*words, "--key", "cosign.key", *NO_LOG, *flags, image)
            assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def place(lay_once: Lay) -> Place:
    """A chain of one step, built."""
    place = lay_once()
    write_tree(place.root, TREE)
    place.build("app")
    return place


@pytest.fixture(scope="module")
def cosign(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cosign]:
    """The program, with a key pair of its own and the public key of the user."""
    keys = tmp_path_factory.mktemp("keys")
    started = docker("run", "--detach", "--network", "host", "--volume", f"{keys}:/keys", SID, "sleep", "infinity")
    if started.returncode != 0:
        pytest.skip(f"no image {SID}: {started.stderr.strip()}")
    container = started.stdout.strip()
    try:
        install = "apt-get update && apt-get install --yes --no-install-recommends cosign"
        installed = docker("exec", container, "sh", "-c", install)
        assert installed.returncode == 0, installed.stderr
        cosign = Cosign(container=container, keys=keys)
        write_tree(keys, {"acme.pub": place.run("trust", "key", "--pem").out, "predicate.json": json.dumps(PREDICATE)})
        assert cosign.run("generate-key-pair").returncode == 0
        yield cosign
    finally:
        docker("rm", "--force", container)


def name(place: Place, tag: str) -> str:
    return f"{place.host}/{place.repo}:{tag}"


@pytest.mark.parametrize("tag", [f"v1-app-{OWN}", "v1-app"])
def test_cosign_verifies_the_signature_of_image_and_index(place: Place, cosign: Cosign, tag: str) -> None:
    done = cosign.verify("acme.pub", name(place, tag))
    assert done.returncode == 0, done.stderr
    other = cosign.verify("cosign.pub", name(place, tag))
    assert other.returncode != 0
    assert "no matching signatures" in other.stderr


@pytest.mark.parametrize("kind", ["slsaprovenance1", "spdxjson"])
def test_cosign_verifies_the_statements(place: Place, cosign: Cosign, kind: str) -> None:
    image = name(place, f"v1-app-{OWN}")
    done = cosign.verify("acme.pub", image, "--type", kind, what="verify-attestation")
    assert done.returncode == 0, done.stderr
    other = cosign.verify("cosign.pub", image, "--type", kind, what="verify-attestation")
    assert other.returncode != 0


def test_cosign_copies_image_and_signatures(place: Place, cosign: Cosign) -> None:
    there = f"{place.host}/copied/app:1"
    done = cosign.run("copy", name(place, "v1-app"), there)
    assert done.returncode == 0, done.stderr
    assert cosign.verify("acme.pub", there).returncode == 0
    verified = place.run("verify", there, "--provenance", "--registry", place.host)
    assert verified.code == 0, verified.told()


@pytest.mark.parametrize("flags", [(), ("--new-bundle-format=false",)], ids=["bundles", "tags"])
def test_what_cosign_signs_is_verified(place: Place, cosign: Cosign, flags: tuple[str, ...]) -> None:
    image = push_files(f"{place.host}/vendor/{'tags' if flags else 'bundles'}:1", {"file": str(flags).encode()})
    cosign.attest(image.reference.pinned, *flags)
    words = ("verify", image.reference.pinned, "--provenance", "--json", "--registry", place.host)
    done = place.run(*words, "--key", str(cosign.keys / "cosign.pub"))
    assert done.code == 0, done.told()
    assert json.loads(done.out)["provenance"]["builder"] == "https://example.com/vendor"
    assert place.run(*words, "--key", str(cosign.keys / "acme.pub")).code == 5


def test_signatures_of_both_stay_apart(place: Place, cosign: Cosign) -> None:
    """cosign 3 asks for bundles first, and does not go on to the tags if there is one of anybody."""
    image = name(place, f"v1-app-{OWN}")
    pinned = place.image(f"v1-app-{OWN}").reference.pinned
    cosign.attest(pinned)
    assert cosign.verify("cosign.pub", image).returncode == 0
    assert cosign.verify("acme.pub", image, "--new-bundle-format=false").returncode == 0
    for key in ("acme.pub", "cosign.pub"):
        flags = ("--provenance", "--registry", place.host, "--key", str(cosign.keys / key))
        done = place.run("verify", pinned, *flags)
        assert done.code == 0, done.told()
