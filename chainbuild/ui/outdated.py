"""Show outdated packages: a table by step, the steps that would be rebuilt, and what is not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from chainbuild.operations.outdated import Outdated
from chainbuild.outdated.model import State
from chainbuild.outdated.survey import Row
from chainbuild.text import plural
from chainbuild.ui.styles import Style
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Line, Span, Terminal

_STYLES: Final[dict[State, Style]] = {State.OUTDATED: "warn", State.UNKNOWN: "dim"}
_QUIET: Final = frozenset({State.AHEAD, State.UNKNOWN})
"""States that are only counted: local packages are often newer than their sources, and unknown ones are many at once."""


def show_outdated(result: Outdated, out: Terminal) -> None:
    """Print the packages with updates and those that cannot get one, by what brought them, and the steps to rebuild."""
    columns = (
        Column(heading="package"),
        Column(heading="installed"),
        Column(heading="available"),
        Column(heading="state"),
        Column(heading="source"),
        Column(heading="note"),
    )
    rows: list[Line | None] = []
    shown = [row for row in (*result.updates, *result.others) if row.finding.state not in _QUIET]
    for (platform, name), group in _by_step(shown):
        rows.append((Span(f"{name} ({platform})" if not name.startswith(f"{platform}/") else name, "bold"),))
        rows += [_row(row) for row in group]
    if rows:
        out.write(table(columns, rows, out.width))
    out.write([*([()] if rows else []), (Span(_summary(result), "dim"),)])
    lines = [(Span("  "), Span(step), Span(f"  {reason}", "dim")) for step, reason in result.rebuilt]
    if lines:
        out.write([(Span(f"--refresh-outdated would rebuild {plural(len(lines), 'step')}, and what changes above:"),)])
        out.write(lines)


def _by_step(rows: list[Row]) -> Iterator[tuple[tuple[str, str], list[Row]]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.platform, row.brought_by), []).append(row)
    for key, group in groups.items():
        yield key, sorted(group, key=lambda row: (not row.finding.security, row.finding.package.name))


def _row(row: Row) -> Line:
    finding = row.finding
    state = "security" if finding.security and finding.state is State.OUTDATED else finding.state.value
    style: Style = "bad" if state == "security" else _STYLES.get(finding.state, "")
    note = finding.note or ("a rebuild did not update it" if row.tried else "")
    if finding.state is State.OUTDATED and row.renews is None:
        note = note or "no step would gain it: use a newer base image"
    name = finding.package.name
    return (
        Span(f"  {name}"),
        Span(finding.package.version),
        Span(finding.candidate),
        Span(state, style),
        Span(finding.origin),
        Span(note),
    )


def _summary(result: Outdated) -> str:
    """Return the counts: `3 updates, 1 for security; 2 held; 1 in no source`."""
    security = sum(bool(row.finding.security) for row in result.updates)
    first = plural(len(result.updates), "update") if result.updates else "no updates"
    if result.only_security:
        first = plural(security, "security update") if security else "no security updates"
    elif security:
        first += f", {security} for security"
    counts = Counter(row.finding.state for row in result.others)
    words = {
        State.HELD: "held",
        State.PINNED: "pinned",
        State.GONE: "in no source",
        State.AHEAD: "newer than their sources",
        State.UNKNOWN: "unknown",
    }
    return "; ".join([first, *(f"{counts[state]} {text}" for state, text in words.items() if counts[state])])


def notices(result: Outdated) -> tuple[str, ...]:
    """Return warnings about what is not known."""
    texts = [f"updates from {source.name} are unknown: {source.reason}" for source in result.survey.unusable]
    texts += [f"ignored {problem}" for problem in result.survey.problems]
    if result.unbuilt:
        texts.append(f"not built yet: {', '.join(result.unbuilt)}")
    return tuple(texts)
