"""`chainbuild minimize explain | removed | report | trace`: what a chain's minimize stage kept and left out, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from chainbuild.cli import completion, flags

if TYPE_CHECKING:
    from chainbuild.execution.session import Session
    from chainbuild.operations.minimize_reports import Minimized

app = typer.Typer(no_args_is_help=True, help="Say what a minimized image is made of, why, and what was left out.")

ImageArgument = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        autocompletion=completion.images,
        help="A chain's result, or its minimized image.",
        show_default=False,
    ),
]


@app.command()
def explain(
    image: ImageArgument,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="A path in either image, or a bare name.", show_default=False)
    ],
    *,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    json: flags.Json = False,
) -> int:
    """Say by which chain of needs a file is in the image, or why it is not."""
    from chainbuild.minimize.explain import Explainer
    from chainbuild.operations.minimize_reports import reading

    with _minimized(image, platform, root, registry, registry_port, json=json) as (_, minimized), reading(image):
        explainer = Explainer(minimized.report)
        lines = {one: explainer.explain(one) for one in files}
        rows = [{"file": one, "found": explainer.found(one), "lines": lines[one]} for one in files]
    if json:
        from chainbuild.ui import stdout

        stdout().write_json({"schema": "chainbuild.explained/1", "image": image, "files": rows})
    else:
        _say(line for one in files for line in lines[one])
    return 0


@app.command()
def removed(
    image: ImageArgument,
    *,
    every_file: Annotated[bool, typer.Option("--files", help="Also the largest files of each package.")] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    json: flags.Json = False,
) -> int:
    """List by package what was left out, and how big it was."""
    from chainbuild.minimize import explain as words
    from chainbuild.operations.minimize_reports import reading

    with _minimized(image, platform, root, registry, registry_port, json=json) as (_, minimized), reading(image):
        report = minimized.report
        rows = [row for row in report["packages"] if row["bytes"]["left"] or row["bytes"]["trimmed"]]
        lines = [] if json else list(words.removed(report, files=every_file))
    if json:
        from chainbuild.ui import stdout

        stdout().write_json({"schema": "chainbuild.removed/1", "image": image, "packages": rows})
    else:
        _say(lines)
    return 0


@app.command()
def report(
    image: ImageArgument,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where report.html and report.json go.", file_okay=False),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    json: flags.Json = False,
) -> int:
    """Draw the image before and after, by package and by step, as a page; print where it is."""
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


class _WithCommand(TyperCommand):
    """Takes what follows `--` as a command, whatever its words look like."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        place = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*args[:place], *(f"--run={word}" for word in args[place + 1 :])])


@app.command(cls=_WithCommand, epilog="chainbuild minimize trace stock --write")
def trace(
    target: Annotated[
        str,
        typer.Argument(
            metavar="OPTION|IMAGE",
            autocompletion=completion.options,
            help="Folders of the tree (with commas), or a chain's result.",
            show_default=False,
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLATFORM REPO TAG] [-- COMMAND…]",
            help="The images of an OPTION (default: those of the last run here), and what to run in them (default: the"
            " option's production-test).",
            show_default=False,
        ),
    ] = None,
    *,
    run: Annotated[list[str] | None, typer.Option("--run", hidden=True)] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Add what is missing to the option's minimize-PLATFORM-args.")
    ] = False,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    json: flags.Json = False,
) -> int:
    """Run a command in the chain's last image and list the files it uses that the result does not have."""
    from chainbuild.cli.retest import RetestOptions
    from chainbuild.cli.trace import run_trace

    asked = RetestOptions(
        target=target,
        words=tuple(words or ()),
        platform=platform,
        root=root,
        builders=tuple(builder or ()),
        registry=registry,
        port=registry_port,
    )
    return run_trace(asked, tuple(run or ()), write=write, json=json)


@contextmanager
def _minimized(
    image: str, platform: str | None, root: Path, registry: str | None, port: int, *, json: bool
) -> Iterator[tuple[Session, Minimized]]:
    from chainbuild.cli.output import open_quietly
    from chainbuild.cli.settings import settings_from
    from chainbuild.operations.minimize_reports import minimized_of
    from chainbuild.references import ImageReference, Platform

    named = ImageReference.parse(image)
    wanted = Platform.parse(platform) if platform else Platform.of_this_machine()
    with open_quietly(settings_from(root=root, registry=registry, port=port), json=json) as session:
        found = session.finder().find_result(named, wanted)
        yield session, minimized_of(session.records, found.image)


def _say(lines: Iterable[str]) -> None:
    from chainbuild.text import escaped
    from chainbuild.ui import stdout

    stdout().write([escaped(line) for line in lines])


def _file_name(image: str) -> str:
    """A folder's name for an image."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", image).strip("-.") or "image"
