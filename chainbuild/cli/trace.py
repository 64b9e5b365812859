"""`chainbuild minimize trace`: what was asked for, read; the traces, one after the other; and their results."""

from __future__ import annotations

from chainbuild.cli.output import open_quietly, print_lines
from chainbuild.cli.retest import RetestOptions, RetestRequest, read_asked
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
from chainbuild.text import escaped
from chainbuild.ui import stdout


def run_trace(asked: RetestOptions, command: tuple[str, ...], *, write: bool, json: bool) -> int:
    """Trace a command, or the production test, in every image; return the exit code. Nothing is written if one fails."""
    wanted = read_asked(asked)
    with open_quietly(wanted.settings, json=json) as session:
        found = [trace_subject(session, subject) for subject in _subjects(session, wanted, command)]
    for one in found:
        if write and one.content is not None:
            replace_file(one.file, one.content)
    if json:
        rows = [as_row(one, written=_is_written(one, write)) for one in found]
        stdout().write_json({"schema": SCHEMA, "images": rows})
    else:
        print_lines(*(escaped(line) for one in found for line in in_words(one, written=_is_written(one, write))))
    fine = all(one.good or (_is_written(one, write) and one.passed) for one in found)
    return int(ExitCode.DONE if fine else ExitCode.NOT_PROVEN)


def _is_written(findings: Findings, write: bool) -> bool:
    return write and findings.content is not None


def _subjects(session: Session, wanted: RetestRequest, command: tuple[str, ...]) -> tuple[Subject, ...]:
    if wanted.graph is not None:
        return subjects_of_options(session, wanted.graph, command)
    if wanted.image is None or wanted.platform is None:
        raise ValueError("nothing is wanted")
    found = session.finder().find_result(wanted.image, wanted.platform)
    return (subject_of_image(session, found, wanted.platform, command),)
