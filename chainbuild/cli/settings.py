"""From flags to the settings that the core works with, for the commands that need no tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chainbuild.session import Settings


def settings_from(*, root: Path, registry: str | None, port: int, builders: Sequence[str] | None = None) -> Settings:
    """The settings. Errors: `WrongUseError` with everything that is wrong with them."""
    # Late: a command's --help needs neither the tree's reader nor the plan.
    from chainbuild.command_line import Collector, read_settings
    from chainbuild.errors import WrongUseError

    collector = Collector()
    settings = read_settings(collector, root=root, registry=registry, port=port, builders=builders or ())
    if collector.problems:
        raise WrongUseError(collector.problems)
    return settings
