"""Make the native tools for builds on an image, with compilers from source where packages have none (`chainbuild native`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chainbuild.errors import ChainbuildError, WrongUseError
from chainbuild.events import Message, PlannedStep, RunFinished, RunStarted
from chainbuild.execution.run_plan import planned_step
from chainbuild.execution.session import Session
from chainbuild.execution.tool_runs import make_tools, plan_tools
from chainbuild.model import Graph
from chainbuild.native.roots import Root
from chainbuild.native.runs import Use
from chainbuild.native.tools import IMAGES, Tools, compiled_graph, read_tools, tools_graph
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import StepId

LogPath = Callable[[StepId], Path | None]


def make_all(
    session: Session, reference: ImageReference, platforms: tuple[Platform, ...], log_folder: Path, log_path: LogPath
) -> tuple[ChainbuildError, ...]:
    """Make the tools for every platform, and return the errors. What exists is not made again."""
    started = time.monotonic()
    errors: list[ChainbuildError] = []
    session.emit(RunStarted(steps=tuple(_planned(session, reference, platforms)), log_folder=log_folder))
    for platform in platforms:
        try:
            tools = _made(session, reference, platform, log_path)
        except ChainbuildError as error:
            errors.append(error)
        else:
            session.emit(Message(text=f"native for {platform.name}: {tools.text(frozenset(Use)) or 'nothing'}"))
    session.emit(RunFinished(seconds=time.monotonic() - started, succeeded=not errors))
    return tuple(errors)


def _planned(session: Session, reference: ImageReference, platforms: tuple[Platform, ...]) -> Iterator[PlannedStep]:
    for platform in platforms:
        for decision in plan_tools(_graph(session, reference, platform), session).plan.decisions:
            yield planned_step(decision)


def _made(session: Session, reference: ImageReference, platform: Platform, log_path: LogPath) -> Tools:
    """Make the tools for a platform. Errors: those of builds."""
    tools = _from(session, _graph(session, reference, platform), log_path)
    if not tools.compilable:
        return tools
    root = _root(session, reference, platform)
    machine = session.builder_platform(platform)
    return _from(session, compiled_graph(session.chain, root, platform, machine, tools.compilable), log_path)


def _from(session: Session, graph: Graph, log_path: LogPath) -> Tools:
    planned = plan_tools(graph, session)
    return read_tools(session.registries, make_tools(planned, session, log_path))


def _graph(session: Session, reference: ImageReference, platform: Platform) -> Graph:
    root = _root(session, reference, platform)
    return tools_graph(session.chain, root, platform, session.builder_platform(platform))


def _root(session: Session, reference: ImageReference, platform: Platform) -> Root:
    """Return the distribution of the image. Errors: `WrongUseError` if it has no native tools."""
    if platform.oci == session.builder_platform(platform).oci:
        raise WrongUseError(
            f"{platform.name} is the builder's own platform", hint="Name the platform of emulated builds."
        )
    image = session.finder().find(reference, platform).image
    root = session.backends.read_root(session.registries, image)
    if root.distribution not in IMAGES or not root.suite:
        raise WrongUseError(
            f"{reference} for {platform.name} is not a {' or '.join(name.capitalize() for name in IMAGES)} root",
            hint="Native compilers come from the packages of these distributions.",
        )
    return root
