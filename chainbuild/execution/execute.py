"""Execute a plan: the services of its steps, and the indexes of records afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

from chainbuild.execution.annotating import ResultAnnotations
from chainbuild.execution.attesting import ResultAttestations
from chainbuild.execution.executor import Executor
from chainbuild.execution.native_tools import NativeTools
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.outcome import RunOutcome, StepResult
from chainbuild.execution.post_build import StageFinisher
from chainbuild.execution.run_plan import PlannedRun
from chainbuild.execution.services import ExecutionServices
from chainbuild.execution.session import Session
from chainbuild.images.stage_statement_store import StatementWriter
from chainbuild.images.tools_image import pinned_contexts
from chainbuild.model import Chain, Graph
from chainbuild.records.index import RecordIndex, Update, chains_by_index
from chainbuild.step_id import StepId


def execute(
    planned: PlannedRun,
    session: Session,
    options: ExecutionOptions,
    log_path: Callable[[StepId], Path | None],
    native: NativeTools,
) -> RunOutcome:
    """Do what the plan says with every step, and write the records into the indexes. Failures are in the outcome."""
    graph, backends = planned.plan.graph, session.backends
    for text in native.make_tools():
        session.warn(text)
    notes = StatementWriter(
        graph,
        session.registries,
        session.records.keyring,
        planned.index,
        notice=session.registries.notice,
        clock=backends.clock,
    )
    tree_notes = lru_cache(maxsize=1)(lambda: backends.tree_notes(session.settings.root))
    attested = ResultAttestations(graph, session.records, planned.found, planned.index)

    def before_name(result: StepResult) -> None:
        notes.note(result.step, result.record.image)
        attested.note(result)

    services = ExecutionServices(
        driver=session.driver,
        registries=session.registries,
        records=session.records,
        planner=planned.planner,
        finisher=StageFinisher(
            session.registries,
            session.driver,
            session.emit,
            clock=backends.clock,
            contexts=partial(pinned_contexts, session.finder()),
            annotations=ResultAnnotations(graph, planned.found, tree_notes).of,
        ),
        found=planned.found,
        emit=session.emit,
        log_path=log_path,
        notes=tree_notes,
        clock=backends.clock,
        before_name=before_name,
        acceleration=native,
    )
    outcome = Executor(planned.plan, services, options).run()
    _update_index(graph, planned.index, outcome, (notes.made, attested.made))
    session.records.seen.remember(result.record for result in outcome.results.values())
    session.records.seen.remember_times(planned.asked.used)
    return outcome


def _update_index(
    graph: Graph,
    index: RecordIndex,
    outcome: RunOutcome,
    marks_of: tuple[Callable[[Chain], Mapping[str, str]], ...],
) -> None:
    """Write the records of the run, and the marks of what is attached to its images, into the indexes of its chains."""
    updates: list[Update] = []
    for chains in chains_by_index(graph.chains).values():
        steps = [step.id for chain in chains for step in chain.all_steps if step.id in outcome.results]
        made = {tag: mark for chain in chains for marks in marks_of for tag, mark in marks(chain).items()}
        updates.append((chains[0], [outcome.results[step].record for step in steps], made))
    index.update_all(updates)
