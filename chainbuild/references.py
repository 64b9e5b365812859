"""Names of images and platforms, parsed once at the edge; past it, only these value objects travel.

The grammar is that of the distribution project's `reference` package: `[registry/]repository[:tag][@digest]`, where the
first component is a registry only if it holds a dot or a colon or is `localhost`.
"""

from __future__ import annotations

import platform as _machine
import re
from typing import Final

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.text import perhaps_you_meant
from chainbuild.values import replace

DOCKER_HUB: Final = "docker.io"
RECORDS_REPOSITORY: Final = "chainbuild-records"
"""The repository of a chain registry that has a copy of every record, whatever REPO it was made for."""

_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Digest(Struct, frozen=True, order=True):
    """A content digest, `algorithm:hex` (OCI image spec, descriptor)."""

    value: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.value):
            raise WrongUseError(f"{self.value!r} is not a digest", hint="A digest is sha256: and 64 hex digits.")

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.value.partition(":")[0]

    @property
    def hex(self) -> str:
        """The hex digits alone."""
        return self.value.partition(":")[2]

    @property
    def short(self) -> str:
        """The first 12 hex digits: for people."""
        return self.hex[:12]

    def __str__(self) -> str:
        return self.value


class ImageReference(Struct, frozen=True, order=True):
    """A full name of an image. `registry` and `repository` are normal forms (`docker.io`, `library/debian`)."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Read a reference as Docker does.

        Errors: `WrongUseError` that says which part is wrong.
        """
        rest, at, digest_text = text.partition("@")
        digest = Digest(digest_text) if at else None
        tag: str | None = None
        head, colon, tail = rest.rpartition(":")
        if colon and "/" not in tail:
            rest, tag = head, tail
            if not _TAG.fullmatch(tag):
                raise WrongUseError(
                    f"{text!r}: {tag!r} is not a tag",
                    hint="A tag has letters, digits, '_', '.', '-' (128 at most) and starts with none of '.' and '-'.",
                )
        first, slash, remainder = rest.partition("/")
        if slash and _is_host(first):
            registry, repository = first, remainder
        else:
            registry, repository = DOCKER_HUB, rest
        if registry in {"index.docker.io", "registry-1.docker.io"}:
            registry = DOCKER_HUB
        if not _HOST.fullmatch(registry):
            raise WrongUseError(
                f"{text!r}: {registry!r} is not a registry's host", hint="As in ghcr.io or localhost:5000."
            )
        check_repository(repository, whole=text)
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        return cls(registry, repository, tag, digest)

    @property
    def name(self) -> str:
        """`registry/repository`, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The name as people type it: without `docker.io/` and `library/`, where it still means the same then."""
        if self.registry != DOCKER_HUB:
            return self.name
        first, _, rest = self.repository.partition("/")
        if first == "library" and "/" not in rest:
            return rest
        return self.name if _is_host(first) else self.repository

    @property
    def is_scratch(self) -> bool:
        """Whether it is `scratch`, the empty image: builders know it, no registry has it (Dockerfile reference, FROM)."""
        return self == SCRATCH

    @property
    def tag_or_latest(self) -> str:
        """The tag, `latest` where none is written."""
        return self.tag or "latest"

    @property
    def pinned(self) -> str:
        """`registry/repository@digest`: what a builder is given. Needs a digest."""
        if self.digest is None:
            raise ValueError(f"{self} has no digest")
        return f"{self.name}@{self.digest}"

    def with_tag(self, tag: str) -> ImageReference:
        """The same repository under another tag."""
        if not _TAG.fullmatch(tag):
            raise WrongUseError(f"{tag!r} is not a tag", hint="Letters, digits, '_', '.', '-'; 128 characters at most.")
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> ImageReference:
        """The same repository (and tag), fixed to one content."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        text = self.familiar_name
        if self.tag:
            text += f":{self.tag}"
        if self.digest:
            text += f"@{self.digest}"
        return text


SCRATCH: Final = ImageReference(DOCKER_HUB, "library/scratch")


def _is_host(first: str) -> bool:
    """Whether the first component of a name is a registry's host, in Docker's reading."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def check_repository(path: str, *, whole: str = "") -> None:
    """Raise `WrongUseError` unless `path` is a repository's name in the distribution spec's grammar."""
    if _REPOSITORY.fullmatch(path) and len(path) <= 255:
        return
    said = f"{whole!r}: " if whole and whole != path else ""
    hint = "Lower-case letters, digits, and single '.', '_', '-' between them; parts are divided by '/'."
    if path.lower() != path and _REPOSITORY.fullmatch(path.lower()):
        hint = f"Repositories are lower case: {path.lower()!r}."
    raise WrongUseError(f"{said}{path!r} is not a repository's name", hint=hint)


class Platform(Struct, frozen=True, order=True):
    """A platform: `name` is the user's spelling (in tags and args files), the rest the OCI form."""

    name: str
    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read any usual spelling: `amd64`, `x86_64`, `aarch64`, `arm64`, `linux/arm64/v8`, …

        Errors: `WrongUseError` with the nearest known spelling.
        """
        spelled = text.strip().lower()
        short = spelled.removeprefix("linux/")
        known = _SPELLINGS.get(short)
        if known is None:
            hint = perhaps_you_meant(short, _SPELLINGS)
            hint += "Known: " + ", ".join(sorted(cls.known_names())) + "."
            raise WrongUseError(f"unknown platform {text!r}", hint=hint)
        architecture, variant = known
        family = _FAMILIES[known]
        return cls(short if "/" not in spelled else family[0], "linux", architecture, variant)

    @classmethod
    def from_oci(cls, os: str, architecture: str, variant: str = "") -> Platform:
        """The platform of a manifest or image config, under the spelling that this project prefers."""
        if architecture == "arm64" and variant == "v8":
            variant = ""
        family = _FAMILIES.get((architecture, variant))
        return cls(family[0] if family else architecture + variant, os, architecture, variant)

    @classmethod
    def of_this_machine(cls) -> Platform:
        """The platform that Linux containers have on this machine without emulation."""
        here = cls.parse(_machine.machine() or "amd64")
        return cls.from_oci(here.os, here.architecture, here.variant)

    @classmethod
    def known_names(cls) -> tuple[str, ...]:
        """The preferred spelling of every platform that is known."""
        return tuple(group[0] for group in _FAMILIES.values())

    @property
    def oci(self) -> str:
        """`os/architecture[/variant]`, as builders take it."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every spelling under which an args file of this platform may be found, the user's own first."""
        family = _FAMILIES.get((self.architecture, self.variant), ())
        return (self.name, *(other for other in family if other != self.name))

    def same_as(self, other: Platform) -> bool:
        """Whether both mean the same machine, however they are spelled."""
        return self.oci == other.oci

    def __str__(self) -> str:
        return self.name


# (OCI architecture, variant) -> spellings; the first is the one that this project prefers. Variants are those of the
# OCI image spec's platform table; arm64/v8 is arm64's default and is written without the variant.
_FAMILIES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("amd64", ""): ("amd64", "x86_64", "x86-64"),
    ("arm64", ""): ("aarch64", "arm64", "arm64v8"),
    ("arm", "v7"): ("armv7", "armhf", "arm32v7", "armv7l", "arm"),
    ("arm", "v6"): ("armv6", "armel", "arm32v6", "armv6l"),
    ("386", ""): ("i386", "386", "i686", "x86"),
    ("riscv64", ""): ("riscv64",),
    ("ppc64le", ""): ("ppc64le", "ppc64el"),
    ("s390x", ""): ("s390x",),
    ("mips64le", ""): ("mips64le", "mips64el"),
    ("loong64", ""): ("loong64", "loongarch64"),
}
_SPELLINGS: Final = {spelling: key for key, group in _FAMILIES.items() for spelling in group} | {
    "arm64/v8": ("arm64", ""),
    "arm/v7": ("arm", "v7"),
    "arm/v6": ("arm", "v6"),
}


class ChainRegistry(Struct, frozen=True):
    """Where steps hand images to each other: a host, and a path below which everything goes (`ghcr.io/org`)."""

    host: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> ChainRegistry:
        """Read `host[:port][/path]`. Errors: `WrongUseError`."""
        host, _, prefix = text.rstrip("/").partition("/")
        if not _HOST.fullmatch(host) or not ("." in host or ":" in host or host == "localhost"):
            whole = f"{text!r}: " if prefix else ""
            raise WrongUseError(
                f"{whole}{host!r} is not a registry's host", hint="As in localhost:5000 or ghcr.io/org."
            )
        if prefix:
            check_repository(prefix, whole=text)
        return cls(host, prefix)

    def holds(self, reference: ImageReference) -> bool:
        """Whether a reference names an image of this registry."""
        return reference.registry == self.host

    @property
    def records(self) -> ImageReference:
        """The repository of the copies of all records."""
        return ImageReference(self.host, f"{self.prefix}/{RECORDS_REPOSITORY}" if self.prefix else RECORDS_REPOSITORY)

    def place(self, name: ImageReference) -> ImageReference:
        """Where images of the repository `name` go here; a registry in the name becomes a part of the path."""
        if self.holds(name):
            return ImageReference(name.registry, name.repository)
        path = name.familiar_name.replace(":", "-").lower()
        repository = f"{self.prefix}/{path}" if self.prefix else path
        check_repository(repository)
        return ImageReference(self.host, repository)

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host
