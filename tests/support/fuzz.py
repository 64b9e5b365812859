"""`script/fuzz reuse`: test pairs of builds until the time is over or a fault is found."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.support.differential import generate, judge, minimized
from tests.support.plain_builds import pool

_BATCH = 60
_BASE = "debian:bookworm-slim"


def say(text: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run until the time is over; return 1 if there is a fault."""
    parser = argparse.ArgumentParser(prog="script/fuzz reuse")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to go on (default: 10)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where to begin (default: the time)")
    parser.add_argument("--base", default=_BASE, help=f"an image with a shell and cp (default: {_BASE})")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.minutes * 60
    tried = compared = rewritten = 0
    start = arguments.seed
    with tempfile.TemporaryDirectory() as name, pool(arguments.base, Path(name)) as images:
        while time.monotonic() < end:
            verdicts = judge(generate(_BATCH, start, images), images)
            tried += len(verdicts)
            compared += sum(verdict.same_key and verdict.works for verdict in verdicts)
            rewritten += sum(verdict.rewritten for verdict in verdicts)
            say(f"seed {start}: {tried} pairs tried, {compared} compared, {rewritten} with pinned images")
            faults = [verdict for verdict in verdicts if verdict.fault]
            for verdict in faults[:3]:
                say(f"\n{verdict.fault} (seed {start})\n{minimized(verdict.pair, images)}\n")
            if faults:
                return 1
            start += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
