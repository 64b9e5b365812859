"""What git says of a tree: where it stands, what has changed, and what a file was before. Nothing is ever written.

Every question is one call of git, on a view in which the tree cannot name programs (`git_view`). A folder that is no git
tree, or a machine without git, is an answer and no error; a revision that cannot be found is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.git_view import run_git

EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The tree without files, which every git knows: what a first commit is compared with."""

Runner = Callable[[Sequence[str]], str | None]
"""Runs git with these arguments; its stdout, or None where it failed."""


class Head(Struct, frozen=True, kw_only=True):
    """The commit that a tree is at: its short hash, and how many commits there are up to it."""

    short: str
    count: int


class Span(Struct, frozen=True, kw_only=True):
    """From what to what a tree is compared: commits, or trees; `newer` is None for the files as they lie there."""

    older: str
    newer: str | None
    said: str = ""

    @property
    def open(self) -> bool:
        """Whether edits that nobody has committed are in it."""
        return self.newer is None


class Git:
    """The git tree that a folder lies in. Paths are relative to the folder."""

    def __init__(self, root: Path, run: Runner | None = None) -> None:
        self._run = run or (lambda arguments: run_git(root, arguments))

    def head(self) -> Head | None:
        """Where the tree stands; None where it is no git tree, or has no commit yet."""
        said = self._run(["log", "-1", "--format=%h"])
        count = self._run(["rev-list", "--count", "HEAD"]) if said else None
        if not said or not count:
            return None
        return Head(short=said.strip(), count=int(count))

    def dirty(self, paths: Sequence[str]) -> bool:
        """Whether anything below these paths is not as it was committed; a file that git does not know is so."""
        return bool(self._run(["status", "--porcelain", "--", *paths]))

    def span(self, text: str) -> Span:
        """What `REV`, `A..B` or `A...B` means. A single revision goes to the files as they lie there.

        `HEAD^` of a first commit is the tree without files. Errors: `WrongUseError`.
        """
        if "..." in text:
            older, newer = (part or "HEAD" for part in text.split("...", 1))
            base = self._run(["merge-base", self.commit(older, text), self.commit(newer, text)])
            if not base:
                raise WrongUseError(f"{text!r}: the two have no commit in common", hint="Use two dots.")
            return Span(older=base.strip(), newer=self.commit(newer, text), said=text)
        if ".." in text:
            older, newer = (part or "HEAD" for part in text.split("..", 1))
            return Span(older=self.commit(older, text), newer=self.commit(newer, text), said=text)
        return Span(older=self.commit(text, text), newer=None, said=text)

    def recent(self) -> tuple[Span, ...]:
        """What the last commit changed and what was edited since; then the edits alone. Nothing where it is no git tree."""
        head = self._run(["rev-parse", "--verify", "--quiet", "HEAD"])
        if not head:
            return ()
        return Span(older=self._before("HEAD") or EMPTY_TREE, newer=None), Span(older=head.strip(), newer=None)

    def commit(self, text: str, whole: str) -> str:
        """The full hash of a revision. Errors: `WrongUseError`."""
        found = None if text.startswith("-") else self._run(["rev-parse", "--verify", "--quiet", f"{text}^{{commit}}"])
        if found:
            return found.strip()
        shallow = (self._run(["rev-parse", "--is-shallow-repository"]) or "").strip() == "true"
        for end in ("^", "~", "~1", "^1"):
            child = text.removesuffix(end)
            if child == text:
                continue
            there = self._run(["rev-parse", "--verify", "--quiet", f"{child}^{{commit}}"])
            if there and not shallow and self._before(there.strip()) is None:
                return EMPTY_TREE
        said = f"{whole!r}: " if whole != text else ""
        hint = "This clone has only its newest commits: git fetch --unshallow." if shallow else "See git log."
        raise WrongUseError(f"{said}git knows no revision {text!r} here", hint=hint)

    def _before(self, commit: str) -> str | None:
        """The first parent; None for a first commit (or the last one that a shallow clone has)."""
        found = self._run(["rev-parse", "--verify", "--quiet", f"{commit}^1"])
        return found.strip() if found else None

    def changed(self, span: Span, paths: Sequence[str]) -> tuple[str, ...]:
        """The files below these paths that differ, those that went away with them."""
        ends = [span.older, *([span.newer] if span.newer else [])]
        how = ("--name-only", "--no-ext-diff", "--no-textconv", "--no-renames", "--relative", "-z")
        said = self._run(["diff", *how, *ends, "--", *paths])
        if said is None:
            raise WrongUseError(f"git cannot compare {span.said or span.older}", hint="See git diff.")
        return tuple(_entries(said))

    def untracked(self, paths: Sequence[str]) -> tuple[str, ...]:
        """The files below these paths that git does not know and is not told to ignore."""
        said = self._run(["ls-files", "--others", "--exclude-standard", "-z", "--", *paths])
        return tuple(_entries(said or ""))

    def before(self, span: Span, path: str) -> bytes | None:
        """Return what a file was at the older end; None if it was not there.

        Errors: `WrongUseError` if it was there, but this clone does not have its content.
        """
        name = f"{span.older}:./{path}"
        content = self._run(["cat-file", "blob", name])
        if content is None and self._run(["rev-parse", "--verify", "--quiet", name]):
            raise WrongUseError(
                f"{path}: this clone does not have its content at {span.older[:12]}",
                hint="It is a partial clone, and nothing is fetched here: git fetch --refetch --no-filter.",
            )
        return None if content is None else content.encode("utf-8", "surrogateescape")


def _entries(text: str) -> Iterator[str]:
    return (entry for entry in text.split("\0") if entry)
