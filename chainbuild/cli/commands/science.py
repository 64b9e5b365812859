"""`chainbuild science`: trees of science layers with compat layers on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chainbuild.cli import flags

if TYPE_CHECKING:
    from chainbuild.requests.science import ScienceRequest

app = typer.Typer(help="Trees of science layers, with compat layers on the final ones.", no_args_is_help=True)

Root = Annotated[
    Path,
    typer.Option(
        "--root",
        "-C",
        help="The folder that science/ and compat/ are in.",
        file_okay=False,
        show_default="this folder",
    ),
]
Repo = Annotated[
    str,
    typer.Option("--repo", metavar="REPO", help="Where sci/… and rel/… go, as ghcr.io/acme/compute-images."),
]
Ref = Annotated[
    str | None,
    typer.Option("--ref", metavar="REV|RANGE", help="Only what git says changed since then, and what stands on it."),
]
Untracked = Annotated[bool, typer.Option("--untracked", help="With --ref: files that git does not know count, too.")]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="DIR", help="Only this layer and what stands on it; may be given again."),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="DIR", help="This layer's own changes start nothing; may be given again."),
]
AllowOrphan = Annotated[
    list[str] | None,
    typer.Option("--allow-orphan", metavar="IMAGE:VERSION", help="This version is given up; may be given again."),
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
    """Say what would be built, and why: final images; -v the science layers; -vv the merged Dockerfiles."""
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
    push: Annotated[bool, typer.Option("--push", help="Send what is released to REPO's own registry.")] = False,
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
    """Build what the registry lacks; when all of it is there, all of it gets its names."""
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
    """List the released versions that no final layer here stands for: they get no compat updates any more."""
    from chainbuild.cli.science import list_orphans

    # What the tree orphans is to be listed, and is no error here.
    return list_orphans(_read(locals(), orphans_are_errors=False), as_json=json)


_OWN = ("repo", "platform", "ref", "untracked", "push")
_LISTS = ("include", "ignore", "allow_orphan")


def _read(typed: Mapping[str, Any], *, orphans_are_errors: bool = True) -> ScienceRequest:
    """What was typed, read: the parameters of a command by their names."""
    from chainbuild.requests.science import ScienceOptions, read_words

    given = flags.words_of(typed, *_OWN) | {name: tuple(typed.get(name) or ()) for name in _LISTS}
    words = ScienceOptions(**given, port=typed["registry_port"], load=not typed.get("no_load"))
    return read_words(words, orphans_are_errors=orphans_are_errors)
