"""`chainbuild ci`: print a complete CI workflow for the tree."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.commands.image_types import AllowSecretFiles, Private, Public
from chainbuild.requests.options import RunArguments
from chainbuild.values import replace

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
    str | None,
    typer.Option(
        "--install",
        metavar="COMMAND",
        help="Command that installs chainbuild in a job (default: from requirements with hashes, wheels or source in the"
        " repository).",
        show_default=False,
    ),
]
InstallImage = Annotated[
    str | None,
    typer.Option(
        "--install-image",
        metavar="IMAGE@DIGEST",
        help="Install chainbuild from the wheels in the folder /wheels of this image.",
    ),
]
Runners = Annotated[
    list[str] | None,
    typer.Option(
        "--runner", metavar="PLATFORM=LABEL", help="Runner on which a platform is built natively. Can be repeated."
    ),
]
Branch = Annotated[
    str | None,
    typer.Option(
        "--branch",
        metavar="NAME",
        help="Branch whose pushes build the images (default: the default branch of the repository).",
        show_default=False,
    ),
]


Nightly = Annotated[
    str | None,
    typer.Option(
        "--nightly",
        metavar="[=security]",
        help="Also rebuild what is outdated, every night; with =security only for security updates.",
    ),
]


def ci(
    vendor: Vendor,
    platform: flags.OptionalPlatform = None,
    repo: flags.OptionalRepo = None,
    tag: flags.OptionalTag = None,
    base: flags.OptionalBase = None,
    option: flags.OptionalOption = None,
    production: flags.OptionalProduction = None,
    *,
    for_platform: flags.ForPlatform = None,
    for_repo: flags.ForRepo = None,
    for_tag: flags.ForTag = None,
    for_base: flags.ForBase = None,
    for_option: flags.ForOption = None,
    for_production: flags.ForProduction = None,
    root: flags.Root = Path(),
    base_arg: flags.BaseArg = None,
    context: flags.Context = None,
    build_arg: flags.BuildArgs = None,
    build_context: flags.BuildContexts = None,
    secret: flags.Secrets = None,
    no_cache: flags.NoCache = False,
    registry: flags.SharedRegistry = None,
    refresh_after: flags.RefreshAfter = None,
    nightly: Nightly = None,
    native: flags.Native = None,
    jobs: flags.Jobs = None,
    keep_going: flags.KeepGoingOrNot = None,
    strict: flags.StrictOrNot = None,
    push: flags.PushOrNot = None,
    tests: flags.TestsOrNot = None,
    public: Public = None,
    private: Private = None,
    allow_secret_files: AllowSecretFiles = False,
    deadline: flags.JobDeadline = None,
    split: Split = None,
    runner: Runners = None,
    branch: Branch = None,
    install: Install = None,
    install_image: InstallImage = None,
) -> int:
    """Print a CI workflow: jobs in order of dependency that share the chain registry, and a plan for pull requests.

    Without arguments, print the workflow of the folder: chainbuild.yaml, science layers, image types, release plan.
    """
    from chainbuild.ci.pipeline import document
    from chainbuild.cli.output import messages
    from chainbuild.requests.ci.options import CiOptions
    from chainbuild.requests.ci.reading import read_pipeline
    from chainbuild.ui import stdout

    arguments = RunArguments(platform, repo, tag, base, option, production)
    overrides = RunArguments(for_platform, for_repo, for_tag, for_base, for_option, for_production)
    options = CiOptions(vendor=vendor.value, root=root, base_arg=base_arg, registry=registry, no_cache=no_cache)
    options = replace(options, context=context, build_args=build_arg, build_contexts=build_context, secrets=secret)
    options = replace(options, refresh_after=refresh_after, native=native, jobs=jobs, keep_going=keep_going)
    options = replace(options, strict=strict, push=push, tests=tests, public=public, private=private)
    options = replace(options, nightly=nightly, allow_secret_files=allow_secret_files)
    options = replace(options, deadline=deadline, split=split, runners=runner, branch=branch)
    options = replace(options, install=install, install_image=install_image)
    vendor_module, pipeline = read_pipeline(arguments, overrides, options, _recorded)
    messages().note(*pipeline.graph.notes)
    stdout().write_document(document(vendor_module, pipeline))
    return 0


def _recorded(request: BuildRequest) -> Mapping[StepId, float]:
    from chainbuild.ci.jobs import recorded_seconds
    from chainbuild.cli.output import open_quietly

    with open_quietly(request.settings, json=False) as session:
        return recorded_seconds(request.graph, session.records)
