"""The builds that failed in the last run of a tree, for `chainbuild debug`.

They are stored in the user's state folder, not in the tree, under a name made from the tree's path, because they contain
the values of build args. Of secrets, only the sources are stored.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct, field, json

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.dockerfile import parse
from chainbuild.dockerfile.cut import find_place
from chainbuild.dockerfile.evaluation import foreign_frontend
from chainbuild.errors import BuildFailedError, NotReadyError, WrongUseError
from chainbuild.execution.outcome import FAILED_BUILDS, RunOutcome
from chainbuild.execution.session import Settings
from chainbuild.host.folders import is_scratch
from chainbuild.host.user_folders import private_folder, read_private, state_home, tree_file, write_private
from chainbuild.references import ChainRegistry
from chainbuild.step_id import StepId
from chainbuild.values import decode_json, replace

_LARGEST: Final = 1 << 26


class FailedBuild(Struct, frozen=True, kw_only=True):
    """A build that failed at an instruction.

    `source` is the Dockerfile as it was, and `line` the line of the instruction in it. `below` are the builds of the same
    solve that it was linked to, lowest first.
    """

    spec: BuildSpec
    below: tuple[BuildSpec, ...] = ()
    source: bytes
    line: int


class FailedRun(Struct, frozen=True, kw_only=True):
    """The failed builds of a run, and where it built."""

    registry: ChainRegistry | None = None
    """The chain registry; None for the managed one, on `port`."""
    port: int
    builders: Mapping[str, str] = field(default_factory=dict)
    builds: tuple[FailedBuild, ...] = ()

    def settings(self, root: Path) -> Settings:
        """Return the settings of the run."""
        return Settings(root=root, registry=self.registry, port=self.port, builders=self.builders)


def save_failed_builds(settings: Settings, outcome: RunOutcome) -> None:
    """Save what failed in a run, and note in each error how to debug it. Nothing is left of the run before.

    If the file cannot be written, the errors stay as they are.
    """
    builds = {
        step: built for step in sorted(outcome.failed_builds) if (built := _failed_build(outcome, step)) is not None
    }
    run = FailedRun(
        registry=settings.registry,
        port=settings.port,
        builders=settings.builders,
        builds=tuple(builds.values()),
    )
    try:
        path = tree_file(FAILED_BUILDS, settings.root)
        if not builds:
            path.unlink(missing_ok=True)
            return
        private_folder(state_home())
        private_folder(path.parent)
        write_private(path, json.encode(run, enc_hook=str), durable=False)
    except (NotReadyError, OSError):
        return
    place = "" if os.path.realpath(settings.root) == str(Path.cwd()) else f"-C {shlex.quote(str(settings.root))} "
    names = [step.short_name for step in builds]
    for step, build in builds.items():
        error = outcome.failures[step]
        name = step.short_name if names.count(step.short_name) == 1 else str(step)
        if isinstance(error, BuildFailedError):
            error.debug = f"chainbuild debug {place}{name}"
            if is_scratch(build.spec.context):
                error.debug = "run the command again with --debug"


def load_failed_run(root: Path) -> FailedRun | None:
    """Return the failed builds of the last run in the tree; None if nothing failed."""
    with suppress(NotReadyError, OSError, ValueError, RecursionError):
        raw = read_private(tree_file(FAILED_BUILDS, root), _LARGEST)
        return decode_json(raw, FailedRun, make=lambda kind, text: kind(text)) if raw else None
    return None


def _failed_build(outcome: RunOutcome, step: StepId) -> FailedBuild | None:
    """Return the failed build of a step; None if no instruction failed, or it was built from files that are gone."""
    error = outcome.failures.get(step)
    if not isinstance(error, BuildFailedError) or not error.line:
        return None
    *below, spec = (replace(spec, image="") for spec in outcome.failed_builds[step])
    try:
        source = spec.dockerfile.read_bytes() if spec.source is None else spec.source
        dockerfile = parse(source, spec.shown)
        find_place(dockerfile, error.line)
    except (OSError, WrongUseError):
        return None
    if not spec.context.is_dir() or foreign_frontend(dockerfile, dict(spec.args)):
        return None
    return FailedBuild(spec=spec, below=tuple(below), source=source, line=error.line)
