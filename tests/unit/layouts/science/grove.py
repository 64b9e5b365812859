"""Write, read, plan and run trees of science and compat layers in tests, with a builder in memory.

grove = Grove(tmp_path)
grove.science("a", "FROM debian:1", image="a")
grove.science("b", "FROM sci/a:1.0", image="b", compat="jupyter")
grove.compat("jupyter", "COPY start.sh /opt/", files={"start.sh": "…"})
outcome = grove.run()
assert grove.driver.built == ["amd64/science/a", "amd64/science/b", "amd64/compat/b-1.0"]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.events import Event, Message, RunFinished, StepReused
from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.pipeline import build_run, plan_run
from chainbuild.execution.session import Settings
from chainbuild.host.git import Git
from chainbuild.images.resolver import ImageResolver
from chainbuild.layouts.science.graph import ScienceLayout
from chainbuild.operations.science import check_releases, keep_releases, prepared
from chainbuild.planning.decisions import Plan
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.images import resolve
from chainbuild.registry.pool import Registries
from chainbuild.requests.build import BuildRequest
from chainbuild.requests.science import ScienceOptions, ScienceRequest, read_science
from chainbuild.values import replace
from tests.support.fake_registry import FakeRegistry
from tests.support.keys import record_store
from tests.support.world import AMD64, ARM64, CHAIN, FakeDriver, FakeStore

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeGit(Git):
    """A git with a single commit; `was` has the files before it, `differs` the paths changed since then."""

    def __init__(self, *, count: int = 42, edits: bool = False) -> None:
        super().__init__(Path(), self._answer)
        self.count = count
        self.edits = edits
        self.was: dict[str, str] = {}
        self.differs: tuple[str, ...] = ()
        self.unknown: tuple[str, ...] = ()
        self.none = False

    def _answer(self, arguments: Sequence[str]) -> str | None:
        if self.none:
            return None
        match list(arguments):
            case ["log", *_]:
                return "f90dbd6\n"
            case ["rev-list", *_]:
                return f"{self.count}\n"
            case ["status", *_]:
                return " M science/a/Dockerfile\n" if self.edits else ""
            case ["rev-parse", *_, "--is-shallow-repository"]:
                return "false\n"
            case ["rev-parse", *_, revision] if ":./" in revision:
                return COMMIT if revision.partition(":./")[2] in self.was else None
            case ["rev-parse", *_, revision]:
                return None if "no-such" in revision else f"{COMMIT}\n"
            case ["diff", *_]:
                return "".join(f"{name}\0" for name in self.differs)
            case ["ls-files", *_]:
                return "".join(f"{name}\0" for name in self.unknown)
            case ["cat-file", "blob", name]:
                return self.was.get(name.partition(":./")[2])
        raise AssertionError(f"git {arguments}")


class ScienceDriver(FakeDriver):
    """Build in memory: an image consists of its Dockerfile, its parents and the files of its context."""

    def _push(self, spec: BuildSpec) -> Any:
        parents = [
            resolve(self.registries, ImageReference.parse(reference), spec.platform)
            for reference in dict.fromkeys(pin.reference for pin in spec.pins)
        ]
        files = [
            (str(path.relative_to(spec.context)), path.read_text())
            for path in sorted(spec.context.rglob("*"))
            if path.is_file()
        ]
        content = [spec.dockerfile.read_text(), [str(one.config.diff_ids) for one in parents], files]
        parent = parents[0] if parents else None
        below = [self._blob(parent.reference, layer) for layer in parent.layers] if parent else []
        config = {"env": parent.config.env, "labels": parent.config.labels} if parent else {}
        with self.lock:
            return self.fake.add_image(
                spec.image,
                spec.platform,
                layers=[*below, json.dumps(content).encode()],
                **config | self.changes.get(spec.step, {}),
            )


@dataclass(frozen=True, kw_only=True)
class FakeSession:
    """The session of a run, without an engine."""

    settings: Any
    registries: Registries
    records: Any
    local: Any
    emit: Any
    driver: Any

    @property
    def chain(self) -> ChainRegistry:
        return ChainRegistry(CHAIN)

    def finder(self) -> ImageResolver:
        def no_hand_over(name: str, *_: object) -> None:
            raise AssertionError(f"{name} was handed over")

        return ImageResolver(self.records, FakeStore(), self.emit, hand_over=no_hand_over)


class LoadingStore(FakeStore):
    """A local store that records the loaded images."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def load(self, pinned: str, digest: object, platform: object, name: str) -> None:
        self.loaded.append(name)


class Grove:
    """A tree with a git, a registry and a builder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.fake = FakeRegistry()
        self.registries = Registries(transport=self.fake.transport, credentials=lambda host: None)
        self.records = record_store(self.registries, CHAIN)
        self.driver = ScienceDriver(self.registries, self.fake)
        self.git = FakeGit()
        self.store = LoadingStore()
        self.events: list[Event] = []
        self.words = ScienceOptions(root=root, platform="amd64", registry=CHAIN)
        self.base("first")

    # The tree ---------------------------------------------------------------------------------------------------------

    def base(self, content: str) -> None:
        """Set the content of the image `debian:1`."""
        for name in ("docker.io/library/debian", "quay.io/other/sci/foreign"):
            images = [
                self.fake.add_image(f"{name}:{platform.name}", platform, layers=[content.encode()])
                for platform in (AMD64, ARM64)
            ]
            self.fake.add_index(f"{name}:1", images)

    def science(
        self, name: str, dockerfile: str = "FROM debian:1", files: Mapping[str, str] | None = None, **manifest: Any
    ) -> None:
        """Write a science layer; `image` defaults to `name`."""
        self._write(f"science/{name}", dockerfile, {"image": name} | manifest, files)

    def compat(
        self, name: str, dockerfile: str = "", files: Mapping[str, str] | None = None, includes: Sequence[str] = ()
    ) -> None:
        """Write a compat layer."""
        self._write(f"compat/{name}", dockerfile, {"includes": list(includes)} if includes else {}, files)

    def _write(
        self, folder: str, dockerfile: str, manifest: Mapping[str, Any], files: Mapping[str, str] | None
    ) -> None:
        written = {"Dockerfile": dockerfile + "\n", "sciserver-image.json": json.dumps(manifest, indent=2)}
        for path, text in (written | dict(files or {})).items():
            target = self.root / folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    # Requests, plans and runs -----------------------------------------------------------------------------------------

    def request(self, **words: Any) -> ScienceRequest:
        return read_science(replace(self.words, **words), self.git)

    @contextmanager
    def laid(self, **words: Any) -> Iterator[tuple[ScienceRequest, ScienceLayout, BuildRequest]]:
        request = self.request(**words)
        with prepared(request) as (layout, run):
            yield request, layout, run

    @property
    def session(self) -> Any:
        settings = Settings(root=self.root, registry=ChainRegistry(CHAIN))
        return FakeSession(
            settings=settings,
            registries=self.registries,
            records=self.records,
            local=self.store,
            emit=self.events.append,
            driver=self.driver,
        )

    def plan(self, **words: Any) -> Plan:
        with self.laid(**words) as (request, _, run):
            check_releases(request, self.session)
            return plan_run(run.graph, self.session, run.options).plan

    def run(self, **words: Any) -> RunOutcome:
        self.driver.orders.clear()
        self.events.clear()
        with self.laid(**words) as (request, layout, run):
            check_releases(request, self.session)
            with (
                patch("chainbuild.execution.pipeline.check_builders"),
                patch("chainbuild.execution.pipeline.tree_notes", return_value={}),
            ):
                outcome = build_run(run.graph, self.session, run.options)
            keep_releases(request, self.session, layout, outcome)
        return outcome

    def actions(self, **words: Any) -> dict[str, str]:
        """Return the planned action of each step, without the platform."""
        return {decision.step.id.in_option: decision.action for decision in self.plan(**words).decisions}

    def builds(self, **words: Any) -> list[str]:
        """Return the steps that a plan builds, in order, without the platform."""
        return [name for name, action in self.actions(**words).items() if action != "reuse"]

    @property
    def built(self) -> list[str]:
        """Return the steps that the last run built, in order, without the platform."""
        return [step.in_option for step in self.driver.built]

    @property
    def reused(self) -> list[str]:
        return [event.step.in_option for event in self.events if isinstance(event, StepReused)]

    @property
    def said(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message)]

    @property
    def results(self) -> list[str]:
        (finished,) = (event for event in self.events if isinstance(event, RunFinished))
        return [result.registry_name for result in finished.results]

    def tags(self, host: str = CHAIN) -> dict[str, str]:
        """Map each readable `repository:tag` of the release repositories to its digest."""
        found = self.fake.host(host).tags.items()
        return {f"{name}:{tag}": digest for (name, tag), digest in found if "/sci/" in name or "/rel/" in name}

    def image(self, name: str) -> Any:
        """Return an image of the chain registry."""
        return resolve(self.registries, ImageReference.parse(f"{CHAIN}/{name}"), AMD64)
