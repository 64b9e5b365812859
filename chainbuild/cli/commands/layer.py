"""`chainbuild layer`: a folder with a plain Dockerfile as one image on a base of one's own."""

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
        help="The folder with the Dockerfile; or, without --tag, a layer of chainbuild.yaml.",
        show_default=False,
    ),
]
Tag = Annotated[str | None, typer.Option("--tag", "-t", metavar="NAME:TAG", help="The name that the image gets.")]
Base = Annotated[
    str | None, typer.Option("--base", metavar="IMAGE", help="What it stands on, instead of what the Dockerfile says.")
]
BaseArg = Annotated[
    str | None,
    typer.Option("--base-arg", metavar="NAME", help="The ARG before FROM that takes the base; found otherwise."),
]
Context = Annotated[Path | None, typer.Option("--context", help="What COPY and ADD see instead of DIR.")]
Alone = Annotated[
    bool, typer.Option("--alone", help="Take the layers that a layer of chainbuild.yaml stands on as they stand.")
]
Push = Annotated[bool, typer.Option("--push", help="Send the image and its index to NAME's own registry.")]
NoTests = Annotated[bool, typer.Option("--no-tests", help="Leave the tests of the image out.")]


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
    """Build a folder with a plain Dockerfile as one image on a base of one's own, without editing the file."""
    return _run(locals())


def _run(typed: Mapping[str, Any]) -> int:
    """Do what was typed: the parameters of `layer` by their names."""
    from chainbuild.cli.project import show_of

    show = show_of(typed)
    shared = flags.words_of(typed)
    if typed["tag"] is None:
        bare = {"--base": typed["base"], "--base-arg": typed["base_arg"], "--context": typed["context"]}
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
            said=[flag for flag, value in bare.items() if value is not None],
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


def _by_hand(folder: str, words: dict[str, Any], show: Show, *, alone: bool) -> int:
    from chainbuild.cli.project import run_layers
    from chainbuild.errors import WrongUseError
    from chainbuild.requests.layer import LayerOptions, read_layer

    if alone:
        raise WrongUseError(
            "--alone is for a layer of chainbuild.yaml, named without --tag",
            hint="A folder with --tag is built alone anyway, on its base.",
        )
    return run_layers(read_layer(LayerOptions(folder=Path(folder), **words)), show)


def _of_project(name: str, root: Path, typed: dict[str, Any], show: Show, *, said: list[str]) -> int:
    from chainbuild.cli.project import load_project, run_layers
    from chainbuild.errors import WrongUseError
    from chainbuild.project.location import FILE_NAME
    from chainbuild.requests.project_runs import Typed, read_run

    project = load_project(root)
    if project is None:
        raise WrongUseError(
            f"{name}: which name is the image to get?",
            hint=f"Give --tag NAME:TAG; without it, DIR is a layer of {FILE_NAME}, and there is none here.",
        )
    if said:
        raise WrongUseError(
            f"{', '.join(said)}: {project.shown} says that for its layers",
            hint="Change it there, or build the folder by hand with --tag NAME:TAG.",
        )
    return run_layers(read_run(project, Typed(**typed, layer=_layer_meant(project, name))), show)


def _layer_meant(project: Project, name: str) -> str:
    """A layer by its name, or by its folder."""
    folder = Path(name).resolve()
    by_folder = next((layer.name for layer in project.layers if layer.folder == folder), name)
    return name if project.layer(name) else by_folder
