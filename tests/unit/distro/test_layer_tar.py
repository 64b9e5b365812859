from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

from chainbuild.distro.layer_tar import pack_layer
from chainbuild.distro.oci_layout import write_archive
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.oci import Manifest, digest_of


def test_pack_layer_is_reproducible(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"content" * 1000)
    one = pack_layer(tmp_path / "a.tar", tmp_path / "one.gz")
    other = pack_layer(tmp_path / "a.tar", tmp_path / "other.gz")
    assert one.path.read_bytes() == other.path.read_bytes()
    assert gzip.decompress(one.path.read_bytes()) == b"content" * 1000
    assert one.diff_id == digest_of(b"content" * 1000)
    assert one.digest == digest_of(one.path.read_bytes())
    assert one.size == one.path.stat().st_size


def test_archive_is_oci_layout_and_docker_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"content")
    layer = pack_layer(tmp_path / "a.tar", tmp_path / "a.gz")
    config = ImageConfig.make(Platform.parse("amd64"), [layer.diff_id])
    write_archive(tmp_path / "image.tar", layer, config, ImageReference.parse("debian:bookworm-slim"))
    with tarfile.open(tmp_path / "image.tar") as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    index = json.loads(content["index.json"])
    entry = index["manifests"][0]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/debian:bookworm-slim"
    manifest = Manifest.parse(content["blobs/sha256/" + entry["digest"].removeprefix("sha256:")])
    assert manifest.digest.value == entry["digest"]
    for part in (manifest.config, *manifest.layers):
        assert digest_of(content[f"blobs/sha256/{part.digest.hex}"]) == part.digest
    older = json.loads(content["manifest.json"])[0]
    assert older["RepoTags"] == ["debian:bookworm-slim"]
    assert {older["Config"], *older["Layers"]} <= content.keys()
