"""How a run is shown, and whether it is only planned: the flags of every run that do not change what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from chainbuild.ui import Mode


class Show(Struct, frozen=True, kw_only=True):
    """How a run is shown, and whether it is only planned."""

    dry_run: bool = False
    json: bool = False
    plain: bool = False
    verbosity: int = 0
    fail_if_build: bool = False

    @property
    def mode(self) -> Mode:
        """The view of the run."""
        return "json" if self.json else "plain" if self.plain else "auto"
