"""Graphs as text."""

from __future__ import annotations

from chainbuild.model import Graph


def shown(graph: Graph) -> str:
    """Return a graph as text; `=>` is a named context, `<-` a build argument."""
    lines = []
    for step in graph:
        args = "".join(f" {arg.name}={arg.value}" for arg in step.args)
        images = " ".join(f"{one.name}{'=>' if one.as_context else '<-'}{one.source}" for one in step.images)
        lines.append(f"{step.id} [{step.repository.repository}:{step.tag}] {images}{args}")
    return "\n".join(lines)
