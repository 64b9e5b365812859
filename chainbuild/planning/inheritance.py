"""What was asked of the stages below a chain holds for it, too: the graph in which that is so.

Within a run it comes from the chains below. What was asked up to an image that nobody here builds is known when that is
found (see `asked`).
"""

from __future__ import annotations

from collections.abc import Callable

from chainbuild.builder.build_spec import shown_path
from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.dockerfile.facts import declared_args
from chainbuild.dockerfile.images import all_images
from chainbuild.errors import Problem, WrongUseError
from chainbuild.host.package_data import PROGRAM, shipped
from chainbuild.layouts.stage_files import PRODUCTION, proof_dockerfile, uses_program
from chainbuild.model import Ask, Chain, Graph, ImageInput, Step, StepId, StepKind
from chainbuild.parsing.stage_args import args_for, merge, packages_for_scratch
from chainbuild.references import Platform
from chainbuild.values import replace

AsksOf = Callable[[Chain, ImageInput], tuple[Ask, ...]]
"""What was asked of the stages up to an image that is no step's, on which a chain stands."""


def with_inherited(graph: Graph, asks_of: AsksOf, *, build_platform: Platform) -> Graph:
    """Return the graph in which every chain has what was asked up to its base, and its stages the args for that.

    It is `graph` itself if nothing differs. Errors: `WrongUseError` with every `!word` that takes back nothing, and
    whatever the changed args make wrong in a stage's Dockerfile.
    """
    problems: list[Problem] = []
    chains: list[Chain] = []
    results: dict[StepId, tuple[Ask, ...]] = {}
    needed = _that_matter(graph)
    for chain in graph.chains:
        base = _base(chain) if chain.result.id in needed else None
        if base is None:
            below: tuple[Ask, ...] = ()
        elif isinstance(base.source, str):
            below = results.get(base.source, ())
        else:
            below = asks_of(chain, base)
        merged = merge(below, chain.stage_args, chain.option)
        problems += merged.problems
        changed = _with_asks(chain, merged.asks, build_platform, problems) if merged.asks != chain.asks else chain
        if changed is not chain and changed.production and _is_for_scratch(changed.production):
            problems += packages_for_scratch(changed.production.args)
        chains.append(changed)
        # Whatever of the chain the next one stands on: what was asked up to its end holds.
        results |= {step.id: changed.asks for step in changed.all_steps}
    if problems:
        raise WrongUseError(problems)
    if all(one is other for one, other in zip(chains, graph.chains, strict=True)):
        return graph
    return replace(graph, chains=tuple(chains))


def _that_matter(graph: Graph) -> frozenset[StepId]:
    """Return the results of the chains that end with stages, or that such chains stand on: of others nobody needs to know."""
    below: set[StepId] = set()
    found: set[StepId] = set()
    for chain in reversed(graph.chains):
        base = _base(chain)
        if chain.minimize or any(step.id in below for step in chain.all_steps):
            found.add(chain.result.id)
            if base is not None and isinstance(base.source, str):
                below.add(base.source)
    return frozenset(found)


def _is_for_scratch(production: Step) -> bool:
    sources = [image.source for image in production.images if image.name == PRODUCTION]
    return any(not isinstance(source, str) and source.is_scratch for source in sources)


def _base(chain: Chain) -> ImageInput | None:
    """Return the image input that a chain's first step stands on; None if it stands on nothing."""
    first = chain.steps[0] if chain.steps else None
    return next((image for image in first.images if image.name == first.parent), None) if first else None


def _with_asks(chain: Chain, asks: tuple[Ask, ...], build_platform: Platform, problems: list[Problem]) -> Chain:
    def change(step: Step | None) -> Step | None:
        return step and _stage(step, asks, build_platform, problems)

    return replace(chain, asks=asks, minimize=change(chain.minimize), production=change(chain.production))


def _stage(step: Step, asks: tuple[Ask, ...], build_platform: Platform, problems: list[Problem]) -> Step:
    """Return a stage with the args that the asks give, and the images that its Dockerfile names with these."""
    dockerfile = _dockerfile(step)
    declared = declared_args(dockerfile)
    plain = step.dockerfile.resolve() != shipped(f"utilities/Dockerfile-{step.name}").resolve()
    if step.kind is StepKind.MINIMIZE:
        plain = not uses_program(dockerfile, platform=step.platform, build_platform=build_platform)
    args = (
        *(arg for arg in step.args if arg.name not in declared),
        *args_for(asks, declared, step.option, plain=plain),
    )
    images, wrong = all_images(
        [image for image in step.images if not image.as_context or image.asked],
        [dockerfile, *([proof_dockerfile()] if step.kind is StepKind.PRODUCE else [])],
        args={arg.name: arg.value for arg in args},
        platform=step.platform,
        build_platform=build_platform,
        contexts=(*(name for name, _ in step.contexts), *(image.name for image in step.images if image.asked), PROGRAM),
        target=step.target,
    )
    problems += wrong
    return replace(step, args=args, images=images)


def _dockerfile(step: Step) -> Dockerfile:
    try:
        raw = step.dockerfile.read_bytes()
    except OSError:
        raw = b""  # the reader of step keys says what is wrong
    return parse(raw, shown_path(step.dockerfile))
