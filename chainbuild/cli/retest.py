"""Run `chainbuild test`: read its arguments, and test with the views, logs and exit codes of every run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.cli.frame import Ended, run_in_frame
from chainbuild.errors import WrongUseError
from chainbuild.execution.logs import LogFiles
from chainbuild.execution.session import Session, Settings
from chainbuild.layouts.test_files import read_image_test
from chainbuild.model import Graph
from chainbuild.operations.retest import Retest, of_image, of_options, run_retests
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.build import RunOptions, read_build_request, read_settings
from chainbuild.requests.last_run import load_last_run
from chainbuild.ui import Mode
from chainbuild.values import replace

_ANY_IMAGE = "debian"
"""Stands for BASE and PRODUCTION when only the names of the images are needed: these contain neither."""
_PORT: Final = 5000
"""Default port of the managed registry."""


class RetestOptions(Struct, frozen=True, kw_only=True):
    """Arguments and flags of the command, as typed."""

    target: str
    words: tuple[str, ...] = ()
    platform: str | None = None
    test: Path | None = None
    root: Path = Path()
    builders: tuple[str, ...] = ()
    registry: str | None = None
    port: int = _PORT

    @property
    def is_option(self) -> bool:
        """True if the target is a folder of the tree. A name with a tag is an image."""
        return ":" not in self.target and (self.root / self.target.split(",")[0].strip()).is_dir()


class RetestRequest(Struct, frozen=True, kw_only=True):
    """What to test: a graph, or an image of a platform with an explicit test (None: the test of its step)."""

    settings: Settings
    graph: Graph | None = None
    image: ImageReference | None = None
    platform: Platform | None = None
    test: Path | None = None

    def retrials(self, session: Session) -> tuple[Retest, ...]:
        """Return the tests, each with its image. Errors: those of finding the images."""
        if self.graph is not None:
            return of_options(session, self.graph)
        if self.image is None or self.platform is None:
            raise ValueError("neither a graph nor an image to test")
        found_image = session.finder().find_result(self.image, self.platform)
        return (of_image(session, found_image, self.platform, self.test),)


def read_asked(asked: RetestOptions) -> RetestRequest:
    """Read the arguments. Errors: `WrongUseError` with every problem of the arguments and the tree."""
    return _options(asked) if asked.is_option else _image(asked)


def _options(asked: RetestOptions) -> RetestRequest:
    if asked.test:
        raise WrongUseError("--with needs an IMAGE", hint="The steps of an OPTION have their own tests.")
    if len(asked.words) not in {0, 3}:
        raise WrongUseError(
            "an OPTION takes none or all of PLATFORM REPO TAG",
            hint=f"For example: chainbuild test {asked.target} amd64,aarch64 chainbuild/atom build-base",
        )
    if asked.words:
        platform, repo, tag = asked.words
        options = RunOptions(
            platform=platform,
            repo=repo,
            tag=tag,
            base=_ANY_IMAGE,
            production=_ANY_IMAGE,
            option=asked.target,
            root=asked.root,
            registry=asked.registry,
            port=asked.port,
            builders=asked.builders,
        )
    else:
        options = _like_the_last_run(asked)
    request = read_build_request(replace(options, platform=asked.platform or options.platform))
    return RetestRequest(settings=request.settings, graph=request.graph)


def _like_the_last_run(asked: RetestOptions) -> RunOptions:
    try:
        last = load_last_run(asked.root)
    except WrongUseError as error:
        hint = f"Specify the images: chainbuild test {asked.target} PLATFORM REPO TAG."
        raise WrongUseError(error.problems[0].message, hint=hint) from None
    return replace(
        last,
        option=asked.target,
        root=asked.root,
        registry=asked.registry or last.registry,
        port=last.port if asked.port == _PORT else asked.port,
        builders=asked.builders or last.builders,
        first=None,
        only=None,
        until=None,
        deadline=None,
    )


def _image(asked: RetestOptions) -> RetestRequest:
    collector = ProblemCollector()
    settings = read_settings(
        collector, root=asked.root, registry=asked.registry, port=asked.port, builders=asked.builders
    )
    fallback = ImageReference("docker.io", "library/debian")
    if asked.words:
        collector.add(
            f"{asked.target!r} is not a folder of the tree, and an IMAGE takes no further arguments",
            "See chainbuild test --help.",
        )
    image = collector.parse("IMAGE", ImageReference.parse, asked.target, fallback)
    platforms = parse_platforms(asked.platform, collector) if asked.platform else (Platform.of_this_machine(),)
    if len(platforms) > 1:
        collector.add("an IMAGE is tested on one platform at a time", "Select one platform with --platform.")
    if asked.test:
        collector.problems += read_image_test(asked.test)[1]
    if collector.problems:
        raise WrongUseError(collector.problems)
    return RetestRequest(settings=settings, image=image, platform=platforms[0], test=asked.test)


def run_again(asked: RetestOptions, *, mode: Mode, verbosity: int) -> int:
    """Run the tests and return the exit code of the first failure. Failures are shown after the views have ended."""
    request = read_asked(asked)

    def work(session: Session, files: LogFiles) -> Ended:
        tests = request.retrials(session)
        failures = run_retests(session, tests, log_folder=files.folder, log_path=files.path_of)
        return Ended(failures=failures.values())

    return run_in_frame(request.settings, work, mode=mode, verbosity=verbosity)
