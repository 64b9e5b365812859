"""`bootstrap` as the command does it: parsed, made, and told where the images are."""

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
    port: int,
) -> int:
    """Make a base image; gives the exit code."""
    settings = settings_from(root=root, registry=registry, port=port)
    collector = ProblemCollector()
    reference = collector.parse("IMAGE", ImageReference.parse, image, ImageReference("docker.io", "library/debian"))
    own = Platform.of_this_machine()
    platforms = parse_platforms(platform, collector) if platform else (own,)
    if collector.problems:
        raise WrongUseError(collector.problems)
    with open_quietly(settings, json=False) as session:
        made = bootstrap(
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
            f"{one.registry_name} for {one.platform}: {size(one.size)}, "
            + (f"made in {duration(one.seconds)}" if one.made else "there already")
            + (f"; local as {one.local_name}" if one.local_name else "")
            for one in made
        ]
    )
    return 0
