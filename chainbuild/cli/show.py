"""How a run is shown, and whether it is only planned: the flags of every run that do not change what it does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from chainbuild.errors import WrongUseError
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.ui import Mode


class ReportFiles(Struct, frozen=True, kw_only=True):
    """The files that a run is reported in; None: not written."""

    page: Path | None = None
    trace: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.page or self.trace)

    def check(self) -> None:
        """Check before a run, which may take hours, that the files can be written. Errors: `WrongUseError`."""
        for flag, path in (("--report", self.page), ("--trace", self.trace)):
            if path is None:
                continue
            # Missing folders are created at the end of the run.
            folder = next(folder for folder in path.absolute().parents if folder.exists())
            if not folder.is_dir() or not os.access(folder, os.W_OK):
                raise WrongUseError(f"{flag}: cannot write to {folder}", hint="Name a file in another folder.")


NO_REPORTS: Final = ReportFiles()


class Show(Struct, frozen=True, kw_only=True):
    """How a run is shown, and whether it is only planned."""

    dry_run: bool = False
    json: bool = False
    plain: bool = False
    verbosity: int = 0
    fail_if_build: bool = False
    report: Path | None = None
    trace: Path | None = None
    debug: bool = False
    """Whether to start a shell at the instruction that failed, if one did."""

    def __post_init__(self) -> None:
        """Refuse reports of a run that is only planned. Errors: `WrongUseError`."""
        for flag, path in (("--report", self.report), ("--trace", self.trace)):
            if path is not None and self.dry_run:
                raise WrongUseError(f"{flag} cannot be combined with --dry-run", hint=f"Remove {flag} or --dry-run.")

    def of_science(self) -> Show:
        """Return how the science layers of a project are shown, which are built in a second run: with reports of their own."""
        return replace(self, report=_second(self.report), trace=_second(self.trace))

    @property
    def reports(self) -> ReportFiles:
        """The files that the run is reported in."""
        return ReportFiles(page=self.report, trace=self.trace)

    @property
    def mode(self) -> Mode:
        """The view of the run."""
        return "json" if self.json else "plain" if self.plain else "auto"


def _second(path: Path | None) -> Path | None:
    return path and path.with_stem(f"{path.stem}-science")
