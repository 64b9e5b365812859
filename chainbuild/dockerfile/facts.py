"""Determine what a Dockerfile reads and declares, for given args, target, platforms and named contexts.

As in BuildKit, only the stages that the target needs count. If the Dockerfile is not sufficient (a variable that an image
may set, a foreign frontend, unknown ONBUILD triggers of an image), the result is "everything" with the reason: a step key
that misses an input is worse than one with too many inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from chainbuild.dockerfile.evaluation import evaluate
from chainbuild.dockerfile.grammar import declarations
from chainbuild.dockerfile.model import ArgDeclaration, Dockerfile
from chainbuild.dockerfile.results import (
    PLATFORM_ARGS,
    BaseArg,
    Facts,
    ImageUse,
    LocalSources,
    ParentConfig,
    RemoteSource,
    normal_context_name,
)
from chainbuild.dockerfile.stages import references, resolve_stages
from chainbuild.errors import Problem
from chainbuild.references import Platform
from chainbuild.text import perhaps_you_meant

__all__ = [
    "BaseArg",
    "Facts",
    "ImageUse",
    "LocalSources",
    "ParentConfig",
    "RemoteSource",
    "arg_counts",
    "base_arg_used",
    "find_facts",
    "normal_context_name",
    "unknown_args",
]

PROXY_ARGS: Final = frozenset(
    spelled
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for spelled in (name, name.lower())
)
_BUILDER_ARGS: Final = frozenset({"SOURCE_DATE_EPOCH"})


def find_facts(
    dockerfile: Dockerfile,
    *,
    args: Mapping[str, str],
    target_platform: Platform,
    build_platform: Platform,
    target: str | None = None,
    contexts: Collection[str] = (),
    parents: Mapping[tuple[str, str], ParentConfig] | None = None,
) -> Facts:
    """Evaluate a Dockerfile. Never raises.

    `args` are the build args that the builder gets; `target` is the name of a stage (None: the last stage); `contexts`
    are the names of the named contexts, which replace stages and images of the same name. `parents` has the relevant part
    of an image's config by (the expanded reference, the OCI platform); for an image behind a named context, the name of
    the context is used instead of the reference. If the base image of a reachable stage is not in `parents`, its ONBUILD
    triggers are unknown and the sources are "everything".
    """
    graph = resolve_stages(
        dockerfile,
        args=args,
        target=target,
        target_platform=target_platform,
        build_platform=build_platform,
        contexts=frozenset(normal_context_name(name) for name in contexts),
        parents=parents or {},
    )
    return evaluate(dockerfile, graph, args=args)


def arg_counts(name: str, facts: Facts) -> bool:
    """Return whether a build arg can affect this build: it is declared, or BuildKit uses it undeclared.

    Undeclared args are the proxy args (set in every RUN), `SOURCE_DATE_EPOCH` and names that begin with `BUILDKIT_`.
    """
    return name in facts.declared_args or is_undeclared(name)


def is_undeclared(name: str) -> bool:
    """Return whether BuildKit uses a build arg even if no Dockerfile declares it."""
    return name in PROXY_ARGS | PLATFORM_ARGS | _BUILDER_ARGS or name.startswith("BUILDKIT_")


def unknown_args(names: Iterable[str], dockerfiles: Iterable[Dockerfile], *, path: str, line: int = 0) -> list[Problem]:
    """Return a problem for every name that no stage of the Dockerfiles declares, with the most similar declared name."""
    declared = {declared.name for dockerfile in dockerfiles for declared in all_declarations(dockerfile)}
    problems = []
    for name in names:
        if name in declared or is_undeclared(name):
            continue
        near = perhaps_you_meant(name, declared, str).rstrip()
        hint = near or f"Add 'ARG {name}' to the Dockerfile that uses it."
        problems.append(Problem(path=path, line=line, message=f"no Dockerfile declares the arg {name}", hint=hint))
    return problems


def all_declarations(dockerfile: Dockerfile) -> tuple[ArgDeclaration, ...]:
    """Return every ARG of the file, including those of unreachable stages, but not those of ONBUILD triggers."""
    in_stages = [
        declared
        for stage in dockerfile.stages
        for result in stage.instructions
        if result.keyword == "ARG"
        for declared in declarations(result)
    ]
    return (*dockerfile.global_args, *in_stages)


def declared_args(dockerfile: Dockerfile) -> frozenset[str]:
    """Return the names that a Dockerfile declares, in any stage."""
    return frozenset(declared.name for declared in all_declarations(dockerfile))


def base_arg_used(dockerfile: Dockerfile, name: str) -> BaseArg:
    """Return whether `ARG name` precedes the first FROM and a FROM uses it, directly or through another ARG's default."""
    declared = 0
    carriers: set[str] = set()
    for arg in dockerfile.global_args:
        if arg.name == name:
            declared = declared or arg.line
            carriers.add(name)
        elif arg.default and references(arg.default, dockerfile.escape) & carriers:
            carriers.add(arg.name)
    used = tuple(
        stage.line for stage in dockerfile.stages if references(stage.base, dockerfile.escape) & (carriers or {name})
    )
    return BaseArg(declared=declared, used=used)
