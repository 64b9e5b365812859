"""Writes the page that lists the rules of the minimize stage, from its tables: `python docs/surroundings_page.py`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from chainbuild.minimize.plugins import PLUGINS
from chainbuild.minimize.rules import BIG, Rule
from chainbuild.minimize.surroundings import SURROUNDINGS

_INTRODUCTION = f"""\
# Files that programs open by name

Look up which files the [minimize stage](minimize.md#what-programs-open-by-name) keeps for a program
or library that opens them by name. Entries with *up to {BIG >> 20} MB* are left out if they are larger, and a
warning has the line that keeps them.

`python docs/surroundings_page.py` writes this page from the tables in `plugins.py`, `surroundings.py`
and `program_surroundings.py` of `chainbuild/minimize/`. To add software, add an entry there.
"""


def page() -> str:
    """Return the page."""
    parts = [_INTRODUCTION, "## Surroundings (`KEEP_SURROUNDINGS`)\n", *_table(SURROUNDINGS)]
    parts += ["\n## Plugins (`KEEP_PLUGINS`)\n", *_table(PLUGINS)]
    return "\n".join(parts) + "\n"


def _table(rules: Iterable[Rule]) -> list[str]:
    lines = ["| program or library | files | source |", "| --- | --- | --- |"]
    for rule in rules:
        what = f"{rule.what}, up to {BIG >> 20} MB" if rule.limited else rule.what
        what += f"; {rule.tells_what} are reported" if rule.tells else ""
        lines.append(f"| {_cell(rule.of)} | {_cell(what)} | {_cell(rule.source)} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("$", "\\$").replace("<", "&lt;")


if __name__ == "__main__":
    (Path(__file__).parent / "surroundings.md").write_text(page(), encoding="utf-8")
