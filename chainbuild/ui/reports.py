"""Show reports: why a step is built or reused, how two images differ, and how an image was made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from chainbuild.comparison.model import Change, Comparison, size_words
from chainbuild.images.inventory import Crumb
from chainbuild.operations.why import Explanation
from chainbuild.records.notes import REBASED
from chainbuild.records.record import Record
from chainbuild.registry.images import RemoteImage
from chainbuild.step_id import StepId
from chainbuild.text import duration, escaped, moment, size
from chainbuild.ui.styles import Style
from chainbuild.ui.terminal import Line, Span, Terminal


def show(explanations: Sequence[Explanation], out: Terminal) -> None:
    """Print explanations."""
    lines: list[Line | str] = []
    for explanation in explanations:
        decision, last = explanation.decision, explanation.decision.previous_record
        lines.append(
            (
                Span(f"{decision.step.id}: "),
                Span(decision.action, "bold"),
                Span(f", {decision.reason}"),
            )
        )
        lines += [f"  requested: {escaped(argument.told)}" for argument in explanation.arguments if argument.told]
        if last is None:
            lines.append("  no record in the chain registry")
            continue
        when = moment(last.built_at)
        lines.append(f"  last built {when} in {duration(last.seconds)}: {last.image} ({last.key})")
        if decision.components:
            lines.append(f"  key now: {decision.components.key}")
        if not explanation.differences and not decision.cached_record:
            lines.append("  the step itself has not changed")
        lines += [f"  {escaped(text)}" for text in explanation.differences]
        lines += [f"    {escaped(text)}" for text in explanation.diff]
    out.write(lines)


_SHOWN: Final = 20
"""Number of files listed per package before the rest is only counted."""
_MARKS: Final[dict[str, tuple[str, Style]]] = {
    "added": ("+", "good"),
    "removed": ("-", "bad"),
    "changed": ("~", "warn"),
}


def show_comparison(comparison: Comparison, out: Terminal, *, every_file: bool = False) -> None:
    """Print the differences; `every_file` lists all files instead of the first few of each package."""
    lines: list[Line | str] = [
        (Span(f"{_name(comparison.before)} → {_name(comparison.after)}", "bold"),),
        f"  {comparison.after.platform.oci}, {size_words(comparison)}",
    ]
    for heading, changes in (
        ("packages", comparison.packages),
        ("Python distributions", comparison.python),
        ("configuration", comparison.configuration),
        ("steps", comparison.steps),
    ):
        if changes:
            lines += [(), (Span(f"{heading}: {_counts(changes)}", "bold"),), *map(change_line, changes)]
    if comparison.files:
        heading = f"files: {_counts(comparison.files)}"
        lines += [(), (Span(heading, "bold"),), *_file_lines(comparison.files, every_file)]
    if comparison.same:
        lines.append("  no difference in packages, distributions, files, configuration and steps")
    out.write(lines)


def _name(image: RemoteImage) -> str:
    place = image.reference
    return f"{place.familiar_name}{f':{place.tag}' if place.tag else ''} ({image.digest.short})"


def change_line(change: Change) -> Line:
    """Return the line of a change, with a mark for its kind."""
    mark, style = _MARKS[change.kind]
    return (Span("  "), Span(mark, style), Span(f" {escaped(str(change))}"))


def _counts(changes: Sequence[Change]) -> str:
    counts = Counter(change.kind for change in changes)
    return ", ".join(f"{counts[kind]} {kind}" for kind in _MARKS if counts[kind])


def _file_lines(changes: Iterable[Change], every_file: bool) -> list[Line | str]:
    by_owner: dict[str, list[Change]] = {}
    for change in changes:
        by_owner.setdefault(change.owner, []).append(change)
    lines: list[Line | str] = []
    # Files without a package come first: a package's files are summarized by its version.
    for owner, mine in sorted(by_owner.items()):
        if owner and not every_file:
            lines.append(f"    of {escaped(owner)}: {_counts(mine)}")
            continue
        if owner:
            lines.append(f"    of {escaped(owner)}:")
        shown = mine if every_file else mine[:_SHOWN]
        lines += map(change_line, shown)
        if len(mine) > len(shown):
            lines.append(f"    {len(mine) - len(shown)} more: list all with --files")
    return lines


SCHEMA: Final = "chainbuild.inspect/1"


def show_trail(image: RemoteImage, crumbs: Sequence[Crumb], out: Terminal) -> None:
    """Print the image, then every step, the lowest first."""
    lines: list[Line | str] = [
        (Span(str(image.reference), "bold"),),
        f"  platform {image.platform.oci}, "
        + (
            f"{size(image.size)} compressed in {len(image.layers)} layers"
            if image.layers
            else "not in a registry, only in the local image store"
        ),
    ]
    steps = {crumb.record.identity: crumb.step for crumb in crumbs if crumb.record}
    for crumb in crumbs:
        lines += [(), (Span(escaped(str(crumb.step)), "bold"),), f"  key         {crumb.key}"]
        missing = crumb.refusal or "the record is no longer in the chain registry"
        lines += _facts(crumb, crumb.record, steps) if crumb.record else [f"  {escaped(missing)}"]
    out.write(lines)


def _facts(crumb: Crumb, record: Record, steps: Mapping[str, StepId]) -> list[Line | str]:
    notes = record.notes
    commit = notes.get("commit", "")
    if commit and notes.get("dirty") == "yes":
        commit += " and uncommitted changes"
    when = moment(record.built_at)
    facts = {
        "image": str(record.image),
        "Dockerfile": notes.get("dockerfile", ""),
        "args": " ".join(f"{name}={value}" for name, value in record.components.args.items()),
        "based on": ", ".join(
            # Images from elsewhere are identified by their content (layers and configuration), not by a digest.
            f"{name} {steps.get(identity) or f'of content {identity[7:19]}'}"
            for name, identity in record.components.images.items()
        ),
        "commit": commit,
        "built": f"{when} in {duration(record.seconds)}",
        "rebased": notes.get(REBASED, ""),
        "QEMU crashed": notes.get("qemu_crash", ""),
        "signed by": crumb.signer,
        "adds": size(max(record.added, 0)),
        "proven": "; ".join(f"{proof}: {verdict}" for proof, verdict in record.verdicts.items()),
    }
    lines: list[Line | str] = [f"  {name:<11} {escaped(text)}" for name, text in facts.items() if text]
    for number, warning in enumerate(record.warnings.first):
        lines.append(f"  {'' if number else 'warnings':<11} {escaped(str(warning))}")
    if (more := record.warnings.total - len(record.warnings.first)) > 0:
        lines.append(f"  {'':<11} {more} more: chainbuild minimize report shows all warnings of the stage")
    return lines


def trail_as_json(image: RemoteImage, crumbs: Sequence[Crumb]) -> str:
    """Return the trail as a JSON document."""
    document = {
        "schema": SCHEMA,
        "image": str(image.reference),
        "platform": image.platform.oci,
        "digest": str(image.digest),
        "size": image.size,
        "trail": [
            {
                "step": str(crumb.step),
                "key": crumb.key,
                "record": crumb.record.as_json() if crumb.record else None,
                "signer": crumb.signer or None,
                "refusal": crumb.refusal or None,
            }
            for crumb in crumbs
        ],
    }
    return json.dumps(document, indent=2)
