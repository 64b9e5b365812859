"""Rebase real images onto a patched base, and onto one that lost a library: what runs in containers is right."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from chainbuild.rebase.configuration import with_layer
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.contents import save_file
from chainbuild.registry.images import RemoteImage, put_image, resolve
from chainbuild.registry.oci import OCI_LAYER_GZIP, Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.values import replace

from .conftest import OTHER, OWN, Done, Lay, Place, join, pack_files

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

RUN = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
TREE = {
    "chain/10-Dockerfile-user": f"{RUN}RUN useradd --create-home me && ldconfig\n",
    "chain/20-Dockerfile-greet": f"{RUN}COPY greet /usr/local/bin/\n",
    "chain/30-Dockerfile-tool": f"{RUN}RUN cp /usr/bin/dpkg-deb /opt/\n",
    "greet": "#!/bin/sh\necho hello from $(id -un)\n",
}
STEPS = ["10-user", "20-greet", "30-tool"]
LIBRARIES = {"amd64": "/usr/lib/x86_64-linux-gnu", "aarch64": "/usr/lib/aarch64-linux-gnu"}
PATCH = b"patched"
Read = Callable[[str], bytes]


def move(place: Place, base: str, scratch: Path, change: Callable[[Read, str], Mapping[str, bytes]]) -> None:
    """Move the user's base on both platforms to `base` with a layer of the files that `change(read, libraries)` returns."""
    with Registries() as registries:
        target = ImageReference.parse(place.base)
        for name, libraries in LIBRARIES.items():
            image = resolve(registries, ImageReference.parse(base), Platform.parse(name))

            def read(path: str, image: RemoteImage = image) -> bytes:
                save_file(registries, image, path, scratch / "file")
                return (scratch / "file").read_bytes()

            packed, diff_id = pack_files(change(read, libraries))
            client = registries.client(target)
            client.put_blob(target.repository, packed)
            for layer in image.layers:
                client.mount_blob(target.repository, layer.digest, image.reference.repository)
            layers = (*image.layers, Descriptor.of(packed, OCI_LAYER_GZIP))
            put_image(registries, target.with_tag(name), with_layer(image.config, diff_id), layers)
    join(place.base, tuple(LIBRARIES))


def patched(read: Read, libraries: str) -> Mapping[str, bytes]:
    """Return the files of a security update of zlib, in a base that has got another user, too."""
    status = read("/var/lib/dpkg/status").replace(b"Version: 1:1.2.13.dfsg-1", b"Version: 1:9.9.9-1")
    return {
        f"{libraries}/libz.so.1.2.13": read(f"{libraries}/libz.so.1.2.13") + PATCH,
        "/var/lib/dpkg/status": status,
        "/etc/passwd": read("/etc/passwd") + b"patcher:x:4242:0::/:/bin/sh\n",
    }


def without_zlib(read: Read, libraries: str) -> Mapping[str, bytes]:
    """Return the same without the library."""
    kept = {path: content for path, content in patched(read, libraries).items() if "libz" not in path}
    return {**kept, f"{libraries}/.wh.libz.so.1": b"", f"{libraries}/.wh.libz.so.1.2.13": b""}


def rebased(done: Done) -> list[str]:
    return [
        str(event["step"]).rpartition("/")[2] for event in done.events("step_finished") if event["activity"] == "rebase"
    ]


@pytest.fixture(scope="module")
def place(lay_once: Lay, base_images: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A chain for both platforms on a base of its own."""
    place = lay_once(files=TREE)
    place = replace(place, base=f"{place.host}/base:1")
    move(place, base_images, tmp_path_factory.mktemp("base"), lambda read, libraries: {"/etc/motd": b"first\n"})
    (place.root / "greet").chmod(0o755)
    assert place.build("chain", "--until", "30", platform=f"{OWN},{OTHER}").built != []
    return place


def test_patched_base_is_taken_without_a_build(place: Place, base_images: str, tmp_path: Path) -> None:
    move(place, base_images, tmp_path, patched)
    done = place.build("chain", "--until", "30", "--rebase", platform=f"{OWN},{OTHER}")
    assert sorted(rebased(done)) == sorted(STEPS * 2), done.told()
    tag = f"v1-chain-30-tool-{OWN}"
    assert place.output(tag, "su", "me", "-c", "greet") == "hello from me\n"
    assert place.output(tag, "/opt/dpkg-deb", "--version").startswith("Debian")
    assert place.output(tag, "sh", "-c", f"tail -c 7 {LIBRARIES[OWN]}/libz.so.1") == PATCH.decode()
    assert place.output(tag, "getent", "passwd", "patcher").startswith("patcher:")
    assert "9.9.9" in place.output(tag, "dpkg", "--status", "zlib1g")
    # The linker cache is what ldconfig makes of the image.
    script = "ldconfig -p > /tmp/before && ldconfig && ldconfig -p | cmp - /tmp/before"
    assert place.output(tag, "sh", "-c", script) == ""
    plan = place.run("plan", *place.words("chain", "--until", "30", "--fail-if-build", platform=f"{OWN},{OTHER}"))
    assert plan.code == 0, plan.told()
    assert plan.out.count("unchanged (rebased from ") == 2 * len(STEPS)
    shown = json.loads(place.run("inspect", tag_of(place, tag), "--registry", place.host, "--json").out)
    assert "merged: /etc/passwd" in shown["trail"][0]["record"]["verdicts"]["rebase"]


def tag_of(place: Place, tag: str) -> str:
    return str(place.name(tag))


def test_base_without_a_library_builds_the_step_that_needs_it(place: Place, base_images: str, tmp_path: Path) -> None:
    move(place, base_images, tmp_path, without_zlib)
    done = place.build("chain", "--until", "30", "--rebase")
    assert rebased(done) == STEPS[:2], done.told()
    (message,) = [event["text"] for event in done.events("message") if "cannot be rebased" in event["text"]]
    assert "/opt/dpkg-deb: it needs libz.so.1, which is not in the new base" in message
