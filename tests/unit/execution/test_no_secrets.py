"""The value of a secret appears only inside BuildKit, and its source only in argv."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild.builder.build_spec import build_spec_for
from chainbuild.builder.buildx import BuildxDriver
from chainbuild.errors import BuildFailedError
from chainbuild.planning.plan_json import plan_as_json
from chainbuild.requests.build import read_build_request
from chainbuild.requests.options import RunOptions
from chainbuild.step_id import StepId
from chainbuild.ui.failures import error_as_json
from tests.support.world import STEP, THREE_STEPS, World, failed

MOUNTED = {"stock/10-Dockerfile-base": STEP.replace("RUN make", "RUN --mount=type=secret,id=token make")}


@given(
    value=st.from_regex(r"hidden-[A-Za-z0-9+/=]{12,20}", fullmatch=True), from_file=st.booleans(), fails=st.booleans()
)
@settings(max_examples=12, deadline=None)
def test_secret_appears_nowhere(value: str, from_file: bool, fails: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder)
        world = World(root / "tree")
        world.write({**THREE_STEPS, **MOUNTED})
        (root / "place-of-it").write_text(value)
        patch.setenv("PLACE_OF_IT", value)
        place = f"src={root / 'place-of-it'}" if from_file else "env=PLACE_OF_IT"
        request = read_build_request(
            RunOptions(
                platform="amd64",
                repo="team/atom",
                tag="v1",
                base="fat:1",
                option="stock",
                production="slim:1",
                root=world.root,
                secrets=[f"id=token,{place}"],
            )
        )
        graph = request.graph
        if fails:
            world.driver.fails[StepId.parse("amd64/stock/30-venv")] = failed(StepId.parse("amd64/stock/30-venv"))
        plan = world.plan(graph)
        outcome = world.run(graph)
        pinned = {step.id: {image.name: "x@sha256:1" for image in step.images} for step in graph}
        commands = {step.id: BuildxDriver().command(build_spec_for(step, pinned[step.id])) for step in graph}
        seen = [
            repr(graph),
            repr(plan),
            repr(world.driver.orders),
            plan_as_json(plan, {}, {}),
            *(event.as_json_line() for event in world.events),
            *(repr(result.record) for result in outcome.results.values()),
            *(f"{error}{error!r}{error_as_json(error)}" for error in outcome.failures.values()),
            *(str(tag) for tag in world.host.tags),
            *(raw.decode("latin-1") for raw in world.host.blobs.values()),
            *(raw.decode("latin-1") for _, raw in world.host.manifests.values()),
            *(f"{sent.url} {sent.headers}" for sent in world.fake.requests),
        ]
        assert any(isinstance(error, BuildFailedError) for error in outcome.failures.values()) is fails
        for text in seen:
            assert value not in text
            assert "place-of-it" not in text
            assert "PLACE_OF_IT" not in text
        for command in commands.values():
            assert value not in " ".join(command)
            assert [word for word in command if "place-of-it" in word.lower().replace("_", "-")] == [
                f"id=token,{place}"
            ]
            assert command[command.index(f"id=token,{place}") - 1] == "--secret"
        assert value not in plan_as_json(plan, commands, {})
        for error in outcome.failures.values():
            assert value not in str(error_as_json(error))


def test_key_contains_the_secret_id_only() -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.write({**THREE_STEPS, **MOUNTED})
        from chainbuild.model import Secret

        world.secrets = (Secret(id="token", spec="id=token,src=/somewhere"),)
        components = world.plan().decisions[0].components
        assert components is not None
        assert components.secrets == ("token",)
        assert "somewhere" not in str(components.as_json())
