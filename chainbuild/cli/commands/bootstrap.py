"""`chainbuild bootstrap`: make a base image from the packages of a distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags


def bootstrap(
    image: Annotated[
        str,
        typer.Argument(metavar="IMAGE", help="debian:SUITE or debian:SUITE-slim, for example debian:bookworm-slim."),
    ],
    *,
    platform: Annotated[
        str, typer.Option("--platform", help="Platforms to make, comma-separated (default: this machine's).")
    ] = "",
    package: Annotated[
        list[str] | None,
        typer.Option("--package", metavar="PACKAGE", help="Add packages, comma-separated. Can be repeated."),
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", help="Suite of the distribution (default: from IMAGE's tag).")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Keep documentation and locales even if the tag ends in -slim.")
    ] = False,
    machine_certificates: Annotated[
        bool,
        typer.Option(
            "--machine-certificates",
            help="Add this machine's CA certificates (/usr/local/share/ca-certificates); the image's labels list them.",
        ),
    ] = False,
    no_load: flags.NoLoad = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Make the image again even if it exists.")] = False,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
) -> int:
    """Make a base image from the packages of a distribution, without pulling one from a registry."""
    from chainbuild.cli.runs.bootstrap import make_base

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
