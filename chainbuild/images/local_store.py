"""The engine's local image store, as `docker images` shows it: find images in it, and load results into it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping

from msgspec import Struct, field

from chainbuild.errors import NotReadyError, RegistryError
from chainbuild.host.docker import engine_error, no_docker_command
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.text import last_line


class LocalImage(Struct, frozen=True, kw_only=True):
    """An image of the local store; `size` is unpacked, in bytes. `id` is the engine's own id for it."""

    id: str
    platform: Platform
    size: int
    repo_digests: tuple[str, ...]
    repo_tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


class LocalStore:
    """Finds, loads and tags images in the local store. Every call runs one docker command."""

    def find(self, name: str) -> LocalImage | None:
        """Return the image of that name; None if the store has none. Errors: `NotReadyError` if no engine answers."""
        done = _docker("image", "inspect", name)
        if done.returncode:
            if error := engine_error(done.stderr, last_line(done.stderr)):
                raise error
            return None
        document = json.loads(done.stdout)[0]
        return LocalImage(
            id=document.get("Id", ""),
            platform=Platform.from_oci(
                document.get("Os") or "linux", document.get("Architecture") or "", document.get("Variant") or ""
            ),
            size=int(document.get("Size") or 0),
            repo_digests=tuple(document.get("RepoDigests") or ()),
            repo_tags=tuple(document.get("RepoTags") or ()),
            labels=dict((document.get("Config") or {}).get("Labels") or {}),
        )

    def names(self) -> tuple[str, ...]:
        """Return every `repository:tag` of the store; none if no engine answers."""
        try:
            done = _docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
        except NotReadyError:
            return ()
        listed = (line.strip() for line in done.stdout.splitlines()) if done.returncode == 0 else ()
        return tuple(dict.fromkeys(name for name in listed if name and "<none>" not in name))

    def load(self, pinned: str, digest: Digest, platform: Platform, name: str) -> None:
        """Pull an image by digest and tag it, unless the tag already points at it.

        Errors: `RegistryError` with the engine's message.
        """
        image = self.find(name)
        if image and (image.id == str(digest) or pinned in image.repo_digests):
            return
        self.pull(pinned, platform)
        self._tag(pinned, name)
        # Remove the reference used for the pull; otherwise every result would also be listed as <none>.
        tagged = self.find(pinned)
        if tagged is None or not _may_remove(pinned, tagged):
            return
        _docker("rmi", pinned)
        if self.find(name) is None:
            # Engines differ in which tags they remove together with a digest.
            self.pull(pinned, platform)
            self._tag(pinned, name)

    def pull(self, pinned: str, platform: Platform) -> None:
        """Pull an image by digest, unless the store has it under its digest.

        Errors: `RegistryError` with the engine's message.
        """
        image = self.find(pinned)
        if image is not None and image.platform.same_as(platform):
            return
        done = _docker("pull", "--quiet", "--platform", platform.oci, pinned)
        if done.returncode:
            raise RegistryError(
                f"the engine could not pull {pinned}: {last_line(done.stderr)}",
                hint="The image is in the chain registry nevertheless; --no-load skips the local store.",
            )

    def _tag(self, pinned: str, name: str) -> None:
        done = _docker("tag", pinned, name)
        if done.returncode:
            raise RegistryError(f"the engine could not tag {name}: {last_line(done.stderr)}")


def _may_remove(pinned: str, image: LocalImage) -> bool:
    """Return whether the name of a pull by digest can be removed without a tag.

    With a digest of a repository, the engine's containerd store removes the repository's tag of the same image. If there is
    such a tag, `docker images` does not list the digest.
    """
    repository = ImageReference.parse(pinned).name
    tags = (tag for tag in image.repo_tags if "<none>" not in tag)
    return all(ImageReference.parse(tag).name != repository for tag in tags)


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise no_docker_command() from None
