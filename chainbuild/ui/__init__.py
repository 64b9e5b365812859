"""The output of a run, for people and programs. Only `chainbuild.ui.screen` imports rich, and imports it late.

view = make_view("auto", verbosity=0)
with view:
    execute(plan, driver, tell(view.emit, log_files.emit))
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from chainbuild.ui.terminal import Terminal, can_be_live, look_at, stderr, stdout

if TYPE_CHECKING:
    from chainbuild.events import Emit, Event
    from chainbuild.ui.failures import error_as_json, show_error
    from chainbuild.ui.messages import Printer
    from chainbuild.ui.plans import PlanRow, command_line, show_plan
    from chainbuild.ui.views import JsonView, LiveView, PlainView, View

__all__ = [
    "JsonView",
    "LiveView",
    "Mode",
    "PlainView",
    "PlanRow",
    "Printer",
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

_MODULES: Final = {
    "error_as_json": "failures",
    "show_error": "failures",
    "Printer": "messages",
    "PlanRow": "plans",
    "command_line": "plans",
    "show_plan": "plans",
    "JsonView": "views",
    "LiveView": "views",
    "PlainView": "views",
    "View": "views",
}
"""The modules of the names that are imported when they are used: a command shows a plan, a run, or neither."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


Mode = Literal["auto", "plain", "json"]


def make_view(
    mode: Mode,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
    verbosity: int = 0,
    environ: Mapping[str, str] | None = None,
) -> View:
    """Return the view of a run. Results go to `out` (default: stdout), progress to `err` (default: stderr).

    `auto` is a live view if `err` is a terminal that supports it and this is not a CI job, else a plain view.
    """
    from chainbuild.ui.views import JsonView, LiveView, PlainView

    environ = os.environ if environ is None else environ
    result, progress = stdout(out, environ), stderr(err, environ)
    if mode == "json":
        return JsonView(result)
    if mode == "auto" and can_be_live(progress, environ):
        return LiveView(result, progress, verbosity=verbosity)
    return PlainView(result, progress, verbosity=verbosity)


def tell(*listeners: Emit) -> Emit:
    """Return one `Emit` that calls all listeners in order. If one fails, the others still get the event."""

    def emit(event: Event) -> None:
        failure: Exception | None = None
        for listener in listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  # raised below, after all listeners were called
                failure = failure or error
        if failure is not None:
            raise failure

    return emit
