"""What `chainbuild test` was asked for, read; and its run, with the views, logs and exit codes of any run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.errors import ExitCode, WrongUseError
from chainbuild.execution.logs import LogFiles
from chainbuild.execution.session import Session, Settings, open_session
from chainbuild.layouts.test_files import read_image_test
from chainbuild.model import Graph
from chainbuild.operations.retest import Retest, of_image, of_options, run_retests
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.build import RunOptions, read_build_request, read_settings
from chainbuild.requests.last_run import load_last_run
from chainbuild.ui import Mode, make_view, show_error, stderr, stdout, tell
from chainbuild.values import replace

_ANY_IMAGE = "debian"
"""What a tree is read with where only the names of its images matter: neither BASE nor PRODUCTION is in them."""
_PORT: Final = 5000
"""The managed registry's, unless another one is typed."""


class RetestOptions(Struct, frozen=True, kw_only=True):
    """The command's words and flags as they were typed."""

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
        """Whether the target is a folder of the tree; a name with a tag is an image."""
        return ":" not in self.target and (self.root / self.target.split(",")[0].strip()).is_dir()


class RetestRequest(Struct, frozen=True, kw_only=True):
    """What is to be tested: a graph, or an image of a platform with a test of one's own (None: that of its step)."""

    settings: Settings
    graph: Graph | None = None
    image: ImageReference | None = None
    platform: Platform | None = None
    test: Path | None = None

    def retrials(self, session: Session) -> tuple[Retest, ...]:
        """The tests, each with its image. Errors: those of finding them."""
        if self.graph is not None:
            return of_options(session, self.graph)
        if self.image is None or self.platform is None:
            raise ValueError("nothing is wanted")
        found = session.finder().find_result(self.image, self.platform)
        return (of_image(session, found, self.platform, self.test),)


def read_asked(asked: RetestOptions) -> RetestRequest:
    """Read the words. Errors: `WrongUseError` with everything that is wrong with them and with the tree."""
    return _options(asked) if asked.is_option else _image(asked)


def _options(asked: RetestOptions) -> RetestRequest:
    if asked.test:
        raise WrongUseError("--with goes with an IMAGE", hint="Each step of an OPTION has its own test.")
    if len(asked.words) not in {0, 3}:
        raise WrongUseError(
            "an OPTION takes either nothing or all of PLATFORM REPO TAG",
            hint=f"As in chainbuild test {asked.target} amd64,aarch64 chainbuild/atom build-base.",
        )
    if asked.words:
        platform, repo, tag = asked.words
        words = RunOptions(
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
        words = _like_the_last_run(asked)
    request = read_build_request(replace(words, platform=asked.platform or words.platform))
    return RetestRequest(settings=request.settings, graph=request.graph)


def _like_the_last_run(asked: RetestOptions) -> RunOptions:
    try:
        last = load_last_run(asked.root)
    except WrongUseError as error:
        hint = f"Give the run's words: chainbuild test {asked.target} PLATFORM REPO TAG."
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
    nothing = ImageReference("docker.io", "library/debian")
    if asked.words:
        collector.add(
            f"{asked.target!r} is no folder of the tree, and an IMAGE takes no more words",
            "See chainbuild test --help.",
        )
    image = collector.parse("IMAGE", ImageReference.parse, asked.target, nothing)
    platforms = parse_platforms(asked.platform, collector) if asked.platform else (Platform.of_this_machine(),)
    if len(platforms) > 1:
        collector.add("an IMAGE is tested on one platform at a time", "Name one with --platform.")
    if asked.test:
        collector.problems += read_image_test(asked.test)[1]
    if collector.problems:
        raise WrongUseError(collector.problems)
    return RetestRequest(settings=settings, image=image, platform=platforms[0], test=asked.test)


def run_again(asked: RetestOptions, *, mode: Mode, verbosity: int) -> int:
    """Test; gives the exit code of the first failure, which is told when the views have ended."""
    wanted = read_asked(asked)
    folder = wanted.settings.root / ".chainbuild" / "logs" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    view, files = make_view(mode, verbosity=verbosity), LogFiles(folder)
    try:
        with files, view, open_session(wanted.settings, tell(view.emit, files.emit)) as session:
            retrials = wanted.retrials(session)
            failures = run_retests(session, retrials, log_folder=folder, log_path=files.path_of)
    except BaseException as error:  # noqa: BLE001  # told by the same words as a failed test
        return int(
            show_error(
                error,
                out=stdout(),
                err=stderr(),
                as_json=mode == "json",
                shown_tails=view.shown_tails(),
                log_folder=folder if folder.is_dir() else None,
            )
        )
    code = ExitCode.DONE
    for failure in failures.values():
        told = show_error(failure, out=stdout(), err=stderr(), as_json=mode == "json", shown_tails=view.shown_tails())
        code = code or told
    return int(code)
