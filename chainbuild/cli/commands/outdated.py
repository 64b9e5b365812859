"""`chainbuild outdated`: list packages that have newer versions, and the steps that would gain them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import completion, flags


def outdated(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE|STEP]...",
            autocompletion=completion.images_and_steps,
            help="Images from any registry or from the local image store, or steps of the last run (default: every step and"
            " result of the last run, or of the project).",
            show_default=False,
        ),
    ] = None,
    *,
    security: Annotated[bool, typer.Option("--security", help="Show only security updates.")] = False,
    fail: Annotated[bool, typer.Option("--fail", help="Exit with 10 if a package has an update.")] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """List packages with newer versions where the image itself would take them from, and the steps that would gain them.

    Nothing is built or pulled. The package lists of apt, apk and Python indices are fetched and kept in the cache folder.
    """
    from chainbuild.cli.image_arguments import Place, read_image_arguments
    from chainbuild.cli.output import messages, open_quietly
    from chainbuild.cli.runs.project import unsaid_run
    from chainbuild.errors import ExitCode
    from chainbuild.operations.outdated import outdated_images, outdated_in_project
    from chainbuild.references import Platform
    from chainbuild.requests.options import RunOptions
    from chainbuild.ui import stdout
    from chainbuild.ui.outdated import notices, show_outdated

    if images:
        place = Place(root=root, registry=registry, port=registry_port)
        settings, named = read_image_arguments(images, platform, place)
        with open_quietly(settings, json=json) as session:
            result = outdated_images(session, named, security=security)
    else:
        request = unsaid_run(RunOptions(root=root, registry=registry, port=registry_port))
        chosen = Platform.parse(platform) if platform else None
        with open_quietly(request.settings, json=json) as session:
            result = outdated_in_project(session, request, chosen, security=security)
    out = stdout()
    if json:
        out.write_json({"schema": "chainbuild.outdated/1", **result.as_json()})
    else:
        messages().warn(*notices(result))
        show_outdated(result, out)
    return int(ExitCode.OUTDATED if fail and result.updates else ExitCode.DONE)
