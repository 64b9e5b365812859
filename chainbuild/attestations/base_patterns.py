"""Patterns of image names, as `base-from` of a policy has them: parsed like image references, compared part by part.

A pattern is `[registry/]repository[:tag][@digest]`, in which `*` and `?` stand for characters of that part only: no pattern
for a repository of Docker Hub matches a name on another host (`debian:12/x`, `debian.example.com/x`). As the last part of a
path, `*` matches everything below it, and a pattern that has only `*` as its name matches every image.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.patterns import regex
from chainbuild.references import DOCKER_HUB, ImageReference

_ANY: Final = "*"
_HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_HOST = regex(r"[A-Za-z0-9.*?-]+(?::[0-9*?]+)?|\[[0-9a-fA-F:]+\](?::[0-9*?]+)?")
_PATH = regex(r"[a-z0-9._*?-]+(?:/[a-z0-9._*?-]+)*")
_TAG = regex(r"[A-Za-z0-9_.*?-]+")
_DIGEST = regex(r"\*|sha(?:256|512):[0-9a-f*?]+")
HINT: Final = "Write it as in debian:bookworm-*, ghcr.io/acme/* or ghcr.io/acme/tools@sha256:*."


class ImagePattern(Struct, frozen=True, kw_only=True):
    """A pattern of image names. `registry` is empty for every image; an empty `tag` or `digest` matches any."""

    registry: str
    path: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> ImagePattern:
        """Parse a pattern. Errors: `WrongUseError` if it can match no image."""
        rest, at, digest = text.partition("@")
        head, colon, tail = rest.rpartition(":")
        name, tag = (head, tail) if colon and "/" not in tail and not tail.endswith("]") else (rest, "")
        if (at and not _DIGEST.fullmatch(digest)) or (name != rest and not _TAG.fullmatch(tag)):
            raise _wrong(text)
        if name == _ANY:
            return cls(registry="", path=_ANY, tag=tag, digest=digest)
        first, slash, remainder = name.partition("/")
        is_host = bool(slash) and ("." in first or ":" in first or first == "localhost" or first != first.lower())
        registry, path = (first.lower(), remainder) if is_host else (DOCKER_HUB, name)
        if registry in _HUB_NAMES:
            registry = DOCKER_HUB
            path = path if "/" in path or path == _ANY else f"library/{path}"
        if not _HOST.fullmatch(registry) or not _PATH.fullmatch(path):
            raise _wrong(text)
        return cls(registry=registry, path=path, tag=tag, digest=digest)

    def matches(self, image: ImageReference, sha256: str) -> bool:
        """Return whether the pattern matches an image of that name whose manifest has that sha256.

        The tag of a name without tag and digest is `latest`; a name with a digest only has none.
        """
        tag = image.tag or ("" if image.digest else image.tag_or_latest)
        digests = [f"sha256:{sha256}"] if sha256 else []
        if image.digest:
            # The name may have the digest of the index, and the manifest is that of a platform.
            digests.append(str(image.digest))
        return (
            self._names(image)
            and (self.tag in {"", _ANY} or _glob(self.tag, tag))
            and (not self.digest or any(_glob(self.digest, digest) for digest in digests))
        )

    def _names(self, image: ImageReference) -> bool:
        if not self.registry:
            return True
        if not _glob(self.registry, image.registry.lower()):
            return False
        patterns, parts = self.path.split("/"), image.repository.split("/")
        if patterns[-1] == _ANY and len(parts) >= len(patterns):
            patterns.pop()
            parts = parts[: len(patterns)]
        return len(parts) == len(patterns) and all(map(_glob, patterns, parts))


def _glob(pattern: str, text: str) -> bool:
    """Return whether the whole text matches; every character but `*` and `?` is itself."""
    parts = {"*": ".*", "?": "."}
    return re.fullmatch("".join(parts.get(each) or re.escape(each) for each in pattern), text, re.DOTALL) is not None


def _wrong(text: str) -> WrongUseError:
    return WrongUseError(f"{text!r} is not a pattern of image names", hint=HINT)
