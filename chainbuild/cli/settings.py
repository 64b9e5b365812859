"""From flags to the settings that the core works with, for the commands that need no tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chainbuild.execution.session import Settings
from chainbuild.project.location import find_project


def settings_from(*, root: Path, registry: str | None, port: int, builders: Sequence[str] | None = None) -> Settings:
    """The settings; in a project, those of its folder, wherever in it one stands.

    Errors: `WrongUseError` with everything that is wrong with them.
    """
    # Late: a command's --help needs neither the tree's reader nor the plan.
    from chainbuild.errors import WrongUseError
    from chainbuild.parsing.option_values import ProblemCollector
    from chainbuild.requests.build import read_settings

    project = find_project(root) if root.is_dir() else None
    root = project.parent if project else root
    collector = ProblemCollector()
    settings = read_settings(collector, root=root, registry=registry, port=port, builders=builders or ())
    if collector.problems:
        raise WrongUseError(collector.problems)
    return settings
