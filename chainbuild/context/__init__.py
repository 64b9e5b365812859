"""The files of a build context that a step can read, as BuildKit sees them."""

from chainbuild.context.files import UNREADABLE, ContentDigests, ContextFile, digest_of
from chainbuild.context.tree import ContextSelection, ContextTree, context_files

__all__ = [
    "UNREADABLE",
    "ContentDigests",
    "ContextFile",
    "ContextSelection",
    "ContextTree",
    "context_files",
    "digest_of",
]
