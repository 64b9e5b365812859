"""`chainbuild bootstrap`: parse the arguments, make the images, and print where they are."""

from __future__ import annotations

from pathlib import Path

from chainbuild.cli.output import open_quietly
from chainbuild.cli.settings import settings_from
from chainbuild.distro.bootstrap import bootstrap
from chainbuild.errors import WrongUseError
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
from chainbuild.references import ImageReference, Platform
from chainbuild.text import duration, size
from chainbuild.ui import stdout


def make_base(
    image: str,
    platform: str,
    *,
    include: tuple[str, ...],
    suite: str | None,
    full: bool,
    certificates: bool,
    load: bool,
    refresh: bool,
    root: Path,
    registry: str | None,
    port: int | None,
) -> int:
    """Make a base image and return the exit code."""
    settings = settings_from(root=root, registry=registry, port=port)
    collector = ProblemCollector()
    fallback = ImageReference("docker.io", "library/debian")
    reference = collector.parse("IMAGE", ImageReference.parse, image, fallback)
    native = Platform.of_this_machine()
    platforms = parse_platforms(platform, collector) if platform else (native,)
    if collector.problems:
        raise WrongUseError(collector.problems)
    with open_quietly(settings, json=False) as session:
        images = bootstrap(
            reference,
            platforms,
            records=session.records,
            emit=session.emit,
            include=include,
            suite=suite,
            variant="full" if full else None,
            certificates=certificates,
            load=load,
            refresh=refresh,
        )
    stdout().write(
        [
            f"{image.registry_name} for {image.platform}: {size(image.size)}, "
            + (f"made in {duration(image.seconds)}" if image.made else "already exists")
            + (f"; local as {image.local_name}" if image.local_name else "")
            for image in images
        ]
    )
    return 0
