"""The operations of `chainbuild types` around a run: pull instead of build, and publish only what is up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from msgspec import Struct, field

from chainbuild.errors import Problem, RegistryError, WrongUseError
from chainbuild.events import Message
from chainbuild.execution.run_plan import PlannedRun, plan_run
from chainbuild.execution.session import Session
from chainbuild.images.provenance import PRIVATE, VISIBILITY_LABEL
from chainbuild.images.tag_alias import adopt, published_as
from chainbuild.layouts.image_types.graph import ImageTypesLayout, Purpose, laid_out
from chainbuild.layouts.image_types.selection import ALLOW, private_bases
from chainbuild.planning.decisions import Decision
from chainbuild.references import Platform
from chainbuild.registry.images import RemoteImage
from chainbuild.requests.build import BuildRequest
from chainbuild.requests.image_types import ImageTypesRequest
from chainbuild.step_id import StepId
from chainbuild.values import replace


@contextmanager
def prepared(request: ImageTypesRequest) -> Iterator[tuple[ImageTypesLayout, BuildRequest]]:
    """Provide the layout and its run within a `with` block."""
    with ExitStack() as stack:

        def lay_out(platforms: Sequence[Platform]) -> ImageTypesLayout:
            wanted = replace(request.wanted, platforms=tuple(platforms))
            return stack.enter_context(laid_out(request.catalogue, request.relations, request.places, wanted))

        layout = lay_out(request.wanted.platforms)
        run = run_of(request, layout)
        options = replace(run.options, graph_for=lambda platforms: lay_out(platforms).graph)
        yield layout, replace(run, options=options)


def run_of(request: ImageTypesRequest, layout: ImageTypesLayout) -> BuildRequest:
    """Return the run of a layout."""
    publishes = request.wanted.purpose is Purpose.PUBLISH
    options = replace(
        request.options, tolerance=layout.tolerance, push=publishes, load=request.options.load and not publishes
    )
    return BuildRequest(graph=layout.graph, settings=request.settings, options=options)


def warnings(request: ImageTypesRequest, layout: ImageTypesLayout) -> tuple[str, ...]:
    """Return warnings to show before anything is done."""
    manifests = {image.manifest.shown for image in layout.images.values()}
    notes = (*request.catalogue.notes, *request.relations.loose)
    texts = [f"{problem.where}: {problem.message}. {problem.hint}" for problem in notes if problem.path in manifests]
    for name in sorted(request.wanted.chosen.difference(layout.stopped)):
        if not request.catalogue.images[name].is_public or request.wanted.purpose is Purpose.PUBLISH:
            continue
        for path in private_bases(name, request.catalogue, request.relations, request.places):
            chain = " of ".join(path)
            texts.append(f"{name} is public, but based on a private image ({chain}): publishing it needs {ALLOW}")
    return tuple(texts)


# Update ---------------------------------------------------------------------------------------------------------------


class Renewed(Struct, frozen=True, kw_only=True):
    """The result of an update: the layout without images that were never created, and what is published elsewhere."""

    layout: ImageTypesLayout
    planned: PlannedRun
    published: Mapping[StepId, RemoteImage] = field(default_factory=dict)
    """Published images with the keys of these steps."""
    never: tuple[str, ...] = ()
    """Chosen images that were never created."""


def renewed(request: ImageTypesRequest, layout: ImageTypesLayout, session: Session, *, pull: bool) -> Renewed:
    """Find what is out of date. `pull`: copy images that are published up to date into the chain registry.

    Errors: those of the chain registry. The registries that images are published to may be unreachable.
    """
    published: dict[StepId, RemoteImage] = {}
    run = run_of(request, layout)
    while True:
        planned = plan_run(run.graph, session, run.options)
        more = {
            decision.step.id: image
            for decision in planned.plan.builds
            if decision.step.id not in published and (image := _published(request, layout, session, decision))
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
    if target is None or decision.components is None or request.options.renewal.refresh or request.options.outdated:
        return None
    try:
        return published_as(
            session.registries, target.with_tag(image.tag), decision.step.platform, decision.components.key
        )
    except RegistryError as error:
        session.warn(f"could not query {target}: {error.message}")
        return None


def _parents(planned: PlannedRun, decision: Decision) -> Mapping[str, str]:
    records = {decision.step.id: decision.cached_record for decision in planned.plan.decisions}
    return {
        image.name: record.key
        for image in decision.step.images
        if (parent := image.from_step) is not None and (record := records[parent])
    }


def _cut(
    request: ImageTypesRequest, layout: ImageTypesLayout, planned: PlannedRun, published: Mapping[StepId, RemoteImage]
) -> Renewed:
    """Remove images that were never built here and are not published: only `create` builds those."""
    existing = {
        layout.images[decision.step.id].id
        for decision in planned.plan.decisions
        if decision.cached_record or decision.previous_record or decision.step.id in published
    }
    kept = request.relations.with_bases(existing)
    chains = tuple(chain for chain in layout.graph.chains if layout.images[chain.last.id].id in kept)
    steps = {chain.last.id for chain in chains}
    plan = replace(
        planned.plan,
        graph=replace(layout.graph, chains=chains),
        decisions=tuple(decision for decision in planned.plan.decisions if decision.step.id in steps),
    )
    return Renewed(
        layout=replace(layout, graph=plan.graph),
        planned=replace(planned, plan=plan),
        published=published,
        never=tuple(sorted(request.wanted.chosen.difference(kept, layout.stopped))),
    )


# Publish --------------------------------------------------------------------------------------------------------------


def check_published(request: ImageTypesRequest, layout: ImageTypesLayout, session: Session) -> PlannedRun:
    """Check that the images to publish are up to date and not based on an image labelled private.

    Errors: `WrongUseError`.
    """
    run = run_of(request, layout)
    planned = plan_run(run.graph, session, run.options)
    problems = [_outdated(layout, decision) for decision in planned.plan.builds]
    if not request.allow_private_base:
        problems += _labelled_private(layout, planned)
    if problems:
        raise WrongUseError(problems)
    return planned


def _outdated(layout: ImageTypesLayout, decision: Decision) -> Problem:
    image = layout.images[decision.step.id]
    state = "is out of date" if decision.previous_record else "was not created"
    return image.problem(
        f"{image.id} {state} for {decision.step.platform}: {decision.reason}",
        f"Nothing was published. Run chainbuild types build '{image.id}' first.",
    )


def _labelled_private(layout: ImageTypesLayout, planned: PlannedRun) -> list[Problem]:
    """Return public images that are based on an image from elsewhere whose label says that it is private."""
    problems: list[Problem] = []
    # An image of this repository in between does not make it public.
    tainted: dict[StepId, str] = {}
    for step in layout.graph:
        image = layout.images[step.id]
        for parent in step.images:
            if parent.from_step is not None:
                private = tainted.get(parent.from_step, "")
            else:
                config = planned.found[str(parent.source), parent.platform.oci].image.config
                private = parent.name if config.label(VISIBILITY_LABEL) == PRIVATE else ""
            if private:
                tainted[step.id] = private
        if step.id in tainted and image.is_public:
            message = f"{image.id} is public, but based on {tainted[step.id]}, whose label says that it is private"
            hint = f"Use another base image, or {ALLOW} if all of its content may be public."
            problems.append(image.problem(message, hint, "visibility"))
    return problems
