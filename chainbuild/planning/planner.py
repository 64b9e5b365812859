"""What would be done to every step, and why: a Graph and what the registry holds become a Plan.

The same decision (`Planner.plan_step`) is made again for each step while a plan is executed, when its parents are known:
a parent that was built and has the content that it had before changes nothing below it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.model import ChangeTolerance, Graph, Step, StepId
from chainbuild.records.keys import Components, changes
from chainbuild.records.record import Lookup, Record
from chainbuild.references import Digest, ImageReference
from chainbuild.text import plural
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.context.files import ContextFile
    from chainbuild.planning.missing_sources import Checked

NEVER_BUILT = "never built"


class Records(Protocol):
    """What is asked of the records; `records.store.RecordStore` is the real one."""

    def look_up(self, repository: ImageReference, key: str) -> Lookup:
        """Return what the repository has under a key."""

    def last(self, repository: ImageReference, family: str) -> Lookup:
        """Return the newest record of a step."""

    def of_image(self, repository: ImageReference, image: Digest) -> Lookup:
        """Return the newest record of an image."""

    def tagged(self, reference: ImageReference) -> Digest | None:
        """Return the digest that a readable tag names."""

    def elsewhere(self, key: str) -> tuple[Record, ImageReference] | None:
        """Return the record of a key that the chain registry has for another repository, and where its image is."""

    def misfit(self, repository: ImageReference, record: Record) -> str:
        """Return what speaks against a record when it is held against its image; empty if nothing does."""


class RecordCache(Protocol):
    """What the registry held a moment ago, known in a few requests; `records.index.RecordIndex` is the real one."""

    def lookup(self, repository: ImageReference, components: Components) -> Record | None:
        """Return the record of a key if both it and its image are known to be there; None if that has to be asked."""


class ImageFacts(Struct, frozen=True, kw_only=True):
    """What of an image decides the steps that are built from it.

    `identity` is its content identity; `env` and `on_build` are what its config brings into a stage, which the readers
    of Dockerfiles need (they are part of the identity). `digest` is what people know it by, and decides nothing.
    """

    identity: str
    digest: str = ""
    env: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


def facts_of(record: Record) -> ImageFacts:
    """The facts of a recorded image."""
    return ImageFacts(identity=record.identity, digest=str(record.image), env=record.env, on_build=record.on_build)


class Inputs(Protocol):
    """What is read of a step's inputs; `inputs.InputReader` is the real one."""

    def components(self, step: Step, images: Mapping[str, ImageFacts]) -> Components:
        """The components, given the facts of each image input by name."""

    def sent(self, step: Step, images: Mapping[str, ImageFacts]) -> str:
        """A digest of what the builder is sent, as it is in the file system now."""

    def context_files(self, step: Step, images: Mapping[str, ImageFacts]) -> tuple[ContextFile, ...]:
        """The entries of the step's own context that it can read."""

    def check(self, step: Step, images: Mapping[str, ImageFacts]) -> Checked:
        """What the step cannot do without, as far as the images that are known tell."""

    def problems(self, checked: Sequence[Checked]) -> tuple[Problem, ...]:
        """A problem for each thing that steps cannot do without and that is not there."""

    def with_fresh_inputs(self) -> Inputs:
        """A reader that looks at everything again."""


class Renewal(Struct, frozen=True, kw_only=True):
    """When a result is renewed although nothing changed: always, or when it is older than so many seconds."""

    refresh: bool = False
    refresh_after: float | None = None
    since: float = 0.0
    """When this run began (seconds since the epoch): what it made itself is renewed already."""


class Decision(Struct, frozen=True, kw_only=True):
    """What is to be done to a step, and why. `components` is None while a parent is not built yet.

    `source` is the repository of the chain registry that a reused image is copied from, if the step's own does not have
    it. `warning` is what people should know of this decision although nothing is wrong; a line for each thing.
    """

    step: Step
    cached_record: Record | None
    reason: str
    components: Components | None = None
    previous_record: Record | None = None
    source: ImageReference | None = None
    warning: str = ""

    @property
    def action(self) -> str:
        """The plan's word: `reuse`, `build`, `minimize` or `produce`."""
        return "reuse" if self.cached_record else self.step.kind.value

    @property
    def expected_seconds(self) -> float | None:
        """What the build took last time; 0 for a reuse; None where nobody knows."""
        if self.cached_record:
            return 0.0
        return self.previous_record.seconds if self.previous_record else None


class Plan(Struct, frozen=True, kw_only=True):
    """The decisions in order, and the names that the run will publish."""

    graph: Graph
    decisions: tuple[Decision, ...]
    publishes: tuple[tuple[str, str], ...] = ()
    """(name, what it will be)."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What people should know of the decisions, each thing once."""
        return tuple(dict.fromkeys(line for decision in self.decisions for line in decision.warning.splitlines()))

    @property
    def builds(self) -> tuple[Decision, ...]:
        """What is not reused."""
        return tuple(decision for decision in self.decisions if not decision.cached_record)

    @property
    def expected_seconds(self) -> float:
        """The sum of what the builds took last time; those that never ran count nothing."""
        return sum(decision.expected_seconds or 0.0 for decision in self.builds)


class Planner:
    """Decides for one step at a time."""

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
    ) -> None:
        """`external` gives the facts of the images of a step that are no steps, by input name.

        `pinned_steps` are the steps that are taken as they stand, whatever changed, and the flag that said so. `index` is
        asked before the records are, until the planner is made `fresh`. `tolerance`: see `ChangeTolerance`. `passed` tells
        whether a recorded image has passed the step's test as it is now.
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

    def with_fresh_inputs(self) -> Planner:
        """One that looks at every file and record again: between a plan and its execution hours may pass."""
        return Planner(
            self._records,
            self._inputs.with_fresh_inputs(),
            self._external,
            renewal=self._renewal,
            pinned_steps=self._pinned_steps,
            tolerance=self._lenient,
            clock=self._clock,
            passed=self._passed,
        )

    def components(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> Components:
        """What the step's key is made of, with the facts of the steps that it needs."""
        return self._inputs.components(step, self.images(step, steps))

    def sent(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> str:
        """A digest of what the step's builder is sent (see `context.link`), with the facts of the steps that it needs."""
        return self._inputs.sent(step, self.images(step, steps))

    def context_files(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> tuple[ContextFile, ...]:
        """The entries of its context that a step can read, with the facts of the steps that it needs."""
        return self._inputs.context_files(step, self.images(step, steps))

    def problems(self, checked: Sequence[Checked]) -> tuple[Problem, ...]:
        """A problem for each thing that steps cannot do without and that is not there."""
        return self._inputs.problems(checked)

    def check(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> Checked | None:
        """What a step cannot do without, with the facts of those of the steps it needs that are known.

        None if its image is taken as it stands.
        """
        if step.id in self._pinned_steps:
            return None
        known = {
            image.name: steps[image.source]
            for image in step.images
            if isinstance(image.source, str) and image.source in steps
        }
        return self._inputs.check(step, dict(self._external(step)) | known)

    def images(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> dict[str, ImageFacts]:
        """The facts of all image inputs of a step, by their names."""
        return dict(self._external(step)) | {
            image.name: steps[image.source] for image in step.images if isinstance(image.source, str)
        }

    def plan_step(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> Decision:
        """The decision, with the facts of the steps that it needs."""
        if step.id in self._pinned_steps:
            return self._as_it_stands(step, steps)
        images = self.images(step, steps)
        components = self._inputs.components(step, images)
        if components.unknown_remotes:
            return Decision(step=step, cached_record=None, reason=_unknown(components), components=components)
        decision, refusal = self._by_key(step, components)
        if decision:
            return decision
        found = self._records.last(step.repository, step.family)
        last, tolerance = found.record, self._lenient.get(step.id)
        if last and tolerance and _alike(step, last.components, components, tolerance):
            why = self._renewed(last) or self._records.misfit(step.repository, last)
            if not why:
                return self._reused(step, last, f"taken as it stands ({tolerance.flag})", components)
            return Decision(step=step, cached_record=None, reason=why, components=components, previous_record=last)
        reason = refusal or self._explained(step, found, components, images)
        return Decision(step=step, cached_record=None, reason=reason, components=components, previous_record=last)

    def _by_key(self, step: Step, components: Components) -> tuple[Decision | None, str]:
        """Return the decision if there is a record of exactly this key; else why one that is there does not count."""
        record = self._index.lookup(step.repository, components) if self._index else None
        if record:
            return self._decision(step, record, self._renewed(record), components), ""
        found = self._records.look_up(step.repository, components.key)
        why = ""
        if found.record:
            renewed = self._renewed(found.record)
            why = renewed or self._records.misfit(step.repository, found.record)
            if renewed or not why:
                return self._decision(step, found.record, why, components), ""
        other = self._records.elsewhere(components.key)
        if other and not self._renewed(other[0]):
            here = other[1].repository == step.repository.repository
            reason = "unchanged" if here else f"unchanged (from {other[1].repository})"
            return self._reused(step, other[0], reason, components, source=other[1]), ""
        if found.record:
            return self._decision(step, found.record, why, components), ""
        return None, found.refusal

    def _decision(self, step: Step, record: Record, why: str, components: Components) -> Decision:
        if not why:
            return self._reused(step, record, "unchanged", components)
        return Decision(step=step, cached_record=None, reason=why, components=components, previous_record=record)

    def _as_it_stands(self, step: Step, steps: Mapping[StepId, ImageFacts]) -> Decision:
        """Take what this tree and this TAG mean, whatever changed: by the present key, by the TAG, or the newest image."""
        flag = self._pinned_steps[step.id]
        try:
            components = self._inputs.components(step, self.images(step, steps))
        except (WrongUseError, OSError):
            # What cannot be read decides nothing here: the step is not to be built.
            components = None
        if components and not components.unknown_remotes:
            decision, _ = self._by_key(step, components)
            if decision and decision.cached_record:
                return decision
        tagged = self._records.tagged(step.reference)
        named = self._records.of_image(step.repository, tagged) if tagged else Lookup()
        if (
            named.record
            and named.record.family == step.family
            and not self._records.misfit(step.repository, named.record)
        ):
            reason = f"taken as it stands ({flag}): the image of {step.tag}, {_built(named.record)}"
            return self._reused(step, named.record, reason)
        found = self._records.last(step.repository, step.family)
        if found.record is None or self._records.misfit(step.repository, found.record):
            refusal = named.refusal or found.refusal
            raise WrongUseError(
                f"{flag}: {step.id} is not in the chain registry{f' ({refusal})' if refusal else ''}",
                hint=f"Build it first: run without {flag.split()[0]}.",
            )
        why = "nothing was built from what is here now, and the tag of this TAG names no image of the step"
        return replace(
            self._reused(step, found.record, f"taken as it stands ({flag}): the newest image, {_built(found.record)}"),
            warning=f"{flag}: {step.id} is taken from the newest image of any TAG, {_built(found.record)}: {why}",
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
            untested = "its test, which it has not passed yet, is run"
            reason += f"; {untested if step.test else 'it is traced by the tests of its chain as they are now'}"
        return Decision(
            step=step, cached_record=record, reason=reason, components=components, previous_record=record, source=source
        )

    def _renewed(self, record: Record) -> str:
        """Return the flag by which a result is renewed although nothing changed; empty if none asks for it."""
        age = self._clock() - record.built_at
        if record.built_at >= self._renewal.since > 0:
            return ""
        if self._renewal.refresh:
            return "--refresh"
        if self._renewal.refresh_after is not None and age > self._renewal.refresh_after:
            return f"older than --refresh-after ({_days(age)} old)"
        return ""

    def _explained(self, step: Step, found: Lookup, components: Components, images: Mapping[str, ImageFacts]) -> str:
        if found.record is None:
            return found.refusal or NEVER_BUILT
        told = changes(found.record.components, components)
        words = [_in_words(step, text, found.record, images) for text in told]
        return "; ".join(words) or "its record was deleted from the registry"

    def plan_blocked(self, step: Step, parents: Mapping[StepId, Decision]) -> Decision:
        """The decision for a step whose parents are not built yet: it will be pinned_steps again then."""
        found = self._records.last(step.repository, step.family)
        last = found.record
        first = next(parents[need] for need in step.needs if not parents[need].cached_record)
        if last is None:
            return Decision(step=step, cached_record=None, reason=found.refusal or NEVER_BUILT)
        return Decision(step=step, cached_record=None, reason=f"parent {_cause(first)}", previous_record=last)


def _alike(step: Step, before: Components, now: Components, tolerance: ChangeTolerance) -> bool:
    """Whether all that differs is what tolerance is for."""
    outside = {image.name for image in step.images if isinstance(image.source, ImageReference)}

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


def pinned_before(graph: Graph, number: int) -> dict[StepId, str]:
    """The steps that `--from NUMBER` takes as they stand."""
    return {step.id: f"--from {number}" for step in graph if step.number < number}


def until(graph: Graph, number: int) -> Graph:
    """The graph that ends with the step of that number: nothing after it, and no stages."""
    chains = []
    for chain in graph.chains:
        steps = tuple(step for step in chain.steps if step.number <= number)
        chains.append(replace(chain, steps=steps, minimize=None, production=None, named=False))
    return replace(graph, chains=tuple(chains))


def make_plan(graph: Graph, planner: Planner) -> Plan:
    """Decide for every step, in order.

    Errors: `WrongUseError` with every problem of all steps: what cannot be read, and what is not there to be taken.
    """
    decisions: dict[StepId, Decision] = {}
    known: dict[StepId, ImageFacts] = {}
    problems: list[Problem] = []
    checked: list[Checked] = []
    for step in graph:
        try:
            if all(need in known for need in step.needs):
                decision = planner.plan_step(step, known)
            else:
                decision = planner.plan_blocked(step, decisions)
        except WrongUseError as error:
            problems += error.problems
            decision = Decision(step=step, cached_record=None, reason=error.problems[0].message)
        if decision.cached_record:
            known[step.id] = facts_of(decision.cached_record)
        elif looked := planner.check(step, known):
            checked.append(looked)
            warnings = (decision.warning, *looked.warnings)
            decision = replace(decision, warning="\n".join(text for text in warnings if text))
        decisions[step.id] = decision
    problems += planner.problems(checked)
    if problems:
        raise WrongUseError(problems)
    return Plan(graph=graph, decisions=tuple(decisions.values()), publishes=_publishes(graph))


def _publishes(graph: Graph) -> tuple[tuple[str, str], ...]:
    names: dict[str, str] = {}
    for chain in graph.chains:
        if chain.has_names:
            names[str(chain.release)] = f"the result of {chain.option} for {chain.platform}"
    for chain in graph.chains:
        if chain.has_names:
            names[str(chain.index)] = f"the index of {chain.option} over its platforms"
            names |= {str(chain.home.with_tag(tag)): f"the same as {chain.index}" for tag in chain.also}
            for alias in chain.aliases:
                names[str(chain.home.with_tag(alias))] = f"{chain.index} as it is now, for ever"
    return tuple(names.items())


def _cause(decision: Decision) -> str:
    """The parent that started it: reasons are handed down, so that the last step names the first cause."""
    if decision.reason.startswith("parent "):
        return decision.reason.removeprefix("parent ")
    return f"{decision.step.name}: {decision.reason}"


def _in_words(step: Step, change: str, last: Record, images: Mapping[str, ImageFacts]) -> str:
    """A change of an image input, told as what it is to people."""
    for image in step.images:
        if not change.startswith(f"{image.name} changed from "):
            continue
        if isinstance(image.source, str):
            return f"parent {image.source.rpartition('/')[2]} has other content"
        before = last.notes.get(digest_note(image.name), "")
        now = images[image.name].digest
        moved = f" from {_short(before)} to {_short(now)}" if before and now else ""
        return f"{'base image' if image.name == step.parent else 'image'} {image.source} moved{moved}"
    return change


def digest_note(name: str) -> str:
    """The note of a record that says which image an input was, for people."""
    return f"digest of {name}"


def _unknown(components: Components) -> str:
    return "; ".join(f"could not ask {address}: {why}" for address, why in components.unknown_remotes)


def _built(record: Record) -> str:
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.built_at))
    return f"built {when}, {_short(str(record.image))}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _days(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return plural(round(seconds / length), unit)
    return plural(round(seconds), "second")
