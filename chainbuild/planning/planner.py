"""Decide what to do with every step, with the reason in words: a Graph and the registry's records become a Plan.

`Planner.plan_step` decides again for each step during execution, when its parents are known: a rebuilt parent with
unchanged content does not cause rebuilds of the steps that depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from chainbuild.errors import Problem, WrongUseError
from chainbuild.model import ChangeTolerance, Graph, Step, published
from chainbuild.planning.decisions import Decision, ImageFacts, Inputs, Plan, RecordCache, Records, Renewal, facts_of
from chainbuild.planning.reasons import age_words, built_words, cause_of, describe, rebased_words, unknown_remotes
from chainbuild.records.keys import Components, changes
from chainbuild.records.record import Lookup, Record
from chainbuild.references import ImageReference
from chainbuild.step_id import StepId
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.context.files import ContextFile
    from chainbuild.dockerfile import Facts
    from chainbuild.planning.missing_sources import Checked

NEVER_BUILT = "never built"


class Planner:
    """Decides what to do with a step."""

    def __init__(
        self,
        records: Records,
        inputs: Inputs,
        external: Callable[[Step], Mapping[str, ImageFacts]],
        *,
        renewal: Renewal | None = None,
        pinned_steps: Mapping[StepId, str] | None = None,
        tolerance: Mapping[StepId, ChangeTolerance] | None = None,
        clock: Callable[[], float] = time.time,
        index: RecordCache | None = None,
        passed: Callable[[Step, Record], bool] = lambda _step, _record: True,
        rebase: bool = False,
    ) -> None:
        """`external` returns the facts of a step's external images by input name.

        `pinned_steps` maps the steps that are reused without checking to the flag that requested it. `index` is queried
        before the records, until `with_fresh_inputs`. `tolerance`: see `ChangeTolerance`. `passed` tells whether a recorded
        image has passed the step's current test. `rebase`: rebase steps if only their base moved.
        """
        self._records = records
        self._inputs = inputs
        self._external = external
        self._renewal = renewal or Renewal()
        self._pinned_steps = pinned_steps or {}
        self._lenient = tolerance or {}
        self._clock = clock
        self._index = index
        self._passed = passed
        self._rebase = rebase

    def with_fresh_inputs(self) -> Planner:
        """Return a planner that reads all files and records again: hours may pass between plan and execution."""
        return self._copy(self._inputs.with_fresh_inputs(), None, self._renewal)

    def with_renewal(self, renewal: Renewal) -> Planner:
        """Return a planner that shares what was read, and renews other steps."""
        return self._copy(self._inputs, self._index, renewal)

    def _copy(self, inputs: Inputs, index: RecordCache | None, renewal: Renewal) -> Planner:
        return Planner(
            self._records,
            inputs,
            self._external,
            renewal=renewal,
            pinned_steps=self._pinned_steps,
            tolerance=self._lenient,
            clock=self._clock,
            index=index,
            passed=self._passed,
            rebase=self._rebase,
        )

    def components(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> Components:
        """Return the components of the step's key. `steps` has the facts of its parent steps."""
        return self._inputs.components(step, self.images(step, steps))

    def sent(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> str:
        """Return a digest of what is sent to the step's builder (see `context.link`)."""
        return self._inputs.sent(step, self.images(step, steps))

    def dockerfile_facts(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> Facts:
        """Return what the step's Dockerfile reads. `steps` has the facts of its parent steps."""
        return self._inputs.facts(step, self.images(step, steps))

    def context_files(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> tuple[ContextFile, ...]:
        """Return the entries of its context that a step can read. `steps` has the facts of its parent steps."""
        return self._inputs.context_files(step, self.images(step, steps))

    def problems(self, checked: Sequence[Checked]) -> tuple[Problem, ...]:
        """Return a problem for each required file that is missing."""
        return self._inputs.problems(checked)

    def check(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> Checked | None:
        """Check the files that a step requires. `steps` has the facts of those parent steps that are known.

        None if the step is pinned.
        """
        if step.id in self._pinned_steps:
            return None
        step_facts = {
            image.name: steps[parent]
            for image in step.images
            if (parent := image.from_step) is not None and parent in steps
        }
        return self._inputs.check(step, dict(self._external(step)) | step_facts)

    def images(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> dict[str, ImageFacts]:
        """Return the facts of all image inputs of a step, by name."""
        facts = dict(self._external(step))
        for image in step.images:
            if (parent := image.from_step) is not None:
                facts[image.name] = steps[parent]
        return facts

    def plan_step(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> Decision:
        """Return the decision for a step. `steps` has the facts of its parent steps."""
        if step.id in self._pinned_steps:
            return self._pinned(step, steps)
        images = self.images(step, steps)
        components = self._inputs.components(step, images)
        if components.unknown_remotes:
            return Decision(step=step, cached_record=None, reason=unknown_remotes(components), components=components)
        decision, refusal = self._by_key(step, components)
        if decision:
            return decision
        newest = self._records.last(step.repository, step.family)
        last, tolerance = newest.record, self._lenient.get(step.id)
        if last and tolerance and _alike(step, last.components, components, tolerance):
            why = self._renewed(step, last) or self._records.misfit(step.repository, last)
            if not why:
                return self._reused(step, last, f"reused in spite of changes ({tolerance.flag})", components)
            return Decision(step=step, cached_record=None, reason=why, components=components, previous_record=last)
        reason = refusal or self._explained(step, newest, components, images)
        return Decision(
            step=step,
            cached_record=None,
            reason=reason,
            components=components,
            previous_record=last,
            rebase=self._only_moved(step, last, components),
        )

    def may_reuse(self, step: Step, last: Record | None, components: Components) -> bool:
        """Return whether a step can be reused if its parent step's image gets the content that it had before.

        `last` is the step's newest record; `components` have any identity for the parent.
        """
        if step.id in self._pinned_steps:
            return True
        if last is None or self._renewed(step, last):
            return False
        alike = with_parent_of(step, components, last)
        tolerance = self._lenient.get(step.id)
        return alike == last.components or bool(tolerance and _alike(step, last.components, alike, tolerance))

    def _by_key(self, step: Step, components: Components) -> tuple[Decision | None, str]:
        """Return the decision if there is a valid record of this key, else the reason why the record is invalid."""
        record = self._index.lookup(step.repository, components) if self._index else None
        if record:
            return self._decision(step, record, self._renewed(step, record), components), ""
        lookup = self._records.look_up(step.repository, components.key)
        why = ""
        if lookup.record:
            renewed = self._renewed(step, lookup.record)
            why = renewed or self._records.misfit(step.repository, lookup.record)
            if renewed or not why:
                return self._decision(step, lookup.record, why, components), ""
        other = self._records.elsewhere(components.key)
        if other and not self._renewed(step, other[0]):
            is_own = other[1].repository == step.repository.repository
            reason = f"unchanged{rebased_words(other[0])}" if is_own else f"unchanged (from {other[1].repository})"
            return self._reused(step, other[0], reason, components, source=other[1]), ""
        if lookup.record:
            return self._decision(step, lookup.record, why, components), ""
        return None, lookup.refusal

    def _decision(self, step: Step, record: Record, why: str, components: Components) -> Decision:
        if not why:
            return self._reused(step, record, f"unchanged{rebased_words(record)}", components)
        return Decision(step=step, cached_record=None, reason=why, components=components, previous_record=record)

    def _pinned(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> Decision:
        """Reuse the image of the present key, else that of this TAG, else the step's newest one, despite any change."""
        flag = self._pinned_steps[step.id]
        try:
            components = self._inputs.components(step, self.images(step, steps))
        except (WrongUseError, OSError):
            # Unreadable inputs do not matter here: the step is not built.
            components = None
        if components and not components.unknown_remotes:
            decision, _ = self._by_key(step, components)
            if decision and decision.cached_record:
                return decision
        tagged = self._records.tagged(step.reference)
        by_tag = self._records.of_image(step.repository, tagged) if tagged else Lookup()
        if (
            by_tag.record
            and by_tag.record.family == step.family
            and not self._records.misfit(step.repository, by_tag.record)
        ):
            reason = f"reused without checking ({flag}): image of {step.tag}, {built_words(by_tag.record)}"
            return self._reused(step, by_tag.record, reason)
        newest = self._records.last(step.repository, step.family)
        if newest.record is None or self._records.misfit(step.repository, newest.record):
            refusal = by_tag.refusal or newest.refusal
            raise WrongUseError(
                f"{flag}: {step.id} is not in the chain registry{f' ({refusal})' if refusal else ''}",
                hint=f"Run without {flag.split()[0]} to build it first.",
            )
        why = "no image was built from the present inputs, and this TAG has no image of the step"
        return replace(
            self._reused(
                step, newest.record, f"reused without checking ({flag}): newest image, {built_words(newest.record)}"
            ),
            warning=f"{flag}: {step.id} uses the newest image of any TAG, {built_words(newest.record)}: {why}",
        )

    def _reused(
        self,
        step: Step,
        record: Record,
        reason: str,
        components: Components | None = None,
        *,
        source: ImageReference | None = None,
    ) -> Decision:
        if not self._passed(step, record):
            untested = "its test has not passed yet and runs now"
            reason += f"; {untested if step.test else 'it is traced again by the current tests of its chain'}"
        return Decision(
            step=step, cached_record=record, reason=reason, components=components, previous_record=record, source=source
        )

    def updates(self, step: StepId) -> str:
        """Return the updates of packages for which a step is renewed, as its record notes them; empty if there are none."""
        return self._renewal.updates.get(step, "")

    def _renewed(self, step: Step, record: Record) -> str:
        """Return the reason to rebuild an unchanged step: a flag, or the updates of its packages; empty if there is none."""
        age = self._clock() - record.built_at
        if record.built_at >= self._renewal.since > 0:
            return ""
        if self._renewal.refresh:
            return "--refresh"
        if self._renewal.refresh_after is not None and age > self._renewal.refresh_after:
            return f"older than --refresh-after ({age_words(age)} old)"
        return self._renewal.outdated.get(step.id, "")

    def _only_moved(self, step: Step, last: Record | None, components: Components) -> bool:
        """Return whether a step is rebased rather than built: nothing but its base has moved."""
        if last is None or not self._may_rebase(step, last):
            return False
        from chainbuild.planning.moved import moved_images

        return bool(moved_images(step, last, components))

    def _may_rebase(self, step: Step, last: Record) -> bool:
        """Return whether a step is rebased rather than built, should only its base have moved."""
        return self._rebase and not self._renewed(step, last)

    def _explained(self, step: Step, newest: Lookup, components: Components, images: Mapping[str, ImageFacts]) -> str:
        if newest.record is None:
            return newest.refusal or NEVER_BUILT
        texts = changes(newest.record.components, components)
        descriptions = [describe(step, text, newest.record, images) for text in texts]
        return "; ".join(descriptions) or "its record was deleted from the registry"

    def plan_blocked(self, step: Step, parents: Mapping[StepId, Decision]) -> Decision:
        """Return a preliminary decision for a step whose parents are not built yet."""
        newest = self._records.last(step.repository, step.family)
        previous = newest.record
        blocker = next(parents[need] for need in step.needs if not parents[need].cached_record)
        if previous is None:
            return Decision(step=step, cached_record=None, reason=newest.refusal or NEVER_BUILT)
        stands = all(parents[need].cached_record or parents[need].rebase for need in step.needs)
        return Decision(
            step=step,
            cached_record=None,
            reason=f"parent {cause_of(blocker)}",
            previous_record=previous,
            rebase=stands and self._may_rebase(step, previous),
        )


def _alike(step: Step, before: Components, now: Components, tolerance: ChangeTolerance) -> bool:
    """Return whether every difference is covered by the tolerance."""
    outside = {image.name for image in step.images if image.external is not None}

    def counted(components: Components) -> Components:
        images = {
            name: identity
            for name, identity in components.images.items()
            if not (tolerance.outside and name in outside)
        }
        return (
            Components(dockerfile="", platform="", images=images)
            if tolerance.own
            else replace(components, images=images)
        )

    return counted(before) == counted(now)


def may_repeat(step: Step, last: Record | None, components: Components, *, same_parent: bool) -> bool:
    """Return whether a build will probably give the content that a step had before: only comments changed, if anything.

    `same_parent`: the parent step's image will have the content that it had for the step's newest record `last`.
    """
    if last is None:
        return False
    now = with_parent_of(step, components, last) if same_parent else components
    return _without_comments(now) == _without_comments(last.components)


def with_parent_of(step: Step, components: Components, record: Record) -> Components:
    """Return a step's components with the identity of the parent that a record of the step was built from."""
    parent = record.components.images.get(step.parent, "")
    return replace(components, images={**components.images, step.parent: parent})


def _without_comments(components: Components) -> Components:
    lines = (line.strip() for line in components.dockerfile.splitlines())
    return replace(components, dockerfile="\n".join(line for line in lines if line and not line.startswith("#")))


def pinned_before(graph: Graph, number: int) -> dict[StepId, str]:
    """Map each step that `--from NUMBER` reuses without checking to that flag."""
    return {step.id: f"--from {number}" for step in graph if step.number < number}


def until(graph: Graph, number: int) -> Graph:
    """Return the graph up to the step of that number, without stages."""
    chains = []
    for chain in graph.chains:
        steps = tuple(step for step in chain.steps if step.number <= number)
        chains.append(replace(chain, steps=steps, minimize=None, production=None, publication=None))
    return replace(graph, chains=tuple(chains))


def make_plan(graph: Graph, planner: Planner) -> Plan:
    """Decide for every step, in order.

    Errors: `WrongUseError` with the problems of all steps: unreadable inputs and missing files.
    """
    decisions: dict[StepId, Decision] = {}
    facts: dict[StepId, ImageFacts] = {}
    problems: list[Problem] = []
    checked: list[Checked] = []
    for step in graph:
        try:
            if all(need in facts for need in step.needs):
                decision = planner.plan_step(step, facts)
            else:
                decision = planner.plan_blocked(step, decisions)
        except WrongUseError as error:
            problems += error.problems
            decision = Decision(step=step, cached_record=None, reason=error.problems[0].message)
        if decision.cached_record:
            facts[step.id] = facts_of(decision.cached_record)
        elif check := planner.check(step, facts):
            checked.append(check)
            warnings = (decision.warning, *check.warnings)
            decision = replace(decision, warning="\n".join(text for text in warnings if text))
        decisions[step.id] = decision
    problems += planner.problems(checked)
    if problems:
        raise WrongUseError(problems)
    return Plan(graph=graph, decisions=tuple(decisions.values()), publishes=_publishes(graph))


def _publishes(graph: Graph) -> tuple[tuple[str, str], ...]:
    targets: dict[str, str] = {}
    for chain, names in published(graph.chains):
        targets[str(names.release)] = f"result of {chain.option} for {chain.platform}"
    for chain, names in published(graph.chains):
        targets[str(names.index)] = f"multi-platform index of {chain.option}"
        targets |= {str(names.home.with_tag(tag)): f"same as {names.index}" for tag in names.also}
        for alias in names.aliases:
            targets[str(names.home.with_tag(alias))] = f"fixed alias of {names.index} as built by this run"
    return tuple(targets.items())
