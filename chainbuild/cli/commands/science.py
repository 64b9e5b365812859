"""`chainbuild science`: build trees of science layers with compat layers on top."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.show import Show
from chainbuild.values import replace

app = typer.Typer(help="Build trees of science layers, with compat layers on the final ones.", no_args_is_help=True)

Repo = Annotated[
    str | None,
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
    root: flags.ScienceRoot = Path(),
    repo: Repo = None,
    platform: flags.Platforms = None,
    ref: Ref = None,
    untracked: Untracked = False,
    include: Include = None,
    ignore: Ignore = None,
    allow_orphan: AllowOrphan = None,
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
    """Show what would be built, and why: final images; with -v the science layers; with -vv the merged Dockerfiles."""
    from chainbuild.cli.runs.science import build_science
    from chainbuild.requests.science import ScienceOptions, read_science

    options = ScienceOptions(root=root, registry=registry, port=registry_port, builders=builder)
    options = replace(options, repo=repo, platform=platform, ref=ref, untracked=untracked)
    options = replace(options, include=include, ignore=ignore, allow_orphan=allow_orphan)
    options = options.with_renewal(refresh, refresh_after, refresh_outdated, rebase)
    options = replace(options, native=native)
    show = Show(verbosity=verbose, json=json, fail_if_build=fail_if_build, dry_run=True)
    return build_science(read_science(options), show)


@app.command("build")
def build(
    *,
    root: flags.ScienceRoot = Path(),
    repo: Repo = None,
    platform: flags.Platforms = None,
    ref: Ref = None,
    untracked: Untracked = False,
    include: Include = None,
    ignore: Ignore = None,
    allow_orphan: AllowOrphan = None,
    push: flags.PushReleased = False,
    no_load: flags.NoLoad = False,
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
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    report: flags.Report = None,
    trace: flags.Trace = None,
    dry_run: flags.DryRun = False,
    debug: flags.Debug = False,
) -> int:
    """Build what is missing from the registry, and tag the images once all of them are built."""
    from chainbuild.cli.runs.science import build_science
    from chainbuild.requests.science import ScienceOptions, read_science

    options = ScienceOptions(root=root, registry=registry, port=registry_port, builders=builder, no_cache=no_cache)
    options = replace(options, repo=repo, platform=platform, ref=ref, untracked=untracked)
    options = replace(options, include=include, ignore=ignore, allow_orphan=allow_orphan)
    options = options.with_renewal(refresh, refresh_after, refresh_outdated, rebase)
    options = replace(options, native=native, jobs=jobs, keep_going=keep_going, deadline=deadline)
    options = replace(options, push=push, load=not no_load)
    show = Show(verbosity=verbose, plain=plain, json=json, dry_run=dry_run, debug=debug, report=report, trace=trace)
    return build_science(read_science(options), show)


@app.command("orphans")
def orphans(
    *,
    root: flags.ScienceRoot = Path(),
    repo: Repo = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """List released versions that no final layer of this tree continues: they get no more compat updates."""
    from chainbuild.cli.runs.science import list_orphans
    from chainbuild.requests.science import ScienceOptions, read_science

    options = ScienceOptions(root=root, repo=repo, registry=registry, port=registry_port)
    # Orphans are the result of this command, not an error.
    return list_orphans(read_science(options, orphans_are_errors=False), as_json=json)
