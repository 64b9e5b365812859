"""Render the report of a run as one HTML page, for a browser, a phone, or the artifacts of a CI job.

The page is self-contained: it loads no script, font or other address. Links to logs are relative to the page.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import chainbuild
from chainbuild.html_page import document, table, text
from chainbuild.run_report.chart import PHASE_NAMES, STATES, STYLE, chart, result_of, row_link, took
from chainbuild.run_report.timeline import PHASES, Outcome, State, StepTimeline, Timeline
from chainbuild.text import duration, moment, plural, size, visible, visible_lines

_STYLE: Final = """
body{max-width:1400px}
h2{margin:2rem 0 .4rem}
.numbers{display:flex;flex-wrap:wrap;gap:.3rem 1.6rem;margin:.6rem 0;color:var(--ink)}
.failure{border-left:3px solid var(--bad);padding:.1rem 1rem;margin:.8rem 0}
.failure p{color:var(--ink)}
td:not(:last-child){white-space:nowrap;font-variant-numeric:tabular-nums}
td:last-child{min-width:14rem}
@media(max-width:720px){h1{font-size:1.25rem}}
footer{margin-top:3rem;color:var(--dim);font-size:.85rem}
"""
_OUTCOMES: Final[dict[Outcome, tuple[str, str]]] = {
    "succeeded": ("succeeded", "good"),
    "failed": ("failed", "bad"),
    "interrupted": ("interrupted", "warn"),
    "unfinished": ("not finished", "warn"),
}
_WORDS: Final[dict[State, str]] = {
    "done": "built",
    "reused": "reused",
    "failed": "failed",
    "skipped": "skipped",
    "stopped": "stopped",
    "waiting": "not started",
}
_FOLDED: Final = 12
"""Lists with at least this many entries are collapsed."""


def page(timeline: Timeline, folder: Path) -> str:
    """Return the page of a run. `folder` is where the page will be: links to logs are relative to it."""
    word, style = _OUTCOMES[timeline.outcome]
    title = f"chainbuild run of {moment(timeline.started)}"

    def link(path: Path) -> str:
        return quote(Path(os.path.relpath(path, folder)).as_posix())

    parts = [
        f'<header><h1>{text(title)}</h1><span class="badge {style}">{word}</span></header>',
        _numbers(timeline),
        _unfinished(timeline),
        _failures(timeline, link),
        _results(timeline),
        f"<h2>Timeline</h2>{chart(timeline, link)}" if timeline.steps else "<p>The run has no steps.</p>",
        _longest_path(timeline),
        _warnings(timeline),
        _checks(timeline),
        _messages(timeline),
        _steps(timeline),
        f"<footer>Made by chainbuild {text(chainbuild.__version__)} from {_log_folder(timeline)}.</footer>",
    ]
    return document(title, ["<main>", *parts, "</main>"], style=STYLE + _STYLE)


def _log_folder(timeline: Timeline) -> str:
    folder = timeline.log_folder
    return f"the events in <code>{text(folder)}</code>" if folder else "the events of the run"


def _numbers(timeline: Timeline) -> str:
    saved = sum(step.saved for step in timeline.steps.values())
    planning = timeline.planned - timeline.started
    words = [f"<b>{duration(timeline.seconds)}</b>" + (f" ({duration(planning)} planning)" if planning >= 1 else "")]
    for state, name in _WORDS.items():
        count = timeline.count(state)
        if count:
            more = f", saved {duration(saved)}" if state == "reused" and saved else ""
            words.append(f'<span class="{STATES[state][1]}">{STATES[state][0]}</span> {count} {name}{more}')
    return f'<p class="numbers">{"".join(f"<span>{part}</span>" for part in words)}</p>'


def _unfinished(timeline: Timeline) -> str:
    parts = []
    if timeline.outcome == "unfinished":
        parts.append("The events have no end of the run: it was killed, or it had not ended when this page was made.")
    if timeline.damaged:
        parts.append(f"{plural(timeline.damaged, 'line')} of the events could not be read.")
    return "".join(f'<p class="warn">{part}</p>' for part in parts)


def _failures(timeline: Timeline, link: Callable[[Path], str]) -> str:
    failed = [step for step in timeline.steps.values() if step.state == "failed"]
    parts = []
    if timeline.outcome == "interrupted":
        parts.append("<p>Finished steps are kept, and the next run continues from there.</p>")
    elif timeline.message and not any(timeline.message in step.message for step in failed):
        parts.append(f'<div class="failure"><p>{_lines(timeline.message)}</p></div>')
    for step in failed:
        log = (
            f'<p>Log: <a href="{text(link(step.log_path))}">{text(step.log_path.name)}</a></p>' if step.log_path else ""
        )
        parts.append(
            f'<div class="failure"><h3>{row_link(step)}</h3>'
            f"<p>{_lines(step.message)}</p>{_output(step.tail)}{log}</div>"
        )
    heading = "Failures" if timeline.outcome == "failed" or failed else "Interrupted"
    return f"<h2>{heading}</h2>{''.join(parts)}" if parts else ""


def _lines(message: str) -> str:
    return "<br>".join(text(line) for line in visible_lines(message))


def _output(lines: Sequence[str]) -> str:
    """Return the last lines that a step printed."""
    body = "\n".join(text(visible(line)) for line in lines)
    return f'<pre tabindex="0" aria-label="the last lines of its output">{body}</pre>' if body else ""


def _results(timeline: Timeline) -> str:
    rows = [
        (
            f"<code>{text(result.local_name or result.registry_name)}</code>",
            text(result.platform),
            f"<code>{text(result.registry_name)}</code>",
            _of(result.size, result.chain_size),
            _of(result.compressed_size, result.compressed_chain_size),
            f"<code>{text(result.digest)}</code>",
        )
        for result in timeline.results
    ]
    heads = ("image", "platform", "in the chain registry", "size", "compressed", "digest")
    return f"<h2>Images</h2>{table(heads, rows, label='Images')}" if rows else ""


def _of(count: int, whole: int) -> str:
    if not count:
        return ""
    return size(count) + (f" of {size(whole)}" if whole else "")


def _longest_path(timeline: Timeline) -> str:
    path = timeline.longest_path()
    if len(path) < 2:
        return ""
    steps = " → ".join(f"{row_link(step, step.step.short_name)} {duration(step.seconds)}" for step in path)
    return f"<p>The steps that decided how long the run took: {steps}.</p>"


def _warnings(timeline: Timeline) -> str:
    parts = []
    for step in timeline.steps.values():
        if step.warnings is None:
            continue
        items = [f"<li>{text(warning)}</li>" for warning in step.warnings.warnings]
        more = step.warnings.total - len(items)
        items += [f"<li>{more} more: see <code>chainbuild inspect {text(step.image)}</code></li>"] if more > 0 else []
        opened = "" if len(items) >= _FOLDED else " open"
        parts.append(
            f"<details{opened}><summary>{row_link(step)}:"
            f" {step.warnings.total}</summary><ul>{''.join(items)}</ul></details>"
        )
    return f"<h2>Warnings</h2>{''.join(parts)}" if parts else ""


def _checks(timeline: Timeline) -> str:
    rows = []
    for step in timeline.steps.values():
        for verdict in step.verdicts:
            findings = "".join(f"<li>{text(finding)}</li>" for finding in verdict.findings)
            rows.append(
                (
                    row_link(step),
                    text(verdict.proof),
                    result_of(verdict),
                    text(verdict.summary) + (f"<ul>{findings}</ul>" if findings else ""),
                )
            )
    heads = ("step", "check", "result", "summary")
    return f"<h2>Checks</h2>{table(heads, rows, label='Checks')}" if rows else ""


def _messages(timeline: Timeline) -> str:
    if not timeline.messages:
        return ""
    styles = {"warning": "warn", "error": "bad"}
    items = "".join(
        f"<li>{duration(message.at - timeline.started)} "
        + (f'<span class="{styles[message.level]}">{message.level}:</span> ' if message.level in styles else "")
        + f"{_lines(message.text)}</li>"
        for message in timeline.messages
    )
    opened = " open" if any(message.level in styles for message in timeline.messages) else ""
    count = plural(len(timeline.messages), "message")
    return f"<h2>Messages</h2><details{opened}><summary>{count}</summary><ul>{items}</ul></details>"


def _steps(timeline: Timeline) -> str:
    used = [name for name in PHASES if any(step.seconds_of(name) for step in timeline.steps.values())]
    rows = [_step(step, used) for step in timeline.steps.values()]
    heads = ("step", "result", *(PHASE_NAMES[name] for name in used), "size", "added", "reason")
    opened = "" if len(rows) >= 2 * _FOLDED else " open"
    listed = (
        f"<details{opened}><summary>{plural(len(rows), 'step')}</summary>{table(heads, rows, label='Steps')}</details>"
    )
    return f"<h2>Steps</h2>{listed}" if rows else ""


def _step(step: StepTimeline, phases: Sequence[str]) -> tuple[str, ...]:
    return (
        row_link(step),
        f'<span class="{STATES[step.state][1]}">{took(step)}</span>',
        *(duration(step.seconds_of(name)) if step.seconds_of(name) else "" for name in phases),
        size(step.size) if step.size else "",
        size(step.added) if step.added > 0 else "",
        text(step.reason or step.message),
    )
