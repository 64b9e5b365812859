"""Graphs for tests, made of nothing but names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from chainbuild.model import Chain, Graph, ImageInput, Publication, Step, StepKind
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import StepId

REPO = ImageReference.parse("team/atom")
PLACE = ImageReference.parse("ghcr.io/robots/team/atom")
BASE = ImageReference.parse("debian:bookworm-slim")
PLATFORMS = tuple(Platform.parse(name) for name in ("amd64", "aarch64", "armv7", "i386", "riscv64", "x86-64"))


def graph_of(platforms: Sequence[Platform], options: dict[str, Sequence[int]], *, stages: bool = True) -> Graph:
    """Every option on every platform, on top of each other; an option is the numbers of its steps."""
    chains = []
    for platform in platforms:
        base: ImageReference | StepId = BASE
        for option, numbers in options.items():
            chain = _chain(option, platform, base, sorted(numbers), stages=stages)
            chains.append(chain)
            base = chain.result.id
    return Graph(repo=REPO, chains=tuple(chains))


def _chain(
    option: str, platform: Platform, base: ImageReference | StepId, numbers: Sequence[int], *, stages: bool
) -> Chain:
    def step(kind: StepKind, name: str, number: int, tag: str, *needs: ImageReference | StepId) -> Step:
        return Step(
            id=StepId.parse(f"{platform.name}/{option}/{name}"),
            kind=kind,
            name=name,
            option=option,
            number=number,
            platform=platform,
            dockerfile=Path("Dockerfile"),
            context=Path(),
            images=tuple(ImageInput(name=f"I{at}", source=need, platform=platform) for at, need in enumerate(needs)),
            repository=PLACE,
            tag=f"v1-{option}-{tag}",
        )

    steps: list[Step] = []
    for at, number in enumerate(numbers):
        name = f"{number}-s{at}"
        steps.append(step(StepKind.BUILD, name, number, name, steps[-1].id if steps else base))
    minimize = step(StepKind.MINIMIZE, "minimize", 1_000_000, "minimized", steps[-1].id)
    production = step(StepKind.PRODUCE, "production", 1_000_001, platform.name, minimize.id, steps[-1].id)
    return Chain(
        option=option,
        platform=platform,
        base=base,
        steps=tuple(steps),
        minimize=minimize if stages else None,
        production=production if stages else None,
        publication=Publication(platform=platform, index_tag=f"v1-{option}", home=PLACE),
    )


# Names that become alike when a vendor's grammar is put on them, and such that look like another job's.
_NAMES = st.sampled_from(["stock", "graphics", "a.b", "a-b", "a_b", "1st", "stock-amd64-until", "stock-index", "_"])
graphs = st.builds(
    graph_of,
    st.lists(st.sampled_from(PLATFORMS[:5]), min_size=1, max_size=4, unique=True),
    st.dictionaries(_NAMES, st.lists(st.integers(0, 500), min_size=1, max_size=6), min_size=1, max_size=4),
    stages=st.booleans(),
)
