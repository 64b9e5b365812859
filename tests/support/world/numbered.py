"""Trees of numbered Dockerfiles.

world = World(tmp_path)
world.write({"stock/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN one\n"})
outcome = world.run()                  # plans, builds and publishes with the real code, except for the backends
assert world.driver.built == [StepId("amd64", "stock", "10-base"), …]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chainbuild.events import Event, RunStarted
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.outcome import RunOutcome
from chainbuild.images.resolver import Found, find_all
from chainbuild.layouts import numbered
from chainbuild.model import BuildArg, Graph, Secret
from chainbuild.planning.decisions import Plan, Renewal
from chainbuild.records.garbage import is_readable
from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.registry.images import resolve
from chainbuild.step_id import StepId
from tests.support.fake_registry import FakeHost
from tests.support.world.surroundings import Surroundings
from tests.support.world.trees import AMD64, ARM64, CHAIN, REPOSITORY, write_files


class World(Surroundings):
    """A tree of numbered Dockerfiles, with a base image `fat:1` and a production image `slim:1`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.tag = "v1"
        self.repo = REPOSITORY
        self.base_name = "fat:1"
        self.production = "slim:1"
        self.build_args: tuple[BuildArg, ...] = ()
        self.build_contexts: tuple[tuple[str, str], ...] = ()
        self.secrets: tuple[Secret, ...] = ()
        self.base("first")
        self.external("slim:1", "slim", cmd=["sh"], env=[("PATH", "/bin")])

    def base(self, content: str, **changes: Any) -> None:
        """Make `fat:1` an index over images with that content; `debian:bookworm-slim` is the image that runs proofs."""
        self.external("fat:1", content, **changes)
        self.external("debian:bookworm-slim", content, **changes)

    def write(self, files: Mapping[str, str | None]) -> None:
        """Write files of the tree; None deletes a file."""
        write_files(self.root, files)

    def request(
        self,
        platforms: Sequence[Platform] = (AMD64,),
        options: Sequence[str] = ("stock",),
        **cut: Any,
    ) -> numbered.NumberedRequest:
        return numbered.NumberedRequest(
            root=self.root,
            platforms=tuple(platforms),
            repo=ImageReference.parse(self.repo),
            repository=ChainRegistry(CHAIN).place(ImageReference.parse(self.repo)),
            tag=self.tag,
            base=ImageReference.parse(self.base_name),
            options=tuple(options),
            production=ImageReference.parse(self.production),
            build_platform=AMD64,
            build_args=self.build_args,
            build_contexts=self.build_contexts,
            secrets=self.secrets,
            **cut,
        )

    def graph(self, platforms: Sequence[Platform] = (AMD64,), options: Sequence[str] = ("stock",), **cut: Any) -> Graph:
        """Read the tree. `cut` has fields of the request, as `until` and `only`."""
        return numbered.read(self.request(platforms, options, **cut))

    def inherited(self, graph: Graph) -> Graph:
        """Return the graph that a run plans: with the requests stored with its base images."""
        return self.planned(graph).plan.graph

    def found(self, graph: Graph) -> Found:
        """Return the external images of the graph."""
        with self.session() as session:
            return find_all(session.finder(), graph.external_images)

    def plan(self, graph: Graph | None = None, *, renewal: Renewal | None = None, first: int | None = None) -> Plan:
        options = ExecutionOptions(renewal=renewal or Renewal(), first=first)
        return self.planned(graph or self.graph(), options).plan

    def run(
        self,
        graph: Graph | None = None,
        *,
        jobs: int | None = 1,
        between: Callable[[], None] = lambda: None,
        log_path: Callable[[StepId], Path | None] = lambda _: None,
        **options: Any,
    ) -> RunOutcome:
        """Plan, build and publish. `between` is called after planning; `options` are those of `ExecutionOptions`."""

        def on_event(event: Event) -> None:
            if isinstance(event, RunStarted):
                between()

        return self.build(
            graph or self.graph(), ExecutionOptions(jobs=jobs, **options), on_event=on_event, log_path=log_path
        )

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
