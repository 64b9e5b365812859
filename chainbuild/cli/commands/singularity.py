"""`chainbuild singularity`: SIF files of images; and where people fetch them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags

app = typer.Typer(
    name="singularity",
    help="Images as Singularity's SIF files: make them, list them, publish them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where the SIF files are; this folder.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME|GLOB…]", help="Which of the folder's SIF files; all where not given."),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="ADDRESS",
        envvar="CHAINBUILD_SINGULARITY_TO",
        help="A folder, sftp://HOST/PATH, https://HOST/PATH (WebDAV), or oras://REGISTRY/PATH.",
    ),
]


@app.command("create")
def create(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|GLOB…",
            help="Images of the chain registry or the local store; 'chainbuild/atom:*-amd64' means many.",
        ),
    ],
    *,
    folder: Folder = Path(),
    platform: Annotated[
        str | None,
        typer.Option("--platform", help="Which platforms, with commas; this machine's, or what there is."),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Make them again, also where nothing changed.")] = False,
    helper: Annotated[
        bool, typer.Option("--helper", help="Take chainbuild's own Apptainer, also where one is on PATH.")
    ] = False,
    dry_run: flags.DryRun = False,
    root: flags.Root = Path(),
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
) -> int:
    """Make SIF files of images, each with its checksum beside it; what did not change is skipped."""
    from chainbuild.cli.singularity import CreateOptions, run_create

    return run_create(
        CreateOptions(
            words=tuple(images),
            folder=folder,
            platform=platform,
            refresh=refresh,
            helper=helper,
            dry_run=dry_run,
            root=root,
            builders=tuple(builder or ()),
            registry=registry,
            port=registry_port,
        ),
        mode=flags.mode_of(json=json, plain=plain),
        verbosity=verbose,
    )


@app.command("list")
def list_files(
    names: Names = None,
    *,
    folder: Folder = Path(),
    to: To = None,
    json: flags.Json = False,
) -> int:
    """List the folder's SIF files; with --to, against what is published there."""
    from chainbuild.cli.singularity import run_list

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
    """Upload what differs from what is published: each file whole or not at all, its checksum last."""
    from chainbuild.cli.singularity import run_publish

    return run_publish(
        tuple(names or ()),
        folder,
        to,
        dry_run=dry_run,
        mode=flags.mode_of(json=json, plain=plain),
        verbosity=verbose,
    )
