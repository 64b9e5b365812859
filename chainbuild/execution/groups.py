"""Choose the steps that go to the builder in one solve: a run of steps of a chain, each based on the one before.

A step joins the group of its parent if nobody can reuse it and nothing happens between the two: its parent's image gets no
test and no further changes, and what its own Dockerfile reads can be determined before the parent's image exists. For that,
the environment and the triggers of the parent's image are predicted from the parent's Dockerfile.

A step that may be reused, because its parent may be built with the content that it had before, ends the group. If a
prediction is wrong, nothing wrong is recorded: the key of a step is computed again when its parent's image is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from chainbuild.builder.links import parent_context
from chainbuild.dockerfile import Facts
from chainbuild.errors import WrongUseError
from chainbuild.model import Step, StepKind
from chainbuild.planning.decisions import Decision, ImageFacts
from chainbuild.planning.planner import Planner, may_repeat
from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.step_id import StepId
from chainbuild.values import replace

FUTURE: Final = "not built yet"
"""The identity of a parent's image in predicted components."""


MOST_STEPS: Final = 20
"""The largest group: the builder reports every instruction once for each later step of a solve."""


class Member(Struct, frozen=True, kw_only=True):
    """A step of a group. `context`: the name for its parent in the linked build; empty for the first step.

    `components` are its key's components before the solve, with `FUTURE` for the parent; `parents` the facts of its parent
    steps.
    """

    step: Step
    components: Components
    parents: Mapping[StepId, ImageFacts]
    context: str = ""

    def agrees(self, components: Components) -> bool:
        """Return whether the step's inputs are those that were sent to the builder, apart from the parent's identity."""
        images = {**components.images, self.step.parent: self.components.images.get(self.step.parent, "")}
        return replace(components, images=images) == self.components


def candidates(
    first: Step, waiting: Mapping[StepId, Step], alone: Callable[[StepId], object] = lambda _: False
) -> tuple[Step, ...]:
    """Return the first step and the waiting steps that could follow in its group, judged by the graph alone.

    `alone` returns whether a step is built by itself: one that is built without the builder's cache.
    """
    group = [first]
    while (
        len(group) < MOST_STEPS
        and not alone(group[-1].id)
        and _is_plain(last := group[-1])
        and not _is_followed_by_work(last)
    ):
        following = next((step for step in waiting.values() if step.needs == (last.id,)), None)
        if following is None or alone(following.id) or not _is_plain(following) or following.platform != last.platform:
            break
        group.append(following)
    return tuple(group)


def _is_plain(step: Step) -> bool:
    return step.kind is StepKind.BUILD and not step.handed


def _is_followed_by_work(step: Step) -> bool:
    """Return whether the image that the builder makes is tested or changed before others may be built from it."""
    return bool(step.test or step.traced or step.post_build_labels)


def chosen(
    steps: Sequence[Step],
    first: Decision,
    facts: Mapping[StepId, ImageFacts],
    planner: Planner,
    *,
    newest: Callable[[StepId], Record | None],
    fits: Callable[[Sequence[StepId]], bool],
) -> tuple[Member, ...]:
    """Return the members of a group among `steps`, which `candidates` returned.

    `first` and `facts` are the decision to build the first step, and the facts of its parent steps. `newest` returns the
    newest known record of a step. `fits` returns whether steps can be built in one go before the deadline.
    """
    if first.components is None:
        return ()
    members = [Member(step=steps[0], components=first.components, parents=facts)]
    try:
        known = planner.dockerfile_facts(steps[0], facts)
    except OSError:
        return ()  # reported when the step is built
    last = newest(steps[0].id)
    repeats = may_repeat(steps[0], last, first.components, same_parent=False)
    for step in steps[1:]:
        result = _prediction(known)
        if result is None or not fits([*(member.step.id for member in members), step.id]):
            break
        parents = {members[-1].step.id: result}
        try:
            components = planner.components(step, parents)
            known = planner.dockerfile_facts(step, parents)
            raw = step.read_dockerfile()
        except (WrongUseError, OSError):
            break  # reported when the step itself is built
        context = parent_context(step, raw, known)
        last = newest(step.id)
        if not context or components.unknown_remotes or (repeats and planner.may_reuse(step, last, components)):
            break
        repeats = may_repeat(step, last, components, same_parent=repeats) and repeats
        members.append(Member(step=step, components=components, parents=parents, context=context))
    return tuple(members)


def _prediction(facts: Facts) -> ImageFacts | None:
    """Return the facts of the image that a Dockerfile will give; None if they are unknown or it has triggers."""
    if facts.env is None or facts.onbuild or facts.foreign:
        return None
    return ImageFacts(identity=FUTURE, env=facts.env)
