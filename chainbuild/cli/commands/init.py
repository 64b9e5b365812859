"""`chainbuild init`: write a `chainbuild.yaml` for a folder."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import flags

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chainbuild.operations.init import Values
    from chainbuild.operations.project_proposal import Guess


def init(
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing chainbuild.yaml.")] = False,
    dry_run: flags.DryRunOfFile = False,
    root: flags.Root = Path(),
) -> int:
    """Write a chainbuild.yaml from the folder's options, layers and science trees, and the last run's arguments."""
    from chainbuild.cli.output import messages, write_result
    from chainbuild.errors import WrongUseError
    from chainbuild.operations.init import look, problems_of, write
    from chainbuild.project.location import FILE_NAME
    from chainbuild.project.schema import put_schema
    from chainbuild.ui import stdout

    if not root.is_dir():
        raise WrongUseError(f"--root: no such folder: {str(root)!r}", hint="Pass the folder of the project.")
    guess = look(root)
    if guess.is_empty and guess.layers:
        raise WrongUseError(problem for layer in guess.layers for problem in layer.problems)
    if guess.is_empty and guess.tree.image_types:
        raise WrongUseError(
            f"{root.resolve()} has only image types, which need no chainbuild.yaml",
            hint=f"Run: chainbuild types list --repository {shlex.quote(str(root))}",
        )
    if guess.is_empty:
        raise WrongUseError(
            f"nothing to build in {root.resolve()}",
            hint="chainbuild looks for folders with NN-Dockerfile-<descriptor> files or a Dockerfile, and science trees.",
        )
    path = root / FILE_NAME
    # Writing through a dangling link would create a file at the link's target.
    if (path.exists() or path.is_symlink()) and not force and not dry_run:
        raise WrongUseError(
            f"{path} already exists", hint="Replace it with --force, or print the new content with --dry-run."
        )
    printer = messages()
    printer.info(*(f"found {line}" for line in guess.told))
    if _is_terminal():
        text = write(guess, _ask(guess.guesses))
    else:
        text = write(guess)
        printer.info(*(f"guessed {item.shown}" for item in guess.guesses))
    printer.warn(*(str(problem) for problem in problems_of(guess, text)))
    if dry_run:
        stdout().write_document(text)
        return 0
    write_result(path, text.encode())
    put_schema(root)
    check = "check the guessed values, then run" if guess.guesses else "next, run"
    printer.info(f"wrote {path}: {check} chainbuild plan")
    return 0


def _is_terminal() -> bool:
    """Return whether the user can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(guesses: Iterable[Guess]) -> Values:
    """Ask the user for the values that the tree does not decide. An empty answer takes the proposed value."""
    from chainbuild.text import escaped

    return {
        (item.folder, item.key): typer.prompt(escaped(f"{item.text} ({item.why})"), default=item.value, err=True)
        for item in guesses
    }
