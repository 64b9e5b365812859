"""Show image types: the list, the plan, and where images are published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from chainbuild.layouts.image_types.graph import ImageTypesLayout
from chainbuild.layouts.image_types.roots import shown
from chainbuild.planning.decisions import Plan
from chainbuild.requests.image_types import ImageTypesOverview, ImageTypesRequest
from chainbuild.step_id import StepId
from chainbuild.text import duration, escaped, plural
from chainbuild.ui.plans import command_line
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Span, Terminal

LIST_SCHEMA: Final = "chainbuild.types/1"
PUBLICATION_SCHEMA: Final = "chainbuild.publication/1"
_LIST: Final = (
    Column(heading="image"),
    Column(heading="aliases"),
    Column(heading="visibility"),
    Column(heading="from"),
    Column(heading="problems", right=True),
    Column(heading="based on"),
)
_PLAN: Final = (
    Column(heading="image"),
    Column(heading="action"),
    Column(heading="takes", right=True),
    Column(heading="why"),
)
_PUBLICATION: Final = (Column(heading="image"), Column(heading="visibility"), Column(heading="destination"))


def show_types(look: ImageTypesOverview, out: Terminal, *, verbosity: int) -> None:
    """Print the images in build order, and what they shadow; with `verbosity` 1 also the folders that are searched."""
    catalogue, relations = look.catalogue, look.relations
    rows: list[Sequence[Span] | None] = []
    for name in (image_id for image_id in relations.order if image_id in look.chosen):
        image = catalogue.images[name]
        style = "" if image.is_public else "warn"
        rows.append(
            (
                Span(name),
                Span(", ".join(image.aliases), "dim"),
                Span(image.source.visibility, style),  # type: ignore[arg-type]
                Span(f"{image.folder.root.what}: {image.spot}"),
                Span(str(len(relations.problems[name]) or ""), "bad"),
                Span(", ".join(relations.read_by(name))),
            )
        )
    out.write(table(_LIST, rows, out.width))
    if catalogue.shadowed:
        out.write([()])
    for folder in catalogue.shadowed:
        out.write([f"{shown(folder.path)} is shadowed by {shown(folder.shadowed_by or folder.path)}"])
    if verbosity:
        out.write([(), (Span("search path (the first match wins)", "bold"),)])
        for root in catalogue.roots:
            suffix = "" if root.folder.is_dir() else "  (missing)"
            out.write([f"  {root.what}  {root.folder}{suffix}"])


def types_as_json(look: ImageTypesOverview) -> str:
    """Return the list as a JSON document."""
    catalogue, relations = look.catalogue, look.relations
    images: list[dict[str, Any]] = []
    for name in (image_id for image_id in relations.order if image_id in look.chosen):
        image = catalogue.images[name]
        images.append(
            {
                "image": name,
                "name": image.name,
                "tag": image.tag,
                "aliases": list(image.aliases),
                "visibility": image.source.visibility,
                "type": image.spot,
                "root": image.folder.root.what,
                "folder": str(image.folder.path),
                "dependencies": list(relations.below[name]),
                "reads": list(relations.read_by(name)),
                "parameters": dict(image.parameters),
                "problems": [str(problem) for problem in relations.problems[name]],
            }
        )
    document = {
        "schema": LIST_SCHEMA,
        "images": images,
        "shadowed": [
            {"folder": str(folder.path), "by": str(folder.shadowed_by), "type": folder.spot}
            for folder in catalogue.shadowed
        ],
        "roots": [
            {"what": root.what, "folder": str(root.folder), "there": root.folder.is_dir()} for root in catalogue.roots
        ],
        "warnings": [str(problem) for problem in (*catalogue.notes, *relations.loose)],
    }
    return json.dumps(document, indent=2)


def show_types_plan(
    plan: Plan,
    layout: ImageTypesLayout,
    commands: Mapping[StepId, tuple[str, ...]],
    out: Terminal,
    *,
    verbosity: int,
    pulls: Mapping[StepId, str],
) -> None:
    """Print a plan. `pulls` maps the steps whose published images are pulled to the reason."""
    several = len({decision.step.platform.oci for decision in plan.decisions}) > 1
    rows: list[Sequence[Span] | None] = []
    for decision in plan.decisions:
        step = decision.step
        name = layout.images[step.id].id + (f" ({step.platform})" if several else "")
        action = "pull" if step.id in pulls else decision.action
        reason = decision.reason + (f"; {pulls[step.id]}" if step.id in pulls else "")
        seconds = decision.expected_seconds
        takes = "" if decision.cached_record or seconds is None or step.id in pulls else f"~{duration(seconds)}"
        style = "good" if action != "build" else "busy"
        rows.append((Span(name), Span(action, style), Span(takes), Span(escaped(reason))))  # type: ignore[arg-type]
        if verbosity:
            rows += [(Span(f"    also {alias}", "dim"),) for alias in layout.images[step.id].aliases]
            if step.id in commands and step.id not in pulls:
                rows.append((Span("    runs  ", "dim"), Span(command_line(commands[step.id]))))
    out.write([*table(_PLAN, rows, out.width), ()])
    builds = sum(1 for decision in plan.builds if decision.step.id not in pulls)
    counts = [plural(builds, "build"), f"{len(plan.decisions) - len(plan.builds)} reused"]
    if pulls:
        counts.insert(1, f"{len(pulls)} pulled")
    out.write([(Span(", ".join(counts), "bold"),)])


def _destinations(request: ImageTypesRequest, layout: ImageTypesLayout) -> list[tuple[str, str, str]]:
    """Return (image, visibility, destination) of what would be published, once for all platforms."""
    rows: dict[str, tuple[str, str, str]] = {}
    for chain in layout.graph.chains:
        image = layout.images[chain.last.id]
        target = request.places.target(image)
        if chain.publication and target:
            for tag in image.tags:
                rows[f"{image.name}:{tag}"] = f"{image.name}:{tag}", image.source.visibility, str(target.with_tag(tag))
    return list(rows.values())


def show_publication(request: ImageTypesRequest, layout: ImageTypesLayout, out: Terminal) -> None:
    """Print what would be published where."""
    rows = [tuple(Span(text) for text in row) for row in _destinations(request, layout)]
    out.write(table(_PUBLICATION, rows, out.width))


def publication_as_json(request: ImageTypesRequest, layout: ImageTypesLayout) -> str:
    """Return the publication as a JSON document."""
    goes = [{"image": image, "visibility": kind, "to": to} for image, kind, to in _destinations(request, layout)]
    return json.dumps({"schema": PUBLICATION_SCHEMA, "images": goes}, indent=2)
