"""`chainbuild science`: trees of science layers with compat layers on top."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import completion
from chainbuild.cli import options as flags

if TYPE_CHECKING:
    from chainbuild.layouts.science.words import ScienceRequest

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
Platforms = Annotated[
    str, typer.Option("--platform", autocompletion=completion.platforms, help="amd64, aarch64, …; several with commas.")
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
    platform: Platforms = "",
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
    fail_if_build: Annotated[
        bool, typer.Option("--fail-if-build", help="Exit with 6 where something is built.")
    ] = False,
) -> int:
    """Say what would be built, and why: final images; -v the science layers; -vv the merged Dockerfiles."""
    from chainbuild.cli.science_running import plan_science
    from chainbuild.layouts.science.words import ScienceWords, read_words

    words = ScienceWords(
        root=root, repo=repo, platform=platform, ref=ref, untracked=untracked, include=include or (),
        ignore=ignore or (), allow_orphan=allow_orphan or (), registry=registry, port=registry_port,
        builders=builder or (), refresh=refresh, refresh_after=refresh_after,
    )  # fmt: skip
    return plan_science(read_words(words), as_json=json, verbosity=verbose, fail_if_build=fail_if_build)


@app.command("build")
def build(
    *,
    root: Root = Path(),
    repo: Repo = "",
    platform: Platforms = "",
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
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Layers at once.")] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="After a failure, finish all that does not depend on it.")
    ] = False,
    deadline: Annotated[
        str | None, typer.Option("--deadline", metavar="4h30m", help="Start no layer that will not fit.")
    ] = None,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="As chainbuild science plan.")] = False,
) -> int:
    """Build what the registry lacks; when all of it is there, all of it gets its names."""
    from chainbuild.cli.science_running import build_science, plan_science
    from chainbuild.layouts.science.words import ScienceWords, read_words

    request = read_words(
        ScienceWords(
            root=root, repo=repo, platform=platform, ref=ref, untracked=untracked, include=include or (),
            ignore=ignore or (), allow_orphan=allow_orphan or (), push=push, load=not no_load, registry=registry,
            port=registry_port, builders=builder or (), no_cache=no_cache, refresh=refresh,
            refresh_after=refresh_after, jobs=jobs, keep_going=keep_going, deadline=deadline,
        )
    )  # fmt: skip
    if dry_run:
        return plan_science(request, as_json=json, verbosity=verbose, fail_if_build=False)
    return build_science(request, mode="json" if json else "plain" if plain else "auto", verbosity=verbose)


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
    from chainbuild.cli.science_running import list_orphans

    return list_orphans(_any_tree(root, repo, registry, registry_port), as_json=json)


def _any_tree(root: Path, repo: str, registry: str | None, port: int) -> ScienceRequest:
    """The tree as it is: what it orphans is to be listed, and is no error here."""
    from chainbuild.layouts.science.words import ScienceWords, read_words

    words = ScienceWords(root=root, repo=repo, registry=registry, port=port)
    return read_words(words, orphans_are_errors=False)
