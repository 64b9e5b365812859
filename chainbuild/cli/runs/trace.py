"""Run `chainbuild minimize trace`: read its arguments, trace every image, and show the results."""

from __future__ import annotations

from chainbuild.cli.output import open_quietly, print_lines
from chainbuild.errors import ExitCode
from chainbuild.execution.session import Session
from chainbuild.operations.trace import (
    SCHEMA,
    Findings,
    Subject,
    as_row,
    in_words,
    subject_of_image,
    subjects_of_options,
    trace_subject,
)
from chainbuild.proof.trace.args_lines import replace_file
from chainbuild.requests.retest import RetestOptions, RetestRequest, read_retest
from chainbuild.text import escaped
from chainbuild.ui import stdout


def run_trace(options: RetestOptions, command: tuple[str, ...], *, write: bool, json: bool) -> int:
    """Trace a command, or the production test, in every image; return the exit code. Nothing is written if one fails."""
    request = read_retest(options)
    with open_quietly(request.settings, json=json) as session:
        results = [trace_subject(session, subject) for subject in _subjects(session, request, command)]
    for result in results:
        if write and result.content is not None:
            replace_file(result.file, result.content)
    if json:
        rows = [as_row(result, written=_is_written(result, write)) for result in results]
        stdout().write_json({"schema": SCHEMA, "images": rows})
    else:
        for result in results:
            print_lines(*(escaped(line) for line in in_words(result, written=_is_written(result, write))))
    success = all(result.good or (_is_written(result, write) and result.passed) for result in results)
    return int(ExitCode.DONE if success else ExitCode.NOT_PROVEN)


def _is_written(findings: Findings, write: bool) -> bool:
    return write and findings.content is not None


def _subjects(session: Session, request: RetestRequest, command: tuple[str, ...]) -> tuple[Subject, ...]:
    if request.graph is not None:
        return subjects_of_options(session, request.graph, command)
    if request.image is None or request.platform is None:
        raise ValueError("neither a graph nor an image to trace")
    image = session.finder().find_result(request.image, request.platform)
    return (subject_of_image(session, image, request.platform, command),)
