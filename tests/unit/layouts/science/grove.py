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
from pathlib import Path
from typing import Any

from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.run_plan import plan_run
from chainbuild.host.git import Git
from chainbuild.layouts.science.graph import ScienceLayout
from chainbuild.operations.science import check_releases, keep_releases, prepared
from chainbuild.planning.decisions import Plan
from chainbuild.requests.build import BuildRequest
from chainbuild.requests.science import ScienceOptions, ScienceRequest, read_science
from chainbuild.values import replace
from tests.support.world import CHAIN, Surroundings
from tests.support.world.surroundings import without_platform
from tests.support.world.trees import write_files

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


class Grove(Surroundings):
    """A tree of science and compat layers with a git."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        root.mkdir(exist_ok=True)
        self.driver.copies_context = True
        self.git = FakeGit()
        self.words = ScienceOptions(root=root, platform="amd64", registry=CHAIN)
        self.base("first")

    # The tree ---------------------------------------------------------------------------------------------------------

    def base(self, content: str) -> None:
        """Set the content of the image `debian:1`."""
        for name in ("debian:1", "quay.io/other/sci/foreign:1"):
            self.external(name, content)

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
        write_files(self.root / folder, written | dict(files or {}))

    # Requests, plans and runs -----------------------------------------------------------------------------------------

    def request(self, **words: Any) -> ScienceRequest:
        return read_science(replace(self.words, **words), self.git)

    @contextmanager
    def laid(self, **words: Any) -> Iterator[tuple[ScienceRequest, ScienceLayout, BuildRequest]]:
        request = self.request(**words)
        with prepared(request) as (layout, run):
            yield request, layout, run

    def plan(self, **words: Any) -> Plan:
        with self.laid(**words) as (request, _, run), self.session(run.settings) as session:
            check_releases(request, session)
            return plan_run(run.graph, session, run.options).plan

    def run(self, **words: Any) -> RunOutcome:
        self.driver.orders.clear()
        self.events.clear()
        with self.laid(**words) as (request, layout, run):
            return self.build(
                run.graph,
                run.options,
                settings=run.settings,
                before=lambda session: check_releases(request, session),
                after=lambda session, outcome: keep_releases(request, session, layout, outcome),
            )

    def actions(self, **words: Any) -> dict[str, str]:
        """Return the planned action of each step, without the platform."""
        return {decision.step.id.in_option: decision.action for decision in self.plan(**words).decisions}

    def builds(self, **words: Any) -> list[str]:
        """Return the steps that a plan builds, in order, without the platform."""
        return [name for name, action in self.actions(**words).items() if action != "reuse"]

    @property
    def built(self) -> list[str]:
        """Return the steps that the last run built, in order, without the platform."""
        return without_platform(self.driver.built)

    @property
    def results(self) -> list[str]:
        return [result.registry_name for result in self.reported]

    def tags(self, host: str = CHAIN) -> dict[str, str]:
        """Map each readable `repository:tag` of the release repositories to its digest."""
        found = self.fake.host(host).tags.items()
        return {f"{name}:{tag}": digest for (name, tag), digest in found if "/sci/" in name or "/rel/" in name}
