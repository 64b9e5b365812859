"""The answers: what `find_facts` gives."""

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
"""Those of them that releases before 0.17 (TARGETSTAGE) and 0.19 do not define."""
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What BuildKit sets PATH to in a stage whose image does not set it."""

How = Literal["FROM", "COPY --from", "RUN --mount"]


class ParentConfig(Struct, frozen=True, kw_only=True):
    """What an image's config brings into a stage that starts from it: `Env` (`NAME=value` texts) and `OnBuild`."""

    env: tuple[str, ...] = ()
    onbuild: tuple[str, ...] = ()


class ImageUse(Struct, frozen=True, kw_only=True, order=True):
    """An image from outside. `reference` is the text after expansion, `platform` the OCI string.

    `place` is the word of the Dockerfile that names it; None if an ONBUILD trigger does.
    """

    reference: str
    platform: str
    line: int
    how: How
    place: ImageWordPosition | None = None


class LocalSources(Struct, frozen=True, kw_only=True):
    """What of one context can be read.

    `patterns` are paths relative to the context's root, cleaned, with Go's `filepath.Match` wildcards and `**` for
    any depth; `"."` is the whole context. `required` are those of them that a builder refuses if they lead nowhere.
    `everything` is set where it is "." or in doubt, and `doubts` says why. `with_parents`: a COPY --parents also takes
    the folders above. `past_ignore`: the frontend is a foreign one, which may not honour ignore files.
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
    """The URL or git source of an ADD; `checksum` is the value of `--checksum`, `""` where there is none.

    Where `certain` is not set, `url` is the word as it is written, whose variables may make an address of it.
    """

    url: str
    checksum: str
    line: int
    certain: bool = True


class BaseArg(Struct, frozen=True, kw_only=True):
    """How a Dockerfile uses an arg in FROM: `declared` is the line of its ARG before the first FROM (0: none).

    True where it is declared and used.
    """

    declared: int
    used: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.declared and self.used)


class Facts(Struct, frozen=True, kw_only=True):
    """What a build of this Dockerfile depends on, besides the Dockerfile itself.

    `reachable` are the indexes of the stages that the target needs. `sources` is about the main context,
    `named_sources` about the named contexts that are used (also those that stand for images). `declared_args` maps
    the names that the global scope and the reachable stages declare to their first line, `unreachable_args` those of
    the other stages. `secrets` and `ssh` are ids. `build_platform_counts`: the platform that builds decides
    something, too (a `BUILD…` platform arg is mentioned elsewhere than in a FROM's `--platform`). `onbuild` are the
    triggers that the result will carry. `foreign`: a frontend that is not Dockerfile's own reads the file. `source_lines`
    has the line that names a required source first, by (context, pattern). `doubts` are the reasons for an "everything",
    `problems` what BuildKit would refuse.
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
    build_platform_counts: bool = False
    foreign: bool = False
    source_lines: Mapping[tuple[str, str], int] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def normal_context_name(name: str) -> str:
    """The form in which names of contexts, stages and images meet: as Docker shortens them, without `:latest`."""
    short = name.removesuffix(":latest")
    for prefix in ("docker.io/library/", "index.docker.io/library/", "library/", "docker.io/", "index.docker.io/"):
        if short.startswith(prefix) and ("/" not in short[len(prefix) :] or not prefix.endswith("library/")):
            return short[len(prefix) :]
    return short
