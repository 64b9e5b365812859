"""`chainbuild types`: image types (TYPE/SYSTEM folders) and the images made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.show import Show
from chainbuild.values import replace

app = typer.Typer(
    help="Build image types (TYPE/SYSTEM folders of a repository, your own, and built-in ones) and publish the images.",
    no_args_is_help=True,
)

Globs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[GLOB]…",
        help="Images as NAME:TAG patterns, for example 'casa-dev:*' (default: all except the built-in ones).",
    ),
]
Repository = Annotated[
    Path | None,
    typer.Option(
        "--repository",
        metavar="DIR",
        help="Repository whose share/docker folder contains the image types"
        " (default: $CASA_DEFAULT_REPOSITORY, else ~/casa_distro).",
        file_okay=False,
        show_default=False,
    ),
]
Public = Annotated[
    str | None,
    typer.Option(
        "--public",
        metavar="HOST[/PATH]",
        envvar="CHAINBUILD_PUBLIC_REGISTRY",
        help="Registry for public images, for example ghcr.io/acme or docker.io/acme.",
    ),
]
Private = Annotated[
    str | None,
    typer.Option(
        "--private",
        metavar="HOST[/PATH]",
        envvar="CHAINBUILD_PRIVATE_REGISTRY",
        help="Registry for private images.",
    ),
]
Version = Annotated[
    str | None,
    typer.Option(
        "--casa-version",
        metavar="TEXT",
        help="Value of the parameter casa_version (default: chainbuild's).",
        show_default=False,
    ),
]
NoDeps = Annotated[bool, typer.Option("--no-deps", help="Do not build the images below; they must already exist.")]
AllowSecretFiles = Annotated[
    bool,
    typer.Option(
        "--allow-secret-files",
        help="Copy *.secret files into images, where everybody with the image can read them (default: mount those that"
        " are passed with --secret, and build no image that copies others).",
    ),
]


@app.command("list")
def list_(
    globs: Globs = None,
    *,
    repository: Repository = None,
    public: Public = None,
    private: Private = None,
    casa_version: Version = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    verbose: flags.Verbose = 0,
    json: flags.Json = False,
) -> int:
    """List the images in build order, with their source, their problems and what they shadow."""
    from chainbuild.cli.runs.image_types import list_types
    from chainbuild.requests.image_types import ImageTypeOptions, read_overview

    options = ImageTypeOptions(globs=globs, repository=repository, casa_version=casa_version)
    options = replace(options, registry=registry, port=registry_port, public=public, private=private)
    return list_types(read_overview(options), as_json=json, verbosity=verbose)


@app.command("plan")
def plan(
    globs: Globs = None,
    *,
    repository: Repository = None,
    platform: flags.Platforms = None,
    no_deps: NoDeps = False,
    root: flags.Root = Path(),
    public: Public = None,
    private: Private = None,
    casa_version: Version = None,
    build_arg: flags.BuildArgs = None,
    secret: flags.Secrets = None,
    allow_secret_files: AllowSecretFiles = False,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    builder: flags.Builders = None,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    refresh_outdated: flags.RefreshOutdated = None,
    rebase: flags.Rebase = False,
    native: flags.Native = None,
    verbose: flags.Verbose = 0,
    json: flags.Json = False,
    fail_if_build: flags.FailIfBuild = False,
) -> int:
    """Show what `build` would do, and why."""
    from chainbuild.cli.runs.image_types import create_types
    from chainbuild.layouts.image_types.graph import Purpose
    from chainbuild.requests.image_types import ImageTypeOptions, read_image_types

    options = ImageTypeOptions(purpose=Purpose.CREATE, globs=globs, repository=repository, casa_version=casa_version)
    options = replace(options, root=root, registry=registry, port=registry_port, builders=builder)
    options = replace(options, allow_secret_files=allow_secret_files)
    options = replace(options, platform=platform, public=public, private=private, no_deps=no_deps)
    options = options.with_renewal(refresh, refresh_after, refresh_outdated, rebase)
    options = replace(options, build_args=build_arg, secrets=secret, native=native)
    show = Show(verbosity=verbose, json=json, fail_if_build=fail_if_build, dry_run=True)
    return create_types(read_image_types(options), show)


@app.command("build")
def build(
    globs: Globs = None,
    *,
    repository: Repository = None,
    platform: flags.Platforms = None,
    no_deps: NoDeps = False,
    root: flags.Root = Path(),
    public: Public = None,
    private: Private = None,
    casa_version: Version = None,
    build_arg: flags.BuildArgs = None,
    secret: flags.Secrets = None,
    allow_secret_files: AllowSecretFiles = False,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    refresh_outdated: flags.RefreshOutdated = None,
    rebase: flags.Rebase = False,
    native: flags.Native = None,
    jobs: flags.Jobs = None,
    keep_going: flags.KeepGoing = False,
    deadline: flags.Deadline = None,
    no_load: flags.NoLoad = False,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    report: flags.Report = None,
    trace: flags.Trace = None,
    dry_run: flags.DryRun = False,
    debug: flags.Debug = False,
) -> int:
    """Build images, and those below them that are missing from the chain registry."""
    from chainbuild.cli.runs.image_types import create_types
    from chainbuild.layouts.image_types.graph import Purpose
    from chainbuild.requests.image_types import ImageTypeOptions, read_image_types

    options = ImageTypeOptions(purpose=Purpose.CREATE, globs=globs, repository=repository, casa_version=casa_version)
    options = replace(options, root=root, registry=registry, port=registry_port, builders=builder, no_cache=no_cache)
    options = replace(options, allow_secret_files=allow_secret_files)
    options = replace(options, platform=platform, public=public, private=private, no_deps=no_deps)
    options = options.with_renewal(refresh, refresh_after, refresh_outdated, rebase)
    options = replace(options, build_args=build_arg, secrets=secret, native=native)
    options = replace(options, jobs=jobs, keep_going=keep_going, deadline=deadline, load=False if no_load else None)
    show = Show(verbosity=verbose, plain=plain, json=json, dry_run=dry_run, debug=debug, report=report, trace=trace)
    return create_types(read_image_types(options), show)


@app.command("update")
def update(
    globs: Globs = None,
    *,
    repository: Repository = None,
    platform: flags.Platforms = None,
    root: flags.Root = Path(),
    public: Public = None,
    private: Private = None,
    casa_version: Version = None,
    build_arg: flags.BuildArgs = None,
    secret: flags.Secrets = None,
    allow_secret_files: AllowSecretFiles = False,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    refresh_outdated: flags.RefreshOutdated = None,
    rebase: flags.Rebase = False,
    native: flags.Native = None,
    jobs: flags.Jobs = None,
    keep_going: flags.KeepGoing = False,
    deadline: flags.Deadline = None,
    no_load: flags.NoLoad = False,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    report: flags.Report = None,
    trace: flags.Trace = None,
    dry_run: flags.DryRun = False,
    debug: flags.Debug = False,
) -> int:
    """Update outdated images and the images below them: pull what is published up to date, build the rest."""
    from chainbuild.cli.runs.image_types import update_types
    from chainbuild.layouts.image_types.graph import Purpose
    from chainbuild.requests.image_types import ImageTypeOptions, read_image_types

    options = ImageTypeOptions(purpose=Purpose.UPDATE, globs=globs, repository=repository, casa_version=casa_version)
    options = replace(options, root=root, registry=registry, port=registry_port, builders=builder, no_cache=no_cache)
    options = replace(options, allow_secret_files=allow_secret_files)
    options = replace(options, platform=platform, public=public, private=private)
    options = options.with_renewal(refresh, refresh_after, refresh_outdated, rebase)
    options = replace(options, build_args=build_arg, secrets=secret, native=native)
    options = replace(options, jobs=jobs, keep_going=keep_going, deadline=deadline, load=False if no_load else None)
    show = Show(verbosity=verbose, plain=plain, json=json, dry_run=dry_run, debug=debug, report=report, trace=trace)
    return update_types(read_image_types(options), show)


@app.command("publish")
def publish(
    globs: Globs = None,
    *,
    repository: Repository = None,
    platform: flags.Platforms = None,
    allow_private_base: Annotated[
        bool, typer.Option("--allow-private-base", help="Allow a public image to be built on private ones.")
    ] = False,
    root: flags.Root = Path(),
    public: Public = None,
    private: Private = None,
    casa_version: Version = None,
    build_arg: flags.BuildArgs = None,
    secret: flags.Secrets = None,
    allow_secret_files: AllowSecretFiles = False,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    report: flags.Report = None,
    trace: flags.Trace = None,
    dry_run: flags.DryRun = False,
) -> int:
    """Push images as `build` made them: public ones to the public registry, private ones to the private registry."""
    from chainbuild.cli.runs.image_types import publish_types
    from chainbuild.layouts.image_types.graph import Purpose
    from chainbuild.requests.image_types import ImageTypeOptions, read_image_types

    options = ImageTypeOptions(purpose=Purpose.PUBLISH, globs=globs, repository=repository, casa_version=casa_version)
    options = replace(options, root=root, registry=registry, port=registry_port)
    options = replace(options, allow_secret_files=allow_secret_files)
    options = replace(options, platform=platform, public=public, private=private, allow_private_base=allow_private_base)
    options = replace(options, build_args=build_arg, secrets=secret)
    show = Show(verbosity=verbose, plain=plain, json=json, dry_run=dry_run, report=report, trace=trace)
    return publish_types(read_image_types(options), show)


@app.command("new")
def new(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Name of the new image type: NAME or NAME/SYSTEM.", show_default=False),
    ],
    *,
    based_on: Annotated[
        str,
        typer.Option("--based-on", metavar="TYPE/SYSTEM", help="Image type to build on. Required.", show_default=False),
    ],
    system: Annotated[
        str, typer.Option("--system", help="System of the new image type (default: the system of --based-on).")
    ] = "",
    repository: Repository = None,
    casa_version: Version = None,
    dry_run: flags.DryRunOfFiles = False,
) -> int:
    """Write a new image type to ~/.config/casa-distro/docker."""
    from chainbuild.cli.runs.image_types import make_new
    from chainbuild.requests.image_types import ImageTypeOptions, read_overview

    look = read_overview(ImageTypeOptions(repository=repository, casa_version=casa_version))
    return make_new(look, name, based_on, system, dry_run=dry_run)
