"""`chainbuild singularity`: convert images to SIF files, list them, and publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.show import Show
from chainbuild.values import replace

app = typer.Typer(
    name="singularity",
    help="Convert images to Singularity's SIF files, list them, and publish them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[
    Path,
    typer.Option(
        "--folder", metavar="DIR", help="Folder of the SIF files (default: the current folder).", show_default=False
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME|GLOB…]", help="SIF files of the folder (default: all)."),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="ADDRESS",
        envvar="CHAINBUILD_SINGULARITY_TO",
        help="Destination: a folder, sftp://HOST/PATH, https://HOST/PATH (WebDAV), or oras://REGISTRY/PATH.",
    ),
]


@app.command("create")
def create(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|GLOB…",
            help="Images of the chain registry or the local store; patterns such as 'chainbuild/atom:*-amd64' are allowed.",
        ),
    ],
    *,
    folder: Folder = Path(),
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform",
            help="Platforms, comma-separated (default: this machine's, or what the image has).",
        ),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Convert the images again even if nothing changed.")
    ] = False,
    helper: Annotated[
        bool, typer.Option("--helper", help="Use chainbuild's own Apptainer even if one is on PATH.")
    ] = False,
    dry_run: flags.DryRun = False,
    root: flags.Root = Path(),
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
) -> int:
    """Convert images to SIF files, each with a checksum file; skip images that did not change."""
    from chainbuild.cli.runs.singularity import CreateOptions, run_create

    options = CreateOptions(images=images, folder=folder, platform=platform, refresh=refresh, helper=helper)
    options = replace(options, root=root, registry=registry, port=registry_port, builders=builder)
    return run_create(options, Show(verbosity=verbose, plain=plain, json=json, dry_run=dry_run))


@app.command("list")
def list_files(
    names: Names = None,
    *,
    folder: Folder = Path(),
    to: To = None,
    json: flags.Json = False,
) -> int:
    """List the SIF files of a folder; with --to, compare them with the published ones."""
    from chainbuild.cli.runs.singularity import run_list

    return run_list(tuple(names or ()), folder, to, as_json=json)


@app.command("publish")
def publish(
    names: Names = None,
    *,
    folder: Folder = Path(),
    to: To = None,
    dry_run: flags.DryRun = False,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
) -> int:
    """Upload the SIF files that differ from the published ones: each file whole or not at all, its checksum last."""
    from chainbuild.cli.runs.singularity import run_publish

    return run_publish(
        tuple(names or ()),
        folder,
        to,
        dry_run=dry_run,
        mode=Show(json=json, plain=plain).mode,
        verbosity=verbose,
    )
