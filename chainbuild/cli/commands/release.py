"""`chainbuild release create | update | show | page | apply | rollback`: plan a release and carry it out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags

app = typer.Typer(no_args_is_help=True, help="Plan a release, review it, and publish it by digest.")

PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", "-f", metavar="FILE", help="Plan file (default: release_plan.yaml).", dir_okay=False),
]


@app.command()
def create(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGE|GLOB…]", help="Built images to release (default: all).", show_default=False),
    ] = None,
    *,
    plan: PlanFile = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="NAME:TAG",
            help="Destination of each image; {repo}, {name} and {tag} are those of the image. Can be repeated.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the release (default: today's date).")] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="Policy for the provenance of the images, named in the plan (default: none).",
            dir_okay=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing plan.")] = False,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Write a plan for built images: digests, tags, what they replace, differences, tests, warnings."""
    from chainbuild.cli.runs.release import Where, create_plan

    where = Where(root=root, plan=plan, registry=registry, port=registry_port, json=json)
    title = name or time.strftime("%Y-%m-%d")
    return create_plan(where, tuple(images or ()), to=tuple(to or ()), name=title, force=force, policy=policy)


@app.command()
def update(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE|GLOB…]",
            help="Images of the plan to update, or built images to add (default: all images of the plan).",
            show_default=False,
        ),
    ] = None,
    *,
    plan: PlanFile = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Update the images of a plan. Everything else in the plan stays, including comments and decisions."""
    from chainbuild.cli.runs.release import Where, update_plan

    where = Where(root=root, plan=plan, registry=registry, port=registry_port, json=json)
    return update_plan(where, tuple(images or ()))


@app.command()
def show(
    *,
    plan: PlanFile = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write an HTML page instead of printing.", dir_okay=False),
    ] = None,
    root: flags.Root = Path(),
    json: flags.Json = False,
) -> int:
    """Show a plan and its open decisions. Reads only the file."""
    from chainbuild.cli.runs.release import Where, show_the_plan

    return show_the_plan(Where(root=root, plan=plan, json=json), html=html)


@app.command()
def page(
    *,
    plan: PlanFile = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for index.html and the plan (default: below .chainbuild/releases).",
            file_okay=False,
        ),
    ] = None,
    root: flags.Root = Path(),
    json: flags.Json = False,
) -> int:
    """Write a folder for a web server: the plan as an HTML page, and the plan file."""
    from chainbuild.cli.runs.release import Where, publish_plan

    return publish_plan(Where(root=root, plan=plan, json=json), output)


@app.command()
def apply(
    *,
    plan: PlanFile = None,
    dry_run: flags.DryRun = False,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Publish the approved images by digest, and continue an interrupted apply.

    Fails if a decision is open, an image is missing, or an image changed since the review.
    """
    from chainbuild.cli.runs.release import Where, apply_plan

    where = Where(root=root, plan=plan, registry=registry, port=registry_port, json=json)
    return apply_plan(where, dry_run=dry_run)


@app.command()
def rollback(
    *,
    plan: PlanFile = None,
    dry_run: flags.DryRun = False,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Point the tags that the plan moved back at their previous digests."""
    from chainbuild.cli.runs.release import Where, roll_back

    where = Where(root=root, plan=plan, registry=registry, port=registry_port, json=json)
    return roll_back(where, dry_run=dry_run)
