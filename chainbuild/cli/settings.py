"""Settings from flags, for the commands that read no tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chainbuild.execution.session import Settings
from chainbuild.project.location import find_project


def settings_from(
    *, root: Path, registry: str | None, port: int | None = None, builders: Sequence[str] | None = None
) -> Settings:
    """Return the settings. Inside a project, they are those of the project's folder.

    Errors: `WrongUseError` with every problem of the flags.
    """
    # Imported late, so that a command's --help loads neither the reader of trees nor the planner.
    from chainbuild.errors import WrongUseError
    from chainbuild.parsing.option_values import ProblemCollector
    from chainbuild.requests.build import session_settings
    from chainbuild.requests.options import SessionOptions

    project = find_project(root) if root.is_dir() else None
    root = project.parent if project else root
    collector = ProblemCollector()
    options = SessionOptions(root=root, registry=registry, port=port, builders=builders)
    settings = session_settings(options, collector)
    if collector.problems:
        raise WrongUseError(collector.problems)
    return settings
