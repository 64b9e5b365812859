"""`chainbuild docs`: the pages of the documentation, which come with the program."""

from __future__ import annotations

from typing import Annotated

import typer

from chainbuild.cli import completion


def docs(
    page: Annotated[
        str,
        typer.Argument(
            metavar="[PAGE]",
            autocompletion=completion.pages,
            help="Page to print, for example getting-started (default: list the pages).",
            show_default=False,
        ),
    ] = "",
) -> int:
    """Print a page of the documentation (Markdown), or list the pages."""
    from chainbuild.errors import WrongUseError
    from chainbuild.host.package_data import documentation_pages
    from chainbuild.text import perhaps_you_meant
    from chainbuild.ui import stdout
    from chainbuild.ui.tables import Column, table
    from chainbuild.ui.terminal import Span

    pages, out = documentation_pages(), stdout()
    if not page:
        rows = [(Span(name), Span(_title(path.read_text(encoding="utf-8")))) for name, path in pages.items()]
        out.write(table((Column(heading="page"), Column(heading="title")), rows, out.width))
        return 0
    name = page.removeprefix("docs/").removesuffix(".md")
    if name not in pages:
        hint = perhaps_you_meant(name, pages)
        raise WrongUseError(f"no page {page!r}", hint=f"{hint}List the pages with: chainbuild docs")
    out.write_document(pages[name].read_text(encoding="utf-8"))
    return 0


def _title(text: str) -> str:
    return text.partition("\n")[0].lstrip("# ")
