"""Show a plan of science and compat layers: final images first, the layers below them on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from chainbuild.layouts.science.graph import FILES_OPTION, ScienceLayout
from chainbuild.layouts.science.manifests import COMPAT, SCIENCE, State
from chainbuild.model import Chain
from chainbuild.operations.science import Orphan
from chainbuild.planning.decisions import Decision, Plan
from chainbuild.step_id import StepId
from chainbuild.text import duration, escaped, plural
from chainbuild.ui.plans import command_line
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Span, Terminal

INTERMEDIATE: Final = 1
"""From this verbosity on, science layers, unchanged images and aliases are shown."""
MERGED: Final = 2
"""From this verbosity on, merged Dockerfiles are shown."""
COMMANDS: Final = 3
"""From this verbosity on, the builder's exact command lines are shown."""

_COLUMNS: Final = (
    Column(heading="image"),
    Column(heading="action"),
    Column(heading="takes", right=True),
    Column(heading="why"),
)


def show_science_plan(
    plan: Plan,
    layout: ScienceLayout,
    state: State | None,
    commands: Mapping[StepId, tuple[str, ...]],
    out: Terminal,
    *,
    verbosity: int,
) -> None:
    """Print a plan."""
    decided = {decision.step.id: decision for decision in plan.decisions}
    finals = [chain for chain in layout.graph.chains if chain.option == COMPAT]
    layers = [chain for chain in layout.graph.chains if chain.option == SCIENCE]
    files = [chain for chain in layout.graph.chains if chain.option == FILES_OPTION]
    several = len({chain.platform.oci for chain in layout.graph.chains}) > 1
    rows: list[Sequence[Span] | None] = [(Span("final images", "bold"),)]
    rows += _rows(finals, layout, decided, verbosity, several=several)
    if verbosity >= INTERMEDIATE:
        rows += [
            (Span("science layers, in build order", "bold"),),
            *_rows(layers, layout, decided, verbosity, several=several),
        ]
    if files and verbosity >= INTERMEDIATE:
        heading = Span("compat layers that are built once and added to final layers", "bold")
        rows += [(heading,), *_rows(files, layout, decided, verbosity, several=several)]
    out.write([*table(_COLUMNS, rows, out.width), ()])
    if verbosity >= MERGED:
        _show_merged(finals, layout, decided, out)
    if verbosity >= COMMANDS:
        for step, argv in commands.items():
            out.write([(Span(f"{step} command  ", "dim"), Span(command_line(argv)))])
    out.write(_total(finals, layers, decided, state))


def _rows(
    chains: Sequence[Chain],
    layout: ScienceLayout,
    decided: Mapping[StepId, Decision],
    verbosity: int,
    *,
    several: bool,
) -> list[Sequence[Span] | None]:
    rows: list[Sequence[Span] | None] = []
    left_out = 0
    for chain in chains:
        decision = decided[chain.last.id]
        if decision.cached_record and verbosity < INTERMEDIATE:
            left_out += 1
            continue
        seconds = decision.expected_seconds
        takes = "" if decision.cached_record or seconds is None else f"~{duration(seconds)}"
        name = _name(chain, layout) + (f" ({chain.platform})" if several else "")
        style = "good" if decision.cached_record else "busy"
        rows.append(
            (
                Span(f"  {name}"),
                Span(decision.action, style),  # type: ignore[arg-type]
                Span(takes),
                Span(escaped(decision.reason)),
            )
        )
        if verbosity >= INTERMEDIATE and chain.publication:
            rows += [(Span(f"    and :{alias} (never moves)", "dim"),) for alias in chain.publication.aliases]
    if left_out:
        rows.append((Span(f"  {plural(left_out, 'image')} unchanged", "dim"),))
    return rows or [(Span("  none", "dim"),)]


def _name(chain: Chain, layout: ScienceLayout) -> str:
    return layout.images.get(chain.last.id) or str(chain.last.id)


def _show_merged(
    finals: Sequence[Chain], layout: ScienceLayout, decided: Mapping[StepId, Decision], out: Terminal
) -> None:
    shown: set[str] = set()
    for chain in finals:
        text = layout.merged[chain.last.id].text
        if decided[chain.last.id].cached_record or text in shown:
            continue
        shown.add(text)
        out.write([(Span(f"Dockerfile of {_name(chain, layout)}", "bold"),)])
        out.write([(Span(f"  {escaped(line)}"),) for line in text.splitlines()])
        out.write([()])


def _total(
    finals: Sequence[Chain], layers: Sequence[Chain], decided: Mapping[StepId, Decision], state: State | None
) -> list[tuple[Span, ...]]:
    builds = [
        plural(sum(1 for chain in chains if not decided[chain.last.id].cached_record), f"{kind} build")
        for kind, chains in (("science", layers), ("compat", finals))
    ]
    reused = sum(1 for decision in decided.values() if decision.cached_record)
    lines: list[tuple[Span, ...]] = [(Span(f"{' and '.join(builds)}, {reused} reused", "bold"),)]
    if state is None:
        lines.append((Span("not a git tree: images get no commit tag"),))
    elif state.dirty:
        lines.append((Span("uncommitted changes: images get no immutable tag"),))
    return lines


def show_orphans(orphans: Sequence[Orphan], out: Terminal) -> None:
    """Print the released versions that get no more compat updates."""
    if not orphans:
        out.write(["every released version gets compat updates"])
        return
    columns = (Column(heading="image"), Column(heading="versions that get updates"), Column(heading=""))
    rows = [
        (
            Span(str(orphan.place)),
            Span(", ".join(orphan.heirs) or "none"),
            Span("abandoned" if orphan.given_up else "", "dim"),
        )
        for orphan in orphans
    ]
    out.write(table(columns, rows, out.width))
