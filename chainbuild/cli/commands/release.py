"""`chainbuild release create | update | show | publish | apply | rollback`: what is to be released, and doing it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags

app = typer.Typer(no_args_is_help=True, help="Plan a release, have it reviewed, and publish it by digest.")

PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", "-f", metavar="FILE", help="The plan; release_plan.yaml where not given.", dir_okay=False),
]


@app.command()
def create(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE|GLOB…]", help="Of what was built; all of it where not given.", show_default=False
        ),
    ] = None,
    *,
    plan: PlanFile = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="NAME:TAG", help="A name that each gets; {repo}, {name}, {tag} are its own."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the release is called; today's date else.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it over a plan that is there.")] = False,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    json: flags.Json = False,
) -> int:
    """Write a plan of what was built: digests, names, what they replace, the difference, tests, warnings."""
    from chainbuild.cli.release import Where, create_plan

    where = Where(root=root, plan=plan, registry=registry, port=registry_port, json=json)
    called = name or time.strftime("%Y-%m-%d")
    return create_plan(where, tuple(images or ()), to=tuple(to or ()), name=called, force=force)


@app.command()
def update(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE|GLOB…]",
            help="Of the plan, or built and not in it yet; all of the plan where not given.",
            show_default=False,
        ),
    ] = None,
    *,
    plan: PlanFile = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    json: flags.Json = False,
) -> int:
    """Look again at images of the plan; keep everything else, comments and decisions included."""
    from chainbuild.cli.release import Where, update_plan

    where = Where(root=root, plan=plan, registry=registry, port=registry_port, json=json)
    return update_plan(where, tuple(images or ()))


@app.command()
def show(
    *,
    plan: PlanFile = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page instead.", dir_okay=False)
    ] = None,
    root: flags.Root = Path(),
    json: flags.Json = False,
) -> int:
    """Show the plan, and what is left to decide. No registry is asked."""
    from chainbuild.cli.release import Where, show_the_plan

    return show_the_plan(Where(root=root, plan=plan, json=json), html=html)


@app.command()
def publish(
    *,
    plan: PlanFile = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where index.html and the plan go.", file_okay=False),
    ] = None,
    root: flags.Root = Path(),
    json: flags.Json = False,
) -> int:
    """Write the plan as a page, with the plan itself beside it, into a folder to put on the web."""
    from chainbuild.cli.release import Where, publish_plan

    return publish_plan(Where(root=root, plan=plan, json=json), output)


@app.command()
def apply(
    *,
    plan: PlanFile = None,
    dry_run: flags.DryRun = False,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    json: flags.Json = False,
) -> int:
    """Release what was decided on, by digest; go on where an interrupted apply stopped.

    Refused while anything is open, missing, or changed since it was reviewed.
    """
    from chainbuild.cli.release import Where, apply_plan

    where = Where(root=root, plan=plan, registry=registry, port=registry_port, json=json)
    return apply_plan(where, dry_run=dry_run)


@app.command()
def rollback(
    *,
    plan: PlanFile = None,
    dry_run: flags.DryRun = False,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    json: flags.Json = False,
) -> int:
    """Let the names that the plan moved mean again what they meant before it."""
    from chainbuild.cli.release import Where, roll_back

    where = Where(root=root, plan=plan, registry=registry, port=registry_port, json=json)
    return roll_back(where, dry_run=dry_run)
