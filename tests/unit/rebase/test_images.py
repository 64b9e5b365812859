"""The layer of merged files, and images composed with it."""

from __future__ import annotations

import io
import tarfile

from chainbuild.comparison.contents import Entry
from chainbuild.rebase.changes import MergedFile
from chainbuild.rebase.images import merged_layer, put_rebased
from chainbuild.references import ImageReference
from chainbuild.registry.oci import OCI_LAYER_GZIP
from chainbuild.registry.pool import Registries
from chainbuild.values import replace
from tests.support.fake_registry import FakeRegistry
from tests.unit.comparison.layers import add

SHADOW = Entry(kind="file", mode=0o640, owner="0:42", size=3, data=b"me\n")
FILES = [
    MergedFile(path="/var/x.pyc", entry=None, why="bytecode"),
    MergedFile(path="/etc/shadow", entry=SHADOW, why="merged"),
]


def test_layer_has_files_with_mode_and_owner_and_deletions() -> None:
    with tarfile.open(fileobj=io.BytesIO(merged_layer(FILES))) as archive:
        rows = [(member.name, member.mode, member.uid, member.gid, member.mtime) for member in archive]
    assert rows == [("etc/shadow", 0o640, 0, 42, 0), ("var/.wh.x.pyc", 0o644, 0, 0, 0)]
    assert merged_layer(reversed(FILES)) == merged_layer(FILES)


def test_image_has_layers_of_another_repository_as_oci_layers() -> None:
    fake = FakeRegistry()
    registries = Registries(transport=fake.transport, credentials=lambda host: None)
    base = add(fake, "docker.io/library/base:1", {"/a": b"1"})
    docker = replace(base.layers[0], media_type="application/vnd.docker.image.rootfs.diff.tar.gzip")
    base = replace(base, manifest=replace(base.manifest, layers=(docker,)))
    built = add(fake, "localhost:5000/team/app:1", {"/old": b"1"}, {"/b": b"2"})
    place = ImageReference.parse("localhost:5000/team/app:2")
    image = put_rebased(registries, built, base, built.layers[1:], built.config, merged_layer(FILES), place)
    assert [layer.media_type for layer in image.layers] == [OCI_LAYER_GZIP] * 3
    assert image.layers[0].digest == docker.digest
    client = registries.client(place)
    assert all(client.has_blob(place.repository, layer.digest, size=layer.size) for layer in image.layers)
