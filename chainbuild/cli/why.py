"""`chainbuild why`: one step, compared with its last record, in full."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import options as flags
from chainbuild.cli.speaking import open_quietly


def why(
    step: Annotated[str, typer.Argument(metavar="STEP", help="As 20-openblas, or amd64/stock/20-openblas.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLATFORM REPO TAG BASE OPTION PRODUCTION]", help="Those of the last run here where not given."
        ),
    ] = None,
    *,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    json: flags.Json = False,
) -> int:
    """Say why a step would be built: everything that differs from its last record."""
    from chainbuild.command_line import Words, read_wishes
    from chainbuild.errors import WrongUseError
    from chainbuild.explain import explain, show, steps_named
    from chainbuild.journal import last_words
    from chainbuild.ui import stdout

    if words and len(words) != 6:
        raise WrongUseError(
            "why takes a step, and either nothing or all six words of a run", hint="See chainbuild why -h."
        )
    if words:
        platform, repo, tag, base, option, production = words
        typed = Words(
            platform=platform, repo=repo, tag=tag, base=base, option=option, production=production, root=root,
            registry=registry, port=registry_port,
        )  # fmt: skip
    else:
        typed = last_words(root)
    request = read_wishes(typed)
    wanted = steps_named(request.graph, step)
    with open_quietly(request.settings, json=json) as session:
        told = [explain(request, session, one) for one in wanted]
    if json:
        from json import dumps

        typer.echo(dumps({"schema": "chainbuild.why/1", "steps": [one.as_json() for one in told]}, indent=2))
    else:
        show(told, stdout())
    return 0
