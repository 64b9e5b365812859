"""`chainbuild test`: run the tests of built images again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import completion, flags


def again(
    target: Annotated[
        str,
        typer.Argument(
            metavar="OPTION|IMAGE",
            autocompletion=completion.options,
            help="Folders of the tree, comma-separated, or any image.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLATFORM REPO TAG]",
            help="Images of an OPTION (default: those of the last run in this folder).",
        ),
    ] = None,
    *,
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform",
            help="Platform of an IMAGE (default: this machine's), or of an OPTION (overrides PLATFORM).",
        ),
    ] = None,
    test_file: Annotated[
        Path | None, typer.Option("--with", metavar="FILE", help="Test to run in an IMAGE, instead of its own.")
    ] = None,
    root: flags.Root = Path(),
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
) -> int:
    """Run the tests of an option's steps again in the chain registry's images, or the test of one image."""
    from chainbuild.cli.retest import RetestOptions, run_again

    return run_again(
        RetestOptions(
            target=target,
            words=tuple(words or ()),
            platform=platform,
            test=test_file,
            root=root,
            builders=tuple(builder or ()),
            registry=registry,
            port=registry_port,
        ),
        mode=flags.mode_of(json=json, plain=plain),
        verbosity=verbose,
    )
