"""Run `chainbuild native`: find the distribution of an image, and make the tools for it on every platform."""

from __future__ import annotations

from chainbuild.cli.runs.frame import Ended, run_in_frame
from chainbuild.cli.show import Show
from chainbuild.errors import WrongUseError
from chainbuild.execution.logs import LogFiles
from chainbuild.execution.session import Session
from chainbuild.native.tools import TRIPLETS
from chainbuild.operations.native import make_all
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
from chainbuild.references import ImageReference
from chainbuild.requests.build import session_settings
from chainbuild.requests.options import SessionOptions


def make_native_tools(image: str, platform: str, options: SessionOptions, show: Show) -> int:
    """Make the tools for builds on an image, and return the exit code."""
    collector = ProblemCollector()
    settings = session_settings(options.of_project(), collector)
    reference = collector.parse("IMAGE", ImageReference.parse, image, ImageReference("docker.io", "library/debian"))
    platforms = parse_platforms(platform, collector)
    for chosen in platforms:
        if chosen.oci not in TRIPLETS:
            collector.add(
                f"--platform: there are no native compilers for {chosen}", f"Platforms: {', '.join(TRIPLETS)}."
            )
    if collector.problems:
        raise WrongUseError(collector.problems)

    def work(session: Session, files: LogFiles) -> Ended:
        return Ended(failures=make_all(session, reference, tuple(platforms), files.folder, files.path_of))

    return run_in_frame(settings, work, mode=show.mode, verbosity=show.verbosity, building=True)
