"""Why a step would be built or reused, for people."""

from __future__ import annotations

from collections.abc import Sequence

from chainbuild.explain import Explanation
from chainbuild.ui.terminal import Line, Span, Terminal
from chainbuild.wording import duration, escaped, moment


def show(explanations: Sequence[Explanation], out: Terminal) -> None:
    """Print explanations for people."""
    lines: list[Line | str] = []
    for one in explanations:
        decision, last = one.decision, one.decision.last
        lines.append((Span(f"{decision.step.id}: "), Span(decision.action, "bold"), Span(f", {decision.reason}")))
        lines += [f"  asked for: {escaped(argument.told)}" for argument in one.arguments if argument.told]
        if last is None:
            lines.append("  it has no record in the chain registry")
            continue
        when = moment(last.built_at)
        lines.append(f"  last built {when} in {duration(last.seconds)}: {last.image} ({last.key})")
        if decision.components:
            lines.append(f"  key now: {decision.components.key}")
        if not one.differences and not decision.reuse:
            lines.append("  nothing of its own differs")
        lines += [f"  {escaped(text)}" for text in one.differences]
        lines += [f"    {escaped(text)}" for text in one.diff]
    out.write(lines)
