"""For generated trees, histories and registries: what a plan says is what the build then does."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainbuild.model import Graph
from tests.support.world import AMD64, ARM64, REPOSITORY, STAGES, World

OPTIONS = ("one", "two")
HEAD = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"


@st.composite
def trees(draw: st.DrawFn) -> dict[str, str]:
    """One or two options of one to three steps, some with an arg, some with files."""
    files = dict(STAGES) | {"src/a": "a"}
    for option in OPTIONS[: draw(st.integers(1, 2))]:
        for number in range(10, 10 * draw(st.integers(2, 4)), 10):
            name = f"{option}/{number}-Dockerfile-s{number}"
            files[name] = HEAD + draw(st.sampled_from(["RUN make\n", "ARG CPU\nRUN make\n", "COPY src/ /src/\n"]))
            files[name] += f"RUN {option} {number}\n"
            if "ARG CPU" in files[name]:
                files[f"{option}/s{number}-amd64-args"] = "CPU=1\n"
                files[f"{option}/s{number}-aarch64-args"] = "CPU=1\n"
    return files


SAME_CONTENT = ("comment", "forget image", "forget record")
"""After these a step is rebuilt with the content that it had, which ends the rebuild: no plan can know that."""
EDITS = (
    *SAME_CONTENT,
    "dockerfile",
    "arg",
    "file",
    "base",
    "stage",
    "no indexes",
    "other tag",
    "other repository",
    "other user",
)


def edit(world: World, kind: str, choice: int) -> None:
    """Change the tree, the registry or the user."""
    dockerfiles = sorted(path for path in world.root.glob("*/*-Dockerfile-*"))
    chosen = dockerfiles[choice % len(dockerfiles)]
    match kind:
        case "dockerfile":
            chosen.write_text(chosen.read_text() + f"RUN edit {choice}\n")
        case "comment":
            chosen.write_text(f"# edit {choice}\n" + chosen.read_text())
        case "arg":
            for path in world.root.glob("*/*-amd64-args"):
                path.write_text(f"CPU={choice}\n")
        case "file":
            world.write({"src/a": f"edit {choice}"})
        case "base":
            world.base(f"edit {choice}")
        case "stage":
            path = world.root / "utilities/Dockerfile-minimize"
            path.write_text(path.read_text() + f"LABEL edit={choice}\n")
        case "forget image" | "forget record":
            prefix = "v1-" if kind == "forget image" else "k1-last-"
            names = sorted(
                tag for repository, tag in world.host.tags if repository == REPOSITORY and tag.startswith(prefix)
            )
            if names:
                world.host.forget(world.host.tags[REPOSITORY, names[choice % len(names)]])
        case "no indexes":
            world.drop_indexes()
        case "other tag":
            world.tag = f"v{choice}"
        case "other repository":
            world.repo = "team/other"
        case "other user":
            world.sign_as(2)


@given(
    trees(),
    st.sampled_from([(AMD64,), (AMD64, ARM64)]),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(EDITS), st.integers(2, 9)), max_size=3),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_build_does_what_the_plan_says_and_a_second_plan_reuses_all(
    files: dict[str, str], platforms: tuple[object, ...], has_history: bool, edits: list[tuple[str, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.write(files)
        options = [option for option in OPTIONS if (world.root / option).is_dir()]

        def graph() -> Graph:
            return world.graph(platforms, options)  # type: ignore[arg-type]

        if has_history:
            assert world.run(graph()).succeeded
        for kind, choice in edits:
            edit(world, kind, choice)
        world.begin_again()
        plan = world.plan(graph())
        assert world.fake.counted("PUT") == world.fake.counted("POST") == 0, "a plan writes nothing"
        planned = [decision.step.id for decision in plan.builds]
        outcome = world.run(graph())
        assert outcome.succeeded, outcome.failures
        if any(kind in SAME_CONTENT for kind, _ in edits):
            assert set(world.driver.built) <= set(planned)
        else:
            assert sorted(world.driver.built) == sorted(planned)
        built = {step for step, result in outcome.results.items() if result.built}
        assert built == set(world.driver.built)
        assert sorted(world.reused) == sorted(set(outcome.results) - built)
        assert all(need in outcome.results for step in outcome.results.values() for need in step.step.needs)
        assert not world.plan(graph()).builds
        world.begin_again()
        assert world.run(graph()).succeeded
        assert world.driver.orders == []
