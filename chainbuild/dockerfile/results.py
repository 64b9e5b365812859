"""The results of `find_facts`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct, field

from chainbuild.dockerfile.model import ImageWordPosition
from chainbuild.errors import Problem

PLATFORM_ARGS: Final = frozenset(
    f"{side}{part}" for side in ("BUILD", "TARGET") for part in ("PLATFORM", "OS", "ARCH", "VARIANT", "OSVERSION")
) | {"TARGETSTAGE"}
"""The args that BuildKit defines before the first FROM."""
LATE_ARGS: Final = frozenset({"TARGETSTAGE", "BUILDOSVERSION", "TARGETOSVERSION"})
"""The args that BuildKit before 0.17 (TARGETSTAGE) and before 0.19 (the others) does not define."""
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH that BuildKit sets in a stage whose image does not set it."""

How = Literal["FROM", "COPY --from", "RUN --mount"]


class ParentConfig(Struct, frozen=True, kw_only=True):
    """The part of an image's config that affects a stage based on it: `Env` (`NAME=value` strings) and `OnBuild`."""

    env: tuple[str, ...] = ()
    onbuild: tuple[str, ...] = ()


class ImageUse(Struct, frozen=True, kw_only=True, order=True):
    """An outside image. `reference` is the expanded text, `platform` the OCI string.

    `place` is the position of its name in the Dockerfile; None if an ONBUILD trigger names it.
    """

    reference: str
    platform: str
    line: int
    how: How
    place: ImageWordPosition | None = None


class LocalSources(Struct, frozen=True, kw_only=True):
    """The files of a context that can be read.

    `patterns` are normalized paths relative to the context's root, with Go's `filepath.Match` wildcards and `**` for
    any depth; `"."` is the whole context. `required` are the patterns that a builder rejects if nothing exists there.
    `everything` is set for "." or in doubt, and `doubts` has the reasons. `with_parents`: a COPY --parents also takes the
    parent folders. `past_ignore`: the frontend is foreign and may not apply ignore files.
    """

    patterns: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    everything: bool = False
    doubts: tuple[str, ...] = ()
    with_parents: bool = False
    past_ignore: bool = False

    def __bool__(self) -> bool:
        return self.everything or bool(self.patterns)


class RemoteSource(Struct, frozen=True, kw_only=True, order=True):
    """The URL or git source of an ADD; `checksum` is the value of `--checksum`, `""` if there is none.

    If `certain` is not set, `url` is the word as it is written, which may expand to an address.
    """

    url: str
    checksum: str
    line: int
    certain: bool = True


class BaseArg(Struct, frozen=True, kw_only=True):
    """How a Dockerfile uses an arg in FROM: `declared` is the line of its ARG before the first FROM (0: not declared).

    True if it is declared and used.
    """

    declared: int
    used: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.declared and self.used)


class Facts(Struct, frozen=True, kw_only=True):
    """The inputs of a build of a Dockerfile, besides the Dockerfile itself.

    `reachable` are the indexes of the stages that the target needs. `sources` is about the main context,
    `named_sources` about the named contexts in use (including those that are images). `declared_args` maps the names
    that the global scope and the reachable stages declare to their first line, `unreachable_args` those of the other
    stages. `secrets` and `ssh` are ids. `build_platform_counts`: the build platform affects the result (a `BUILD…`
    platform arg is used outside a FROM's `--platform`). `onbuild` are the triggers that the result will have, `env` its
    environment, `NAME=value` (None: unknown), `variables` the values of ARG and ENV at its end, as far as they are known.
    `foreign`: the file is read by a foreign frontend. `source_lines` has the first line of each required source, by
    (context, pattern). `doubts` are the reasons for "everything", `problems` what BuildKit would reject.
    """

    reachable: tuple[int, ...] = ()
    images: tuple[ImageUse, ...] = ()
    sources: LocalSources = field(default_factory=LocalSources)
    named_sources: tuple[tuple[str, LocalSources], ...] = ()
    remotes: tuple[RemoteSource, ...] = ()
    declared_args: Mapping[str, int] = field(default_factory=dict)
    unreachable_args: Mapping[str, int] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()
    onbuild: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    build_platform_counts: bool = False
    foreign: bool = False
    source_lines: Mapping[tuple[str, str], int] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def normal_context_name(name: str) -> str:
    """Return the form in which names of contexts, stages and images are compared: Docker's short form, no `:latest`."""
    short = name.removesuffix(":latest")
    for prefix in ("docker.io/library/", "index.docker.io/library/", "library/", "docker.io/", "index.docker.io/"):
        if short.startswith(prefix) and ("/" not in short[len(prefix) :] or not prefix.endswith("library/")):
            return short[len(prefix) :]
    return short
