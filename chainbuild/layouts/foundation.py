"""What a Dockerfile stands on: the FROM at the bottom of its last stage, and how another base can be put there.

The file is never edited. Where the FROM is nothing but one ARG, the base comes in as that build argument; where it names
an image in any other way, that word is replaced in the copy of the file that the builder gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, base_arg_used
from chainbuild.dockerfile.expansion import ExpansionError, expand
from chainbuild.dockerfile.stages import references, resolve_stages
from chainbuild.errors import Problem
from chainbuild.references import Platform
from chainbuild.wording import perhaps_you_meant

# Stands for a value while it is looked whether a FROM is nothing but that value. No image can be called so.
_MARK: Final = "!"


class Foundation(Struct, frozen=True, kw_only=True):
    """The FROM that the last stage stands on in the end.

    `written` is its text in the file, `reference` what that becomes (empty where an ARG has no value); `arg` is the ARG
    that it consists of (empty: none, or more than that), `declared` the line of that ARG before the first FROM (0: none).
    """

    line: int
    written: str
    reference: str
    arg: str = ""
    declared: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether it is `FROM scratch`."""
        return self.reference == "scratch" and not self.arg


def find_foundation(
    dockerfile: Dockerfile,
    *,
    args: Mapping[str, str],
    platform: Platform,
    build_platform: Platform,
    target: str | None = None,
) -> Foundation | None:
    """The foundation of a build with these args; None where the file has no FROM (which is told elsewhere)."""
    if not dockerfile.stages:
        return None
    graph = resolve_stages(
        dockerfile,
        args=args,
        target=target,
        target_platform=platform,
        build_platform=build_platform,
        contexts=frozenset(),
        parents={},
    )
    lowest = graph.stages[graph.target]
    while lowest.origin.kind == "stage":
        lowest = graph.stages[lowest.origin.index]
    stage = lowest.stage
    arg = _whole(stage.base, dockerfile.escape)
    return Foundation(
        line=stage.line,
        written=stage.base,
        reference=_expanded(stage.base, graph.scope.env, dockerfile.escape),
        arg=arg,
        declared=base_arg_used(dockerfile, arg).declared if arg else 0,
    )


def _whole(text: str, escape: str) -> str:
    """The variable that a text consists of, whatever default stands in it; empty where there is none or more."""
    names = references(text, escape)
    if len(names) != 1:
        return ""
    (name,) = names
    return name if _expanded(text, {name: _MARK}, escape) == _MARK else ""


def _expanded(text: str, values: Mapping[str, str], escape: str) -> str:
    try:
        return expand(text, values, escape=escape).text
    except ExpansionError:
        return ""


def check_base_arg(dockerfile: Dockerfile, name: str) -> Problem | None:
    """What is wrong with taking the ARG of that name for the base; None where a FROM uses it."""
    if base_arg_used(dockerfile, name):
        return None
    declared = sorted({arg.name for arg in dockerfile.global_args})
    hint = perhaps_you_meant(name, declared, str) + (
        f"ARGs before the first FROM: {', '.join(declared)}." if declared else "No ARG stands before the first FROM."
    )
    line = dockerfile.stages[0].line if dockerfile.stages else 0
    return Problem(path=dockerfile.path, line=line, message=f"no FROM uses the ARG {name}", hint=hint)
