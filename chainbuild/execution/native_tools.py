"""The native tools of a run: what the executor asks of them, and a run without any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from chainbuild.builder.build_spec import BuildSpec
    from chainbuild.model import Step
    from chainbuild.planning.decisions import Decision
    from chainbuild.step_id import StepId


class NativeTools(Protocol):
    """The native tools of a run's steps, implemented by `acceleration.Acceleration`."""

    @property
    def texts(self) -> Mapping[StepId, str]:
        """Why steps are native or emulated, for those where it matters."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What is planned for the tools that are not there yet."""

    def make_tools(self) -> Iterable[str]:
        """Make the tools that do not exist yet. Yield what went wrong."""

    def applied(self, step: Step, spec: BuildSpec, /) -> BuildSpec:
        """Return the specification of a step's build with the native tools in it, if it gets any."""

    def verdicts(self, step: Step, /) -> Mapping[str, str]:
        """Return what a checked build compared. Errors: those of a build."""

    def notes(self, step: Step, /) -> Mapping[str, str]:
        """Return the notes of a record about the tools that its build used."""


class NoNativeTools:
    """Builds stay as they are."""

    texts: Mapping[StepId, str] = {}
    decisions: tuple[Decision, ...] = ()

    def make_tools(self) -> Iterable[str]:
        """Make nothing."""
        return ()

    def applied(self, _step: Step, spec: BuildSpec, /) -> BuildSpec:
        """Return the specification unchanged."""
        return spec

    def verdicts(self, _step: Step, /) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def notes(self, _step: Step, /) -> Mapping[str, str]:
        """Return nothing."""
        return {}
