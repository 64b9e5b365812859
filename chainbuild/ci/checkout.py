"""The git repository that a workflow belongs to: its top folder, its default branch, and its submodules."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.context.submodules import submodules
from chainbuild.errors import WrongUseError
from chainbuild.host.git import find_repository, run_git
from chainbuild.patterns import regex

_BRANCH: Final = regex(r"[A-Za-z0-9_][A-Za-z0-9_./#@-]*")
_USUAL: Final = ("main", "master")


class Checkout(Struct, frozen=True, kw_only=True):
    """What a job checks out. Without a git repository, `top` is the folder that the command was started in."""

    top: Path
    branch: str
    """The branch whose pushes build the images."""
    submodules: tuple[str, ...] = ()
    """The folders of the submodules, relative to `top`."""
    notes: tuple[str, ...] = ()

    def place(self, path: Path, flag: str) -> str:
        """Return a path relative to the top folder; `.` for the top folder itself.

        Errors: `WrongUseError` if the repository does not contain the path.
        """
        try:
            return path.resolve().relative_to(self.top).as_posix()
        except ValueError:
            raise WrongUseError(
                f"{flag}: {str(path)!r} is outside of the repository {self.top}",
                hint="Jobs check out only this repository. Add the files to it, for example as a git submodule.",
            ) from None


def read_checkout(folder: Path, branch: str | None = None) -> Checkout:
    """Return the repository around a folder. `branch` overrides the default branch.

    Errors: `WrongUseError` if the name of the branch cannot be written into a workflow.
    """
    repository = find_repository(folder)
    top = repository.top if repository else folder.resolve()
    notes: tuple[str, ...] = ()
    if branch is None:
        branch, certain = _default_branch(top)
        if not certain:
            note = (
                f"git does not know the default branch, so the workflow builds {branch}; to change that, use --branch, "
            )
            notes = (f"{note}or run git remote set-head origin --auto",)
    if not _BRANCH.fullmatch(branch):
        raise WrongUseError(
            f"--branch {branch!r} is not allowed in a workflow",
            hint="Use a branch with a name of ASCII letters, digits and _ . / # @ -.",
        )
    return Checkout(top=top, branch=branch, submodules=submodules(top), notes=notes)


def tracked_files(top: Path) -> tuple[str, ...] | None:
    """Return the files that a job would check out, relative to the top folder; None outside of a git repository."""
    output = run_git(top, ["ls-files", "-z"])
    return None if output is None else tuple(path for path in output.split("\0") if path)


def _default_branch(top: Path) -> tuple[str, bool]:
    """Return the default branch, and whether git knows it: the HEAD of a remote, or the only branch that it can be."""
    heads = _refs(top, "%(symref)", "refs/remotes")
    targets = {
        name: target for name, _, target in (head.removeprefix("refs/remotes/").partition("/") for head in heads)
    }
    for remote in ("origin", *targets):
        if targets.get(remote):
            return targets[remote], True
    branches = _refs(top, "%(refname:short)", "refs/heads")
    usual = [name for name in _USUAL if name in branches]
    for names in (usual, branches):
        if len(names) == 1:
            return names[0], True
    current = (run_git(top, ["symbolic-ref", "--quiet", "--short", "HEAD"]) or "").strip()
    return current or _USUAL[0], False


def _refs(top: Path, form: str, below: str) -> list[str]:
    output = run_git(top, ["for-each-ref", f"--format={form}", below]) or ""
    return [line for line in output.splitlines() if line]
