"""`chainbuild types`: image types, and the images that are made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chainbuild.cli import options as flags

if TYPE_CHECKING:
    from chainbuild.layouts.types.words import TypesRequest

app = typer.Typer(
    help="Image types: TYPE/SYSTEM folders of a repository, of yours, and built in.", no_args_is_help=True
)

Globs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[GLOB]…", help="Images by name:tag, as 'casa-dev:*'; all but the built-in ones where not given."
    ),
]
Repository = Annotated[
    Path | None,
    typer.Option(
        "--repository",
        metavar="DIR",
        help="Image types are in its share/docker.",
        file_okay=False,
        show_default="$CASA_DEFAULT_REPOSITORY, else ~/casa_distro",
    ),
]
Platforms = Annotated[str, typer.Option("--platform", help="amd64, aarch64, …; several with commas.")]
Public = Annotated[
    str | None,
    typer.Option(
        "--public",
        metavar="HOST[/PATH]",
        envvar="CHAINBUILD_PUBLIC_REGISTRY",
        help="Where public images are published, as ghcr.io/acme or docker.io/acme.",
    ),
]
Private = Annotated[
    str | None,
    typer.Option(
        "--private",
        metavar="HOST[/PATH]",
        envvar="CHAINBUILD_PRIVATE_REGISTRY",
        help="Where private images are published.",
    ),
]
Version = Annotated[
    str | None,
    typer.Option(
        "--casa-version", metavar="TEXT", help="The value of the parameter casa_version.", show_default="chainbuild's"
    ),
]
NoDeps = Annotated[
    bool, typer.Option("--no-deps", help="Build no dependencies: what the images stand on has to be there.")
]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Images at once.")]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", "-k", help="After a failure, finish all that does not depend on it.")
]
Deadline = Annotated[str | None, typer.Option("--deadline", metavar="4h30m", help="Start no image that will not fit.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done, and why.")]


@app.command("list")
def list_(
    globs: Globs = None,
    *,
    repository: Repository = None,
    public: Public = None,
    private: Private = None,
    casa_version: Version = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    verbose: flags.Verbose = 0,
    json: flags.Json = False,
) -> int:
    """List the images in the order in which they are built, where they come from, and what is shadowed."""
    from chainbuild.cli.types_running import list_types
    from chainbuild.layouts.types.words import TypesWords, read_look

    words = TypesWords(
        root=Path(), globs=globs or (), repository=repository, public=public, private=private,
        casa_version=casa_version, registry=registry, port=registry_port,
    )  # fmt: skip
    return list_types(read_look(words), as_json=json, verbosity=verbose)


@app.command("plan")
def plan(
    globs: Globs = None,
    *,
    repository: Repository = None,
    platform: Platforms = "",
    no_deps: NoDeps = False,
    root: flags.Root = Path(),
    public: Public = None,
    private: Private = None,
    casa_version: Version = None,
    build_arg: flags.BuildArgs = None,
    secret: flags.Secrets = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    builder: flags.Builders = None,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    verbose: flags.Verbose = 0,
    json: flags.Json = False,
    fail_if_build: Annotated[
        bool, typer.Option("--fail-if-build", help="Exit with 6 where something is built.")
    ] = False,
) -> int:
    """Say what `create` would do, and why."""
    from chainbuild.cli.types_running import plan_types

    request = _read(
        "create", globs, repository, public, private, casa_version, root, registry, registry_port, builder, platform,
        no_deps=no_deps, build_args=build_arg or (), secrets=secret or (), refresh=refresh,
        refresh_after=refresh_after,
    )  # fmt: skip
    return plan_types(request, as_json=json, verbosity=verbose, fail_if_build=fail_if_build)


@app.command("create")
def create(
    globs: Globs = None,
    *,
    repository: Repository = None,
    platform: Platforms = "",
    no_deps: NoDeps = False,
    root: flags.Root = Path(),
    public: Public = None,
    private: Private = None,
    casa_version: Version = None,
    build_arg: flags.BuildArgs = None,
    secret: flags.Secrets = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    jobs: Jobs = None,
    keep_going: KeepGoing = False,
    deadline: Deadline = None,
    no_load: flags.NoLoad = False,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    dry_run: DryRun = False,
) -> int:
    """Build images, and those of their dependencies that the chain registry lacks."""
    from chainbuild.cli.types_running import create_types, plan_types

    request = _read(
        "create", globs, repository, public, private, casa_version, root, registry, registry_port, builder, platform,
        no_deps=no_deps, build_args=build_arg or (), secrets=secret or (), no_cache=no_cache, refresh=refresh,
        refresh_after=refresh_after, jobs=jobs, keep_going=keep_going, deadline=deadline, load=not no_load,
    )  # fmt: skip
    if dry_run:
        return plan_types(request, as_json=json, verbosity=verbose, fail_if_build=False)
    return create_types(request, mode="json" if json else "plain" if plain else "auto", verbosity=verbose)


@app.command("update")
def update(
    globs: Globs = None,
    *,
    repository: Repository = None,
    platform: Platforms = "",
    root: flags.Root = Path(),
    public: Public = None,
    private: Private = None,
    casa_version: Version = None,
    build_arg: flags.BuildArgs = None,
    secret: flags.Secrets = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    jobs: Jobs = None,
    keep_going: KeepGoing = False,
    deadline: Deadline = None,
    no_load: flags.NoLoad = False,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    dry_run: DryRun = False,
) -> int:
    """Renew images that are out of date, and what they stand on: pulled where they are published so, else built."""
    from chainbuild.cli.types_running import update_types

    request = _read(
        "update", globs, repository, public, private, casa_version, root, registry, registry_port, builder, platform,
        build_args=build_arg or (), secrets=secret or (), no_cache=no_cache, refresh=refresh,
        refresh_after=refresh_after, jobs=jobs, keep_going=keep_going, deadline=deadline, load=not no_load,
    )  # fmt: skip
    mode: Any = "json" if json else "plain" if plain else "auto"
    return update_types(request, mode=mode, verbosity=verbose, dry_run=dry_run)


@app.command("publish")
def publish(
    globs: Globs = None,
    *,
    repository: Repository = None,
    platform: Platforms = "",
    allow_private_base: Annotated[
        bool, typer.Option("--allow-private-base", help="A public image may be made of private ones.")
    ] = False,
    root: flags.Root = Path(),
    public: Public = None,
    private: Private = None,
    casa_version: Version = None,
    build_arg: flags.BuildArgs = None,
    secret: flags.Secrets = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    dry_run: DryRun = False,
) -> int:
    """Push public images to the public registry and private ones to the private one, as `create` made them."""
    from chainbuild.cli.types_running import publish_types

    request = _read(
        "publish", globs, repository, public, private, casa_version, root, registry, registry_port, None, platform,
        allow_private_base=allow_private_base, build_args=build_arg or (), secrets=secret or (), load=False,
    )  # fmt: skip
    mode: Any = "json" if json else "plain" if plain else "auto"
    return publish_types(request, mode=mode, verbosity=verbose, dry_run=dry_run)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME/SYSTEM.", show_default=False)],
    *,
    from_: Annotated[
        str, typer.Option("--from", metavar="TYPE/SYSTEM", help="The image type that it stands on.", show_default=False)
    ],
    system: Annotated[str, typer.Option("--system", help="Its system; that of --from where not given.")] = "",
    repository: Repository = None,
    casa_version: Version = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print the files instead of writing them.")] = False,
) -> int:
    """Write a new image type of your own, in ~/.config/casa-distro/docker."""
    from chainbuild.cli.types_running import make_new
    from chainbuild.layouts.types.words import TypesWords, read_look

    look = read_look(TypesWords(root=Path(), repository=repository, casa_version=casa_version))
    return make_new(look, name, from_, system, dry_run=dry_run)


def _read(
    purpose: str, globs: list[str] | None, repository: Path | None, public: str | None, private: str | None,
    casa_version: str | None, root: Path, registry: str | None, port: int, builder: list[str] | None, platform: str,
    **words: Any,
) -> TypesRequest:  # fmt: skip
    from chainbuild.layouts.types.graph import Purpose
    from chainbuild.layouts.types.words import TypesWords, read_words

    return read_words(
        TypesWords(
            purpose=Purpose(purpose), globs=globs or (), repository=repository, public=public, private=private,
            casa_version=casa_version, root=root, registry=registry, port=port, builders=builder or (),
            platform=platform, **words,
        )
    )  # fmt: skip
