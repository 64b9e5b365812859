"""`chainbuild images` and `chainbuild inspect`: list the chain registry's images, and show how one was made."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import completion, flags
from chainbuild.cli.output import open_quietly
from chainbuild.cli.settings import settings_from

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chainbuild.images.inventory import Listed
    from chainbuild.ui.terminal import Line


def images(
    repository: Annotated[
        str, typer.Argument(metavar="[REPO]", help="List only this repository.", show_default=False)
    ] = "",
    *,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """List the chain registry's images with platform, id, age, size, and the size that each adds to its base."""
    from chainbuild.images.inventory import list_images
    from chainbuild.parsing.option_values import parse_repository
    from chainbuild.text import perhaps_you_meant
    from chainbuild.ui import stdout

    settings = settings_from(root=root, registry=registry, port=registry_port)
    with open_quietly(settings, json=json) as session:
        place = session.chain.place(parse_repository(repository)).repository if repository else ""
        rows = list_images(session.records, place)
        others = session.registries.client(session.chain.host).repositories() if place and not rows else ()
    if json:
        stdout().write_json({"schema": "chainbuild.images/1", "images": [_as_object(row) for row in rows]})
        return 0
    out = stdout()
    none = f"no images{f' of {repository}' if repository else ''} in the chain registry"
    if near := perhaps_you_meant(place, others, str):
        none += f". {near.rstrip()}"
    out.write(_table(rows, out.width) if rows else [none])
    return 0


def _as_object(row: Listed) -> dict[str, object]:
    return {
        "image": str(row.reference),
        "repository": row.reference.name,
        "tag": row.reference.tag_or_latest,
        "platform": row.platform.oci,
        "digest": str(row.image.digest),
        "index": row.is_index,
        "size": row.image.size,
        "added": row.added if row.added >= 0 else None,
        "built_at": row.built_at or None,
    }


def _table(rows: Iterable[Listed], width: int | None) -> list[Line]:
    from chainbuild.text import duration, size
    from chainbuild.ui.tables import Column, table
    from chainbuild.ui.terminal import Span

    now = time.time()
    columns = (
        Column(heading="repository"),
        Column(heading="tag"),
        Column(heading="platform"),
        Column(heading="id"),
        Column(heading="age", right=True),
        Column(heading="size", right=True),
        Column(heading="added", right=True),
    )
    lines = [
        (
            Span(row.reference.familiar_name),
            Span(row.reference.tag_or_latest),
            Span(row.platform.name),
            Span(row.image.digest.short),
            Span(duration(now - row.built_at) if row.built_at else ""),
            Span(size(row.image.size)),
            Span(size(row.added) if row.added >= 0 else ""),
        )
        for row in rows
    ]
    return table(columns, lines, width)


def inspect(
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|STEP",
            autocompletion=completion.images_and_steps,
            help="Image of the chain registry or of any other registry, or a step of the last run.",
        ),
    ],
    *,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Show how an image was made: every step with its key, Dockerfile, args, parent, commit and time."""
    from chainbuild.cli.image_arguments import Place, read_image_arguments
    from chainbuild.images.inventory import trail_of
    from chainbuild.operations.named_images import find_named_image
    from chainbuild.ui import stdout
    from chainbuild.ui.reports import show_trail, trail_as_json

    place = Place(root=root, registry=registry, port=registry_port)
    settings, (named,) = read_image_arguments((image,), platform, place)
    with open_quietly(settings, json=json) as session:
        image_found = find_named_image(session, named, copying=False).image
        steps = trail_of(session.records, image_found)
    if json:
        stdout().write_raw(trail_as_json(image_found, steps) + "\n")
    else:
        show_trail(image_found, steps, stdout())
    return 0
