"""Build many small contexts at once with plain `docker buildx`, without chainbuild."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.reuse_pairs import IMAGES, ON_BUILD

RUNNER = "IMAGE_RUN"


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """One build: a folder with a context and a Dockerfile, and its options."""

    name: str
    context: Path
    dockerfile: Path
    args: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """The path of the result, an OCI layout in a tar."""
        return self.dockerfile.parent / f"{self.name}.tar"


AT_ONCE = 16


def build_all(builds: list[Build], folder: Path, *, together: bool = True) -> dict[str, str | None]:
    """Return the content of each image by build name, None for failed builds; one by one, or together."""
    if not together:
        return {build.name: _alone(build) for build in builds}
    found: dict[str, str | None] = {}
    for start in range(0, len(builds), AT_ONCE):
        found |= _build_some(builds[start : start + AT_ONCE], folder)
    return found


def _build_some(builds: list[Build], folder: Path) -> dict[str, str | None]:
    """Build in parallel in one call, and repeat alone those that were cancelled by another failure."""
    targets = {
        build.name: {
            "context": str(build.context),
            "dockerfile": str(build.dockerfile),
            "args": dict(build.args),
            "contexts": dict(build.contexts),
            "output": [f"type=oci,dest={build.output}"],
            "no-cache": True,
        }
        for build in builds
    }
    definition = folder / "bake.json"
    definition.write_text(json.dumps({"target": targets, "group": {"default": {"targets": list(targets)}}}))
    _docker("buildx", "bake", "--file", str(definition), "--progress", "quiet", "--provenance=false")
    found: dict[str, str | None] = {}
    for build in builds:
        content = _content(build.output)
        found[build.name] = content if content is not None else _alone(build)
    return found


def _alone(build: Build) -> str | None:
    build.output.unlink(missing_ok=True)
    argv = ["buildx", "build", "--quiet", "--no-cache", "--provenance=false", "--file", str(build.dockerfile)]
    argv += [f"--build-arg={name}={value}" for name, value in build.args.items()]
    argv += [f"--build-context={name}={place}" for name, place in build.contexts.items()]
    done = _docker(*argv, "--output", f"type=oci,dest={build.output}", str(build.context))
    return _content(build.output) if done.returncode == 0 else None


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BUILDX_", "BUILDKIT_"))}
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, env=environment)


def _content(layout: Path) -> str | None:
    """Return the digest of an image's content: its files without times, its configuration without history."""
    try:
        with tarfile.open(layout) as archive:
            blobs = {member.name: archive.extractfile(member) for member in archive.getmembers() if member.isfile()}
            raw = {name: stream.read() for name, stream in blobs.items() if stream}
    except (OSError, tarfile.TarError):
        return None

    def blob(digest: str) -> bytes:
        return raw[f"blobs/{digest.replace(':', '/')}"]

    index = json.loads(raw["index.json"])
    manifest = json.loads(blob(index["manifests"][0]["digest"]))
    if "manifests" in manifest:
        manifest = json.loads(blob(manifest["manifests"][0]["digest"]))
    config = json.loads(blob(manifest["config"]["digest"]))
    files: dict[str, Any] = {}
    for layer in manifest["layers"] or ():
        _apply(files, blob(layer["digest"]))
    kept = {name: config.get(name) for name in ("architecture", "os", "config")}
    return json.dumps([sorted(files.items()), kept], sort_keys=True)


def _apply(files: dict[str, Any], layer: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        for member in archive:
            name = member.name.strip("/")
            folder, _, last = name.rpartition("/")
            if last.startswith(".wh."):
                gone = f"{folder}/{last[4:]}".strip("/")
                for path in [path for path in files if path == gone or path.startswith(f"{gone}/")]:
                    del files[path]
                continue
            stream = archive.extractfile(member) if member.isfile() else None
            digest = hashlib.sha256(stream.read()).hexdigest() if stream else ""
            kind = "file" if member.isfile() else member.type.decode()
            files[name] = [kind, member.mode, member.uid, member.gid, member.linkname, digest]


@contextmanager
def pool(base: str, folder: Path) -> Iterator[dict[str, str]]:
    """Provide local images with names that stages can have, by placeholder, within a `with` block.

    `base` is an image with a shell and `cp`. `move` points one of the names to another image.
    """
    suffix = f"{os.getpid()}"
    names = {name: f"chainbuild-test-{name.removeprefix('IMAGE_').lower()}-{suffix}" for name in (*IMAGES, RUNNER)}
    made = [f"{name}{more}" for placeholder, name in names.items() for more in _tags(placeholder)]
    try:
        for placeholder in IMAGES:
            for state in (0, 1):
                _make(names[placeholder], placeholder, state, folder)
            move(names, placeholder, 0)
        argv = ["--tag", names[RUNNER], "--tag", f"{names[RUNNER]}-pinned", "--file", str(_runner(base, folder))]
        done = _docker("buildx", "build", "--quiet", "--load", *argv, str(folder))
        assert done.returncode == 0, done.stderr
        yield names
    finally:
        _docker("image", "rm", "--force", *made)


def _tags(placeholder: str) -> tuple[str, ...]:
    states = () if placeholder == RUNNER else (":state-0", ":state-1")
    return (":latest", "-pinned:latest", *states)


def move(names: Mapping[str, str], placeholder: str, state: int) -> None:
    """Point the name of an image to one of its two states."""
    name = names[placeholder]
    for tag in (f"{name}:latest", f"{name}-pinned:latest"):
        done = _docker("tag", f"{name}:state-{state}", tag)
        assert done.returncode == 0, done.stderr


def _make(name: str, placeholder: str, state: int, folder: Path) -> None:
    lines = ["FROM scratch", "COPY p /p", *(f"ENV {entry}" for entry in IMAGES[placeholder])]
    if placeholder == "IMAGE_ON":
        lines += [f"ONBUILD {trigger}" for trigger in ON_BUILD]
    spot = folder / f"{placeholder}-{state}"
    spot.mkdir()
    (spot / "p").write_text(f"{placeholder} {state}")
    (spot / "Dockerfile").write_text("\n".join(lines))
    done = _docker("buildx", "build", "--quiet", "--load", "--tag", f"{name}:state-{state}", str(spot))
    assert done.returncode == 0, done.stderr


def _runner(base: str, folder: Path) -> Path:
    path = folder / "Dockerfile-runner"
    path.write_text(f"FROM {base}\n")
    return path
