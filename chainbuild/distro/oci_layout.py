"""The engine's local image store: load images into it, pull them into it, and push them from it to a registry."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from chainbuild.distro.layer_tar import PackedLayer
from chainbuild.errors import NotReadyError, RegistryError
from chainbuild.host.docker import no_docker_command
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.oci import OCI_CONFIG, OCI_INDEX, Descriptor, Manifest

_SECONDS: Final = 600


def label(name: str, key: str) -> str:
    """Return a label of the local image with that name; empty if there is no such image, label or engine."""
    try:
        done = _docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{key}"}}}}', name)
    except NotReadyError:
        return ""
    value = done.stdout.strip() if done.returncode == 0 else ""
    return "" if value == "<no value>" else value


def push(name: str, target: ImageReference) -> None:
    """Push the local image to a registry under the target's name. Errors: `RegistryError`."""
    remote = str(target)
    _must(_docker("tag", name, remote), f"tagging {name}")
    try:
        _must(_docker("push", "--quiet", remote), f"pushing {remote}")
    finally:
        _docker("rmi", "--no-prune", remote)


def pull(source: ImageReference, name: str, platforms: Sequence[Platform]) -> None:
    """Pull an image from a registry for these platforms and tag it with a local name.

    A store with one platform per name (any but containerd's) keeps the build machine's own platform. Errors:
    `RegistryError`, `NotReadyError`.
    """
    own = Platform.of_this_machine()
    # The machine's own platform is last, because a classic store keeps the last.
    ordered = sorted(platforms, key=lambda platform: platform.same_as(own))
    if not holds_platforms():
        ordered = ordered[-1:]
    remote = str(source)
    for platform in ordered:
        _must(_docker("pull", "--quiet", "--platform", platform.oci, remote), f"pulling {remote} for {platform}")
    _must(_docker("tag", remote, name), f"tagging {remote}")
    if remote != name:
        _docker("rmi", "--no-prune", remote)


def holds_platforms() -> bool:
    """Return whether the engine's store keeps several platforms per name, which only containerd's store does."""
    done = _docker("info", "--format", "{{json .DriverStatus}}")
    return "io.containerd.snapshotter" in done.stdout


def load(layer: PackedLayer, config: ImageConfig, name: ImageReference) -> None:
    """Load an image of one layer into the local store. Errors: `NotReadyError`."""
    with tempfile.NamedTemporaryFile(prefix="chainbuild-load-", suffix=".tar") as file:
        write_archive(Path(file.name), layer, config, name)
        done = _docker("load", "--quiet", "--input", file.name)
    if done.returncode != 0:
        raise NotReadyError(f"docker load failed: {done.stderr.strip()}")


def write_archive(path: Path, layer: PackedLayer, config: ImageConfig, name: ImageReference) -> None:
    """Write an archive for `docker load`: an OCI image layout with Docker's older `manifest.json`."""
    manifest = Manifest.make(config=Descriptor.of(config.raw, OCI_CONFIG), layers=(layer.descriptor,))
    full = f"{name.name}:{name.tag_or_latest}"
    entry: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest.value,
        "size": len(manifest.raw),
        "annotations": {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": name.tag_or_latest},
    }
    older = {
        "Config": f"blobs/sha256/{config.digest.hex}",
        "RepoTags": [f"{name.familiar_name}:{name.tag_or_latest}"],
        "Layers": [f"blobs/sha256/{layer.digest.hex}"],
    }
    documents = {
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
        "index.json": {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]},
        "manifest.json": [older],
    }
    with tarfile.open(path, "w") as archive:
        for member, document in documents.items():
            _add(archive, member, json.dumps(document).encode())
        _add(archive, f"blobs/sha256/{config.digest.hex}", config.raw)
        _add(archive, f"blobs/sha256/{manifest.digest.hex}", manifest.raw)
        archive.add(layer.path, f"blobs/sha256/{layer.digest.hex}")


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["docker", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise no_docker_command() from error
    except subprocess.TimeoutExpired as error:
        raise NotReadyError(f"docker {arguments[0]} did not finish within {_SECONDS} s") from error


def _must(done: subprocess.CompletedProcess[str], doing: str) -> None:
    if done.returncode != 0:
        raise RegistryError(f"{doing}: {done.stderr.strip()[-500:] or done.returncode}")
