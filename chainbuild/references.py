"""References to images and platforms, parsed once at the edge of the program into value objects.

The grammar is that of the distribution project's `reference` package: `[registry/]repository[:tag][@digest]`. The first
component is a registry only if it contains a dot or a colon, or is `localhost`.
"""

from __future__ import annotations

import platform as _machine
from typing import Final

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.patterns import regex
from chainbuild.text import perhaps_you_meant
from chainbuild.values import replace

DOCKER_HUB: Final = "docker.io"
RECORDS_REPOSITORY: Final = "chainbuild-records"
"""The repository of a chain registry that has a copy of every record, independent of REPO."""

_REPOSITORY = regex(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_HOST = regex(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]+)?")
_TAG = regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = regex(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Digest(Struct, frozen=True, order=True):
    """A content digest, `algorithm:hex` (OCI image spec, descriptor)."""

    value: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.value):
            raise WrongUseError(
                f"{self.value!r} is not a digest", hint="A digest is sha256: followed by 64 hex digits."
            )

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.value.partition(":")[0]

    @property
    def hex(self) -> str:
        """The hex digits."""
        return self.value.partition(":")[2]

    @property
    def short(self) -> str:
        """The first 12 hex digits, for display."""
        return self.hex[:12]

    def __str__(self) -> str:
        return self.value


class ImageReference(Struct, frozen=True, order=True):
    """An image reference. `registry` and `repository` are normalized (`docker.io`, `library/debian`)."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Parse a reference as Docker does. Errors: `WrongUseError`, which says which part is wrong."""
        rest, at, digest_text = text.partition("@")
        digest = Digest(digest_text) if at else None
        tag: str | None = None
        head, colon, tail = rest.rpartition(":")
        if colon and "/" not in tail:
            rest, tag = head, tail
            if not _TAG.fullmatch(tag):
                raise WrongUseError(
                    f"{text!r}: {tag!r} is not a tag",
                    hint="A tag has up to 128 letters, digits, '_', '.' and '-', and does not start with '.' or '-'.",
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
                f"{text!r}: {registry!r} is not a registry host",
                hint="Write the host as in ghcr.io or localhost:5000.",
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
        """The name without `docker.io/` and `library/`, unless that would change its meaning."""
        if self.registry != DOCKER_HUB:
            return self.name
        first, _, rest = self.repository.partition("/")
        if first == "library" and "/" not in rest:
            return rest
        return self.name if _is_host(first) else self.repository

    @property
    def is_scratch(self) -> bool:
        """True for `scratch`, the empty image, which builders know but no registry has (Dockerfile reference, FROM)."""
        return self == SCRATCH

    @property
    def tag_or_latest(self) -> str:
        """The tag, or `latest` if there is none."""
        return self.tag or "latest"

    @property
    def pinned(self) -> str:
        """`registry/repository@digest`, the form passed to a builder. Errors: `ValueError` without a digest."""
        if self.digest is None:
            raise ValueError(f"{self} has no digest")
        return f"{self.name}@{self.digest}"

    def with_tag(self, tag: str) -> ImageReference:
        """Return the reference with another tag and no digest. Errors: `WrongUseError`."""
        if not _TAG.fullmatch(tag):
            raise WrongUseError(f"{tag!r} is not a tag", hint="A tag has up to 128 letters, digits, '_', '.' and '-'.")
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> ImageReference:
        """Return the reference, pinned to a digest."""
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
    """Return True if Docker reads the first component of a name as a registry host."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def check_repository(path: str, *, whole: str = "") -> None:
    """Check a repository name against the grammar of the distribution spec. Errors: `WrongUseError`."""
    if _REPOSITORY.fullmatch(path) and len(path) <= 255:
        return
    prefix = f"{whole!r}: " if whole and whole != path else ""
    hint = "Use lower-case letters and digits, single '.', '_' or '-' between them, and '/' between the parts."
    if path.lower() != path and _REPOSITORY.fullmatch(path.lower()):
        hint = f"Repository names are lower case: {path.lower()!r}."
    raise WrongUseError(f"{prefix}{path!r} is not a repository name", hint=hint)


class Platform(Struct, frozen=True, order=True):
    """A platform. `name` is the user's spelling (in tags and args files), the other fields are the OCI form."""

    name: str
    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse any common spelling: `amd64`, `x86_64`, `aarch64`, `arm64`, `linux/arm64/v8`, …

        Errors: `WrongUseError`, with the nearest known spelling.
        """
        spelled = text.strip().lower()
        short = spelled.removeprefix("linux/")
        key = _SPELLINGS.get(short)
        if key is None:
            hint = perhaps_you_meant(short, _SPELLINGS)
            hint += "Known platforms: " + ", ".join(sorted(cls.known_names())) + "."
            raise WrongUseError(f"unknown platform {text!r}", hint=hint)
        architecture, variant = key
        family = _FAMILIES[key]
        return cls(short if "/" not in spelled else family[0], "linux", architecture, variant)

    @classmethod
    def from_oci(cls, os: str, architecture: str, variant: str = "") -> Platform:
        """Return the platform of a manifest or image config, in the project's preferred spelling."""
        if architecture == "arm64" and variant == "v8":
            variant = ""
        family = _FAMILIES.get((architecture, variant))
        return cls(family[0] if family else architecture + variant, os, architecture, variant)

    @classmethod
    def of_this_machine(cls) -> Platform:
        """Return the platform on which Linux containers run natively on this machine."""
        native = cls.parse(_machine.machine() or "amd64")
        return cls.from_oci(native.os, native.architecture, native.variant)

    @classmethod
    def known_names(cls) -> tuple[str, ...]:
        """Return the preferred spelling of every known platform."""
        return tuple(group[0] for group in _FAMILIES.values())

    @property
    def oci(self) -> str:
        """`os/architecture[/variant]`, the form that builders take."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every spelling that an args file of this platform may have in its name, the user's own first."""
        family = _FAMILIES.get((self.architecture, self.variant), ())
        return (self.name, *(other for other in family if other != self.name))

    def same_as(self, other: Platform) -> bool:
        """Return True if both are the same platform, independent of the spelling."""
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
    """The registry through which steps exchange images: a host, and a path prefix of all repositories (`ghcr.io/org`)."""

    host: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> ChainRegistry:
        """Parse `host[:port][/path]`. Errors: `WrongUseError`."""
        host, _, prefix = text.rstrip("/").partition("/")
        if not _HOST.fullmatch(host) or not ("." in host or ":" in host or host == "localhost"):
            whole = f"{text!r}: " if prefix else ""
            raise WrongUseError(
                f"{whole}{host!r} is not a registry host", hint="Write it as in localhost:5000 or ghcr.io/org."
            )
        if prefix:
            check_repository(prefix, whole=text)
        return cls(host, prefix)

    def holds(self, reference: ImageReference) -> bool:
        """Return True if a reference names an image of this registry."""
        return reference.registry == self.host

    @property
    def records(self) -> ImageReference:
        """The repository with the copies of all records."""
        return ImageReference(self.host, f"{self.prefix}/{RECORDS_REPOSITORY}" if self.prefix else RECORDS_REPOSITORY)

    def place(self, name: ImageReference) -> ImageReference:
        """Return the repository in this registry for images of `name`; a registry in `name` becomes part of the path."""
        if self.holds(name):
            return ImageReference(name.registry, name.repository)
        path = name.familiar_name.replace(":", "-").lower()
        repository = f"{self.prefix}/{path}" if self.prefix else path
        check_repository(repository)
        return ImageReference(self.host, repository)

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host
