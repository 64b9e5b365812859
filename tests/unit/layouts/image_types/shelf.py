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

from chainbuild.errors import Problem
from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.run_plan import plan_run
from chainbuild.layouts.image_types import roots
from chainbuild.layouts.image_types.graph import ImageTypesLayout, Purpose
from chainbuild.operations.image_types import Renewed, check_published, prepared, renewed, run_of
from chainbuild.planning.decisions import Plan
from chainbuild.records.garbage import is_readable
from chainbuild.requests.build import BuildRequest
from chainbuild.requests.image_types import (
    ImageTypeOptions,
    ImageTypesOverview,
    ImageTypesRequest,
    read_image_types,
    read_overview,
)
from chainbuild.values import replace
from tests.support.world import CHAIN, Surroundings
from tests.support.world.trees import write_files

PUBLIC, PRIVATE = "public.example:5000/acme", "private.example:5000"


class Shelf(Surroundings):
    """A home with image types, and a public and a private registry besides the chain registry."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.home = home
        self.driver.copies_context = True
        self.user = home / ".config/casa-distro/docker"
        self.old = home / ".casa-distro/docker"
        self.repository = home / "casa_distro/share/docker"
        self.built_in = home / "built-in"
        self.built_in.mkdir(parents=True)
        self.environ = {"HOME": str(home)}
        self.words = ImageTypeOptions(root=home, platform="amd64", registry=CHAIN, public=PUBLIC, private=PRIVATE)
        self.base("debian:1", "first")

    # Sources ----------------------------------------------------------------------------------------------------------

    def base(self, name: str, content: str, host: str = "", **config: Any) -> None:
        """Set the content of an external image."""
        self.external(f"{host}{name}", content, **config)

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
        write_files(folder, written | dict(files or {}))
        return folder

    # Requests, plans and runs -----------------------------------------------------------------------------------------

    def look(self, *globs: str, **words: Any) -> ImageTypesOverview:
        with patch.object(roots, "shipped", lambda _: self.built_in):
            return read_overview(replace(self.words, globs=globs, **words), self.environ)

    def problems(self, *globs: str, **words: Any) -> tuple[Problem, ...]:
        """Return the problems of all images, each once, in the order of the places."""
        found = self.look(*globs, **words)
        return tuple(
            dict.fromkeys(item for image in found.catalogue.images for item in found.relations.problems[image])
        )

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

    def plan(self, *globs: str, purpose: str = "create", **words: Any) -> Plan:
        with self.laid(purpose, *globs, **words) as (_, _, run), self.session(run.settings) as session:
            return plan_run(run.graph, session, run.options).plan

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
            with self.session(request.settings) as session:
                found = renewed(request, layout, session, pull=pull)
            if pull and found.layout.graph.chains:
                self._run(run_of(request, found.layout), clear=False)
            return found

    def publish(self, *globs: str, **words: Any) -> RunOutcome:
        with self.laid("publish", *globs, **words) as (request, layout, run):
            with self.session(run.settings) as session:
                check_published(request, layout, session)
            return self._run(run)

    def _run(self, run: BuildRequest, *, clear: bool = True) -> RunOutcome:
        if clear:
            self.driver.orders.clear()
            self.events.clear()
        return self.build(run.graph, run.options, settings=run.settings)

    @property
    def built(self) -> list[str]:
        """Return the images that the last run built, in order."""
        return [step.name for step in self.driver.built]

    def tags(self, place: str) -> set[str]:
        """Return every `repository:tag` of a registry, without machine data."""
        host = place.partition("/")[0]
        return {f"{name}:{tag}" for name, tag in self.fake.host(host).tags if is_readable(tag)}

    def holds(self, place: str) -> set[bytes]:
        """Return the contents of all blobs and manifests of a registry."""
        host = self.fake.host(place.partition("/")[0])
        return set(host.blobs.values())
