"""`chainbuild sbom`: print the bill of materials of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags


def sbom(
    image: flags.ImageOrStep,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file (default: stdout).")
    ] = None,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print errors as JSON, too; the document is always JSON.")
    ] = False,
) -> int:
    """Print the bill of materials of an image as SPDX 2.3: the attached one if it exists, otherwise a new one."""
    from chainbuild.cli.image_arguments import Place, read_image_arguments
    from chainbuild.cli.output import open_quietly, write_result
    from chainbuild.operations.named_images import find_named_image
    from chainbuild.operations.verify import bill_of
    from chainbuild.ui import stdout

    place = Place(root=root, registry=registry, port=registry_port, builders=builder)
    settings, (named,) = read_image_arguments((image,), platform, place)
    with open_quietly(settings, json=json) as session:
        document = bill_of(session, find_named_image(session, named))
    if output is None:
        stdout().write_document(document.decode("utf-8"))
    else:
        write_result(output, document)
    return 0
