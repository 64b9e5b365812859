"""Completions for the shell: platforms, options, tags, steps, images.

They come from the tree and the last run in it; no registry is contacted. Nothing here may fail or print, because the
user is still typing the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from chainbuild.model import Graph
    from chainbuild.requests.options import RunOptions

_VARIABLE = "_CHAINBUILD_COMPLETE"
_BASH, _OTHERS = "COMP_WORDS", "_TYPER_COMPLETE_ARGS"

Offers = Callable[[typer.Context, str], list[str]]


def say_build(environ: MutableMapping[str, str], commands: Iterable[str]) -> None:
    """Insert the omitted command `build` into the line to complete: `chainbuild am…` means `chainbuild build am…`.

    typer's completion scripts pass the line in environment variables: as one string (for bash one argument per line), and
    for bash also the index of the argument under the cursor.
    """
    name = next((name for name in (_BASH, _OTHERS) if name in environ), "")
    if _VARIABLE not in environ or not name:
        return
    line = re.fullmatch(r"(\S+)(\s)(.*)", environ[name], re.DOTALL)
    if line is None:
        return
    program, gap, rest = line.groups()
    arguments = rest.split()
    first = arguments[0] if arguments else ""
    finished = len(arguments) > 1 or rest[-1:].isspace()
    is_command = first in commands if finished else any(command.startswith(first) for command in commands)
    if first and not is_command and not first.startswith("-"):
        environ[name] = f"{program}{gap}build{gap}{rest}"
        if name == _BASH and environ.get("COMP_CWORD", "").isdigit():
            environ["COMP_CWORD"] = str(int(environ["COMP_CWORD"]) + 1)


def _quiet(offers: Offers) -> Offers:
    def offered(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return [text for text in offers(ctx, incomplete) if text.startswith(incomplete)]
        except Exception:  # noqa: BLE001  # the command itself reports what is wrong
            return []

    return offered


def _listed(names: Iterable[str], incomplete: str) -> list[str]:
    """Return the names that are not yet in a comma-separated list, each appended to that list."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name not in before.split(",")]


def _root(ctx: typer.Context) -> Path:
    return Path(ctx.params.get("root") or ".")


def _last(ctx: typer.Context) -> RunOptions:
    from chainbuild.requests.last_run import load_last_run

    return load_last_run(_root(ctx))


@_quiet
def platforms(_: typer.Context, incomplete: str) -> list[str]:
    """Return the platforms that can be appended to the list."""
    from chainbuild.references import Platform

    return _listed(Platform.known_names(), incomplete)


@_quiet
def options(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the tree's folders with numbered Dockerfiles that can be appended to the list."""
    from chainbuild.operations.tree_scan import option_folders

    return _listed(option_folders(_root(ctx)), incomplete)


def last(field: str) -> Offers:
    """Return a completion for the last run's REPO, TAG, BASE or PRODUCTION."""
    return _quiet(lambda ctx, _: [str(getattr(_last(ctx), field))])


@_quiet
def steps(ctx: typer.Context, _: str) -> list[str]:
    """Return the steps of the last run here, or of the project: by name, or by id if several have the same name."""
    from collections import Counter

    graph = _graph(ctx)
    count = Counter(step.name for step in graph)
    return sorted(step.name if count[step.name] == 1 else str(step.id) for step in graph)


@_quiet
def numbers(ctx: typer.Context, _: str) -> list[str]:
    """Return the numbers of all steps of the tree.

    Which option is meant is unknown: click hides the arguments before a flag that has no value yet.
    """
    from chainbuild.layouts.numbered_names import numbered_names
    from chainbuild.operations.tree_scan import option_folders

    root = _root(ctx)
    return sorted({item.prefix for name in option_folders(root) for item in numbered_names(root / name)})


@_quiet
def pages(_: typer.Context, __: str) -> list[str]:
    """Return the pages of the documentation."""
    from chainbuild.host.package_data import documentation_pages

    return list(documentation_pages())


@_quiet
def images(ctx: typer.Context, _: str) -> list[str]:
    """Return the results of the last run here, and the images of the project's layers."""
    from chainbuild.model import published

    return sorted({str(names.release) for _, names in published(_graph(ctx).chains)})


@_quiet
def images_and_steps(ctx: typer.Context, _: str) -> list[str]:
    """Return the results of the last run here, the images of the project's layers, and the steps of both."""
    return sorted({*images(ctx, ""), *steps(ctx, "")})


def _graph(ctx: typer.Context) -> Graph:
    from chainbuild.cli.runs.project import unsaid_run
    from chainbuild.requests.options import RunOptions

    return unsaid_run(RunOptions(root=_root(ctx))).graph
