"""`chainbuild diff`: compare two images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import completion, flags
from chainbuild.cli.output import open_quietly


def diff(
    before: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|STEP",
            autocompletion=completion.images_and_steps,
            help="Older image, from any registry or from the local image store, or a step of the last run.",
        ),
    ],
    after: Annotated[
        str, typer.Argument(metavar="IMAGE|STEP", autocompletion=completion.images_and_steps, help="Newer image.")
    ],
    *,
    every_file: Annotated[bool, typer.Option("--files", help="List every changed file.")] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Compare two images: packages, Python distributions, files, size, configuration, steps. Needs no engine."""
    from chainbuild.cli.image_arguments import Place, read_image_arguments
    from chainbuild.comparison.compare import compare
    from chainbuild.operations.named_images import find_both
    from chainbuild.ui import stdout
    from chainbuild.ui.reports import show_comparison

    place = Place(root=root, registry=registry, port=registry_port)
    settings, (first, second) = read_image_arguments((before, after), platform, place)
    with open_quietly(settings, json=json) as session:
        old, new = (found.image for found in find_both(session, first, second))
        comparison = compare(session.records, old, new)
    if json:
        stdout().write_json(comparison.as_json())
    else:
        show_comparison(comparison, stdout(), every_file=every_file)
    return 0
