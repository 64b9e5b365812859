"""`chainbuild ci`: a complete CI workflow for the tree, on stdout."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import flags

if TYPE_CHECKING:
    from chainbuild.model import StepId
    from chainbuild.requests.build import BuildRequest


class VendorName(StrEnum):
    """Whose workflow."""

    GITHUB = "github"
    GITLAB = "gitlab"
    CIRCLECI = "circleci"


def ci(
    vendor: Annotated[
        VendorName, typer.Argument(metavar="github|gitlab|circleci", help="Whose CI.", show_default=False)
    ],
    platform: flags.PlatformArgument,
    repo: flags.RepoArgument,
    tag: flags.TagArgument,
    base: flags.BaseArgument,
    option: flags.OptionArgument,
    production: flags.ProductionArgument,
    *,
    root: flags.Root = Path(),
    registry: Annotated[
        str | None,
        typer.Option(
            "--registry",
            metavar="HOST[/PATH]",
            envvar="CHAINBUILD_REGISTRY",
            help="The chain registry, which all jobs share. Needed.",
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="4h30m", help="Of each job; below the vendor's limit where not given."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", metavar="5h", help="Cut options into jobs of that length, by what steps took last time."
        ),
    ] = None,
    install: Annotated[
        str, typer.Option("--install", metavar="COMMAND", help="How a job installs chainbuild.")
    ] = "pipx install chainbuild",
    runner: Annotated[
        list[str] | None,
        typer.Option("--runner", metavar="PLATFORM=LABEL", help="The machine that a platform is built on, natively."),
    ] = None,
) -> int:
    """Print a CI workflow: a job for each option and platform, in the right order, sharing the chain registry."""
    from chainbuild.ci.pipeline import document
    from chainbuild.requests.ci import CiWords, read_pipeline
    from chainbuild.ui import stderr, stdout

    words = CiWords(
        vendor=vendor.value,
        platform=platform,
        repo=repo,
        tag=tag,
        base=base,
        option=option,
        production=production,
        registry=registry,
        root=root,
        split=split,
        deadline=deadline,
        install=install,
        runners=runner or (),
    )
    found, pipeline = read_pipeline(words, _recorded)
    if pipeline.graph.notes:
        stderr().write([f"note: {note}" for note in pipeline.graph.notes])
    stdout().write_document(document(found, pipeline))
    return 0


def _recorded(request: BuildRequest) -> Mapping[StepId, float]:
    from chainbuild.ci.jobs import recorded_seconds
    from chainbuild.cli.output import open_quietly

    with open_quietly(request.settings, json=False) as session:
        return recorded_seconds(request.graph, session.records)
