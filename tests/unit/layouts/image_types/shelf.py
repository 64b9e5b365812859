"""Write, read, plan, build and publish image types in tests, with registries in memory.

shelf = Shelf(tmp_path)
shelf.type("run/debian", "FROM debian:1", tags=["debian"])
shelf.type("dev/debian", "FROM run:debian", dependencies=["../../run"])
shelf.create("dev:*")
assert shelf.built == ["run:debian", "dev:debian"]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from chainbuild.events import Event, Message
from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.pipeline import build_run, plan_run
from chainbuild.execution.session import Settings
from chainbuild.layouts.image_types import roots
from chainbuild.layouts.image_types.graph import ImageTypesLayout, Purpose
from chainbuild.operations.image_types import Renewed, check_published, prepared, renewed, run_of
from chainbuild.planning.decisions import Plan
from chainbuild.references import ChainRegistry
from chainbuild.registry.pool import Registries
from chainbuild.requests.build import BuildRequest
from chainbuild.requests.image_types import (
    ImageTypeOptions,
    ImageTypesOverview,
    ImageTypesRequest,
    read_image_types,
    read_look,
)
from chainbuild.values import replace
from tests.support.fake_registry import FakeRegistry
from tests.support.keys import record_store
from tests.support.world import AMD64, ARM64, CHAIN
from tests.unit.layouts.science.grove import FakeSession, LoadingStore, ScienceDriver

PUBLIC, PRIVATE = "public.example:5000/acme", "private.example:5000"


class Shelf:
    """A home with image types, a chain, a public and a private registry, and a builder in memory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.user = home / ".config/casa-distro/docker"
        self.old = home / ".casa-distro/docker"
        self.repository = home / "casa_distro/share/docker"
        self.built_in = home / "built-in"
        self.built_in.mkdir(parents=True)
        self.environ = {"HOME": str(home)}
        self.fake = FakeRegistry()
        self.registries = Registries(transport=self.fake.transport, credentials=lambda host: None)
        self.records = record_store(self.registries, CHAIN)
        self.driver = ScienceDriver(self.registries, self.fake)
        self.store = LoadingStore()
        self.events: list[Event] = []
        self.words = ImageTypeOptions(root=home, platform="amd64", registry=CHAIN, public=PUBLIC, private=PRIVATE)
        self.base("debian:1", "first")

    # Sources ----------------------------------------------------------------------------------------------------------

    def base(self, name: str, content: str, host: str = "docker.io/library/", **config: Any) -> None:
        """Set the content of an external image."""
        repository, _, tag = name.partition(":")
        images = [
            self.fake.add_image(f"{host}{repository}:{one.name}", one, layers=[content.encode()], **config)
            for one in (AMD64, ARM64)
        ]
        self.fake.add_index(f"{host}{repository}:{tag}", images)

    def type(
        self,
        spot: str,
        dockerfile: str | None = "FROM debian:1",
        *,
        root: Path | None = None,
        dependencies: Sequence[str] = (),
        sources: Sequence[Mapping[str, Any]] = (),
        files: Mapping[str, str] | None = None,
        **source: Any,
    ) -> Path:
        """Write an image type; `sources` defaults to a public image named like its folder."""
        kind, _, system = spot.partition("/")
        said = sources or [{"name": kind, "tags": [system or "latest"], "visibility": "public"} | source]
        document: dict[str, Any] = {"dependencies": list(dependencies)} if dependencies else {}
        document["image_sources"] = [dict(one) for one in said]
        text = yaml.safe_dump(document, sort_keys=False)
        written = {"casa_distro_docker.yaml": text} | ({"Dockerfile": f"{dockerfile}\n"} if dockerfile else {})
        folder = (root or self.user) / spot
        for name, content in (written | dict(files or {})).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return folder

    # Requests, plans and runs -----------------------------------------------------------------------------------------

    def look(self, *globs: str, **words: Any) -> ImageTypesOverview:
        with patch.object(roots, "shipped", lambda _: self.built_in):
            return read_look(replace(self.words, globs=globs, **words), self.environ)

    def request(self, purpose: str, *globs: str, **words: Any) -> ImageTypesRequest:
        with patch.object(roots, "shipped", lambda _: self.built_in):
            return read_image_types(replace(self.words, purpose=Purpose(purpose), globs=globs, **words), self.environ)

    @contextmanager
    def laid(
        self, purpose: str, *globs: str, **words: Any
    ) -> Iterator[tuple[ImageTypesRequest, ImageTypesLayout, BuildRequest]]:
        request = self.request(purpose, *globs, **words)
        with prepared(request) as (layout, run):
            yield request, layout, run

    @property
    def session(self) -> Any:
        settings = Settings(root=self.home, registry=ChainRegistry(CHAIN))
        return FakeSession(
            settings=settings,
            registries=self.registries,
            records=self.records,
            local=self.store,
            emit=self.events.append,
            driver=self.driver,
        )

    def plan(self, *globs: str, purpose: str = "create", **words: Any) -> Plan:
        with self.laid(purpose, *globs, **words) as (_, _, run):
            return plan_run(run.graph, self.session, run.options).plan

    def actions(self, *globs: str, **words: Any) -> dict[str, str]:
        """Return the planned action of each image, without the platform."""
        plan = self.plan(*globs, **words)
        return {decision.step.id.name: decision.action for decision in plan.decisions}

    def reasons(self, *globs: str, **words: Any) -> dict[str, str]:
        plan = self.plan(*globs, **words)
        return {decision.step.id.name: decision.reason for decision in plan.decisions}

    def create(self, *globs: str, **words: Any) -> RunOutcome:
        with self.laid("create", *globs, **words) as (_, _, run):
            return self._run(run)

    def update(self, *globs: str, pull: bool = True, **words: Any) -> Renewed:
        with self.laid("update", *globs, **words) as (request, layout, _):
            self.driver.orders.clear()
            self.events.clear()
            found = renewed(request, layout, self.session, pull=pull)
            if pull and found.layout.graph.chains:
                self._run(run_of(request, found.layout), clear=False)
            return found

    def publish(self, *globs: str, **words: Any) -> RunOutcome:
        with self.laid("publish", *globs, **words) as (request, layout, run):
            check_published(request, layout, self.session)
            return self._run(run)

    def _run(self, run: BuildRequest, *, clear: bool = True) -> RunOutcome:
        if clear:
            self.driver.orders.clear()
            self.events.clear()
        with (
            patch("chainbuild.execution.pipeline.check_builders"),
            patch("chainbuild.execution.pipeline.tree_notes", return_value={}),
        ):
            return build_run(run.graph, self.session, run.options)

    @property
    def built(self) -> list[str]:
        """Return the images that the last run built, in order."""
        return [step.name for step in self.driver.built]

    @property
    def said(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message)]

    def tags(self, place: str) -> set[str]:
        """Return every `repository:tag` of a registry, without machine data."""
        host = place.partition("/")[0]
        return {f"{name}:{tag}" for name, tag in self.fake.host(host).tags if not tag.startswith("k1-")}

    def holds(self, place: str) -> set[bytes]:
        """Return the contents of all blobs and manifests of a registry."""
        host = self.fake.host(place.partition("/")[0])
        return set(host.blobs.values())
