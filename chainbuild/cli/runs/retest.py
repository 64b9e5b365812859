"""Run `chainbuild test`: test images with the views, logs and exit codes of every run."""

from __future__ import annotations

from chainbuild.cli.runs.frame import Ended, run_in_frame
from chainbuild.cli.show import Show
from chainbuild.execution.logs import LogFiles
from chainbuild.execution.session import Session
from chainbuild.operations.retest import Retest, of_image, of_options, run_retests
from chainbuild.requests.retest import RetestOptions, RetestRequest, read_retest


def run_again(options: RetestOptions, show: Show) -> int:
    """Run the tests and return the exit code of the first failure. Failures are shown after the views have ended."""
    request = read_retest(options)

    def work(session: Session, files: LogFiles) -> Ended:
        tests = _tests(request, session)
        failures = run_retests(session, tests, log_folder=files.folder, log_path=files.path_of)
        return Ended(failures=failures.values())

    return run_in_frame(request.settings, work, mode=show.mode, verbosity=show.verbosity, reports=show.reports)


def _tests(request: RetestRequest, session: Session) -> tuple[Retest, ...]:
    """Return the tests, each with its image. Errors: those of finding the images."""
    if request.graph is not None:
        return of_options(session, request.graph)
    if request.image is None or request.platform is None:
        raise ValueError("neither a graph nor an image to test")
    image = session.finder().find_result(request.image, request.platform)
    return (of_image(session, image, request.platform, request.test),)
