"""Build a step once more if QEMU crashed while the step ran on a foreign platform.

QEMU's crashes are often random, and hours of emulated work must not be lost to one. A program that crashes under QEMU prints
the same line as QEMU itself, so a step is tried only once more in a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from chainbuild.builder.build_spec import BuildResult, BuildSpec
from chainbuild.errors import BuildFailedError, ChainbuildError
from chainbuild.events import Emit, LogLine, Message, labelled
from chainbuild.execution.backends import SessionDriver
from chainbuild.step_id import StepId

CRASH_NOTE: Final = "qemu_crash"
"""The note in a record: the line that QEMU printed when it crashed in the try before."""


class CrashRetry:
    """Builds with a driver, and knows the steps in which QEMU crashed.

    `stopping` returns whether the run is being interrupted: then nothing is tried again.
    """

    def __init__(self, driver: SessionDriver, emit: Emit, stopping: Callable[[], bool]) -> None:
        self._driver = driver
        self._emit = emit
        self._stopping = stopping
        self._crashes: dict[StepId, str] = {}

    def build(self, spec: BuildSpec) -> BuildResult:
        """Build the image of a step. Errors: those of the driver; after a second crash, the message says so."""
        while True:
            try:
                return self._driver.build(spec, self._emit)
            except BuildFailedError as error:
                if self.tries_again(spec, error):
                    continue
                if error.emulator_crash and spec.step in self._crashes:
                    error.message = error.message.replace("QEMU crashed while", "QEMU crashed twice while", 1)
                raise

    def tries_again(self, spec: BuildSpec, error: ChainbuildError) -> bool:
        """Return whether a failed step is to be built once more, and report that."""
        crash = error.emulator_crash if isinstance(error, BuildFailedError) else ""
        if not crash or spec.step in self._crashes or self._stopping() or self._is_native(spec):
            return False
        self._crashes[spec.step] = crash
        self._tell(spec.step, crash)
        return True

    def notes(self, step: StepId) -> Mapping[str, str]:
        """Return what the record of a step keeps about a crash."""
        return {CRASH_NOTE: self._crashes[step]} if step in self._crashes else {}

    def _is_native(self, spec: BuildSpec) -> bool:
        # Imported on demand: a run that builds nothing does not need it.
        from chainbuild.builder.preflight import is_native

        return is_native(self._driver.inspect(spec.platform), spec.platform)

    def _tell(self, step: StepId, crash: str) -> None:
        text = f"QEMU crashed ({crash}); trying once more"
        self._emit(Message(level="warning", text=f"{step}: {text}"))
        # Between both tries in the log of the step.
        self._emit(LogLine(step=step, vertex="", text=labelled("warning", text), stream="stderr"))
