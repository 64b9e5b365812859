"""`script/bench rebase`: put many images on a patched base, against building them on it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.service import push_local, registry
from benchmarks.trees import MARK
from chainbuild.rebase.configuration import with_layer
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.contents import save_file
from chainbuild.registry.images import RemoteImage, put_image, put_index, resolve
from chainbuild.registry.oci import OCI_LAYER_GZIP, Descriptor, digest_of
from chainbuild.registry.pool import Registries

IMAGES = 50
PLATFORMS = {"amd64": "/usr/lib/x86_64-linux-gnu", "aarch64": "/usr/lib/aarch64-linux-gnu"}
_LIBRARY = "libz.so.1.2.13"
_STATUS = "/var/lib/dpkg/status"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The whole-process times, in seconds, for `images` images on each of the platforms."""

    images: int
    built: float
    rebased: float
    planned: float


def measured(images: int = IMAGES, base: str = "debian:bookworm-slim") -> Comparison:
    """Measure. Every image must be rebased, or else built: anything else fails."""
    with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder, registry() as endpoint:
        root, source = Path(folder), ImageReference.parse(f"{endpoint}/bench/local:1")
        moving = source.with_tag("base")
        push_local(base, str(source))
        _write(root, images, moving)
        words = ("--root", root, "--registry", endpoint, "--no-load")
        _move(source, moving, "first", root)
        measure.say(f"building {images} images on {len(PLATFORMS)} platforms for the first time")
        measure.run(measure.chainbuild("build", *words))
        _move(source, moving, "second", root)
        rebased = _timed("rebase", root, *words)
        planned = measure.seconds(measure.chainbuild("plan", *words[:4], "--fail-if-build"))
        _move(source, moving, "third", root)
        built = _timed("build", root, *words)
        return Comparison(images=images, built=built, rebased=rebased, planned=planned)


def _timed(command: str, root: Path, *words: str | Path) -> float:
    """Run a command over the project, and check that it did to every image what its name says."""
    seconds = measure.seconds(measure.chainbuild(command, *words))
    logs = max((root / ".chainbuild" / "logs").iterdir(), key=lambda path: path.name)
    events = [json.loads(line) for line in (logs / "events.jsonl").read_text().splitlines()]
    done = [event["activity"] for event in events if event.get("event") == "step_finished"]
    if set(done) != {command}:
        raise measure.RunFailedError(
            f"chainbuild {command}: {len(done)} steps, of which some were: {sorted(set(done))}"
        )
    measure.say(f"{command}: {len(done)} images in {measure.shown(seconds)}")
    return seconds


def _write(root: Path, images: int, base: ImageReference) -> None:
    """Write a project whose images all build on the base, each with a user, a script and a file of its own."""
    rows = [f"platforms: [{', '.join(PLATFORMS)}]", "tag: latest", "layers:"]
    for number in range(images):
        name = f"image{number:02}"
        rows += [f"  - folder: {name}", f"    image: bench/{name}", f"    base: {base}"]
        (root / name).mkdir()
        (root / name / "tool").write_text(f"#!/bin/sh\necho {name}\n")
        (root / name / "Dockerfile").write_text(
            f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\nRUN mkdir -p {MARK} && useradd {name} && ldconfig\n"
            "COPY tool /usr/local/bin/\n"
        )
    (root / "chainbuild.yaml").write_text("\n".join(rows) + "\n")


def _move(source: ImageReference, moving: ImageReference, version: str, scratch: Path) -> None:
    """Move the base of all images to one with another version of zlib: in the file and in the package database."""
    with Registries() as registries:
        images = {}
        for name, libraries in PLATFORMS.items():
            platform = Platform.parse(name)
            image = resolve(registries, source, platform)
            path = f"{libraries}/{_LIBRARY}"
            status = _read(registries, image, _STATUS, scratch)
            layer = _layer(
                {
                    path: _read(registries, image, path, scratch) + version.encode(),
                    _STATUS: status.replace(
                        b"Version: 1:1.2.13.dfsg-1", f"Version: 1:1.2.13.dfsg-1+{version}".encode()
                    ),
                }
            )
            packed = gzip.compress(layer, mtime=0)
            registries.client(moving).put_blob(moving.repository, packed)
            layers = (*image.layers, Descriptor.of(packed, OCI_LAYER_GZIP))
            config = with_layer(image.config, digest_of(layer))
            images[platform] = put_image(registries, moving.with_tag(name), config, layers).descriptor
        put_index(registries, moving, images)


def _read(registries: Registries, image: RemoteImage, path: str, scratch: Path) -> bytes:
    target = scratch / "content"
    save_file(registries, image, path, target)
    return target.read_bytes()


def _layer(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def table(found: Comparison) -> str:
    """The table."""
    count = found.images * len(PLATFORMS)
    return "\n".join(
        [
            f"| {found.images} images on {len(PLATFORMS)} platforms | whole process | an image |",
            "| --- | ---: | ---: |",
            f"| `chainbuild build` | {measure.shown(found.built)} | {measure.shown(found.built / count)} |",
            f"| `chainbuild rebase` | {measure.shown(found.rebased)} | {measure.shown(found.rebased / count)} |",
            f"| the next `chainbuild plan` | {measure.shown(found.planned)} | {measure.shown(found.planned / count)} |",
            "",
            f"Rebasing is {measure.ratio(found.built / found.rebased)} as fast as building.",
        ]
    )
