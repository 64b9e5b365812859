"""Plan and make the images of native tools, and decide which steps of a plan get them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from chainbuild.execution.native_tools import NativeTools, NoNativeTools
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.run_plan import PlannedRun, plan_run
from chainbuild.execution.session import Session
from chainbuild.model import Graph
from chainbuild.planning.decisions import Plan, Renewal
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.step_id import StepId
from chainbuild.values import replace


def plan_acceleration(planned: PlannedRun, session: Session, options: ExecutionOptions) -> NativeTools:
    """Decide which steps of a plan get native tools. The steps that make tools are planned, not run."""
    own = session.backends.build_platform().oci
    # A builder that was named may run on another machine; only then is it asked about this machine's platform, too.
    asked = bool(session.settings.builders)
    if all(decision.rebase or (decision.step.platform.oci == own and not asked) for decision in planned.plan.builds):
        return NoNativeTools()
    # Imported late: most runs build nothing for another platform.
    from chainbuild.execution.acceleration import Acceleration, ToolSource

    def source(graph: Graph) -> ToolSource:
        tools = plan_tools(graph, session)
        return ToolSource(
            decisions=tools.plan.decisions,
            existing=None if tools.plan.builds else _existing_tools(tools.plan, session),
            make=partial(make_tools, tools, session),
        )

    acceleration = Acceleration(session)
    acceleration.plan(planned.plan, planned.found, options, source)
    return acceleration


def _tool_options(graph: Graph, session: Session) -> ExecutionOptions:
    from chainbuild.native.tools import REFRESH_AFTER, TOLERANCE

    # Compilers of one version never become old; packages do.
    ages = len(graph.chains[0].steps) == 1
    return ExecutionOptions(
        load=False,
        renewal=Renewal(refresh_after=REFRESH_AFTER if ages else None, since=session.backends.clock()),
        tolerance={step.id: TOLERANCE for step in graph},
    )


def plan_tools(graph: Graph, session: Session) -> PlannedRun:
    """Plan the steps that make native tools, without messages."""
    return plan_run(graph, replace(session, emit=lambda _: None), _tool_options(graph, session))


def make_tools(
    tools: PlannedRun, session: Session, log_path: Callable[[StepId], Path | None] = lambda _: None
) -> RemoteImage:
    """Build the image of native tools, or keep the one that is too old if that fails. Errors: those of the build."""
    # Imported late: a plan needs nothing that builds.
    from chainbuild.execution.execute import execute

    graph = tools.plan.graph
    how = _tool_options(graph, session)
    outcome = execute(tools, session, how, log_path, NoNativeTools())
    step = tools.plan.decisions[-1].step
    if step.id in outcome.results:
        return resolve(session.registries, outcome.results[step.id].reference, step.platform)
    older = plan_run(graph, replace(session, emit=lambda _: None), replace(how, renewal=Renewal()))
    image = _existing_tools(older.plan, session)
    if image is None:
        raise next(iter(outcome.failures.values()))
    return image


def _existing_tools(plan: Plan, session: Session) -> RemoteImage | None:
    """Return the image of the last step of a plan, if the registry has it."""
    step, record = plan.decisions[-1].step, plan.decisions[-1].cached_record
    if record is None:
        return None
    place = plan.decisions[-1].source or step.repository
    return resolve(session.registries, place.with_digest(record.image), step.platform)
