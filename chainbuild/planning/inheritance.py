"""Pass the stage settings of lower chains on to the chains above them.

Within a run, settings come from the chains below. The settings of a base image that this run does not build are read from
statements in the registry (see `images.stage_statement`).
"""

from __future__ import annotations

from collections.abc import Callable

from chainbuild import limits
from chainbuild.builder.build_spec import shown_path
from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.dockerfile.facts import declared_args
from chainbuild.dockerfile.images import all_images
from chainbuild.errors import Problem, WrongUseError
from chainbuild.host.package_data import PROGRAM, shipped
from chainbuild.layouts.stage_files import PRODUCTION, proof_dockerfile, uses_program
from chainbuild.model import Ask, Chain, Graph, ImageInput, Step, StepKind
from chainbuild.parsing.stage_args import args_for, merge, packages_for_scratch
from chainbuild.references import Platform
from chainbuild.step_id import StepId
from chainbuild.values import replace

AsksOf = Callable[[Chain, ImageInput], tuple[Ask, ...]]
"""Return the stage settings that apply up to a chain's base image, if no step of this run builds that image."""


def with_inherited(graph: Graph, asks_of: AsksOf, *, build_platform: Platform) -> Graph:
    """Return the graph in which every chain inherits the stage settings of its base, and its stages the resulting args.

    Returns `graph` itself if nothing differs. Errors: `WrongUseError` with every `!value` that removes nothing, and every
    problem that the changed args cause in a stage's Dockerfile.
    """
    problems: list[Problem] = []
    chains: list[Chain] = []
    results: dict[StepId, tuple[Ask, ...]] = {}
    needed = _relevant_results(graph)
    for chain in graph.chains:
        base = _base(chain) if chain.result.id in needed else None
        if base is None:
            below: tuple[Ask, ...] = ()
        elif base.from_step is not None:
            below = results.get(base.from_step, ())
        else:
            below = asks_of(chain, base)
        merged = merge(below, chain.stage_args, chain.option)
        problems += merged.problems
        changed = _with_asks(chain, merged.asks, build_platform, problems) if merged.asks != chain.asks else chain
        if changed is not chain and changed.production and _is_for_scratch(changed.production):
            problems += packages_for_scratch(changed.production.args)
        chains.append(changed)
        # The next chain may start from any step of this one; the settings of the whole chain apply.
        results |= {step.id: changed.asks for step in changed.all_steps}
    if problems:
        raise WrongUseError(problems)
    if all(old is new for old, new in zip(chains, graph.chains, strict=True)):
        return graph
    return replace(graph, chains=tuple(chains))


def _relevant_results(graph: Graph) -> frozenset[StepId]:
    """Return the results of the chains that have stages, and of the chains below those."""
    below: set[StepId] = set()
    results: set[StepId] = set()
    for chain in reversed(graph.chains):
        base = _base(chain)
        if chain.minimize or any(step.id in below for step in chain.all_steps):
            results.add(chain.result.id)
            if base is not None and base.from_step is not None:
                below.add(base.from_step)
    return frozenset(results)


def _is_for_scratch(production: Step) -> bool:
    sources = [image.external for image in production.images if image.name == PRODUCTION]
    return any(source is not None and source.is_scratch for source in sources)


def _base(chain: Chain) -> ImageInput | None:
    """Return the image input that a chain's first step starts from; None if it starts from nothing."""
    first = chain.steps[0] if chain.steps else None
    return next((image for image in first.images if image.name == first.parent), None) if first else None


def _with_asks(chain: Chain, asks: tuple[Ask, ...], build_platform: Platform, problems: list[Problem]) -> Chain:
    def change(step: Step | None) -> Step | None:
        return step and _stage(step, asks, build_platform, problems)

    return replace(chain, asks=asks, minimize=change(chain.minimize), production=change(chain.production))


def _stage(step: Step, asks: tuple[Ask, ...], build_platform: Platform, problems: list[Problem]) -> Step:
    """Return a stage with the args for these settings, and the images that its Dockerfile names with these args."""
    dockerfile = _dockerfile(step)
    declared = declared_args(dockerfile)
    plain = step.dockerfile.resolve() != shipped(f"utilities/Dockerfile-{step.name}").resolve()
    if step.kind is StepKind.MINIMIZE:
        plain = not uses_program(dockerfile, platform=step.platform, build_platform=build_platform)
    args = (
        *(arg for arg in step.args if arg.name not in declared),
        *args_for(asks, declared, step.option, plain=plain),
    )
    images, image_problems = all_images(
        [image for image in step.images if not image.as_context or image.asked],
        [dockerfile, *([proof_dockerfile()] if step.kind is StepKind.PRODUCE else [])],
        args={arg.name: arg.value for arg in args},
        platform=step.platform,
        build_platform=build_platform,
        contexts=(*(name for name, _ in step.contexts), *(image.name for image in step.images if image.asked), PROGRAM),
        target=step.target,
    )
    problems += image_problems
    return replace(step, args=args, images=images)


def _dockerfile(step: Step) -> Dockerfile:
    try:
        raw = limits.read_tree_file(step.dockerfile)
    except OSError:
        raw = b""  # the reader of step keys says what is wrong
    return parse(raw, shown_path(step.dockerfile))
