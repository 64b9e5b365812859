"""`chainbuild bootstrap`: a base image from the distribution's own packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags


def bootstrap(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="debian:SUITE or debian:SUITE-slim, as debian:bookworm-slim.")
    ],
    *,
    platform: Annotated[
        str, typer.Option("--platform", help="amd64, aarch64, …; this machine's where not given.")
    ] = "",
    package: Annotated[
        list[str] | None, typer.Option("--package", metavar="PACKAGE", help="More packages; several with commas.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", help="The distribution's suite, for a base under a name of your own.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="With documentation and locales, even where it is called slim.")
    ] = False,
    machine_certificates: Annotated[
        bool,
        typer.Option(
            "--machine-certificates",
            help="Add this machine's own CA certificates (/usr/local/share/ca-certificates); the image's labels list them.",
        ),
    ] = False,
    no_load: flags.NoLoad = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Make it again, also where it is there.")] = False,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
) -> int:
    """Make a base image from the distribution's packages, where no registry has one or one's own is wanted."""
    from chainbuild.cli.bootstrap import make_base

    packages = tuple(name for text in package or () for name in text.split(",") if name)
    return make_base(
        image,
        platform,
        include=packages,
        suite=suite,
        full=full,
        certificates=machine_certificates,
        load=not no_load,
        refresh=refresh,
        root=root,
        registry=registry,
        port=registry_port,
    )
