"""A small world for tests of plans and runs: trees in a folder, a registry in memory, and a builder that is a function.

    world = World(tmp_path)
    world.write({"stock/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN one\n"})
    outcome = world.run()                  # plans and executes with the real code, except for the builder
    assert world.driver.built == ["amd64/stock/10-base", …]

The builder's image is a function of the Dockerfile's bytes, the args and the input images: equal inputs give equal content,
different inputs give different content.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chainbuild.builder.build_spec import BuildResult, BuildSpec
from chainbuild.context.remote import RemoteContent
from chainbuild.errors import BuildFailedError
from chainbuild.events import Emit, Event, StepReused, StepSkipped
from chainbuild.execution.executor import Executor
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.pipeline import _external_facts
from chainbuild.execution.post_build import StageFinisher, proofs_stand
from chainbuild.execution.publish import publish_indexes
from chainbuild.execution.services import ExecutionServices
from chainbuild.images.local_store import LocalImage, LocalStore
from chainbuild.images.resolver import EMPTY, Found, ImageResolver, empty_image, find_all
from chainbuild.images.stage_statement_store import AskedNotes, AskedReader
from chainbuild.layouts import numbered
from chainbuild.model import BuildArg, Graph, Secret, Step
from chainbuild.planning.decisions import Plan, Renewal
from chainbuild.planning.inheritance import with_inherited
from chainbuild.planning.inputs import InputReader
from chainbuild.planning.planner import Planner, make_plan, pinned_before
from chainbuild.records.garbage import is_readable
from chainbuild.records.index import RecordIndex
from chainbuild.records.labels import identity_of
from chainbuild.references import ChainRegistry, Digest, ImageReference, Platform
from chainbuild.registry.images import resolve
from chainbuild.registry.oci import digest_of
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from tests.support.fake_registry import FakeHost, FakeRegistry
from tests.support.keys import record_store

AMD64, ARM64 = Platform.parse("amd64"), Platform.parse("aarch64")
CHAIN = "localhost:5000"
REPOSITORY = "team/atom"

STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN make\n"
STAGES = {
    "utilities/Dockerfile-minimize": (
        "ARG BASE_IMAGE\nARG PRODUCTION_IMAGE\nFROM ${BASE_IMAGE} AS chain\nFROM ${PRODUCTION_IMAGE} AS production\n"
        "FROM scratch AS minimized\nARG ADDITIONAL_FILES=\nCOPY --from=chain /opt /opt\n"
    ),
    "utilities/Dockerfile-production": (
        "ARG PRODUCTION_IMAGE\nARG MINIMIZED_IMAGE\nFROM ${MINIMIZED_IMAGE} AS minimized\nFROM ${PRODUCTION_IMAGE}\n"
        "COPY --from=minimized / /\n"
    ),
}
THREE_STEPS = {
    "stock/10-Dockerfile-base": STEP,
    "stock/20-Dockerfile-blas": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG CPU\nRUN make CPU=$CPU\n",
    "stock/20-notes.txt": "for people",
    "stock/blas-amd64-args": "CPU=HASWELL\n",
    "stock/blas-aarch64-args": "CPU=ARMV8\n",
    "stock/30-Dockerfile-venv": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY src/ /src/\nRUN make venv\n",
    "src/setup.py": "setup()\n",
    **STAGES,
}
GOOD_PROOF = {"findings": [], "elf": {"checked": 3}, "bytes": 1000, "seconds": 0.1}
TRACE = "Dockerfile-trace"


def good_trace(names: Iterable[str]) -> dict[str, Any]:
    """Return the report of passed tests without missing paths."""
    rows = [
        {"name": name, "status": "0", "produced": "", "traced": True, "paths": 7, "cut": False, "said": ""}
        for name in names
    ]
    return {"paths": 7, "tests": rows, "missing": [], "words": [], "ignored": []}


@dataclass
class FakeDriver:
    """Builds in memory. `fails` maps steps to the error they raise; `during` is called while a step builds."""

    registries: Registries
    fake: FakeRegistry
    orders: list[BuildSpec] = field(default_factory=list)
    fails: dict[StepId, BaseException] = field(default_factory=dict)
    during: Callable[[BuildSpec], None] = lambda _: None
    proof: Mapping[str, Any] = field(default_factory=lambda: dict(GOOD_PROOF))
    content: Callable[[BuildSpec], str] | None = None
    """The content of an image's own layer, in this encoding."""
    encoding: str = "utf-8"
    has_report: bool = True
    """True if the `report` target of the minimize stage has a report."""
    fails_tests: dict[StepId, BaseException] = field(default_factory=dict)
    """The steps whose tests fail, with the error that the builder raises."""
    texts: list[str] = field(default_factory=list)
    """The Dockerfiles with which tests were run."""
    bill: bytes = b""
    """The bill of materials that a proof also produces."""
    trace: Mapping[str, Any] = field(default_factory=dict)
    """The report of traced tests; by default all passed and nothing is missing."""
    changes: dict[StepId, dict[str, Any]] = field(default_factory=dict)
    """Additional config of the images of steps, by step id."""
    stopped: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def built(self) -> list[StepId]:
        """The built steps, in order of start."""
        return [spec.step for spec in self.orders if spec.export is None and spec.image]

    @property
    def traced(self) -> list[StepId]:
        """The steps whose images were traced, in order."""
        return [spec.step for spec in self.orders if spec.dockerfile.name == TRACE]

    @property
    def tested(self) -> list[StepId]:
        """The steps whose tests were run, in order."""
        return [spec.step for spec in self.tests]

    @property
    def tests(self) -> list[BuildSpec]:
        """The builds that only ran something: tests of images."""
        return [spec for spec in self.orders if spec.export is None and not spec.image]

    def build(self, spec: BuildSpec, emit: Emit) -> BuildResult:
        with self.lock:
            self.orders.append(spec)
        self.during(spec)
        if spec.export is None and not spec.image:
            self.texts.append(spec.dockerfile.read_text())
            if spec.step in self.fails_tests:
                raise self.fails_tests[spec.step]
            return BuildResult(digest=None, seconds=0.1)
        if spec.step in self.fails:
            raise self.fails[spec.step]
        if spec.export is not None and spec.dockerfile.name == TRACE:
            tests = json.loads((spec.context / "tests.json").read_bytes())
            (spec.export / "trace.json").write_text(
                json.dumps(good_trace(one["name"] for one in tests) | dict(self.trace))
            )
            return BuildResult(digest=None, seconds=0.1)
        if spec.export is not None:
            report = dict(self.proof) | {"sizes": {"minimized": 10, "chain": 1000}}
            if self.has_report or spec.target != "report":
                (spec.export / "report.json").write_text(json.dumps(report))
            if self.bill:
                (spec.export / "sbom.spdx.json").write_bytes(self.bill)
            return BuildResult(digest=None, seconds=0.1)
        return BuildResult(digest=self._push(spec).digest, seconds=1.0)

    def stop(self) -> None:
        self.stopped += 1

    def _push(self, spec: BuildSpec) -> Any:
        args = dict(spec.args)
        given = args.get("PRODUCTION_IMAGE") if "MINIMIZED_IMAGE" in args else args.get("BASE_IMAGE")
        parent = self._resolved(given, spec.platform)
        if self.content:
            text = self.content(spec)
        else:
            arguments = {name: self._content(value, spec.platform) for name, value in sorted(args.items())}
            dockerfile = _without_comments(spec.dockerfile.read_text())
            copied = [path.read_text() for path in sorted((spec.context / "src").glob("*")) if "COPY src" in dockerfile]
            text = json.dumps([dockerfile, arguments, copied])
        config = parent.config
        layers = [*(self._blob(parent.reference, layer) for layer in parent.layers), text.encode(self.encoding)]
        with self.lock:
            return self.fake.add_image(
                spec.image,
                spec.platform,
                layers=layers,
                **{"env": config.env, "cmd": config.cmd, "entrypoint": config.entrypoint, "labels": config.labels}
                | self.changes.get(spec.step, {}),
            )

    def _blob(self, reference: ImageReference, layer: Any) -> bytes:
        return self.fake.host(reference.registry).blobs[reference.repository, str(layer.digest)]

    def _resolved(self, pinned: str | None, platform: Platform) -> Any:
        assert pinned is not None
        if pinned == EMPTY:
            return empty_image(platform).image
        assert "@sha256:" in pinned, "a parent is a digest"
        return resolve(self.registries, ImageReference.parse(pinned), platform)

    def _content(self, value: str, platform: Platform) -> str:
        if "@sha256:" not in value:
            return value
        return identity_of(self._resolved(value, platform).config)


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


class FakeStore(LocalStore):
    """A local store with the given images."""

    def __init__(self, images: Mapping[str, LocalImage] | None = None) -> None:
        self.images = dict(images or {})

    def find(self, name: str) -> LocalImage | None:
        return self.images.get(name)

    def names(self) -> tuple[str, ...]:
        return tuple(self.images)


class World:
    """A tree, a registry with a base and a production image, and a builder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fake = FakeRegistry()
        self.registries = Registries(transport=self.fake.transport, credentials=lambda host: None)
        self.records = record_store(self.registries, CHAIN)
        self.driver = FakeDriver(self.registries, self.fake)
        self.events: list[Event] = []
        self.now = 1_000_000.0
        self.tag = "v1"
        self.base_name = "fat:1"
        self.notices: list[str] = []
        """The messages about requests to the stages."""
        self.build_args: tuple[BuildArg, ...] = ()
        self.build_contexts: tuple[tuple[str, str], ...] = ()
        self.secrets: tuple[Secret, ...] = ()
        self.production = "slim:1"
        self.remotes = RemoteContent(run_git=lambda *_: (1, "", "unit tests ask nobody"))
        self.base("first")
        for platform in (AMD64, ARM64):
            self.fake.add_image(
                f"docker.io/library/slim:{platform.name}",
                platform,
                layers=[b"slim"],
                cmd=["sh"],
                env=[("PATH", "/bin")],
            )
        self._index("slim")
        self.fake.host("docker.io")

    def base(self, content: str, **changes: Any) -> None:
        """Make `fat:1` an index over images with that content; `debian:bookworm-slim` is the image that runs proofs."""
        for platform in (AMD64, ARM64):
            for name in ("fat", "debian"):
                self.fake.add_image(
                    f"docker.io/library/{name}:{platform.name}", platform, layers=[content.encode()], **changes
                )
        self._index("fat")
        self._index("debian", "bookworm-slim")

    def _index(self, name: str, tag: str = "1") -> None:
        images = [
            resolve(self.registries, ImageReference.parse(f"{name}:{platform.name}"), platform)
            for platform in (AMD64, ARM64)
        ]
        self.fake.add_index(f"docker.io/library/{name}:{tag}", images)

    @property
    def host(self) -> FakeHost:
        """The chain registry."""
        return self.fake.host(CHAIN)

    def write(self, files: Mapping[str, str | None]) -> None:
        """Write files of the tree; None deletes a file."""
        for name, text in files.items():
            path = self.root / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def request(
        self, platforms: Sequence[Platform] = (AMD64,), options: Sequence[str] = ("stock",)
    ) -> numbered.NumberedRequest:
        return numbered.NumberedRequest(
            root=self.root,
            platforms=tuple(platforms),
            repo=ImageReference.parse(REPOSITORY),
            repository=ChainRegistry(CHAIN).place(ImageReference.parse(REPOSITORY)),
            tag=self.tag,
            base=ImageReference.parse(self.base_name),
            options=tuple(options),
            production=ImageReference.parse(self.production),
            build_platform=AMD64,
            build_args=self.build_args,
            build_contexts=self.build_contexts,
            secrets=self.secrets,
        )

    def graph(self, platforms: Sequence[Platform] = (AMD64,), options: Sequence[str] = ("stock",)) -> Graph:
        return numbered.read(self.request(platforms, options))

    def inherited(self, graph: Graph) -> Graph:
        """Return the graph with the requests stored with its base images, as a run does."""
        reader = AskedReader(self.records, self.found(graph), self.notices.append)
        return with_inherited(graph, reader.asks_of, build_platform=AMD64)

    def found(self, graph: Graph) -> Found:
        def no_hand_over(name: str, platform: Platform, destination: str) -> None:
            raise AssertionError(f"{name} was handed over")

        finder = ImageResolver(self.records, FakeStore(), self.events.append, hand_over=no_hand_over)
        return find_all(finder, graph.external_images)

    def planner(
        self, graph: Graph, found: Found, *, renewal: Renewal | None = None, first: int | None = None
    ) -> Planner:
        return Planner(
            self.records,
            InputReader(AMD64, remotes=self.remotes.fresh()),
            lambda step: _external_facts(step, found),
            renewal=renewal,
            pinned_steps=pinned_before(graph, first) if first is not None else None,
            clock=lambda: self.now,
            passed=proofs_stand,
        )

    def plan(self, graph: Graph | None = None, **how: Any) -> Plan:
        graph = graph or self.graph()
        return make_plan(graph, self.planner(graph, self.found(graph), **how))

    def execution(
        self,
        graph: Graph | None = None,
        *,
        jobs: int = 1,
        keep_going: bool = False,
        seconds_left: Callable[[], float] | None = None,
        strict: bool = False,
        between: Callable[[], None] = lambda: None,
        before_name: Callable[[Step, Digest], None] = lambda _step, _image: None,
        **how: Any,
    ) -> Executor:
        graph = graph or self.graph()
        found = self.found(graph)
        planner = self.planner(graph, found, **how)
        plan = make_plan(graph, planner)
        between()
        tools = ExecutionServices(
            driver=self.driver,
            registries=self.registries,
            records=self.records,
            planner=planner,
            finisher=StageFinisher(self.registries, self.driver, self.events.append),
            found=found,
            emit=self.events.append,
            clock=lambda: self.now,
            before_name=before_name,
        )
        options = ExecutionOptions(jobs=jobs, keep_going=keep_going, seconds_left=seconds_left, strict=strict)
        return Executor(plan, tools, options)

    def run_noting(self, graph: Graph | None = None) -> RunOutcome:
        """Run with the requests of lower options, and store all requests with the images, as the command does."""
        graph = self.inherited(graph or self.graph())
        index = RecordIndex(self.registries, graph.chains, self.records.keyring)
        notes = AskedNotes(
            graph, self.registries, self.records.keyring, index, notice=self.notices.append, clock=lambda: self.now
        )
        outcome = self.run(graph, before_name=notes.note)
        for chain in graph.chains:
            records = [outcome.results[step.id].record for step in chain.all_steps if step.id in outcome.results]
            index.update(chain, records, notes.made(chain))
        return outcome

    def run(self, graph: Graph | None = None, **how: Any) -> RunOutcome:
        """Plan, execute, and add existing images to the indexes."""
        graph = graph or self.graph()
        outcome = self.execution(graph, **how).run()
        finished = [chain for chain in graph.chains if chain.production and chain.result.id in outcome.results]
        publish_indexes(self.registries, finished, outcome)
        return outcome

    def begin_again(self) -> None:
        """Drop cached state; the registry keeps its content."""
        self.driver.orders.clear()
        self.driver.fails.clear()
        self.driver.fails_tests.clear()
        self.driver.texts.clear()
        self.events.clear()
        self.fake.log.clear()

    @property
    def reused(self) -> list[StepId]:
        return [event.step for event in self.events if isinstance(event, StepReused)]

    @property
    def skipped(self) -> dict[StepId, str]:
        return {event.step: event.reason for event in self.events if isinstance(event, StepSkipped)}

    def tags(self, host: FakeHost | None = None) -> dict[str, str]:
        """Return the readable tags of the chain registry's repository, with the digests they point to."""
        tags = (host or self.host).tags
        return {tag: digest for (_, tag), digest in tags.items() if is_readable(tag)}

    def identities(self) -> dict[str, str]:
        """Return the readable tags with the content they point to."""
        contents = {}
        for tag in self.tags():
            reference = ImageReference(CHAIN, REPOSITORY, tag)
            platform = ARM64 if tag.endswith("aarch64") else AMD64
            contents[tag] = str(resolve(self.registries, reference, platform).config.content_identity)
        return contents


def failed(step: StepId) -> BuildFailedError:
    return BuildFailedError(f"{step}: RUN make exited with code 2", where="10-Dockerfile-base:3")


def fake_digest(text: str) -> str:
    return digest_of(text.encode()).value
