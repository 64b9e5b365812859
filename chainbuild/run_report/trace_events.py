"""Write the timeline of a run in the Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing read.

A process for each platform, a thread for each step; times are microseconds since the plan of the run began.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chainbuild.run_report.timeline import Span, StepTimeline, Timeline, Wait

_RUN = 1
"""The process of what belongs to no step."""


def trace_events(timeline: Timeline) -> dict[str, Any]:
    """Return the JSON document."""
    events = [*_named(_RUN, 0, process="run", thread="run"), _whole(timeline)]
    events += [_event(span, span.name, _RUN, 0, timeline) for span in timeline.phases]
    for process, (platform, steps) in enumerate(timeline.by_platform().items(), _RUN + 1):
        for thread, step in enumerate(steps, 1):
            events += _named(
                process, thread, process=platform or "other work", thread=step.step.in_option or str(step.step)
            )
            events += _step(step, process, thread, timeline)
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"outcome": timeline.outcome}}


def _whole(timeline: Timeline) -> dict[str, Any]:
    span = Span(name="run", start=timeline.started, end=timeline.ended)
    return _event(span, "run", _RUN, 0, timeline, outcome=timeline.outcome, message=timeline.message)


def _step(step: StepTimeline, process: int, thread: int, timeline: Timeline) -> Iterator[dict[str, Any]]:
    for wait in step.waits:
        yield _event(wait.span, _wait_name(wait), process, thread, timeline)
    if step.spans:
        whole = Span(name="step", start=step.spans[0].start, end=step.spans[-1].end)
        details = {"state": step.state, "reason": step.reason, "image": step.image, "digest": step.digest}
        yield _event(
            whole, step.step.short_name, process, thread, timeline, size=step.size, added=step.added, **details
        )
        # Events of a thread that begin within another one are shown below it.
        yield from (_event(span, span.name, process, thread, timeline) for span in step.spans)
    elif step.ended is not None:
        yield {
            "name": f"{step.step.short_name}: {step.state}",
            "ph": "i",
            "s": "t",
            "ts": _microseconds(step.ended, timeline),
            "pid": process,
            "tid": thread,
            "args": {"reason": step.message or step.reason},
        }


def _wait_name(wait: Wait) -> str:
    return f"waiting for {wait.step.short_name if wait.step else wait.reason}"


def _event(span: Span, name: str, process: int, thread: int, timeline: Timeline, **details: object) -> dict[str, Any]:
    return {
        "name": name,
        "cat": span.name,
        "ph": "X",
        "ts": _microseconds(span.start, timeline),
        "dur": round(span.seconds * 1_000_000),
        "pid": process,
        "tid": thread,
        "args": {key: value for key, value in details.items() if value},
    }


def _microseconds(at: float, timeline: Timeline) -> int:
    return round((at - timeline.started) * 1_000_000)


def _named(pid: int, tid: int, *, process: str, thread: str) -> list[dict[str, Any]]:
    """Return the metadata that name a process and a thread, and keep them in this order."""
    values = {
        "process_name": {"name": process},
        "process_sort_index": {"sort_index": pid},
        "thread_name": {"name": thread},
        "thread_sort_index": {"sort_index": tid},
    }
    return [{"name": name, "ph": "M", "pid": pid, "tid": tid, "args": args} for name, args in values.items()]
