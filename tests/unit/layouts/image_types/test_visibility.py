"""Public images go to the public registry, private images to the private registry and never to the public one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.layouts.image_types.relations import host_of, name_in
from chainbuild.layouts.image_types.selection import PublishTargets, check_places, lies_in
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.images import resolve
from tests.support.world import AMD64, ARM64, CHAIN

from .shelf import PRIVATE, PUBLIC, Shelf


@pytest.fixture
def lab(shelf: Shelf) -> Shelf:
    """`run` is public, `secret` based on it is private, `dev` based on `run` is public."""
    shelf.type("run/x", tags=["latest", "x"])
    shelf.type(
        "secret/x",
        "FROM run:x\nCOPY recipe /",
        dependencies=["../../run"],
        visibility="private",
        files={"recipe": "the secret recipe"},
    )
    shelf.type("dev/x", "FROM run:x\nRUN make", dependencies=["../../run"])
    return shelf


def leaks(lab: Shelf) -> bool:
    """Return whether the public registry has any content of the private image, under any name."""
    secret = resolve(lab.registries, ImageReference.parse(f"{CHAIN}/secret:x"), AMD64)
    host = lab.fake.host("public.example:5000")
    digests = {str(secret.digest), str(secret.manifest.config.digest), str(secret.layers[-1].digest)}
    return bool(digests & {digest for _, digest in (*host.blobs, *host.manifests)})


def refused(lab: Shelf, *globs: str, **words: object) -> str:
    requests = len(lab.fake.log)
    with pytest.raises(WrongUseError) as raised:
        lab.publish(*globs, **words)
    pushed = [one for one in lab.fake.log[requests:] if one[0] in {"PUT", "POST", "PATCH"}]
    assert pushed == [], "nothing was pushed"
    return str(raised.value)


def test_publish_uses_registry_of_each_visibility(lab: Shelf) -> None:
    lab.create()
    lab.publish()
    assert lab.tags(PUBLIC) == {
        "acme/run:x",
        "acme/run:x-amd64",
        "acme/run:latest",
        "acme/dev:x",
        "acme/dev:x-amd64",
    }
    assert lab.tags(PRIVATE) == {"secret:x", "secret:x-amd64"}
    assert not leaks(lab)
    tags = lab.fake.host("public.example:5000").tags
    assert tags["acme/run", "latest"] == tags["acme/run", "x"]


def test_publish_pushes_selected_images_only(lab: Shelf) -> None:
    lab.create()
    lab.publish("dev")
    assert lab.tags(PUBLIC) == {"acme/dev:x", "acme/dev:x-amd64"}
    assert lab.tags(PRIVATE) == set()


@pytest.mark.parametrize(
    "dockerfile",
    [
        "FROM secret:x",
        "FROM secret:x AS build\nFROM run:x\nCOPY --from=build /recipe /",
        "FROM run:x\nCOPY --from=secret:x /recipe /",
        "FROM run:x\nRUN --mount=from=secret:x,target=/s cp /s/recipe /",
        f"FROM {PRIVATE}/secret:x",
        f"FROM {CHAIN}/secret:x",
        "ARG BASE=secret:x\nFROM ${BASE}",
    ],
)
def test_public_image_on_private_base_is_refused(lab: Shelf, dockerfile: str) -> None:
    lab.type("leak/x", dockerfile, dependencies=["../../secret", "../../run"])
    lab.create()
    told = refused(lab)
    assert "leak:x is public, but based on a private image: leak:x of secret:x" in told
    assert "leak/x/casa_distro_docker.yaml:8" in told
    assert "--allow-private-base" in told
    assert not leaks(lab)


def test_public_image_on_indirect_private_base_is_refused(lab: Shelf) -> None:
    lab.type("middle/x", "FROM secret:x", dependencies=["../../secret"])
    lab.type("top/x", "FROM middle:x", dependencies=["../../middle"])
    lab.create("top")
    assert "top:x is public, but based on a private image: top:x of middle:x of secret:x" in refused(lab, "top")
    assert not leaks(lab)
    lab.publish("top", allow_private_base=True)
    assert lab.tags(PUBLIC) == {"acme/top:x", "acme/top:x-amd64"}
    assert leaks(lab), "the flag allows it"


def test_foreign_image_of_private_registry_is_private(lab: Shelf) -> None:
    lab.base("foreign:1", "not for everybody", host=f"{PRIVATE}/")
    lab.type("leak/x", f"FROM {PRIVATE}/foreign:1")
    lab.create("leak")
    assert "based on a private image: leak:x of private.example:5000/foreign:1" in refused(lab, "leak")


def test_renamed_private_image_is_recognized_by_its_label(lab: Shelf) -> None:
    lab.create("secret")
    secret = resolve(lab.registries, ImageReference.parse(f"{CHAIN}/secret:x"), AMD64)
    lab.base("innocent:1", "x", host="elsewhere.example/", labels=dict(secret.config.labels))
    lab.type("middle/x", "FROM elsewhere.example/innocent:1")
    lab.type("leak/x", "FROM middle:x", dependencies=["../../middle"])
    lab.create("leak")
    assert "based on elsewhere.example/innocent:1, whose label says that it is private" in refused(lab, "leak")
    lab.publish("leak", allow_private_base=True)


def test_private_image_by_digest_is_refused_as_base(lab: Shelf) -> None:
    lab.create("secret")
    digest = resolve(lab.registries, ImageReference.parse(f"{CHAIN}/secret:x"), AMD64).digest
    for name in (f"secret@{digest}", f"secret:x@{digest}", f"{CHAIN}/secret@{digest}"):
        lab.type("leak/x", f"FROM {name}", dependencies=["../../secret"])
        lab.create("leak")
        assert "leak:x is public, but based on a private image" in refused(lab, "leak")


def test_outdated_image_on_private_base_is_not_published(lab: Shelf) -> None:
    lab.type("leak/x", "FROM secret:x", dependencies=["../../secret"])
    lab.create("leak")
    lab.type("leak/x", "FROM run:x", dependencies=["../../run"])
    told = refused(lab, "leak")
    assert "leak:x is out of date for amd64" in told
    assert "Run chainbuild types build 'leak:x' first" in told
    lab.create("leak")
    lab.publish("leak")
    assert not leaks(lab)


def test_outdated_platform_of_index_is_not_published(lab: Shelf) -> None:
    """The other platform of the chain registry's index was built while the base was private."""
    lab.type("leak/x", "FROM secret:x", dependencies=["../../secret"])
    lab.create("leak", platform="amd64,aarch64")
    lab.type("leak/x", "FROM run:x", dependencies=["../../run"])
    lab.create("leak", platform="amd64")
    lab.publish("leak", platform="amd64")
    old = resolve(lab.registries, ImageReference.parse(f"{CHAIN}/leak:x"), ARM64)
    host = lab.fake.host("public.example:5000")
    assert str(old.digest) not in {digest for _, digest in host.manifests}
    assert not leaks(lab)
    with pytest.raises(Exception, match="not for aarch64"):
        resolve(lab.registries, ImageReference.parse(f"{PUBLIC}/leak:x"), ARM64)


def test_published_platforms_are_kept(lab: Shelf) -> None:
    lab.create("run", platform="amd64,aarch64")
    lab.publish("run", platform="aarch64")
    lab.publish("run", platform="amd64")
    for platform in (AMD64, ARM64):
        resolve(lab.registries, ImageReference.parse(f"{PUBLIC}/run:latest"), platform)


def test_publish_of_image_not_created_is_refused(lab: Shelf) -> None:
    lab.create("run")
    told = refused(lab)
    assert "dev:x was not created for amd64: never built" in told
    assert "secret:x was not created for amd64" in told
    assert lab.tags(PUBLIC) == set()


def test_publish_after_base_moved_pushes_existing_image(lab: Shelf) -> None:
    lab.create()
    lab.base("debian:1", "second")
    lab.publish()
    assert lab.driver.orders == []
    names = (f"{CHAIN}/run:x", f"{PUBLIC}/run:x")
    here, there = (resolve(lab.registries, ImageReference.parse(name), AMD64) for name in names)
    assert here.digest == there.digest


def test_publish_without_registry_is_refused(lab: Shelf) -> None:
    lab.create()
    assert "no public registry is set to publish dev:x, run:x" in refused(lab, public=None)
    assert "Give --private HOST[/PATH], or set CHAINBUILD_PRIVATE_REGISTRY." in refused(lab, private=None)
    lab.publish("secret", public=None)
    assert lab.tags(PRIVATE) == {"secret:x", "secret:x-amd64"}


def test_private_image_with_public_chain_registry_is_refused(lab: Shelf) -> None:
    """The chain registry stores every image of a run, so it must not be part of the public registry."""
    words = {"registry": "public.example:5000/acme/chain"}
    with pytest.raises(WrongUseError, match=r"secret:x is private, but the chain registry .* is a part of the public"):
        lab.request("create", "secret", **words)
    lab.type("leak/x", "FROM secret:x", dependencies=["../../secret"])
    with pytest.raises(WrongUseError, match="chain registry"):
        lab.request("create", "leak", **words)
    lab.request("create", "dev", **words)


@pytest.mark.parametrize(
    ("public", "private", "fits"),
    [
        ("ghcr.io/acme", "ghcr.io/acme-private", True),
        ("ghcr.io/acme", "ghcr.io/acme/private", False),
        ("ghcr.io/acme", "GHCR.io/acme", False),
        ("ghcr.io/acme", "ghcr.io:443/acme/x", False),
        ("ghcr.io/acme/open", "ghcr.io/acme", True),
        ("localhost:5001", "127.0.0.1:5001/private", False),
        ("localhost:5001", "localhost:5002", True),
        ("docker.io/acme", "index.docker.io/acme", False),
    ],
)
def test_private_registry_inside_public_registry_is_rejected(public: str, private: str, fits: bool) -> None:
    places = PublishTargets(
        chain=ChainRegistry("localhost:5000"), public=ChainRegistry.parse(public), private=ChainRegistry.parse(private)
    )
    assert len(list(check_places(places))) == (0 if fits else 1)


def test_private_image_name_below_public_path_is_refused(lab: Shelf) -> None:
    lab.type("open/x", name="open/secret", visibility="private")
    lab.create("open/*")
    told = refused(lab, "open/*", public="one.example:5000/a/open", private="one.example:5000/a")
    assert "open/secret:x is private, but one.example:5000/a/open/secret is a part of the public registry" in told


hosts = st.sampled_from(["ghcr.io", "localhost:5000", "127.0.0.1:5000", "GHCR.IO", "docker.io", "a.b"])
paths = st.sampled_from(["", "acme", "acme/x", "acme-x", "other"])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(hosts, paths, hosts, paths, st.sampled_from(["img", "sub/img"]))
def test_reference_belongs_to_registry_by_host_and_path(
    host: str, path: str, other: str, below: str, image: str
) -> None:
    registry = ChainRegistry(host, path)
    reference = ImageReference(other, "/".join(part for part in (below, image) if part), "1")
    inside = host_of(host) == host_of(other) and f"{reference.repository}/".startswith(f"{path}/" if path else "")
    assert lies_in(reference, registry) == inside
    if inside:
        assert reference.repository.endswith(name_in(registry, reference))
