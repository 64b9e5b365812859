"""What `chainbuild types` does around the three lines of every run: pulled instead of built, and published only as is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from msgspec import Struct, field

from chainbuild.errors import Problem, RegistryError, WrongUseError
from chainbuild.events import Message
from chainbuild.execution.pipeline import PlannedRun, plan_run
from chainbuild.execution.session import Session
from chainbuild.images.provenance import PRIVATE, VISIBILITY_LABEL
from chainbuild.images.tag_alias import adopt, published_as
from chainbuild.layouts.image_types.graph import ImageTypesLayout, Purpose, laid_out
from chainbuild.layouts.image_types.selection import ALLOW, private_bases
from chainbuild.model import StepId
from chainbuild.planning.planner import Decision
from chainbuild.references import Platform
from chainbuild.registry.images import RemoteImage
from chainbuild.requests.build import BuildRequest
from chainbuild.requests.image_types import ImageTypesRequest
from chainbuild.values import replace


@contextmanager
def prepared(request: ImageTypesRequest) -> Iterator[tuple[ImageTypesLayout, BuildRequest]]:
    """The layout and the run that it is, as long as the `with` lasts."""
    with ExitStack() as stack:

        def lay_out(platforms: Sequence[Platform]) -> ImageTypesLayout:
            wanted = replace(request.wanted, platforms=tuple(platforms))
            return stack.enter_context(laid_out(request.catalogue, request.relations, request.places, wanted))

        layout = lay_out(request.wanted.platforms)
        run = run_of(request, layout)
        options = replace(run.options, graph_for=lambda platforms: lay_out(platforms).graph)
        yield layout, replace(run, options=options)


def run_of(request: ImageTypesRequest, layout: ImageTypesLayout) -> BuildRequest:
    """The run of a layout."""
    publishes = request.wanted.purpose is Purpose.PUBLISH
    options = replace(
        request.options, tolerance=layout.tolerance, push=publishes, load=request.options.load and not publishes
    )
    return BuildRequest(graph=layout.graph, settings=request.settings, options=options)


def warnings(request: ImageTypesRequest) -> tuple[str, ...]:
    """What people may want to know before anything is done."""
    told = [f"{one.where}: {one.message}. {one.hint}" for one in request.relations.loose]
    for name in sorted(request.wanted.chosen):
        if not request.catalogue.images[name].is_public or request.wanted.purpose is Purpose.PUBLISH:
            continue
        for path in private_bases(name, request.catalogue, request.relations, request.places):
            text = (
                f"{name} is public and made of a private image ({' of '.join(path)}): it is published with {ALLOW} only"
            )
            told.append(text)
    return tuple(told)


# Update ---------------------------------------------------------------------------------------------------------------


class Renewed(Struct, frozen=True, kw_only=True):
    """What an update found: the layout without what was never created, and the steps that are there elsewhere."""

    layout: ImageTypesLayout
    planned: PlannedRun
    published: Mapping[StepId, RemoteImage] = field(default_factory=dict)
    """What is published as these steps would be built."""
    never: tuple[str, ...] = ()
    """The chosen images that were never created."""


def renewed(request: ImageTypesRequest, layout: ImageTypesLayout, session: Session, *, pull: bool) -> Renewed:
    """Look at what is out of date. `pull`: what is published already is taken from there into the chain registry.

    Errors: those of the chain registry; a registry that images are published to may be away.
    """
    published: dict[StepId, RemoteImage] = {}
    run = run_of(request, layout)
    while True:
        planned = plan_run(run.graph, session, run.options)
        more = {
            decision.step.id: found
            for decision in planned.plan.builds
            if decision.step.id not in published and (found := _published(request, layout, session, decision))
        }
        published |= more
        if not more or not pull:
            break
        for decision in planned.plan.builds:
            if decision.step.id in more and decision.components:
                image = more[decision.step.id]
                adopt(
                    session.records,
                    decision.step,
                    decision.components,
                    image,
                    parents=_parents(planned, decision),
                )
                session.emit(Message(text=f"pulled {layout.images[decision.step.id].id} from {image.reference}"))
    return _cut(request, layout, planned, published)


def _published(
    request: ImageTypesRequest, layout: ImageTypesLayout, session: Session, decision: Decision
) -> RemoteImage | None:
    image = layout.images[decision.step.id]
    target = request.places.target(image)
    if target is None or decision.components is None or request.options.renewal.refresh:
        return None
    try:
        return published_as(
            session.registries, target.with_tag(image.tag), decision.step.platform, decision.components.key
        )
    except RegistryError as error:
        session.emit(Message(level="warning", text=f"{target} was not asked: {error.message}"))
        return None


def _parents(planned: PlannedRun, decision: Decision) -> Mapping[str, str]:
    known = {one.step.id: one.cached_record for one in planned.plan.decisions}
    return {
        image.name: record.key
        for image in decision.step.images
        if isinstance(image.source, str) and (record := known[image.source])
    }


def _cut(
    request: ImageTypesRequest, layout: ImageTypesLayout, planned: PlannedRun, published: Mapping[StepId, RemoteImage]
) -> Renewed:
    """An update renews: what was never here, and is published nowhere, is left to `create`."""
    there = {
        layout.images[one.step.id].id
        for one in planned.plan.decisions
        if one.cached_record or one.previous_record or one.step.id in published
    }
    kept = request.relations.with_bases(there)
    chains = tuple(chain for chain in layout.graph.chains if layout.images[chain.last.id].id in kept)
    steps = {chain.last.id for chain in chains}
    plan = replace(
        planned.plan,
        graph=replace(layout.graph, chains=chains),
        decisions=tuple(one for one in planned.plan.decisions if one.step.id in steps),
    )
    return Renewed(
        layout=replace(layout, graph=plan.graph),
        planned=replace(planned, plan=plan),
        published=published,
        never=tuple(sorted(request.wanted.chosen.difference(kept))),
    )


# Publish --------------------------------------------------------------------------------------------------------------


def check_published(request: ImageTypesRequest, layout: ImageTypesLayout, session: Session) -> PlannedRun:
    """What is published is what the image types say now, and none of it is made of an image that says it is private.

    Errors: `WrongUseError`.
    """
    run = run_of(request, layout)
    planned = plan_run(run.graph, session, run.options)
    problems = [_not_there(layout, decision) for decision in planned.plan.builds]
    if not request.allow_private_base:
        problems += _said_private(layout, planned)
    if problems:
        raise WrongUseError(problems)
    return planned


def _not_there(layout: ImageTypesLayout, decision: Decision) -> Problem:
    image = layout.images[decision.step.id]
    state = "is out of date" if decision.previous_record else "is not created"
    return image.problem(
        f"{image.id} {state} for {decision.step.platform}: {decision.reason}",
        f"Nothing was published. First: chainbuild types create '{image.id}'",
    )


def _said_private(layout: ImageTypesLayout, planned: PlannedRun) -> list[Problem]:
    """Images from outside under whatever name: their own labels say what they are."""
    problems: list[Problem] = []
    # An image of ours between the two does not make it public.
    tainted: dict[StepId, str] = {}
    for step in layout.graph:
        image = layout.images[step.id]
        for wanted in step.images:
            if isinstance(wanted.source, str):
                found = tainted.get(wanted.source, "")
            else:
                config = planned.found[str(wanted.source), wanted.platform.oci].image.config
                found = wanted.name if config.label(VISIBILITY_LABEL) == PRIVATE else ""
            if found:
                tainted[step.id] = found
        if step.id in tainted and image.is_public:
            message = f"{image.id} is public and made of {tainted[step.id]}, whose label says that it is private"
            hint = f"Let it stand on another image. Where all of that may be public: {ALLOW}."
            problems.append(image.problem(message, hint, "visibility"))
    return problems
