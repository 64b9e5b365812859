"""Write the report and the trace of a run, at its end (`--report`, `--trace`) or later (`chainbuild report`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chainbuild.cli.show import ReportFiles
from chainbuild.errors import WrongUseError
from chainbuild.execution.logs import JOURNAL, LATEST
from chainbuild.host.folders import OWN_FOLDER
from chainbuild.project.location import find_project


def write_reports(folder: Path, files: ReportFiles) -> None:
    """Write the files that are named, from the journal in the folder of a run's logs.

    Errors: `WrongUseError` if there is no journal, or a file cannot be written.
    """
    from chainbuild.cli.output import make_folder, write_result
    from chainbuild.run_report.journal import read_journal
    from chainbuild.run_report.timeline import timeline_of

    if not files:
        return
    timeline = timeline_of(read_journal(folder / JOURNAL))
    for path in (files.page, files.trace):
        if path is not None:
            make_folder(path.parent)
    if files.page is not None:
        from chainbuild.run_report.page import page

        text = page(timeline, files.page.absolute().parent)
        write_result(files.page, text.encode("utf-8", "backslashreplace"))
    if files.trace is not None:
        from json import dumps

        from chainbuild.run_report.trace_events import trace_events

        write_result(files.trace, dumps(trace_events(timeline)).encode("ascii"))


def write_reports_of_run(folder: Path, files: ReportFiles, warn: Callable[[str], None]) -> None:
    """Write them at the end of a run, which does not fail whatever happens here: `warn` gets the reason."""
    try:
        write_reports(folder, files)
    except WrongUseError as error:
        warn(f"no report was written: {error.problems[0].message}")
    except Exception as error:  # noqa: BLE001  # a bug in the report
        warn(f"no report was written: {type(error).__name__}: {error}; chainbuild report shows where")


def folder_of_run(root: Path, run: str | None) -> Path:
    """Return the folder of a run's logs: by its path or its name, by default that of the last run in a tree.

    Errors: `WrongUseError` if there is none.
    """
    project = find_project(root) if root.is_dir() else None
    logs = (project.parent if project else root) / OWN_FOLDER / "logs"
    candidates = [Path(run), logs / run] if run else [logs / LATEST, *sorted(_runs(logs), reverse=True)]
    found = next((folder for folder in candidates if (folder / JOURNAL).is_file()), None)
    if found is None:
        what = f"{run} is no run" if run else f"no run found below {logs}"
        raise WrongUseError(what, hint="Name the folder of a run, or build here first.")
    # Not the link `latest`: the next run changes it. A tree that was copied from elsewhere may have any link there.
    folder = found.resolve()
    if not run and folder.parent != logs.resolve():
        raise WrongUseError(f"{found} leads out of {logs}", hint="Name the folder of a run.")
    return folder


def _runs(logs: Path) -> list[Path]:
    return [path.parent for path in logs.glob(f"*/{JOURNAL}")]
