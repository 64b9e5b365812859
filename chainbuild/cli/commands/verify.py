"""`chainbuild verify`: run the checks of slim images on any image, or verify its provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags

Provenance = Annotated[
    bool, typer.Option("--provenance", help="Verify who built the image and from what, instead of its content.")
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Accept only provenance that this key signed: a PEM file, or ed25519:… (default: the trusted keys). "
        "Can be repeated.",
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="Fail if the provenance violates this policy.", dir_okay=False),
]
Rebuild = Annotated[
    bool,
    typer.Option(
        "--rebuild",
        help="Build the image again from its provenance and the files here, without a cache, and compare every step.",
    ),
]


def verify(
    image: flags.ImageOrStep,
    *,
    provenance: Provenance = False,
    key: Keys = None,
    policy: PolicyFile = None,
    rebuild: Rebuild = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Check that an image has all libraries and symbol versions, and a configuration that can start. Runs natively.

    With --provenance, verify who built the image, from what, and what was proven, and hold it against a policy.
    """
    from chainbuild.cli.image_arguments import Place, read_image_arguments
    from chainbuild.cli.output import open_quietly
    from chainbuild.errors import ExitCode
    from chainbuild.operations.named_images import find_named_image
    from chainbuild.operations.verify import verify_image
    from chainbuild.text import escaped
    from chainbuild.ui import stdout
    from chainbuild.ui.messages import message_lines

    place = Place(root=root, registry=registry, port=registry_port, builders=builder)
    if provenance or key or policy or rebuild:
        from chainbuild.cli.runs.provenance import rebuild_verified, show_verified

        run = rebuild_verified if rebuild else show_verified
        return run(image, platform, place, keys=tuple(key or ()), policy=policy, json=json)
    settings, (named,) = read_image_arguments((image,), platform, place)
    with open_quietly(settings, json=json) as session:
        resolved = find_named_image(session, named)
        target = resolved.image.platform
        report = verify_image(session, resolved)
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
