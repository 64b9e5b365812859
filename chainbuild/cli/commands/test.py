"""`chainbuild test`: run the tests of built images again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import completion, flags
from chainbuild.cli.show import Show
from chainbuild.values import replace


def again(
    target: Annotated[
        str,
        typer.Argument(
            metavar="OPTION|IMAGE",
            autocompletion=completion.options,
            help="Folders of the tree, comma-separated, or any image.",
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLATFORM REPO TAG]",
            help="Images of an OPTION (default: those of the last run in this folder).",
        ),
    ] = None,
    *,
    platform: flags.RetestPlatform = None,
    test_file: Annotated[
        Path | None, typer.Option("--with", metavar="FILE", help="Test to run in an IMAGE, instead of its own.")
    ] = None,
    root: flags.Root = Path(),
    base_arg: flags.BaseArg = None,
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    report: flags.Report = None,
    trace: flags.Trace = None,
) -> int:
    """Run the tests of an option's steps again in the chain registry's images, or the test of one image."""
    from chainbuild.cli.runs.retest import run_again
    from chainbuild.requests.retest import RetestOptions

    options = RetestOptions(target=target, arguments=arguments, platform=platform, test=test_file)
    options = replace(options, root=root, base_arg=base_arg, registry=registry, port=registry_port, builders=builder)
    return run_again(options, Show(verbosity=verbose, plain=plain, json=json, report=report, trace=trace))
