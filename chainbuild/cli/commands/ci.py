"""`chainbuild ci`: print a complete CI workflow for the tree."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import flags

if TYPE_CHECKING:
    from chainbuild.requests.build import BuildRequest
    from chainbuild.step_id import StepId


class VendorName(StrEnum):
    """The CI vendors that a workflow can be written for."""

    GITHUB = "github"
    GITLAB = "gitlab"
    CIRCLECI = "circleci"


Vendor = Annotated[VendorName, typer.Argument(metavar="github|gitlab|circleci", help="CI vendor.", show_default=False)]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="5h",
        help="Split options into jobs of at most this length, by the recorded duration of each step.",
    ),
]
Install = Annotated[
    str, typer.Option("--install", metavar="COMMAND", help="Command that installs chainbuild in a job.")
]
Runners = Annotated[
    list[str] | None,
    typer.Option(
        "--runner", metavar="PLATFORM=LABEL", help="Runner on which a platform is built natively. Can be repeated."
    ),
]


def ci(
    vendor: Vendor,
    platform: flags.PlatformArgument,
    repo: flags.RepoArgument,
    tag: flags.TagArgument,
    base: flags.BaseArgument,
    option: flags.OptionArgument,
    production: flags.ProductionArgument,
    *,
    root: flags.Root = Path(),
    registry: flags.SharedRegistry = None,
    deadline: flags.JobDeadline = None,
    split: Split = None,
    install: Install = "pipx install chainbuild",
    runner: Runners = None,
) -> int:
    """Print a CI workflow: one job per option and platform, in order of dependency, sharing the chain registry."""
    from chainbuild.ci.pipeline import document
    from chainbuild.cli.output import messages
    from chainbuild.requests.ci import CiOptions, read_pipeline
    from chainbuild.ui import stdout

    options = CiOptions(
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
        runners=runner,
    )
    vendor_module, pipeline = read_pipeline(options, _recorded)
    messages().note(*pipeline.graph.notes)
    stdout().write_document(document(vendor_module, pipeline))
    return 0


def _recorded(request: BuildRequest) -> Mapping[StepId, float]:
    from chainbuild.ci.jobs import recorded_seconds
    from chainbuild.cli.output import open_quietly

    with open_quietly(request.settings, json=False) as session:
        return recorded_seconds(request.graph, session.records)
