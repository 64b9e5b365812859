"""The flags that several commands have, each declared once: name, help text, metavar and completion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from chainbuild.cli import completion


def _root(contents: str) -> Any:
    return typer.Option(
        "--root",
        "-C",
        metavar="DIR",
        help=f"Run as if started in DIR, the folder that contains {contents} (default: the current folder).",
        file_okay=False,
        show_default=False,
    )


def _registry(use: str) -> Any:
    return typer.Option(
        "--registry",
        metavar="HOST[/PATH]",
        envvar="CHAINBUILD_REGISTRY",
        help=f"Registry for steps and records{use}",
    )


def _dry_run(text: str) -> Any:
    return typer.Option("--dry-run", "-n", help=text)


Root = Annotated[Path, _root("the options")]
ScienceRoot = Annotated[Path, _root("science/ and compat/")]
Builders = Annotated[
    list[str] | None,
    typer.Option(
        "--builder",
        metavar="[PLATFORM=]NAME",
        help="Use this buildx builder, for all platforms or for one (default: the current builder). Can be repeated.",
    ),
]
Registry = Annotated[str | None, _registry(" (default: the managed registry on localhost:5000).")]
SharedRegistry = Annotated[str | None, _registry(", shared by all jobs (default: that of chainbuild.yaml).")]
Port = Annotated[
    int | None,
    typer.Option(
        "--registry-port",
        metavar="PORT",
        envvar="CHAINBUILD_REGISTRY_PORT",
        min=1,
        max=65535,
        help="Port of the managed registry (default: 5000).",
        show_default=False,
    ),
]
FailIfBuild = Annotated[
    bool, typer.Option("--fail-if-build", help="Exit with code 6 if a step would be built (with plan or --dry-run).")
]
DryRun = Annotated[bool, _dry_run("Show what would be done, without doing it.")]
DryRunOfFile = Annotated[bool, _dry_run("Print the file instead of writing it.")]
DryRunOfFiles = Annotated[bool, _dry_run("Print the files instead of writing them.")]
Debug = Annotated[
    bool, typer.Option("--debug", help="If an instruction fails, start a shell at it after the run. Needs a terminal.")
]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Show more detail; -vv shows even more.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]


def _file(name: str, suffix: str, text: str) -> Any:
    return typer.Option(f"--{name}", metavar=f"FILE.{suffix}", dir_okay=False, help=text, show_default=False)


Report = Annotated[
    Path | None,
    _file("report", "html", "Write a page with the timeline of the run: phases, waits, sizes, checks, warnings."),
]
Trace = Annotated[
    Path | None, _file("trace", "json", "Write the timeline for trace viewers: Perfetto, chrome://tracing.")
]
Plain = Annotated[bool, typer.Option("--plain", help="Print plain lines even on a terminal.")]
ImageOrStep = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE|STEP",
        autocompletion=completion.images_and_steps,
        help="Image from any registry or from the local image store, or a step of the last run.",
    ),
]
OnePlatform = Annotated[
    str | None,
    typer.Option(
        "--platform",
        metavar="PLATFORM",
        autocompletion=completion.platforms,
        help="Platform of the image (default: this machine's, or the only one that exists).",
    ),
]
RetestPlatform = Annotated[
    str | None,
    typer.Option(
        "--platform", help="Platform of an IMAGE (default: this machine's), or of an OPTION (overrides PLATFORM)."
    ),
]


# What is built --------------------------------------------------------------------------------------------------------

_RUN_ARGUMENTS: Final[Mapping[str, tuple[completion.Offers, str]]] = {
    "PLATFORM": (completion.platforms, "Platforms to build for, comma-separated: amd64, aarch64, …"),
    "REPO": (completion.last("repo"), "Repository of every image, for example chainbuild/atom."),
    "TAG": (completion.last("tag"), "Tag prefix of every image, for example build-base."),
    "BASE": (completion.last("base"), "Base image of the first step."),
    "OPTION": (
        completion.options,
        "Folders of numbered Dockerfiles, comma-separated; each builds on the one before it.",
    ),
    "PRODUCTION": (completion.last("production"), "Base image of the slim image."),
}


def _argument(name: str, *, optional: bool = False) -> Any:
    """Return the declaration of one of the six arguments of a run."""
    offers, help_text = _RUN_ARGUMENTS[name]
    return typer.Argument(
        metavar=f"[{name}]" if optional else name, autocompletion=offers, help=help_text, show_default=False
    )


OptionalPlatform = Annotated[str | None, _argument("PLATFORM", optional=True)]
OptionalRepo = Annotated[str | None, _argument("REPO", optional=True)]
OptionalTag = Annotated[str | None, _argument("TAG", optional=True)]
OptionalBase = Annotated[str | None, _argument("BASE", optional=True)]
OptionalOption = Annotated[str | None, _argument("OPTION", optional=True)]
OptionalProduction = Annotated[str | None, _argument("PRODUCTION", optional=True)]


def _override(name: str, offers: completion.Offers, text: str) -> Any:
    return typer.Option(f"--{name}", metavar=name.upper(), autocompletion=offers, help=text, show_default=False)


def _step_number(name: str, text: str) -> Any:
    return typer.Option(f"--{name}", metavar="NN", autocompletion=completion.numbers, help=text, min=0)


ForPlatform = Annotated[
    str | None, _override("platform", completion.platforms, "Platforms to build for (overrides chainbuild.yaml).")
]
ForRepo = Annotated[
    str | None, _override("repo", completion.last("repo"), "Repository of every image (overrides chainbuild.yaml).")
]
ForTag = Annotated[
    str | None, _override("tag", completion.last("tag"), "Tag prefix of every image (overrides chainbuild.yaml).")
]
ForBase = Annotated[
    str | None, _override("base", completion.last("base"), "Base image of the first step (overrides chainbuild.yaml).")
]
ForOption = Annotated[
    str | None, _override("option", completion.options, "Options to build (overrides chainbuild.yaml).")
]
ForProduction = Annotated[
    str | None,
    _override("production", completion.last("production"), "Base image of the slim image (overrides chainbuild.yaml)."),
]
First = Annotated[int | None, _step_number("from", "Start at step NN; use the earlier steps as last built.")]
Only = Annotated[int | None, _step_number("only", "Build only step NN (same as --from NN --until NN).")]
Until = Annotated[int | None, _step_number("until", "Stop after step NN.")]
Platforms = Annotated[
    str | None,
    typer.Option(
        "--platform",
        metavar="PLATFORM",
        autocompletion=completion.platforms,
        help="Platforms to build for, comma-separated (default: this machine's).",
    ),
]

# From what ------------------------------------------------------------------------------------------------------------


def _context(default: str, metavar: str | None = None) -> Any:
    return typer.Option("--context", metavar=metavar, help=f"Build context of COPY and ADD (default: {default}).")


Context = Annotated[Path | None, _context("the folder that contains the options", "DIR")]
LayerContext = Annotated[Path | None, _context("DIR")]
BaseArg = Annotated[
    str | None,
    typer.Option(
        "--base-arg",
        metavar="NAME",
        help="ARG before FROM that takes the base image (default: detected).",
    ),
]
BuildArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--build-arg",
        metavar="KEY=VALUE",
        help="Set a build argument in every Dockerfile that declares KEY. Can be repeated.",
    ),
]
BuildContexts = Annotated[
    list[str] | None,
    typer.Option(
        "--build-context",
        metavar="NAME=SOURCE",
        help="Add a named build context: a folder, docker-image://, https://, … Can be repeated.",
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="id=NAME,…",
        help="Pass a BuildKit secret (src=FILE or env=VARIABLE). Can be repeated.",
    ),
]

# How ------------------------------------------------------------------------------------------------------------------


def _deadline(text: str) -> Any:
    return typer.Option("--deadline", metavar="4h30m", help=text)


NoCache = Annotated[bool, typer.Option("--no-cache", help="Build without the builder's cache.")]
Rebase = Annotated[
    bool,
    typer.Option(
        "--rebase", help="Put steps whose base moved on the new one, without a build, if it is proven that they fit."
    ),
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Rebuild every step even if nothing changed.")]
RefreshAfter = Annotated[
    str | None,
    typer.Option("--refresh-after", metavar="7d", help="Rebuild steps that were built longer ago than this."),
]
RefreshOutdated = Annotated[
    str | None,
    typer.Option(
        "--refresh-outdated",
        envvar="CHAINBUILD_REFRESH_OUTDATED",
        metavar="[=security]",
        help="Rebuild the steps whose packages have newer versions in the image's own sources; with =security only for"
        " security updates.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", metavar="N", min=1, help="Number of parallel builds (default: one per platform)."),
]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", "-k", help="After a failure, finish every step that does not depend on it.")
]
Deadline = Annotated[
    str | None, _deadline("Do not start steps whose last build took longer than the time left; the next run continues.")
]
JobDeadline = Annotated[str | None, _deadline("Deadline of each job (default: below the vendor's limit).")]
KeepGoingOrNot = Annotated[
    bool | None,
    typer.Option(
        "--keep-going/--no-keep-going",
        "-k",
        help="After a failure, finish every step that does not depend on it (default: no).",
        show_default=False,
    ),
]
StrictOrNot = Annotated[
    bool | None,
    typer.Option(
        "--strict/--no-strict",
        help="Treat warnings of the minimize stage and the checks as errors: do not tag the image (default: no).",
        show_default=False,
    ),
]

# What is done with the results ----------------------------------------------------------------------------------------


def _push(what: str) -> Any:
    return typer.Option("--push", help=f"Push {what}.")


PushOrNot = Annotated[
    bool | None,
    typer.Option(
        "--push/--no-push",
        help="Push results and their indexes to the registry named in REPO (default: no).",
        show_default=False,
    ),
]
LoadOrNot = Annotated[
    bool | None,
    typer.Option(
        "--load/--no-load", help="Load results into the local image store (default: load).", show_default=False
    ),
]
TestsOrNot = Annotated[
    bool | None,
    typer.Option("--tests/--no-tests", help="Run the tests of the images (default: run).", show_default=False),
]
Native = Annotated[
    str | None,
    typer.Option(
        "--native",
        metavar="MODE",
        help="Native compilers and package tools in emulated builds: auto, off, or check (check:5% for a sample) to compare"
        " what compilers make with what the image's own make (default: auto).",
    ),
]
PushImage = Annotated[bool, _push("the image and its index to the registry named in NAME")]
PushReleased = Annotated[bool, _push("the released images to the registry named in REPO")]
NoLoad = Annotated[bool, typer.Option("--no-load", help="Do not load results into the local image store.")]
NoTests = Annotated[bool, typer.Option("--no-tests", help="Do not run the tests of the image.")]
ReplaceIndex = Annotated[
    bool,
    typer.Option("--replace-index", help="Allow platforms that this run does not build to be dropped from the index."),
]
FailIfStaleIndex = Annotated[
    bool,
    typer.Option(
        "--fail-if-stale-index",
        help="Exit with code 9 and leave the index unchanged if it would keep an image that this tree does not produce.",
    ),
]
