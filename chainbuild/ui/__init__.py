"""Everything that people and programs see of a run. Only `chainbuild.ui.screen` imports rich, and late.

view = make_view("auto", verbosity=0)
with view:
    execute(plan, driver, tell(view.emit, log_files.emit))
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Literal, TextIO

from chainbuild.events import Emit, Event
from chainbuild.ui.failures import error_as_json, show_error
from chainbuild.ui.plans import PlanRow, command_line, show_plan
from chainbuild.ui.terminal import Terminal, can_be_live, look_at
from chainbuild.ui.views import JsonView, LiveView, PlainView, View

__all__ = [
    "JsonView",
    "LiveView",
    "Mode",
    "PlainView",
    "PlanRow",
    "Terminal",
    "View",
    "command_line",
    "error_as_json",
    "look_at",
    "make_view",
    "show_error",
    "show_plan",
    "stderr",
    "stdout",
    "tell",
]

Mode = Literal["auto", "plain", "json"]


def make_view(
    mode: Mode,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
    verbosity: int = 0,
    environ: Mapping[str, str] | None = None,
) -> View:
    """The view for a run: the result goes to `out`, the progress to `err` (stdout and stderr where not given).

    `auto` is live when `err` is a terminal that can do it and no CI is running us, else plain.
    """
    environ = os.environ if environ is None else environ
    result, progress = stdout(out, environ), stderr(err, environ)
    if mode == "json":
        return JsonView(result)
    if mode == "auto" and can_be_live(progress, environ):
        return LiveView(result, progress, verbosity=verbosity)
    return PlainView(result, progress, verbosity=verbosity)


def stdout(stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> Terminal:
    """Where results go, with what it can show."""
    return look_at(stream or sys.stdout, os.environ if environ is None else environ)


def stderr(stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> Terminal:
    """Where progress and errors go, with what it can show."""
    return look_at(stream or sys.stderr, os.environ if environ is None else environ)


def tell(*listeners: Emit) -> Emit:
    """One emit for several listeners, in their order; one that fails does not keep the event from the others."""

    def emit(event: Event) -> None:
        failure: Exception | None = None
        for listener in listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  # raised again below, when all were told
                failure = failure or error
        if failure is not None:
            raise failure

    return emit
