"""`chainbuild init`: a `chainbuild.yaml` from what the folder has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags


def init(
    *,
    force: Annotated[bool, typer.Option("--force", help="Also where there is one already: it is replaced.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print it instead of writing it.")] = False,
    root: flags.Root = Path(),
) -> int:
    """Write a chainbuild.yaml from what is found in the folder: options, layers, science trees, the last run's words."""
    from chainbuild.cli.output import write_result
    from chainbuild.errors import WrongUseError
    from chainbuild.operations.init import look, write
    from chainbuild.project.location import FILE_NAME
    from chainbuild.project.schema import put_schema
    from chainbuild.ui import stderr, stdout

    if not root.is_dir():
        raise WrongUseError(f"--root: there is no folder {str(root)!r}", hint="It is the folder of the project.")
    guess = look(root)
    if not (guess.options or guess.layers or guess.science):
        raise WrongUseError(
            f"nothing to build was found in {root.resolve()}",
            hint="Looked for: folders with NN-Dockerfile-<descriptor> files or with a Dockerfile, and science trees.",
        )
    path = root / FILE_NAME
    # A link that leads nowhere would be followed, and a file be made where it points to.
    if (path.exists() or path.is_symlink()) and not force and not dry_run:
        raise WrongUseError(
            f"{path} is there already", hint="--force replaces it; --dry-run prints what would be in it."
        )
    stderr().write([f"found {line}" for line in guess.told])
    text = write(guess)
    if dry_run:
        stdout().write_document(text)
        return 0
    write_result(path, text.encode())
    put_schema(root)
    stderr().write([f"wrote {path}: read it, change what is guessed, then: chainbuild plan"])
    return 0
