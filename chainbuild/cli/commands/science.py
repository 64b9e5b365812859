"""`chainbuild science`: build trees of science layers with compat layers on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chainbuild.cli import flags

if TYPE_CHECKING:
    from chainbuild.requests.science import ScienceRequest

app = typer.Typer(help="Build trees of science layers, with compat layers on the final ones.", no_args_is_help=True)

Root = Annotated[
    Path,
    typer.Option(
        "--root",
        "-C",
        metavar="DIR",
        help="Run as if started in DIR, the folder that contains science/ and compat/ (default: the current folder).",
        file_okay=False,
        show_default=False,
    ),
]
Repo = Annotated[
    str,
    typer.Option(
        "--repo",
        metavar="REPO",
        help="Repository for sci/… and rel/…, for example ghcr.io/acme/compute-images.",
    ),
]
Ref = Annotated[
    str | None,
    typer.Option(
        "--ref",
        metavar="REV|RANGE",
        help="Limit the build to layers changed since this git revision, and the layers on top of them.",
    ),
]
Untracked = Annotated[bool, typer.Option("--untracked", help="With --ref: also treat untracked files as changed.")]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        metavar="DIR",
        help="Limit the build to this layer and the layers on top of it. Can be repeated.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="DIR", help="Ignore changes in this layer itself. Can be repeated."),
]
AllowOrphan = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-orphan", metavar="IMAGE:VERSION", help="Allow this version to be abandoned. Can be repeated."
    ),
]


@app.command("plan")
def plan(
    *,
    root: Root = Path(),
    repo: Repo = "",
    platform: flags.Platforms = "",
    ref: Ref = None,
    untracked: Untracked = False,
    include: Include = None,
    ignore: Ignore = None,
    allow_orphan: AllowOrphan = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    builder: flags.Builders = None,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    verbose: flags.Verbose = 0,
    json: flags.Json = False,
    fail_if_build: flags.FailIfBuild = False,
) -> int:
    """Show what would be built, and why: final images; with -v the science layers; with -vv the merged Dockerfiles."""
    request = _read(locals())
    from chainbuild.cli.science import plan_science

    return plan_science(request, as_json=json, verbosity=verbose, fail_if_build=fail_if_build)


@app.command("build")
def build(
    *,
    root: Root = Path(),
    repo: Repo = "",
    platform: flags.Platforms = "",
    ref: Ref = None,
    untracked: Untracked = False,
    include: Include = None,
    ignore: Ignore = None,
    allow_orphan: AllowOrphan = None,
    push: Annotated[
        bool, typer.Option("--push", help="Push the released images to the registry named in REPO.")
    ] = False,
    no_load: flags.NoLoad = False,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    jobs: flags.Jobs = None,
    keep_going: flags.KeepGoing = False,
    deadline: flags.Deadline = None,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    dry_run: flags.DryRun = False,
) -> int:
    """Build what is missing from the registry, and tag the images once all of them are built."""
    request = _read(locals())
    from chainbuild.cli.science import build_science, plan_science

    if dry_run:
        return plan_science(request, as_json=json, verbosity=verbose, fail_if_build=False)
    return build_science(request, mode=flags.mode_of(json=json, plain=plain), verbosity=verbose)


@app.command("orphans")
def orphans(
    *,
    root: Root = Path(),
    repo: Repo = "",
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    json: flags.Json = False,
) -> int:
    """List released versions that no final layer of this tree continues: they get no more compat updates."""
    from chainbuild.cli.science import list_orphans

    # Orphans are the result of this command, not an error.
    return list_orphans(_read(locals(), orphans_are_errors=False), as_json=json)


_OWN = ("repo", "platform", "ref", "untracked", "push")
_LISTS = ("include", "ignore", "allow_orphan")


def _read(typed: Mapping[str, Any], *, orphans_are_errors: bool = True) -> ScienceRequest:
    """Read the parameters of a command, by name and as typed."""
    from chainbuild.requests.science import ScienceOptions, read_words

    fields = flags.words_of(typed, *_OWN) | {name: tuple(typed.get(name) or ()) for name in _LISTS}
    options = ScienceOptions(**fields, port=typed["registry_port"], load=not typed.get("no_load"))
    return read_words(options, orphans_are_errors=orphans_are_errors)
