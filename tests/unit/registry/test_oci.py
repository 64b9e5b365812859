from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import RegistryError
from chainbuild.references import Platform
from chainbuild.registry.config import Healthcheck, ImageConfig
from chainbuild.registry.oci import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    Descriptor,
    Index,
    Manifest,
    canonical,
    digest_of,
)

AMD64, ARM64, ARMV7 = (Platform.parse(name) for name in ("amd64", "aarch64", "armv7"))


def descriptor(name: str, platform: Platform | None = None) -> Descriptor:
    return Descriptor(media_type=OCI_LAYER_GZIP, digest=digest_of(name.encode()), size=len(name), platform=platform)


def test_new_manifest_can_be_read_back() -> None:
    made = Manifest.make(
        config=Descriptor.of(b"{}", OCI_CONFIG, embed=True),
        layers=(descriptor("a"), descriptor("b")),
        artifact_type="application/vnd.example",
        annotations={"b": "2", "a": "1"},
        subject=descriptor("subject"),
    )
    assert Manifest.parse(made.raw) == made
    assert made.digest == digest_of(made.raw)
    assert made.size == 2 + 1 + 1
    assert made.annotations == (("a", "1"), ("b", "2"))
    assert made.config.data == b"{}"


def test_equal_content_has_equal_bytes() -> None:
    one = Manifest.make(config=descriptor("c"), layers=(), annotations={"x": "1", "y": "2"})
    other = Manifest.make(config=descriptor("c"), layers=(), annotations={"y": "2", "x": "1"})
    assert one.raw == other.raw


def test_docker_own_media_types_are_read() -> None:
    document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": []} | {
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": f"sha256:{'0' * 64}",
            "size": 1,
        }
    }
    assert Manifest.parse(json.dumps(document).encode()).media_type == DOCKER_MANIFEST
    assert Index.parse(json.dumps({"mediaType": DOCKER_LIST, "manifests": []}).encode()).media_type == DOCKER_LIST


def test_document_without_a_media_type_uses_that_of_the_response() -> None:
    raw = canonical({"schemaVersion": 2, "manifests": []})
    assert Index.parse(raw, media_type=DOCKER_LIST).media_type == DOCKER_LIST


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "not an image manifest"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "schema 1"),
        (b'{"config": 3}', "not an object"),
        (b'{"config": {"size": -1}}', "size"),
        (b'{"config": {"size": true}}', "size"),
        (b'{"config": {"size": 1, "digest": "md5:1"}}', "not a digest"),
        (b'{"config": {"size": 1, "digest": "sha256:%s"}, "layers": {}}' % (b"0" * 64), "has layers .*not a list"),
    ],
)
def test_broken_manifest_is_reported(raw: bytes, says: str) -> None:
    with pytest.raises(RegistryError, match=says):
        Manifest.parse(raw, where="team/app:1")


_KEYS = st.sampled_from(
    ["config", "layers", "manifests", "platform", "digest", "size", "os", "mediaType", "rootfs", "annotations", "Env"]
)
_DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
)


@given(st.binary(max_size=60) | _DOCUMENTS.map(lambda value: json.dumps(value).encode()))
def test_reading_any_document_returns_or_raises_registry_error(raw: bytes) -> None:
    for read in (Manifest.parse, Index.parse, ImageConfig.parse):
        with contextlib.suppress(RegistryError):
            read(raw)


def test_index_knows_which_children_are_images() -> None:
    attestation = Descriptor(
        media_type="application/vnd.oci.image.manifest.v1+json",
        digest=digest_of(b"proof"),
        size=5,
        platform=Platform.from_oci("unknown", "unknown"),
        annotations=(
            ("vnd.docker.reference.digest", digest_of(b"one").value),
            ("vnd.docker.reference.type", "attestation-manifest"),
        ),
    )
    index = Index.make([descriptor("one", AMD64), attestation, descriptor("bare")])
    assert index.platforms == (AMD64,)
    assert Index.parse(index.raw) == index
    assert index.attestations_of(digest_of(b"one")) == (attestation,)
    assert index.attestations_of(digest_of(b"two")) == ()


@pytest.mark.parametrize(
    ("there", "wanted", "fits"),
    [
        ("amd64", "x86_64", True),
        ("linux/arm64/v8", "aarch64", True),
        ("aarch64", "amd64", False),
        ("armv7", "armv6", False),
        ("armv7", "armv7", True),
    ],
)
def test_platform_is_found_in_any_spelling(there: str, wanted: str, fits: bool) -> None:
    index = Index.make([descriptor("one", Platform.parse(there))])
    assert (index.child(Platform.parse(wanted)) is not None) == fits


def test_architecture_matches_a_variant_only_without_a_plain_image() -> None:
    v2 = Platform.from_oci("linux", "amd64", "v2")
    assert Index.make([descriptor("v2", v2)]).child(AMD64) == descriptor("v2", v2)
    both = Index.make([descriptor("v2", v2), descriptor("plain", AMD64)])
    assert both.child(AMD64) == descriptor("plain", AMD64)


# ---- config -----------------------------------------------------------------------------------------------------------


def test_config_is_read_completely_and_changed_without_loss() -> None:
    document = {
        "os": "linux",
        "architecture": "arm64",
        "variant": "v8",
        "created": "2026-01-01T00:00:00Z",
        "moby.buildkit.buildinfo.v1": "kept",
        "history": [{"created_by": "RUN x"}],
        "rootfs": {"type": "layers", "diff_ids": [digest_of(b"a").value]},
        "config": {
            "Env": ["PATH=/bin", "A=b=c", "EMPTY="],
            "Entrypoint": ["/start"],
            "Cmd": ["x"],
            "WorkingDir": "/w",
            "User": "1000:1000",
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Labels": {"b": "2", "a": "1"},
            "Volumes": {"/data": {}},
            "StopSignal": "SIGINT",
            "Shell": ["/bin/bash", "-c"],
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000, "Retries": 3},
            "OnBuild": ["RUN y"],
            "ArgsEscaped": True,
        },
    }
    config = ImageConfig.parse(json.dumps(document).encode())
    assert config.platform == ARM64
    assert config.env == (("PATH", "/bin"), ("A", "b=c"), ("EMPTY", ""))
    assert config.exposed_ports == ("53/udp", "80/tcp")
    assert config.healthcheck == Healthcheck(test=("CMD", "true"), interval=1000, retries=3)
    assert config.on_build == ("RUN y",)

    unchanged = config.with_changes()
    assert json.loads(unchanged.raw) == document
    changed = config.with_changes(labels={"only": "this"}, cmd=None, healthcheck=None, user="")
    body = json.loads(changed.raw)
    assert body["config"]["Labels"] == {"only": "this"}
    assert not {"Cmd", "Healthcheck", "User"} & body["config"].keys()
    assert (body["moby.buildkit.buildinfo.v1"], body["history"]) == ("kept", [{"created_by": "RUN x"}])
    assert body["config"]["ArgsEscaped"] is True
    assert changed.on_build == config.on_build


def test_everything_that_is_set_reads_back() -> None:
    config = ImageConfig.make(ARMV7, [digest_of(b"a")], created="2026-01-01T00:00:00Z").with_changes(
        env=[("A", "1")],
        entrypoint=["e"],
        cmd=["c"],
        working_dir="/w",
        user="u",
        exposed_ports=["80/tcp"],
        labels={"l": "1"},
        volumes=["/v"],
        stop_signal="SIGTERM",
        shell=["sh"],
        healthcheck=Healthcheck(test=("NONE",)),
        on_build=["RUN z"],
    )
    assert ImageConfig.parse(config.raw) == config
    assert config.platform == ARMV7


def test_content_identity_ignores_dates() -> None:
    one = ImageConfig.make(AMD64, [digest_of(b"a")], created="2026-01-01T00:00:00Z", history=[{"created": "x"}])
    other = ImageConfig.make(AMD64, [digest_of(b"a")], created="2027-01-01T00:00:00Z")
    assert one.content_identity == other.content_identity
    assert one.digest != other.digest
    for changed in (
        ImageConfig.make(AMD64, [digest_of(b"b")]),
        ImageConfig.make(ARM64, [digest_of(b"a")]),
        other.with_changes(env=[("A", "1")]),
        other.with_changes(labels={"a": "1"}),
    ):
        assert changed.content_identity != other.content_identity
    # Null and empty are the same to a runtime.
    body = json.loads(other.raw)
    body["config"] = {"Env": None, "Labels": {}, "User": ""}
    assert ImageConfig.parse(json.dumps(body).encode()).content_identity == other.content_identity


@pytest.mark.parametrize(
    ("runtime", "says"),
    [({"Env": "A=1"}, "Env"), ({"Cmd": [1]}, "Cmd"), ({"Labels": []}, "Labels"), ({"User": 0}, "User")],
)
def test_broken_config_error_names_the_field(runtime: object, says: str) -> None:
    raw = json.dumps({"os": "linux", "architecture": "amd64", "config": runtime}).encode()
    with pytest.raises(RegistryError, match=says):
        ImageConfig.parse(raw, where="team/app:1")
