"""Several builds in one solve: the file for bake, and whose progress is whose."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.builder.builders import BuilderInfo
from chainbuild.builder.buildx import BuildxDriver
from chainbuild.builder.linked_progress import LinkedProgress
from chainbuild.builder.solve import bake_file, target
from chainbuild.events import Event, LogLine, StepProgress
from chainbuild.model import Secret
from chainbuild.references import Digest
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import AMD64
from tests.unit.builder.rawjson import ERROR, log, vertex

DIGEST = "sha256:" + "a" * 64
STEPS = [StepId.parse(f"amd64/stock/{number}0-s") for number in (1, 2, 3)]


def spec(step: StepId, **more: Any) -> BuildSpec:
    return BuildSpec(
        step=step,
        dockerfile=Path("/tree/Dockerfile"),
        shown=f"{step.name}-Dockerfile",
        context=Path("/tree"),
        platform=AMD64,
        image="localhost:5000/team/atom:staging",
        **more,
    )


class Feed:
    """A solve of three builds that is fed by hand."""

    def __init__(self) -> None:
        self.events: list[Event | int | tuple[int, Digest]] = []
        self.progress = LinkedProgress(
            [spec(step) for step in STEPS],
            self.events.append,
            self.events.append,
            lambda place, digest: self.events.append((place, digest)),
        )
        self.progress.begin(0)

    def give(self, *parts: dict[str, Any] | str) -> Feed:
        for part in parts:
            self.progress.feed(part if isinstance(part, str) else json.dumps(part))
        return self

    def exports(self, place: int, **more: Any) -> Feed:
        return self.give(vertex(f"[step-{place}] exporting to image", f"sha256:export{place}", **more))

    def pushes(self, place: int, digest: str = DIGEST) -> Feed:
        status = {
            "id": f"pushing manifest for localhost:5000/x:y@{digest}",
            "vertex": f"sha256:export{place}",
            "completed": "2026-01-01T00:00:01Z",
        }
        self.give({"statuses": [status]})
        return self.exports(place, completed="2026-01-01T00:00:01Z")

    def lines(self) -> list[tuple[StepId, str, str]]:
        return [(event.step, event.vertex, event.text) for event in self.events if isinstance(event, LogLine)]


def test_loaded_build_is_linked_to_builds_below_it(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x")
    last = replace(spec(STEPS[1], parent="below", load="chainbuild-debug:1"), image="")
    specs = [replace(one, context=tmp_path) for one in (replace(spec(STEPS[0]), image=""), last)]
    with ExitStack() as stack:
        file = bake_file(BuildxDriver(), specs, tmp_path, stack)
        targets = json.loads(file.read_bytes())["target"]
    assert targets["step-1"]["contexts"] == {"below": "target:step-0"}
    assert [targets[name]["output"] for name in ("step-0", "step-1")] == [
        ["type=cacheonly"],
        ["type=docker,name=chainbuild-debug:1,oci-mediatypes=true"],
    ]


def test_instruction_belongs_to_the_lowest_build_that_reports_it() -> None:
    feed = Feed()
    for place in (2, 0, 1):
        feed.give(vertex(f"[step-{place} 2/3] RUN make", started=None))
    feed.give(vertex("[step-2 2/3] RUN make"), vertex("[step-0 2/3] RUN make"), log("hello\n"), log("hello\n"))
    assert feed.lines() == [(STEPS[0], "[2/3] RUN make", "hello")]
    shown = [(event.step, event.doing) for event in feed.events if isinstance(event, StepProgress)]
    assert shown == [(STEPS[0], "[2/3] RUN make")]


def test_step_begins_when_its_parent_is_exported() -> None:
    feed = Feed()
    feed.give(vertex("[step-1 2/2] RUN early", "sha256:2"), log("early\n", "sha256:2"))
    assert [event for event in feed.events if isinstance(event, int)] == [0]
    feed.exports(0)
    assert [event for event in feed.events if isinstance(event, int)] == [0, 1]


def test_image_stands_when_it_was_pushed() -> None:
    feed = Feed()
    feed.exports(0)
    assert not [event for event in feed.events if isinstance(event, tuple)]
    feed.pushes(0)
    assert [event for event in feed.events if isinstance(event, tuple)] == [(0, Digest(DIGEST))]
    feed.pushes(0)
    assert len([event for event in feed.events if isinstance(event, tuple)]) == 1


def test_failure_names_its_build_instruction_and_line() -> None:
    feed = Feed()
    feed.exports(0).pushes(0)
    for build in (2, 1):
        feed.give(vertex(f"[step-{build} 2/2] RUN make", "sha256:2"))
    feed.give(log("the reason\n", "sha256:2"))
    for build in (2, 1):
        feed.give(vertex(f"[step-{build} 2/2] RUN make", "sha256:2", error=ERROR, completed="2026-01-01T00:00:01Z"))
    feed.give(vertex("[step-2 2/2] RUN other", "sha256:3", error="context canceled"))
    feed.give("20-Dockerfile-s:7", "--------------------", "   7 | >>> RUN make", "--------------------")
    feed.give(f"ERROR: target step-2: failed to solve: {ERROR}")
    place, failure = feed.progress.failure()
    assert place == 1
    assert (failure.vertex, failure.error, failure.line) == ("[2/2] RUN make", ERROR, 7)
    assert failure.tail == ("the reason",)
    assert "step-" not in failure.text


@pytest.mark.parametrize(
    "name", ["[step-1 internal] load metadata for docker.io/library/chainbuild-parent", "[step-1] exporting to image"]
)
def test_failure_of_no_instruction_is_the_solves(name: str) -> None:
    feed = Feed()
    feed.give(vertex(name, "sha256:9", error="not found", completed="2026-01-01T00:00:01Z"))
    feed.give("ERROR: target step-1: failed to solve: not found")
    place, failure = feed.progress.failure()
    assert place is None
    assert failure.error == "failed to solve: not found"


def test_other_text_is_the_reason_of_a_solve_that_did_not_start() -> None:
    place, failure = Feed().give("unknown flag: --file").progress.failure()
    assert place is None
    assert failure.error == "unknown flag: --file"


def test_target_is_linked_to_the_one_before_it() -> None:
    driver = BuildxDriver()
    first = spec(STEPS[0], args=(("A", "${x} %{y} $z"),), target="last", secrets=(Secret(id="t", spec="id=t,env=T"),))
    made = target(driver.arguments(first), Path("/links/one"), first, 0)
    assert made == {
        "context": "/links/one",
        "dockerfile": "/tree/Dockerfile",
        "args": {"A": "$${x} %%{y} $z"},
        "contexts": {},
        "platforms": ["linux/amd64"],
        "secret": ["id=t,env=T"],
        "output": [
            ",".join(f"{key}={value}" for key, value in driver.arguments(first)["output"].items()),
        ],
        "attest": ["type=provenance,disabled=true"],
        "target": "last",
    }
    second = spec(STEPS[1], parent="chainbuild-parent-1", contexts=(("src", "/src"),))
    linked = target(driver.arguments(second), Path("/links/two"), second, 1)
    assert linked["contexts"] == {"src": "/src", "chainbuild-parent-1": "target:step-0"}
    assert "target" not in linked


@pytest.mark.parametrize(
    ("driver", "buildkit", "links"),
    [("docker", (0, 12), True), ("docker-container", (0, 12), True), ("docker-container", (0, 13), False)],
)
def test_builder_that_rewrites_times_builds_one_step_at_a_time(
    monkeypatch: pytest.MonkeyPatch, driver: str, buildkit: tuple[int, int], links: bool
) -> None:
    info = BuilderInfo(name="b", driver=driver, platforms=("linux/amd64",), status="running", buildkit=buildkit)
    monkeypatch.setattr("chainbuild.builder.buildx.inspect_builder", lambda _: info)
    assert BuildxDriver().links(AMD64) is links
    assert BuildxDriver(no_cache=True).links(AMD64) is False
