"""Read the arguments of `chainbuild test` and `chainbuild minimize trace`: which images of the tree, or which image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.execution.session import Settings
from chainbuild.layouts.test_files import read_image_test
from chainbuild.model import Graph
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.build import read_build_request, session_settings
from chainbuild.requests.last_run import load_last_run
from chainbuild.requests.options import RunOptions, SessionOptions
from chainbuild.values import replace

_ANY_IMAGE = "debian"
"""Stands for BASE and PRODUCTION when only the names of the images are needed: these contain neither."""


class RetestOptions(SessionOptions, frozen=True, kw_only=True):
    """The options of the command, as the user gave them."""

    target: str
    arguments: Sequence[str] | None = None
    platform: str | None = None
    base_arg: str | None = None
    test: Path | None = None

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


def read_retest(options: RetestOptions) -> RetestRequest:
    """Read the options. Errors: `WrongUseError` with every problem of the options and the tree."""
    return _of_tree(options) if options.is_option else _of_image(options)


def _of_tree(options: RetestOptions) -> RetestRequest:
    if options.test:
        raise WrongUseError("--with needs an IMAGE", hint="The steps of an OPTION have their own tests.")
    arguments = options.arguments or ()
    if len(arguments) not in {0, 3}:
        raise WrongUseError(
            "an OPTION takes none or all of PLATFORM REPO TAG",
            hint=f"For example: chainbuild test {options.target} amd64,aarch64 chainbuild/atom build-base",
        )
    if arguments:
        platform, repo, tag = arguments
        run = RunOptions(platform=platform, repo=repo, tag=tag, base=_ANY_IMAGE, production=_ANY_IMAGE)
    else:
        run = _like_the_last_run(options)
    run = replace(
        run,
        option=options.target,
        root=options.root,
        base_arg=options.base_arg or run.base_arg,
        registry=options.registry or run.registry,
        port=options.port or run.port,
        builders=options.builders or run.builders,
        platform=options.platform or run.platform,
    )
    request = read_build_request(run)
    return RetestRequest(settings=request.settings, graph=request.graph)


def _like_the_last_run(options: RetestOptions) -> RunOptions:
    try:
        last = load_last_run(options.root)
    except WrongUseError as error:
        hint = f"Specify the images: chainbuild test {options.target} PLATFORM REPO TAG."
        raise WrongUseError(error.problems[0].message, hint=hint) from None
    return replace(last, first=None, only=None, until=None, deadline=None)


def _of_image(options: RetestOptions) -> RetestRequest:
    collector = ProblemCollector()
    settings = session_settings(options.of_project(), collector)
    fallback = ImageReference("docker.io", "library/debian")
    if options.arguments:
        collector.add(
            f"{options.target!r} is not a folder of the tree, and an IMAGE takes no further arguments",
            "See chainbuild test --help.",
        )
    image = collector.parse("IMAGE", ImageReference.parse, options.target, fallback)
    platforms = parse_platforms(options.platform, collector) if options.platform else (Platform.of_this_machine(),)
    if len(platforms) > 1:
        collector.add("an IMAGE is tested on one platform at a time", "Select one platform with --platform.")
    if options.test:
        collector.problems += read_image_test(options.test)[1]
    if collector.problems:
        raise WrongUseError(collector.problems)
    return RetestRequest(settings=settings, image=image, platform=platforms[0], test=options.test)
