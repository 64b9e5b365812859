"""Add the images that ONBUILD triggers read to the steps; they are known once the triggering images are resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chainbuild import limits
from chainbuild.builder.build_spec import shown_path
from chainbuild.dockerfile import Facts, ParentConfig, find_facts, parse
from chainbuild.dockerfile.results import normal_context_name
from chainbuild.errors import Problem, WrongUseError
from chainbuild.images.resolver import Found
from chainbuild.model import Graph, ImageInput, Step
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import StepId
from chainbuild.values import replace

_GIVEN = "chainbuild.invalid/"


def with_trigger_images(graph: Graph, found: Found, *, build_platform: Platform) -> Graph:
    """Return the graph in which every step also has the images that its ONBUILD triggers read as inputs.

    Errors: `WrongUseError` if such an image cannot be pinned because a stage has the same name.
    """
    problems: list[Problem] = []
    carried: dict[StepId, tuple[str, ...]] = {}
    changed: dict[StepId, Step] = {}
    for step in graph:
        triggers = {image.name: _triggers_of(image, found, carried) for image in step.images}
        if any("from=" in trigger for each in triggers.values() for trigger in each):
            facts = _facts(step, triggers, build_platform)
            inputs = tuple(_inputs(step, facts, problems))
            if inputs:
                changed[step.id] = replace(step, images=(*step.images, *inputs))
        if b"onbuild" in _raw(step).lower():
            carried[step.id] = _facts(step, triggers, build_platform).onbuild
    if problems:
        raise WrongUseError(problems)
    if not changed:
        return graph
    return replace(
        graph,
        chains=tuple(
            replace(
                chain,
                steps=tuple(changed.get(step.id, step) for step in chain.steps),
                minimize=chain.minimize and changed.get(chain.minimize.id, chain.minimize),
                production=chain.production and changed.get(chain.production.id, chain.production),
            )
            for chain in graph.chains
        ),
    )


def _triggers_of(image: ImageInput, found: Found, carried: Mapping[StepId, tuple[str, ...]]) -> tuple[str, ...]:
    if image.from_step is not None:
        return carried.get(image.from_step, ())
    resolved = found.get((str(image.source), image.platform.oci))
    return resolved.image.config.on_build if resolved else ()


def _raw(step: Step) -> bytes:
    if step.text is not None:
        return step.text
    try:
        return limits.read_tree_file(step.dockerfile)
    except OSError:
        return b""  # the reader of step keys says what is wrong


def _facts(step: Step, triggers: Mapping[str, tuple[str, ...]], build_platform: Platform) -> Facts:
    """Return what the step reads because of its triggers. Environment variables of its images are ignored."""
    args = {arg.name: arg.value for arg in step.args}
    parents: dict[tuple[str, str], ParentConfig] = {}
    for image in step.images:
        name = image.written if image.as_context else f"{_GIVEN}{image.name.lower()}"
        if not image.as_context:
            args[image.name] = name
        parents[normal_context_name(name) if image.asked else name, image.platform.oci] = ParentConfig(
            onbuild=triggers[image.name]
        )
    return find_facts(
        parse(_raw(step), step.shown or shown_path(step.dockerfile)),
        args=args,
        target=step.target,
        target_platform=step.platform,
        build_platform=build_platform,
        contexts=(*(name for name, _ in step.contexts), *(image.name for image in step.images if image.asked)),
        parents=parents,
    )


def _inputs(step: Step, facts: Facts, problems: list[Problem]) -> Iterator[ImageInput]:
    shown = step.shown or shown_path(step.dockerfile)
    known = {image.written for image in step.images}
    stages = {stage.name: stage.line for stage in parse(_raw(step), shown).stages if stage.name}
    for use in facts.images:
        if use.place is not None or use.reference in known:
            continue
        known.add(use.reference)
        stage = normal_context_name(use.reference)
        try:
            source = ImageReference.parse(use.reference)
        except WrongUseError as error:
            problems += [replace(each, path=shown, line=use.line) for each in error.problems]
            continue
        if stage in stages:
            message = f"the stage {stage!r} is called like the image {use.reference!r}, which an ONBUILD trigger reads"
            hint = "Give the stage another name: the image could only be pinned in a way that replaces the stage."
            problems.append(Problem(path=shown, line=stages[stage], message=message, hint=hint))
            continue
        yield ImageInput(
            name=use.reference,
            source=source,
            platform=step.platform,
            as_context=True,
            by_trigger=True,
            origin=f"{shown}:{use.line}",
        )
