"""Write images of registries as OCI image layouts on disk (image spec 1.1, "Image Layout"), which Apptainer reads.

chainbuild downloads the layers itself: its logins, proxies and certificates apply, the converter needs no network, and a
layer that several images share is downloaded once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from chainbuild import limits
from chainbuild.errors import DamagedContentError
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.contents import unpacked
from chainbuild.registry.http.transport import CHUNK
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.oci import OCI_CONFIG, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor, Index, Manifest
from chainbuild.registry.pool import Registries
from chainbuild.singularity.environment import SCRIPT, divide, layer_of, script, with_layer

OCI_LAYER_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
_TRANSFERS: Final = 4

Told = Callable[[int, int], None]
"""Called with the bytes received so far and the total; from any thread."""


class BlobStore:
    """A folder of blobs, named by digest. Files appear only when complete; several processes may share the folder."""

    def __init__(self, registries: Registries, folder: Path) -> None:
        self._registries = registries
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        """Return the path of a blob, which may not exist."""
        return self._folder / digest.hex

    def fetch(self, place: ImageReference, blobs: Collection[Descriptor], told: Told) -> None:
        """Download the blobs that are missing here. Errors: those of the registry."""
        missing = {blob.digest: blob for blob in blobs if not self.path(blob.digest).is_file()}
        total = sum(blob.size for blob in missing.values())
        lock, received = threading.Lock(), 0

        def count(more: int) -> None:
            nonlocal received
            with lock:
                received += more
                told(received, total)

        if missing:
            client = self._registries.client(place)
            with ThreadPoolExecutor(max_workers=min(_TRANSFERS, len(missing))) as threads:
                jobs = [
                    threads.submit(client.download, place.repository, digest, self.path(digest), count, size=blob.size)
                    for digest, blob in missing.items()
                ]
                try:
                    for job in jobs:
                        job.result()
                except BaseException:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise

    def unpack(self, place: ImageReference, layer: Descriptor, diff_id: Digest) -> Descriptor:
        """Unpack a downloaded layer to a plain tar and return its descriptor.

        Errors: `DamagedContentError` if it is damaged; `LimitError` if it exceeds the size limit of a layer.
        """
        target = self.path(diff_id)
        if not target.is_file():
            source, broken = unpacked(_chunks(self.path(layer.digest)), layer)
            aside = target.with_name(f".{target.name}.{os.getpid()}.part")
            running = hashlib.new(diff_id.algorithm)
            size = limits.Budget(limits.UNPACKED, f"the layer {layer.digest.short}", str(place))
            try:
                with aside.open("wb") as file:
                    while chunk := source.read(CHUNK):
                        size.spend(len(chunk))
                        running.update(chunk)
                        file.write(chunk)
                if running.hexdigest() != diff_id.hex:
                    raise DamagedContentError(f"{place}: layer {layer.digest.short} does not match its diff id")
                aside.replace(target)
            except (broken, EOFError) as error:
                raise DamagedContentError(f"{place}: layer {layer.digest.short} cannot be read: {error}") from error
            finally:
                aside.unlink(missing_ok=True)
        return Descriptor(media_type=OCI_LAYER_TAR, digest=diff_id, size=target.stat().st_size)

    def keep(self, digests: Collection[Digest]) -> None:
        """Remove all other blobs."""
        names = {digest.hex for digest in digests}
        for path in self._folder.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)


def write_layout(
    store: BlobStore,
    image: RemoteImage,
    folder: Path,
    *,
    labels: Mapping[str, str],
    reads_zstd: bool,
    told: Told,
    files: Mapping[str, bytes] | None = None,
) -> tuple[str, ...]:
    """Write the layout of an image into a new folder on the store's disk, with `labels` added to its config.

    `files` are added to the image, by path.

    The layout has OCI media types, whatever the registry has. `reads_zstd`: whether the reader supports zstd. Returns the
    names of variables that a SIF cannot have. Errors: those of the registry.
    """
    place = image.reference
    store.fetch(place, image.layers, told)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layers: list[Descriptor] = []
    for layer, diff_id in zip(image.layers, image.config.diff_ids, strict=True):
        kind = _media_type(layer)
        item = Descriptor(media_type=kind, digest=layer.digest, size=layer.size)
        if kind == OCI_LAYER_ZSTD and not reads_zstd:
            item = store.unpack(place, layer, diff_id)
        layers.append(item)
        target = blobs / item.digest.hex
        if not target.exists():
            _link(store.path(item.digest), target)
    plain, hard, lost = divide(image.config.env)
    config = image.config.with_changes(labels={**dict(image.config.labels), **labels}, env=plain)
    added = {**(files or {}), **({SCRIPT: script(hard).encode("utf-8", "surrogateescape")} if hard else {})}
    if added:
        top = layer_of(added)
        config = with_layer(config, top)
        layers.append(Descriptor.of(top, OCI_LAYER_TAR))
        (blobs / layers[-1].digest.hex).write_bytes(top)
    manifest = Manifest.make(config=Descriptor.of(config.raw, OCI_CONFIG), layers=layers)
    index = Index.make([manifest.descriptor])
    (blobs / config.digest.hex).write_bytes(config.raw)
    (blobs / manifest.digest.hex).write_bytes(manifest.raw)
    (folder / "index.json").write_bytes(index.raw)
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}), encoding="utf-8")
    return lost


def _link(source: Path, target: Path) -> None:
    """Hard-link a file that is never written to; copy it if the file system does not support links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _media_type(layer: Descriptor) -> str:
    if layer.media_type.endswith("+zstd"):
        return OCI_LAYER_ZSTD
    return OCI_LAYER_GZIP if layer.media_type.endswith(("+gzip", ".gzip")) else OCI_LAYER_TAR


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
