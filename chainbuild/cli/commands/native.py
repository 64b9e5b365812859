"""`chainbuild native`: make the native compilers for emulated builds on a base image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.show import Show
from chainbuild.requests.options import SessionOptions


def native(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="The base image of the builds, for example debian:bookworm-slim.")
    ],
    *,
    platform: Annotated[
        str, typer.Option("--platform", metavar="PLATFORM", help="Platforms of the builds, comma-separated.")
    ],
    root: flags.Root = Path(),
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
) -> int:
    """Make the native compilers for emulated builds on a base image.

    GCC is compiled from source if the distribution has no cross compiler of the same version.
    """
    from chainbuild.cli.runs.native import make_native_tools

    options = SessionOptions(root=root, registry=registry, port=registry_port, builders=builder)
    return make_native_tools(image, platform, options, Show(verbosity=verbose, plain=plain, json=json))
