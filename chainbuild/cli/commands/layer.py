"""`chainbuild layer`: build a folder with a plain Dockerfile as one image on a chosen base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.show import Show
from chainbuild.values import replace

Folder = Annotated[
    str,
    typer.Argument(
        metavar="DIR",
        help="Folder with a Dockerfile, or, without --image, a layer of chainbuild.yaml.",
        show_default=False,
    ),
]
Image = Annotated[str | None, typer.Option("--image", "-t", metavar="NAME:TAG", help="Name and tag of the image.")]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="IMAGE", help="Base image (default: the one that the Dockerfile names)."),
]
Dockerfile = Annotated[
    str | None,
    typer.Option("--dockerfile", metavar="NAME", help="Name of the Dockerfile in DIR (default: Dockerfile)."),
]
ImageKey = Annotated[
    str | None,
    typer.Option(
        "--image-key",
        metavar="KEY",
        help="Build the Dockerfile.KEY files that this key selects, for example ros2_humble.realsense.",
    ),
]
Packages = Annotated[
    list[str] | None,
    typer.Option(
        "--package",
        metavar="NAME",
        help="Build this package below DIR, and what its Dockerfile's comment header depends on. Can be repeated.",
    ),
]
SkipPackages = Annotated[
    list[str] | None,
    typer.Option("--skip-package", metavar="NAME", help="Leave out a package that others need. Can be repeated."),
]
SearchDirs = Annotated[
    list[str] | None,
    typer.Option(
        "--search-dir",
        metavar="DIR",
        help="Search this folder before DIR, with --image-key or --package. Can be repeated.",
        show_default=False,
    ),
]
Alone = Annotated[
    bool,
    typer.Option("--alone", help="Build only this layer of chainbuild.yaml, on the layers below it as last built."),
]


def layer(
    folder: Folder,
    *,
    image: Image = None,
    base: Base = None,
    base_arg: flags.BaseArg = None,
    dockerfile: Dockerfile = None,
    image_key: ImageKey = None,
    package: Packages = None,
    skip_package: SkipPackages = None,
    search_dir: SearchDirs = None,
    platform: flags.Platforms = None,
    root: flags.Root = Path(),
    context: flags.LayerContext = None,
    build_arg: flags.BuildArgs = None,
    build_context: flags.BuildContexts = None,
    secret: flags.Secrets = None,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    alone: Alone = False,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    refresh_outdated: flags.RefreshOutdated = None,
    rebase: flags.Rebase = False,
    native: flags.Native = None,
    deadline: flags.Deadline = None,
    push: flags.PushImage = False,
    replace_index: flags.ReplaceIndex = False,
    fail_if_stale_index: flags.FailIfStaleIndex = False,
    no_load: flags.NoLoad = False,
    no_tests: flags.NoTests = False,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    report: flags.Report = None,
    trace: flags.Trace = None,
    fail_if_build: flags.FailIfBuild = False,
    dry_run: flags.DryRun = False,
    debug: flags.Debug = False,
) -> int:
    """Build a folder with a plain Dockerfile as one image on a base of your choice, without editing the file."""
    from chainbuild.cli.runs.project import build_layer
    from chainbuild.requests.layer import LayerOptions

    options = LayerOptions(folder=Path(folder), image=image, base=base, base_arg=base_arg, dockerfile=dockerfile)
    options = replace(options, platform=platform, alone=alone, image_key=image_key, packages=package)
    options = replace(options, skip_packages=skip_package, search_dirs=search_dir)
    options = replace(options, root=root, registry=registry, port=registry_port, builders=builder, no_cache=no_cache)
    options = replace(options, context=context, build_args=build_arg, build_contexts=build_context, secrets=secret)
    options = options.with_renewal(refresh, refresh_after, refresh_outdated, rebase)
    options = replace(options, native=native, deadline=deadline)
    options = replace(options, push=push or None, replace_index=replace_index, fail_if_stale_index=fail_if_stale_index)
    options = replace(options, load=False if no_load else None, tests=False if no_tests else None)
    show = Show(verbosity=verbose, plain=plain, json=json, fail_if_build=fail_if_build, dry_run=dry_run, debug=debug)
    show = replace(show, report=report, trace=trace)
    return build_layer(options, show)
