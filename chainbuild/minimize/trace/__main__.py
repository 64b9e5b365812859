"""The command inside a build stage: `python3 -m chainbuild.minimize.trace`; see docs/proofs.md, "The traced proof".

Exit codes: 0 the report was written, 2 invalid usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from chainbuild.minimize.lists import words_in
from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.scripts import DEFAULT_PATH
from chainbuild.minimize.trace.accesses import CALLS
from chainbuild.minimize.trace.missing import Variables
from chainbuild.minimize.trace.report import TraceOfTest, trace_report
from chainbuild.minimize.write import write_json


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="chainbuild.minimize.trace", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("calls", help="print the system calls that strace must trace")
    comparing = commands.add_parser(
        "compare", help="report the paths that tests opened in ROOT and the production image lacks"
    )
    comparing.add_argument("root", metavar="ROOT")
    comparing.add_argument("--production", required=True, metavar="ROOT2", help="the production image")
    comparing.add_argument(
        "--tests", required=True, metavar="FILE", help="the tests and the folders of their results (JSON)"
    )
    comparing.add_argument("--output", default="-", metavar="FILE")
    comparing.add_argument("--library-path", default="", metavar="PATHS", help="the image's LD_LIBRARY_PATH")
    comparing.add_argument("--path", default="", metavar="PATHS", help="the image's PATH")
    comparing.add_argument("--ignore", default="", metavar="GLOBS", help="patterns of paths to ignore")
    options = parser.parse_args(arguments)
    if options.command == "calls":
        sys.stdout.write(",".join(f"?{name}" for name in CALLS) + "\n")
        return 0
    tests = json.loads(Path(options.tests).read_text(encoding="utf-8"))
    report = trace_report(
        RootFileSystem(options.root),
        RootFileSystem(options.production),
        [TraceOfTest(**{key: str(value) for key, value in test.items()}) for test in tests],
        variables=Variables(library_path=options.library_path, search_path=options.path or DEFAULT_PATH),
        ignore=[word.text for word in words_in(options.ignore) if not word.taken_back],
    )
    write_json(report, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
