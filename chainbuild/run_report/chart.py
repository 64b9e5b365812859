"""The chart of a run's timeline in HTML: a row for each step, with bars for what it waited for and did, and its details."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.events import Verdict
from chainbuild.html_page import text
from chainbuild.run_report.timeline import PHASES, Span, State, StepTimeline, Timeline, Wait
from chainbuild.text import duration, past, plural, short_digest, size

_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Lengths of time between two lines of the chart, in seconds."""
_MOST_LINES: Final = 8
_FOLDED: Final = 3
"""More reused steps of a platform than this, one after another, are collapsed."""
PHASE_NAMES: Final[Mapping[str, str]] = {
    "wait": "waited",
    "build": "built",
    "export": "exported",
    "push": "pushed",
    "check": "checked and recorded",
    "index": "updated the indexes",
    "load": "loaded locally",
}
STATES: Final[Mapping[State, tuple[str, str]]] = {
    "done": ("✓", "good"),
    "reused": ("↺", "good"),
    "failed": ("✗", "bad"),
    "skipped": ("⊘", "warn"),
    "stopped": ("■", "bad"),
    "waiting": ("·", "dim"),
}
"""The mark and the style of each state."""

STYLE: Final = """
:root{--wait:#c6ccd6;--build:#3f7fc4;--export:#1f9c9c;--push:#8a63c9;--check:#3a9a5f;--over:#8a93a3}
@media(prefers-color-scheme:dark){:root{--wait:#414b5b;--build:#4d8fd6;--export:#2aa3a3;--push:#9c7ad6;--check:#46a86d}}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:.5rem 0;color:var(--dim);font-size:.9rem}
.key i{display:inline-block;width:.9rem;height:.7rem;margin-right:.4rem;border-radius:2px}
.wait{background:repeating-linear-gradient(135deg,var(--wait) 0 3px,transparent 3px 6px)}
.build{background:var(--build)}.export{background:var(--export)}.push{background:var(--push)}
.check,.index,.load{background:var(--check)}
ol.steps{list-style:none;margin:0 0 .4rem;padding:0}
.steps details{margin:0}
.steps summary,.steps .row,.axis{display:grid;grid-template-columns:minmax(9rem,16rem) 1fr 11.5rem;gap:0 .8rem;
align-items:center;color:var(--ink)}
.steps summary,.steps .row{list-style:none;padding:.12rem .3rem;border-radius:.3rem}
.steps summary::-webkit-details-marker{display:none}
.steps summary:hover{background:var(--soft)}
.steps summary:focus-visible{outline:2px solid var(--build);outline-offset:1px}
.steps .fold>summary{display:block;color:var(--dim)}
.name{overflow-wrap:anywhere;padding-left:1.25rem;text-indent:-1.25rem}
.name b{display:inline-block;width:1.25rem;text-indent:0;font-weight:400}
.took{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums;font-size:.9rem}
.bar{position:relative;height:1.05rem;border-left:1px solid var(--rule);background:repeating-linear-gradient(90deg,
transparent 0 calc(var(--tick) - 1px),var(--rule) calc(var(--tick) - 1px) var(--tick))}
.bar i{position:absolute;top:.15rem;bottom:.15rem;min-width:2px;border-radius:2px}
.bar i.wait{top:.35rem;bottom:.35rem}
.bar i.end{width:0;min-width:0;border-left:2px solid var(--bad);top:0;bottom:0;border-radius:0}
.bar i.reuse{width:6px;height:6px;top:.32rem;bottom:auto;border-radius:3px;background:var(--good)}
.axis{position:sticky;top:0;background:var(--ground);z-index:1;padding:.1rem .3rem;color:var(--dim);font-size:.8rem}
.axis .bar{height:1.3rem;background:none;border:0}
.axis .bar span{position:absolute;transform:translateX(-50%);white-space:nowrap}
.axis .bar span:first-child{transform:none}
.facts{margin:.1rem 0 .7rem;padding:.4rem .9rem;background:var(--soft);border-radius:.4rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:0}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
pre{margin:.5rem 0;padding:.5rem .7rem;background:var(--soft);border-radius:.4rem;overflow-x:auto;
font:.82em/1.45 ui-monospace,"SFMono-Regular","Liberation Mono",Menlo,monospace}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@media(max-width:720px){
body{padding:1rem .8rem 3rem}
.steps summary,.steps .row,.axis{grid-template-columns:1fr auto}
.steps .bar,.axis .bar{grid-column:1/-1;grid-row:2}
.axis>:first-child{display:none}
.axis .bar span:nth-child(even){display:none}
dl{grid-template-columns:1fr}dd{margin-bottom:.3rem}
}
@media print{.axis{position:static}}
"""


class Chart(Struct, frozen=True, kw_only=True):
    """What the rows of a chart have in common: the time that they show, and the way from the page to a log."""

    timeline: Timeline
    link: Callable[[Path], str]
    """Returns the address of a log, relative to the page; empty if there is none."""

    def left(self, at: float) -> float:
        """Return the place of a time, in percent of the width."""
        run = self.timeline
        return min(max((at - run.planned) / max(run.ended - run.planned, 0.001), 0.0), 1.0) * 100

    def bar(self, span: Span) -> str:
        """Return the bar of a piece of time."""
        left = self.left(span.start)
        return f'<i class="{span.name}" style="left:{left:.2f}%;width:{self.left(span.end) - left:.2f}%"></i>'


def chart(timeline: Timeline, link: Callable[[Path], str]) -> str:
    """Return the chart: a list of steps for each platform, and what the run did after them."""
    common = Chart(timeline=timeline, link=link)
    tick, axis = _axis(timeline)
    parts = [f'<div style="--tick:{tick:.4f}%">', _key(timeline)]
    for platform, steps in timeline.by_platform().items():
        parts.append(f"<h3>{text(platform or 'other work')}</h3>{axis}")
        options: dict[str, list[StepTimeline]] = {}
        for step in steps:
            options.setdefault(step.step.group, []).append(step)
        for group, members in options.items():
            if len(options) > 1:
                parts.append(f"<p>{text(group)}</p>")
            parts.append(f'<ol class="steps">{"".join(_rows(common, members))}</ol>')
    if timeline.phases:
        parts.append(f'<h3>After the steps</h3>{axis}<ol class="steps">{_phases(common)}</ol>')
    return "\n".join([*parts, "</div>"])


def _axis(timeline: Timeline) -> tuple[float, str]:
    """Return the distance of two lines in percent of the width, and the row with their times."""
    seconds = max(timeline.ended - timeline.planned, 0.001)
    every = next((step for step in _STEPS if seconds / step <= _MOST_LINES), math.ceil(seconds / _MOST_LINES))
    count = int(seconds / every)
    labels = "".join(
        f'<span style="left:{100 * number * every / seconds:.2f}%">{_clock(number * every)}</span>'
        for number in range(count + 1)
        if 100 * number * every / seconds <= 96
    )
    return (
        100 * every / seconds,
        f'<div class="axis" aria-hidden="true"><span></span><div class="bar">{labels}</div></div>',
    )


def _clock(seconds: int) -> str:
    """Return a time since the beginning: `0`, `30s`, `5m`, `1h30m`."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    return "".join(f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (left, "s")) if count) or "0"


def _key(timeline: Timeline) -> str:
    used = {span.name for step in timeline.steps.values() for span in step.spans}
    used |= {"wait" for step in timeline.steps.values() if step.waits}
    return (
        '<div class="key">'
        + "".join(f'<span><i class="{name}"></i>{PHASE_NAMES[name]}</span>' for name in PHASES if name in used)
        + "</div>"
    )


def _rows(common: Chart, steps: Sequence[StepTimeline]) -> Iterable[str]:
    """Yield the rows of steps; reused steps in a row are collapsed."""
    at = 0
    while at < len(steps):
        end = at
        while end < len(steps) and steps[end].state == "reused" and not steps[end].warnings:
            end += 1
        rows = "".join(_row(common, step) for step in steps[at : max(end, at + 1)])
        if end - at > _FOLDED:
            saved = sum(step.saved for step in steps[at:end])
            words = f"{plural(end - at, 'reused step')}" + (f", saved {duration(saved)}" if saved else "")
            rows = f'<li><details class="fold"><summary>↺ {words}</summary><ol class="steps">{rows}</ol></details></li>'
        yield rows
        at = max(end, at + 1)


def _row(common: Chart, step: StepTimeline) -> str:
    mark, style = STATES[step.state]
    bars = "".join(common.bar(span) for span in (*(wait.span for wait in step.waits), *step.spans))
    if step.ended is not None and step.state in {"failed", "stopped"}:
        bars += f'<i class="end" style="left:{common.left(step.ended):.2f}%"></i>'
    if step.ended is not None and step.state == "reused" and not step.spans:
        bars += f'<i class="reuse" style="left:{common.left(step.ended):.2f}%"></i>'
    opened = " open" if step.state == "failed" else ""
    return (
        f'<li id="step-{step.number}"><details{opened}><summary>'
        f'<span class="name"><b class="{style}" aria-hidden="true">{mark}</b>{text(step.step.short_name)}</span>'
        f'<span class="bar" aria-hidden="true">{bars}</span>'
        f'<span class="took">{took(step)}</span></summary>'
        f'<div class="facts">{_facts(common, step)}</div></details></li>'
    )


def took(step: StepTimeline) -> str:
    """Return how a step ended, and the time that it took."""
    words = {
        "done": f"{past(step.activity or step.action)} {duration(step.seconds)}",
        "reused": f"reused, saved {duration(step.saved)}" if step.saved else "reused",
        "failed": f"failed after {duration(step.seconds)}",
        "skipped": "skipped",
        "stopped": f"stopped after {duration(step.seconds)}",
        "waiting": "not started",
    }
    return text(words[step.state])


def _facts(common: Chart, step: StepTimeline) -> str:
    """Return the details of a step."""
    log = common.link(step.log_path) if step.log_path else ""
    rows: list[tuple[str, str]] = [
        ("reason", text(step.reason)),
        ("message", text(step.message)),
        ("waited", ", ".join(_wait(common.timeline, wait) for wait in step.waits)),
        *((PHASE_NAMES[name], _spent(step, name)) for name in PHASES[1:]),
        ("last build", duration(step.expected) if step.expected and step.state != "reused" else ""),
        ("size", _sizes(step)),
        ("image", f"<code>{text(step.image)}</code>" if step.image else ""),
        ("digest", f"<code>{text(short_digest(step.digest))}</code>" if step.digest else ""),
        ("checks", "<br>".join(_verdict(verdict) for verdict in step.verdicts)),
        ("warnings", text(plural(step.warnings.total, "warning")) if step.warnings else ""),
        ("log", f'<a href="{text(log)}">{text(Path(log).name)}</a>' if log else ""),
    ]
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in rows if value)}</dl>"


def _spent(step: StepTimeline, phase: str) -> str:
    return duration(step.seconds_of(phase)) if any(span.name == phase for span in step.spans) else ""


def _sizes(step: StepTimeline) -> str:
    if not step.size:
        return ""
    return f"{size(step.size)} compressed" + (f", {size(step.added)} added" if step.added > 0 else "")


def _wait(timeline: Timeline, wait: Wait) -> str:
    below = row_link(timeline.steps[wait.step], wait.step.short_name) if wait.step else text(wait.reason)
    return f"{duration(wait.span.seconds)} for {below}"


def row_link(step: StepTimeline, name: str = "") -> str:
    """Return a link to the row of a step; the default name is its id."""
    return f'<a href="#step-{step.number}">{text(name or step.step)}</a>'


def _verdict(verdict: Verdict) -> str:
    return f"{text(verdict.proof)} {result_of(verdict)}: {text(verdict.summary)}"


def result_of(verdict: Verdict) -> str:
    """Return the result of a check."""
    return '<span class="good">passed</span>' if verdict.passed else '<span class="bad">failed</span>'


def _phases(common: Chart) -> str:
    return "".join(
        f'<li class="row"><span class="name"><b></b>{PHASE_NAMES[span.name]}</span>'
        f'<span class="bar" aria-hidden="true">{common.bar(span)}</span>'
        f'<span class="took">{duration(span.seconds)}</span></li>'
        for span in common.timeline.phases
    )
