"""A builder in memory.

The builder's image is a function of the Dockerfile's bytes, the args and the input images: equal inputs give equal content,
different inputs give different content.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chainbuild.builder.build_spec import BuildResult, BuildSpec, ImageStands, SolveEvent, SolveFailed
from chainbuild.builder.builders import BuilderInfo
from chainbuild.builder.buildx import BuildxDriver
from chainbuild.errors import BuildFailedError, ChainbuildError
from chainbuild.events import Emit, LogLine
from chainbuild.images.resolver import EMPTY, empty_image
from chainbuild.native.probe import PROBE
from chainbuild.records.labels import identity_of
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.fake_registry import FakeRegistry
from tests.support.tars import tar

GOOD_PROOF = {"findings": [], "elf": {"checked": 3}, "bytes": 1000, "seconds": 0.1}
TRACE = "Dockerfile-trace"
NATIVE = "Dockerfile-native"
LOG_OF_NATIVE_TOOLS = "chainbuild's Dockerfile for the log of native tools"


def failed(step: StepId) -> BuildFailedError:
    return BuildFailedError(f"{step}: RUN make exited with code 2", where="10-Dockerfile-base:3")


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
    copies_context: bool = False
    """True if every file of the context is in the image; otherwise those of `src/` if the Dockerfile copies it."""
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
    tools: str = "native binutils 2.44-3\nnative gcc 14.2.0-19\n"
    """What the images of native tools say about themselves (`/versions`)."""
    compiled_tools: str = tools
    """The same of those with compilers from source."""
    native_log: str = ""
    """What `--native=check` has written when it is read."""
    starts_native: bool = True
    """True if it starts native programs in builds for other platforms."""
    own_platforms: frozenset[str] = frozenset({"linux/amd64"})
    """The platforms of the builder's machines."""
    changes: dict[StepId, dict[str, Any]] = field(default_factory=dict)
    """Additional config of the images of steps, by step id."""
    can_link: bool = True
    """True if the builder can build several steps in one solve."""
    solves: list[list[StepId]] = field(default_factory=list)
    """The steps of each solve of several."""
    blames: Callable[[StepId, int], int | None] = lambda _step, place: place
    """Returns the place of the build that a failed solve blames, from the failed step and its place."""
    transient: set[StepId] = field(default_factory=set)
    """The steps whose failure in a solve is not their own."""
    after_push: Callable[[BuildSpec], None] = lambda _: None
    """Called when the image of a solve was pushed, before the run knows of it."""
    pushes: dict[StepId, Digest] = field(default_factory=dict)
    """The images that a solve pushes instead of those that belong there, by step."""
    ends_with: ChainbuildError | None = None
    """The failure of every solve after its last image."""
    loads: list[tuple[BuildSpec, ...]] = field(default_factory=list)
    """The builds of images for the local store."""
    fails_to_load: dict[StepId, ChainbuildError] = field(default_factory=dict)
    prints: tuple[str, ...] = ()
    """The output of these builds."""
    stopped: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the builds are asked to stop."""
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

    def clear(self) -> None:
        """Forget what was built, and fail no more."""
        self.orders.clear()
        self.fails.clear()
        self.solves.clear()
        self.fails_tests.clear()
        self.texts.clear()

    def build(self, spec: BuildSpec, emit: Emit) -> BuildResult:
        if spec.shown == PROBE:
            if not self.starts_native:
                raise failed(spec.step)
            return BuildResult(digest=None, seconds=0.1)
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
        if spec.export is not None and spec.shown == LOG_OF_NATIVE_TOOLS:
            self.texts.append(spec.dockerfile.read_text())
            spec.export.mkdir()
            (spec.export / "report").write_text(self.native_log)
            return BuildResult(digest=None, seconds=0.1)
        if spec.export is not None:
            report = dict(self.proof) | {"sizes": {"minimized": 10, "chain": 1000}}
            if self.has_report or spec.target != "report":
                (spec.export / "report.json").write_text(json.dumps(report))
            if self.bill:
                (spec.export / "sbom.spdx.json").write_bytes(self.bill)
            return BuildResult(digest=None, seconds=0.1)
        return BuildResult(digest=self._push(spec).digest, seconds=1.0)

    def links(self, platform: Platform) -> bool:
        return self.can_link

    def solve(
        self, specs: Sequence[BuildSpec], emit: Emit, begins: Callable[[int], None]
    ) -> Generator[SolveEvent, None, None]:
        """Build one after the other, each when the image of the one before it was finished."""
        with self.lock:
            self.solves.append([spec.step for spec in specs])
        below = ""
        for place, spec in enumerate(specs):
            if place == 0:
                begins(place)
            assert bool(spec.parent) == bool(place)
            args = tuple((name, below if value == spec.parent and below else value) for name, value in spec.args)
            try:
                result = self.build(replace(spec, args=args), emit)
            except ChainbuildError as error:
                yield SolveFailed(
                    place=self.blames(spec.step, place), error=error, transient=spec.step in self.transient
                )
                return
            assert result.digest is not None
            below = ImageReference.parse(spec.image).with_digest(result.digest).pinned
            if place + 1 < len(specs):
                begins(place + 1)
                emit(LogLine(step=specs[place + 1].step, vertex="", text="early"))
            self.after_push(spec)
            yield ImageStands(place=place, digest=self.pushes.get(spec.step, result.digest))
        if self.ends_with is not None:
            yield SolveFailed(place=None, error=self.ends_with, transient=True)

    def load(self, specs: Sequence[BuildSpec], emit: Emit) -> None:
        self.loads.append(tuple(specs))
        if specs[-1].step in self.fails_to_load:
            raise self.fails_to_load[specs[-1].step]
        for text in self.prints:
            emit(LogLine(step=specs[-1].step, vertex="", text=text))

    def stop(self) -> None:
        self.stopped += 1
        self.stopping.set()

    def command(self, spec: BuildSpec) -> tuple[str, ...]:
        return BuildxDriver().command(spec)

    def inspect(self, platform: Platform) -> BuilderInfo:
        return BuilderInfo(
            name="fake",
            driver="docker-container",
            platforms=("linux/amd64", "linux/arm64"),
            status="running",
            own_platforms=self.own_platforms,
        )

    def _push(self, spec: BuildSpec) -> RemoteImage:
        parent = self._parent(spec)
        text = self.content(spec) if self.content else self._inputs(spec)
        added = [text.encode(self.encoding)]
        if spec.dockerfile.name == NATIVE:
            versions = self.compiled_tools if spec.target == "compiled" else self.tools
            added.append(gzip.compress(tar({"versions": versions.encode()}), mtime=0))
        below = [self._blob(parent.reference, layer) for layer in parent.layers] if parent else []
        config = parent.config if parent else empty_image(spec.platform).image.config
        with self.lock:
            return self.fake.add_image(
                spec.image,
                spec.platform,
                layers=[*below, *added],
                **{"env": config.env, "cmd": config.cmd, "entrypoint": config.entrypoint, "labels": config.labels}
                | self.changes.get(spec.step, {}),
            )

    def _parent(self, spec: BuildSpec) -> RemoteImage | None:
        """Return the image that a build extends; None for the empty image."""
        args = dict(spec.args)
        named = args.get("PRODUCTION_IMAGE") if "MINIMIZED_IMAGE" in args else args.get("BASE_IMAGE")
        pinned = [value for value in (*args.values(), *(pin.reference for pin in spec.pins)) if "@sha256:" in value]
        reference = named or next(iter(pinned), EMPTY)
        return None if reference == EMPTY else self._resolved(reference, spec.platform)

    def _inputs(self, spec: BuildSpec) -> str:
        """Return everything that the build reads, as text."""
        dockerfile = _without_comments(spec.dockerfile.read_text())
        arguments = {name: self._content(value, spec.platform) for name, value in sorted(spec.args)}
        pins = [self._content(pin.reference, spec.platform) for pin in spec.pins]
        folder = spec.context if self.copies_context else spec.context / "src"
        copies = self.copies_context or "COPY src" in dockerfile
        files = [
            (path.relative_to(folder).as_posix(), path.read_text())
            for path in sorted(folder.rglob("*") if copies else ())
            if path.is_file()
        ]
        return json.dumps([dockerfile, arguments, pins, files])

    def _blob(self, reference: ImageReference, layer: Descriptor) -> bytes:
        return self.fake.host(reference.registry).blobs[reference.repository, str(layer.digest)]

    def _resolved(self, pinned: str, platform: Platform) -> RemoteImage:
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
