"""What an executor works with: the build driver, the records, and what follows a build."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from chainbuild import events
from chainbuild.builder.build_spec import BuildSpec
from chainbuild.execution.backends import SessionDriver
from chainbuild.execution.native_tools import NativeTools
from chainbuild.execution.outcome import StepResult
from chainbuild.images.provenance import Provenance
from chainbuild.images.resolver import Found
from chainbuild.model import Step
from chainbuild.planning.planner import Planner
from chainbuild.records.record import Record
from chainbuild.references import ImageReference
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from chainbuild.step_warnings import StepWarning


class RecordWriter(Protocol):
    """Interface of the record writer, implemented by `records.store.RecordStore`."""

    def write(self, repository: ImageReference, record: Record) -> None:
        """Sign a record and store it."""

    def bring(self, source: ImageReference, repository: ImageReference, record: Record) -> None:
        """Copy a recorded image and its record from another repository of the chain registry."""


class FinishedImage(Struct, frozen=True, kw_only=True):
    """An image that may be tagged: the proofs it passed, its unpacked size in bytes (0 if unknown), and notes."""

    image: RemoteImage
    verdicts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[StepWarning, ...] = ()
    unpacked: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)


class PostBuild(Protocol):
    """What happens to a step's image between its build and its tag."""

    def finish(
        self, step: Step, spec: BuildSpec, built: RemoteImage, inputs: Mapping[str, RemoteImage], trail: Provenance
    ) -> FinishedImage:
        """Apply the changes that the builder cannot make, and prove the image. Errors: `NotProvenError`."""

    def verdict_stands(self, step: Step, record: Record) -> bool:
        """Return whether the image has passed the step's current test according to its record, or there is no test."""

    def tested(self, step: Step, image: RemoteImage, record: Record, inputs: Mapping[str, RemoteImage]) -> Record:
        """Run the current tests and return the record with their verdicts. Errors: `NotProvenError`."""


class ExecutionServices(Struct, frozen=True, kw_only=True):
    """The services that a run uses; tests replace them by simple ones."""

    driver: SessionDriver
    registries: Registries
    records: RecordWriter
    planner: Planner
    finisher: PostBuild
    found: Found
    emit: events.Emit
    log_path: Callable[[StepId], Path | None] = lambda _: None
    notes: Callable[[], Mapping[str, str]] = dict
    """Notes for every record of this run: the tree's git commit, the builder."""
    clock: Callable[[], float] = time.time
    acceleration: NativeTools
    """The native tools of this run."""
    before_name: Callable[[StepResult], None] = lambda _: None
    """Called with a finished step, whose image is in the step's repository, before the readable tag is set."""
