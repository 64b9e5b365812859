"""`chainbuild minimize explain | removed | report | trace`: what the minimize stage kept and removed, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chainbuild.cli import completion, flags
from chainbuild.cli.parser import Command
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.execution.session import Session
    from chainbuild.operations.minimize_reports import Minimized

app = typer.Typer(no_args_is_help=True, help="Explain what a minimized image contains, why, and what was removed.")

ImageArgument = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        autocompletion=completion.images,
        help="Result of a chain, or its minimized image.",
        show_default=False,
    ),
]


@app.command()
def explain(
    image: ImageArgument,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="Path in the image before or after, or a file name.", show_default=False),
    ],
    *,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Show the chain of dependencies that brings a file into the image, or why the file is missing."""
    from chainbuild.minimize.explain import Explainer
    from chainbuild.operations.minimize_reports import reading

    with _minimized(image, platform, root, registry, registry_port, json=json) as (_, minimized), reading(image):
        explainer = Explainer(minimized.report)
        lines = {file: explainer.explain(file) for file in files}
        rows = [{"file": file, "found": explainer.found(file), "lines": lines[file]} for file in files]
    if json:
        from chainbuild.ui import stdout

        stdout().write_json({"schema": "chainbuild.explained/1", "image": image, "files": rows})
    else:
        _print(line for file in files for line in lines[file])
    return 0


@app.command()
def removed(
    image: ImageArgument,
    *,
    every_file: Annotated[bool, typer.Option("--files", help="Also list the largest files of each package.")] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """List the packages that were removed from the image, with their size."""
    from chainbuild.minimize import explain as explanations
    from chainbuild.operations.minimize_reports import reading

    with _minimized(image, platform, root, registry, registry_port, json=json) as (_, minimized), reading(image):
        report = minimized.report
        rows = [row for row in report["packages"] if row["bytes"]["left"] or row["bytes"]["trimmed"]]
        lines = [] if json else list(explanations.removed(report, files=every_file))
    if json:
        from chainbuild.ui import stdout

        stdout().write_json({"schema": "chainbuild.removed/1", "image": image, "packages": rows})
    else:
        _print(lines)
    return 0


@app.command()
def report(
    image: ImageArgument,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for report.html and report.json (default: below .chainbuild/reports).",
            file_okay=False,
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Write a page that compares the image before and after, by package and by step, and print the page's path."""
    from json import dumps

    from chainbuild.cli.output import make_folder, own_folder, write_result
    from chainbuild.minimize.page import page
    from chainbuild.operations.minimize_reports import by_step, reading
    from chainbuild.text import escaped
    from chainbuild.ui import stdout

    with _minimized(image, platform, root, registry, registry_port, json=json) as (session, minimized), reading(image):
        steps = by_step(session.records, minimized)
        document = {**minimized.report, "image": image, "steps": steps}
        drawn = page(document, image, steps)
    folder = output or own_folder(root, "reports", _file_name(image))
    make_folder(folder)
    write_result(folder / "report.json", dumps(document).encode("ascii"))
    write_result(folder / "report.html", drawn.encode("utf-8", "backslashreplace"))
    if json:
        places = {"page": str(folder / "report.html"), "report": str(folder / "report.json")}
        stdout().write_json({"schema": "chainbuild.report/1", "image": image, **places})
    else:
        stdout().write([escaped(str(folder / "report.html"))])
    if show:
        import webbrowser

        webbrowser.open((folder / "report.html").resolve().as_uri())
    return 0


class _WithCommand(Command):
    """Pass everything after `--` as the command to run, even if it looks like flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        place = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*args[:place], *(f"--run={text}" for text in args[place + 1 :])])


@app.command(cls=_WithCommand)
def trace(
    target: Annotated[
        str,
        typer.Argument(
            metavar="OPTION|IMAGE",
            autocompletion=completion.options,
            help="Folders of the tree, comma-separated, or the result of a chain.",
            show_default=False,
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLATFORM REPO TAG] [-- COMMAND…]",
            help="Images of an OPTION (default: those of the last run in this folder), and the command to run in them"
            " (default: the option's production-test).",
            show_default=False,
        ),
    ] = None,
    *,
    run: Annotated[list[str] | None, typer.Option("--run", hidden=True)] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Add missing entries to the option's minimize-PLATFORM-args.")
    ] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    base_arg: flags.BaseArg = None,
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Run a command in the last image of a chain and list the files it uses that the result lacks."""
    from chainbuild.cli.runs.trace import run_trace
    from chainbuild.requests.retest import RetestOptions

    options = RetestOptions(target=target, arguments=arguments, platform=platform)
    options = replace(options, root=root, base_arg=base_arg, registry=registry, port=registry_port, builders=builder)
    return run_trace(options, tuple(run or ()), write=write, json=json)


@contextmanager
def _minimized(
    image: str, platform: str | None, root: Path, registry: str | None, port: int | None, *, json: bool
) -> Iterator[tuple[Session, Minimized]]:
    from chainbuild.cli.image_arguments import Place, read_image_arguments
    from chainbuild.cli.output import open_quietly
    from chainbuild.operations.minimize_reports import minimized_of
    from chainbuild.operations.named_images import find_named_image

    settings, (named,) = read_image_arguments((image,), platform, Place(root=root, registry=registry, port=port))
    with open_quietly(settings, json=json) as session:
        result = find_named_image(session, named)
        yield session, minimized_of(session.records, result.image)


def _print(lines: Iterable[str]) -> None:
    from chainbuild.text import escaped
    from chainbuild.ui import stdout

    stdout().write([escaped(line) for line in lines])


def _file_name(image: str) -> str:
    """Return a folder name for an image."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", image).strip("-.") or "image"
