"""What a shell offers on TAB: platforms, options, tags, steps, images. From the tree and the last run in it; asks no registry.

Nothing here may fail or write: a line that is being typed is no place for messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from chainbuild.model import Graph
    from chainbuild.requests.build import RunOptions

_VARIABLE = "_CHAINBUILD_COMPLETE"
_BASH, _OTHERS = "COMP_WORDS", "_TYPER_COMPLETE_ARGS"

Offers = Callable[[typer.Context, str], list[str]]


def say_build(environ: MutableMapping[str, str], commands: Iterable[str]) -> None:
    """Put the command that is left out into the line that is being completed: `chainbuild am…` means `chainbuild build am…`.

    The line is in the variables of typer's completion scripts: as one string (bash's with a word a line), and for bash the
    number of the cursor's word beside it.
    """
    name = next((name for name in (_BASH, _OTHERS) if name in environ), "")
    if _VARIABLE not in environ or not name:
        return
    line = re.fullmatch(r"(\S+)(\s)(.*)", environ[name], re.DOTALL)
    if line is None:
        return
    program, gap, rest = line.groups()
    words = rest.split()
    first = words[0] if words else ""
    finished = len(words) > 1 or rest[-1:].isspace()
    known = first in commands if finished else any(command.startswith(first) for command in commands)
    if first and not known and not first.startswith("-"):
        environ[name] = f"{program}{gap}build{gap}{rest}"
        if name == _BASH and environ.get("COMP_CWORD", "").isdigit():
            environ["COMP_CWORD"] = str(int(environ["COMP_CWORD"]) + 1)


def _quiet(offers: Offers) -> Offers:
    def offered(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return [text for text in offers(ctx, incomplete) if text.startswith(incomplete)]
        except Exception:  # noqa: BLE001  # whatever it is, the command itself will say it
            return []

    return offered


def _listed(names: Iterable[str], incomplete: str) -> list[str]:
    """Names behind what is already there of a list with commas."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name not in before.split(",")]


def _root(ctx: typer.Context) -> Path:
    return Path(ctx.params.get("root") or ".")


def _last(ctx: typer.Context) -> RunOptions:
    from chainbuild.requests.last_run import load_last_run

    return load_last_run(_root(ctx))


@_quiet
def platforms(_: typer.Context, incomplete: str) -> list[str]:
    """Platforms, behind those that are already in the list."""
    from chainbuild.references import Platform

    return _listed(Platform.known_names(), incomplete)


@_quiet
def options(ctx: typer.Context, incomplete: str) -> list[str]:
    """The tree's folders with numbered Dockerfiles, behind those that are already in the list."""
    from chainbuild.operations.init import look

    return _listed(look(_root(ctx)).options, incomplete)


def last(field: str) -> Offers:
    """The last run's REPO, TAG, BASE or PRODUCTION."""
    return _quiet(lambda ctx, _: [str(getattr(_last(ctx), field))])


@_quiet
def steps(ctx: typer.Context, _: str) -> list[str]:
    """The steps of the last run here, or of the project's: by name, and by id where several have the name."""
    from collections import Counter

    graph = _graph(ctx)
    count = Counter(step.name for step in graph)
    return sorted(step.name if count[step.name] == 1 else step.id for step in graph)


@_quiet
def numbers(ctx: typer.Context, _: str) -> list[str]:
    """The numbers of the tree's steps (a flag without its value hides the words before it: which option is not known)."""
    from chainbuild.operations.init import look

    root = _root(ctx)
    files = (path for name in look(root).options for path in (root / name).glob("[0-9]*-Dockerfile-*"))
    return sorted({path.name.partition("-")[0] for path in files})


@_quiet
def images(ctx: typer.Context, _: str) -> list[str]:
    """The results of the last run here, and the images of the project's layers."""
    return sorted({str(chain.release) for chain in _graph(ctx).chains})


def _graph(ctx: typer.Context) -> Graph:
    from chainbuild.cli.project import unsaid_run
    from chainbuild.requests.project_runs import Typed

    return unsaid_run(_root(ctx), Typed()).graph
