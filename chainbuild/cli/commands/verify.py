"""`chainbuild verify`: run the checks of slim images on any image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import completion, flags
from chainbuild.cli.settings import settings_from


def verify(
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            autocompletion=completion.images,
            help="Image from any registry or from the local image store.",
        ),
    ],
    *,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Check that an image has all libraries and symbol versions, and a configuration that can start. Runs natively."""
    from chainbuild.cli.output import open_quietly
    from chainbuild.errors import ExitCode
    from chainbuild.operations.verify import verify_image
    from chainbuild.references import ImageReference, Platform
    from chainbuild.text import escaped
    from chainbuild.ui import stdout
    from chainbuild.ui.messages import message_lines

    named = ImageReference.parse(image)
    target = Platform.parse(platform) if platform else Platform.of_this_machine()
    settings = settings_from(root=root, registry=registry, port=registry_port, builders=builder)
    with open_quietly(settings, json=json) as session:
        report = verify_image(session, named, target)
    if json:
        stdout().write_raw(report.as_json(str(named), target.name) + "\n")
    else:
        lines = [line for warning in report.warnings for line in message_lines("warning", str(warning))]
        lines += [line for text in report.all_errors for line in message_lines("error", text)]
        starts = (
            f"; starts {report.configuration.summary}"
            if report.configuration and not report.configuration.faults
            else ""
        )
        stdout().write(
            [*lines, f"{named} for {target}: {escaped(report.summary)}{escaped(starts)} ({report.seconds:.1f} s)"]
        )
    return int(ExitCode.NOT_PROVEN if report.all_errors else ExitCode.DONE)
