"""Show files of an image: a folder, what a step added, and the content of a file."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from chainbuild.comparison.contents import Entry
from chainbuild.errors import WrongUseError
from chainbuild.operations.files import Added, FileChange, Listed, Listing
from chainbuild.text import escaped, plural, size
from chainbuild.ui.styles import Style
from chainbuild.ui.tables import Column, table
from chainbuild.ui.terminal import Line, Span, Terminal

_TYPES: Final = {"dir": stat.S_IFDIR, "link": stat.S_IFLNK, "file": stat.S_IFREG}
_MARKS: Final[dict[str, tuple[str, Style]]] = {
    "added": ("+", "good"),
    "changed": ("~", "warn"),
    "deleted": ("-", "bad"),
}
_FOLDERS: Final = 25
_LARGEST: Final = 15
_HEAD: Final = 8192
"""How much of a file decides whether it is binary: as git does, a file with a NUL byte is."""


def show_listing(listing: Listing, out: Terminal) -> None:
    """Print the entries of a folder, and their sum."""
    columns = (
        Column(heading="mode"),
        Column(heading="owner"),
        Column(heading="size", right=True),
        Column(heading="path"),
    )
    rows = [
        (
            Span(_mode(row.entry)),
            Span(row.entry.owner),
            Span("" if row.entry.kind == "link" else size(row.size)),
            Span(_name(row)),
        )
        for row in listing.entries
    ]
    out.write(table(columns, rows, None))
    out.write([(Span(f"{plural(listing.files, 'file')}, {size(listing.size)}", "dim"),)])


def _mode(entry: Entry) -> str:
    """Return the type and the mode as `ls` shows them; the type of a device or a socket is not known."""
    return stat.filemode(_TYPES.get(entry.kind, 0) | entry.mode)


def _name(row: Listed) -> str:
    if row.entry.kind == "link":
        return f"{row.path} -> {row.entry.target}"
    return f"{row.path}/" if row.entry.kind == "dir" else row.path


def show_added(added: Added, out: Terminal, *, top: str = "/", every_file: bool = False) -> None:
    """Print what a step added: totals, the folders with the most bytes, and the largest files, or every file."""
    name = added.step or str(added.image.reference)
    where = f" below {escaped(top)}" if top != "/" else ""
    lines: list[Line | str] = [
        (
            Span(escaped(name), "bold"),
            Span(f": {plural(added.layers, 'layer')}, {size(added.compressed)} compressed{where}"),
        )
    ]
    for kind, (count, total) in added.totals().items():
        if count:
            lines.append((Span("  "), _mark(kind), Span(f" {kind:<8} {plural(count, 'file')}, {size(total)}")))
    if added.repeated:
        text = f"    {plural(added.repeated, 'file')} in its layers did not change ({size(added.repeated_size)})"
        lines.append((Span(text, "dim"),))
    if not added.changes:
        lines.append("  no file was added, changed or deleted")
    elif every_file:
        lines += [(), *_files(added.changes)]
    else:
        lines += [(), *_folders(added), (), *_largest(added.changes)]
    out.write(lines)


def _mark(kind: str) -> Span:
    mark, style = _MARKS[kind]
    return Span(mark, style)


def _folders(added: Added) -> Iterable[Line]:
    sums = added.folders()
    shown = sorted(sums, key=lambda path: (-sum(sums[path].values()), path))[:_FOLDERS]
    columns = (*(Column(heading=kind, right=True) for kind in _MARKS), Column(heading="folder"))
    rows: list[Sequence[Span]] = [
        (*(Span(size(sums[path][kind]) if sums[path][kind] else "") for kind in _MARKS), Span(path))
        for path in sorted(shown)
    ]
    yield from table(columns, rows, None)
    if len(sums) > len(shown):
        yield (Span(f"and {plural(len(sums) - len(shown), 'smaller folder')}: list all with --json", "dim"),)


def _largest(changes: Sequence[FileChange]) -> Iterable[Line]:
    largest = sorted(changes, key=lambda change: (-change.size, change.path))[:_LARGEST]
    yield from _files(largest)
    if len(changes) > len(largest):
        yield (Span(f"and {len(changes) - len(largest)} more: list all with --recursive", "dim"),)


def _files(changes: Iterable[FileChange]) -> Iterable[Line]:
    columns = (Column(heading=""), Column(heading="size", right=True), Column(heading="file"), Column(heading="change"))
    rows = [
        (
            _mark(change.kind),
            Span(size(change.size)),
            Span(change.path),
            Span(", ".join(change.words), "dim"),
        )
        for change in changes
    ]
    return table(columns, rows, None)


def write_content(file: Path, name: str, out: Terminal) -> None:
    """Write a file unchanged; on a terminal, control characters are escaped.

    Errors: `WrongUseError` for a binary file on a terminal.
    """
    if not out.is_terminal:
        out.write_file(file)
        return
    with file.open("rb") as content:
        head = content.read(_HEAD)
        if b"\0" in head:
            raise WrongUseError(
                f"{name} is a binary file of {size(file.stat().st_size)}",
                hint="Write it to a file with -o FILE, or redirect the output.",
            )
        text = (head + content.read()).decode("utf-8", "replace")
    out.write_document(text)
