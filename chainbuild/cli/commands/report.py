"""`chainbuild report`: write a page with the timeline of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags


def report(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="Folder of a run's logs, or its name (default: the last run in this folder).",
            show_default=False,
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            dir_okay=False,
            help="Write the page to FILE (default: report.html in the folder of the run).",
        ),
    ] = None,
    trace: flags.Trace = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    root: flags.Root = Path(),
    json: flags.Json = False,
) -> int:
    """Write a page with the timeline of a run, and print the page's path.

    It shows what each step waited for and did, sizes, reasons, checks, warnings and links to the logs.
    """
    from chainbuild.cli.runs.reports import folder_of_run, write_reports
    from chainbuild.cli.show import ReportFiles
    from chainbuild.text import escaped
    from chainbuild.ui import stdout

    folder = folder_of_run(root, run)
    page = output or folder / "report.html"
    write_reports(folder, ReportFiles(page=page, trace=trace))
    if json:
        document = {"run": str(folder), "page": str(page), "trace": str(trace) if trace else None}
        stdout().write_json({"schema": "chainbuild.run-report/1", **document})
    else:
        stdout().write([escaped(str(page))])
    if show:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    return 0
