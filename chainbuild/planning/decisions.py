"""What a plan consists of: the facts of images, the decision for each step, and the interfaces that the planner needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from chainbuild.errors import Problem
from chainbuild.model import Graph, Step
from chainbuild.records.keys import Components
from chainbuild.records.record import Lookup, Record
from chainbuild.references import Digest, ImageReference
from chainbuild.step_id import StepId

if TYPE_CHECKING:
    from chainbuild.context.files import ContextFile
    from chainbuild.dockerfile import Facts
    from chainbuild.planning.missing_sources import Checked


class Records(Protocol):
    """Interface of the record store, implemented by `records.store.RecordStore`."""

    def look_up(self, repository: ImageReference, key: str) -> Lookup:
        """Return the repository's record of a key."""

    def last(self, repository: ImageReference, family: str) -> Lookup:
        """Return the newest record of a step."""

    def of_image(self, repository: ImageReference, image: Digest) -> Lookup:
        """Return the newest record of an image."""

    def tagged(self, reference: ImageReference) -> Digest | None:
        """Return the digest that a readable tag points at."""

    def elsewhere(self, key: str) -> tuple[Record, ImageReference] | None:
        """Return the record of a key that another repository of the chain registry has, and its image's repository."""

    def misfit(self, repository: ImageReference, record: Record) -> str:
        """Return why a record does not match its image; empty if it does."""


class RecordCache(Protocol):
    """A snapshot of the registry's records that takes few requests, implemented by `records.index.RecordIndex`."""

    def lookup(self, repository: ImageReference, components: Components) -> Record | None:
        """Return the record of a key if it and its image are known to exist; None if the registry must be queried."""


class ImageFacts(Struct, frozen=True, kw_only=True):
    """The properties of an image that decide the steps built from it.

    `identity` is its content identity. `env` and `on_build` are what its config adds to a stage; Dockerfile readers need
    them (they are part of the identity). `digest` is for display and decides nothing.
    """

    identity: str
    digest: str = ""
    env: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


def facts_of(record: Record) -> ImageFacts:
    """Return the facts of a recorded image."""
    return ImageFacts(identity=record.identity, digest=str(record.image), env=record.env, on_build=record.on_build)


class Inputs(Protocol):
    """Interface of the reader of a step's inputs, implemented by `inputs.InputReader`."""

    def components(self, step: Step, images: Mapping[str, ImageFacts]) -> Components:
        """Return the key's components. `images` maps each image input's name to its facts."""

    def facts(self, step: Step, images: Mapping[str, ImageFacts]) -> Facts:
        """Return what the step's Dockerfile reads and what it adds to an image's config."""

    def sent(self, step: Step, images: Mapping[str, ImageFacts]) -> str:
        """Return a digest of what is sent to the builder, as it is in the file system now."""

    def context_files(self, step: Step, images: Mapping[str, ImageFacts]) -> tuple[ContextFile, ...]:
        """Return the entries of its own context that the step can read."""

    def check(self, step: Step, images: Mapping[str, ImageFacts]) -> Checked:
        """Check the files that the step requires, as far as the known images determine them."""

    def problems(self, checked: Sequence[Checked]) -> tuple[Problem, ...]:
        """Return a problem for each required file that is missing."""

    def with_fresh_inputs(self) -> Inputs:
        """Return a reader that reads everything again."""


class Renewal(Struct, frozen=True, kw_only=True):
    """When to rebuild an unchanged step: always, if its image is older than `refresh_after` seconds, or if it is outdated."""

    refresh: bool = False
    refresh_after: float | None = None
    since: float = 0.0
    """Start of this run in seconds since the epoch. Images built since then are not rebuilt again."""
    outdated: Mapping[StepId, str] = {}
    """The steps whose packages have updates, with the reason in words."""
    updates: Mapping[StepId, str] = {}
    """The same steps, with the updates as their records note them (`records.record.REFRESHED`)."""


class Decision(Struct, frozen=True, kw_only=True):
    """What to do with a step, and why. `components` is None while a parent is not built yet.

    `source` is the repository of the chain registry from which a reused image is copied, if the step's own repository does
    not have it. `warning` has one line per warning.
    """

    step: Step
    cached_record: Record | None
    reason: str
    components: Components | None = None
    previous_record: Record | None = None
    source: ImageReference | None = None
    warning: str = ""
    rebase: bool = False
    """True if the step is rebased, should the proof succeed, and otherwise built."""

    @property
    def action(self) -> str:
        """Return the action as the plan shows it: `reuse`, `rebase`, `build`, `minimize` or `produce`."""
        if self.cached_record:
            return "reuse"
        return "rebase" if self.rebase else self.step.kind.value

    @property
    def expected_seconds(self) -> float | None:
        """Return the duration of the last build in seconds; 0 for a reuse or a rebase, None if unknown."""
        if self.rebase:
            return 0.0
        return self.build_seconds

    @property
    def build_seconds(self) -> float | None:
        """Return the duration of the last build in seconds; 0 for a reuse, None if unknown."""
        if self.cached_record:
            return 0.0
        return self.previous_record.seconds if self.previous_record else None


class Plan(Struct, frozen=True, kw_only=True):
    """The decisions in order, and the tags that the run will publish."""

    graph: Graph
    decisions: tuple[Decision, ...]
    publishes: tuple[tuple[str, str], ...] = ()
    """Pairs of a tag and its description."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings of all decisions, without duplicates."""
        return tuple(dict.fromkeys(line for decision in self.decisions for line in decision.warning.splitlines()))

    @property
    def builds(self) -> tuple[Decision, ...]:
        """Return the decisions for steps that are not reused."""
        return tuple(decision for decision in self.decisions if not decision.cached_record)

    @property
    def expected_seconds(self) -> float:
        """Return the total duration of the last builds in seconds; steps never built are not counted."""
        return sum(decision.expected_seconds or 0.0 for decision in self.builds)
