"""Settings from flags, for the commands that read no tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chainbuild.execution.session import Settings
from chainbuild.values import replace


def settings_from(
    *,
    root: Path,
    registry: str | None,
    port: int | None = None,
    builders: Sequence[str] | None = None,
    managed: bool = False,
) -> Settings:
    """Return the settings. Inside a project, its file sets what the flags do not.

    `managed`: without `registry`, the managed registry is meant, whatever registry the project has.

    Errors: `WrongUseError` with every problem of the flags and of these settings of the file.
    """
    # Imported late, so that a command's --help loads neither the reader of trees nor the planner.
    from chainbuild.errors import WrongUseError
    from chainbuild.parsing.option_values import ProblemCollector
    from chainbuild.requests.build import session_settings
    from chainbuild.requests.options import SessionOptions

    collector = ProblemCollector()
    options = SessionOptions(root=root, registry=registry, port=port, builders=builders).of_project()
    settings = session_settings(replace(options, registry=registry) if managed else options, collector)
    if collector.problems:
        raise WrongUseError(collector.problems)
    return settings
