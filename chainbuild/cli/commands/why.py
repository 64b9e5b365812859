"""`chainbuild why`: compare one step with its last record, in full."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import completion, flags
from chainbuild.cli.output import open_quietly


def why(
    step: Annotated[
        str,
        typer.Argument(
            metavar="STEP",
            autocompletion=completion.steps,
            help="Step to explain: 20-openblas, or amd64/stock/20-openblas.",
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLATFORM REPO TAG BASE OPTION PRODUCTION]",
            help="Run to explain (default: the last run in this folder, or the project of chainbuild.yaml).",
        ),
    ] = None,
    *,
    root: flags.Root = Path(),
    base_arg: flags.BaseArg = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Explain why a step would be built: list everything that differs from its last record."""
    from chainbuild.cli.runs.project import unsaid_run
    from chainbuild.errors import WrongUseError
    from chainbuild.operations.why import explain, steps_named
    from chainbuild.requests.build import read_build_request
    from chainbuild.requests.options import RunArguments, RunOptions
    from chainbuild.ui import stdout
    from chainbuild.ui.reports import show

    options = RunOptions(root=root, base_arg=base_arg, registry=registry, port=registry_port)
    if arguments and len(arguments) != len(RunArguments._fields):
        raise WrongUseError(
            "why takes a step, and none or all six arguments of a run", hint="See chainbuild why --help."
        )
    if arguments:
        request = read_build_request(options.with_arguments(RunArguments(*arguments)))
    else:
        request = unsaid_run(options)
    chosen = steps_named(request.graph, step)
    with open_quietly(request.settings, json=json) as session:
        explanations = [explain(request, session, item) for item in chosen]
    if json:
        stdout().write_json({"schema": "chainbuild.why/1", "steps": [item.as_json() for item in explanations]})
    else:
        show(explanations, stdout())

    return 0
