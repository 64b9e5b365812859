"""`chainbuild diff`: compare two images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.output import open_quietly
from chainbuild.cli.settings import settings_from


def diff(
    before: Annotated[str, typer.Argument(metavar="IMAGE", help="Older image, from any registry.")],
    after: Annotated[str, typer.Argument(metavar="IMAGE", help="Newer image.")],
    *,
    every_file: Annotated[bool, typer.Option("--files", help="List every changed file.")] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Compare two images: packages, Python distributions, files, size, configuration, steps. Needs no engine."""
    from chainbuild.comparison.compare import compare
    from chainbuild.references import ImageReference, Platform
    from chainbuild.ui import stdout
    from chainbuild.ui.reports import show_comparison

    names = [ImageReference.parse(name) for name in (before, after)]
    target = Platform.parse(platform) if platform else Platform.of_this_machine()
    settings = settings_from(root=root, registry=registry, port=registry_port)
    with open_quietly(settings, json=json) as session:
        finder = session.finder()
        old, new = (finder.find_result(name, target).image for name in names)
        comparison = compare(session.records, old, new)
    if json:
        stdout().write_json(comparison.as_json())
    else:
        show_comparison(comparison, stdout(), every_file=every_file)
    return 0
