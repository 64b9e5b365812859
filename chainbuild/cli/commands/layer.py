"""`chainbuild layer`: build a folder with a plain Dockerfile as one image on a chosen base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chainbuild.cli import flags

if TYPE_CHECKING:
    from chainbuild.cli.project import Show
    from chainbuild.project.model import Project


Folder = Annotated[
    str,
    typer.Argument(
        metavar="DIR",
        help="Folder with a Dockerfile, or, without --tag, a layer of chainbuild.yaml.",
        show_default=False,
    ),
]
Tag = Annotated[str | None, typer.Option("--tag", "-t", metavar="NAME:TAG", help="Name and tag of the image.")]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="IMAGE", help="Base image (default: the one that the Dockerfile names)."),
]
BaseArg = Annotated[
    str | None,
    typer.Option("--base-arg", metavar="NAME", help="ARG before FROM that names the base image (default: detected)."),
]
Context = Annotated[Path | None, typer.Option("--context", help="Build context of COPY and ADD (default: DIR).")]
Alone = Annotated[
    bool,
    typer.Option("--alone", help="Build only this layer of chainbuild.yaml, on the layers below it as last built."),
]
Push = Annotated[bool, typer.Option("--push", help="Push the image and its index to the registry named in NAME.")]
NoTests = Annotated[bool, typer.Option("--no-tests", help="Do not run the tests of the image.")]


def layer(
    folder: Folder,
    *,
    tag: Tag = None,
    base: Base = None,
    base_arg: BaseArg = None,
    platform: flags.Platforms = "",
    root: flags.Root = Path(),
    context: Context = None,
    build_arg: flags.BuildArgs = None,
    build_context: flags.BuildContexts = None,
    secret: flags.Secrets = None,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    registry: flags.Registry = None,
    registry_port: flags.PortOrProject = None,
    alone: Alone = False,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    deadline: flags.Deadline = None,
    push: Push = False,
    replace_index: flags.ReplaceIndex = False,
    fail_if_stale_index: flags.FailIfStaleIndex = False,
    no_load: flags.NoLoad = False,
    no_tests: NoTests = False,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    fail_if_build: flags.FailIfBuild = False,
    dry_run: flags.DryRun = False,
) -> int:
    """Build a folder with a plain Dockerfile as one image on a base of your choice, without editing the file."""
    return _run(locals())


def _run(typed: Mapping[str, Any]) -> int:
    """Run `layer` with its parameters by name, as typed."""
    from chainbuild.cli.project import show_of

    show = show_of(typed)
    shared = flags.words_of(typed)
    if typed["tag"] is None:
        by_hand = {"--base": typed["base"], "--base-arg": typed["base_arg"], "--context": typed["context"]}
        return _of_project(
            typed["folder"],
            shared.pop("root"),
            shared
            | {
                "platform": typed["platform"] or None,
                "port": typed["registry_port"],
                "push": typed["push"] or None,
                "load": False if typed["no_load"] else None,
                "tests": False if typed["no_tests"] else None,
                "alone": typed["alone"],
            },
            show,
            excluded=[flag for flag, value in by_hand.items() if value is not None],
        )
    return _by_hand(
        typed["folder"],
        shared
        | {
            "image": typed["tag"],
            "base": typed["base"],
            "base_arg": typed["base_arg"] or "",
            "port": typed["registry_port"] or 5000,
            "push": typed["push"],
            "load": not typed["no_load"],
            "tests": not typed["no_tests"],
            "platform": typed["platform"],
        },
        show,
        alone=typed["alone"],
    )


def _by_hand(folder: str, options: dict[str, Any], show: Show, *, alone: bool) -> int:
    from chainbuild.cli.project import run_layers
    from chainbuild.errors import WrongUseError
    from chainbuild.requests.layer import LayerOptions, read_layer

    if alone:
        raise WrongUseError(
            "--alone cannot be combined with --tag",
            hint="--alone is for a layer of chainbuild.yaml; a folder with --tag is always built alone.",
        )
    return run_layers(read_layer(LayerOptions(folder=Path(folder), **options)), show)


def _of_project(name: str, root: Path, typed: dict[str, Any], show: Show, *, excluded: list[str]) -> int:
    from chainbuild.cli.project import load_project, run_layers
    from chainbuild.errors import WrongUseError
    from chainbuild.project.location import FILE_NAME
    from chainbuild.requests.project_runs import Typed, read_run

    project = load_project(root)
    if project is None:
        raise WrongUseError(
            f"{name}: no image name given",
            hint=f"Name the image with --tag NAME:TAG, or describe the layer in a {FILE_NAME}.",
        )
    if excluded:
        raise WrongUseError(
            f"{', '.join(excluded)} cannot be combined with a layer of {project.shown}",
            hint=f"Change the layer in {project.shown}, or build the folder by hand with --tag NAME:TAG.",
        )
    return run_layers(read_run(project, Typed(**typed, layer=_layer_name(project, name))), show)


def _layer_name(project: Project, name: str) -> str:
    """Return the name of a layer that is named by its name or its folder."""
    folder = Path(name).resolve()
    by_folder = next((layer.name for layer in project.layers if layer.folder == folder), name)
    return name if project.layer(name) else by_folder
