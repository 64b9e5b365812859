"""Read a Dockerfile as BuildKit does, without an engine, network or file system."""

from chainbuild.dockerfile.expansion import ExpansionError, expand
from chainbuild.dockerfile.facts import (
    Facts,
    ImageUse,
    LocalSources,
    ParentConfig,
    RemoteSource,
    arg_counts,
    base_arg_used,
    find_facts,
    unknown_args,
)
from chainbuild.dockerfile.grammar import parse
from chainbuild.dockerfile.model import ArgDeclaration, Dockerfile, Flag, Heredoc, Instruction, Stage

__all__ = [
    "ArgDeclaration",
    "Dockerfile",
    "ExpansionError",
    "Facts",
    "Flag",
    "Heredoc",
    "ImageUse",
    "Instruction",
    "LocalSources",
    "ParentConfig",
    "RemoteSource",
    "Stage",
    "arg_counts",
    "base_arg_used",
    "expand",
    "find_facts",
    "parse",
    "unknown_args",
]
