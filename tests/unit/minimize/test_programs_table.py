"""The table of programs in docs/minimize.md matches the programs of the engine tests."""

from __future__ import annotations

from pathlib import Path

from chainbuild.minimize.notices import fixes
from tests.support.programs import PROGRAMS, table, with_line


def test_programs_table_matches_engine_tests(repository_root: Path) -> None:
    assert "\n".join(table()) in (repository_root / "docs" / "minimize.md").read_text(encoding="utf-8")


def test_fix_line_of_program_is_added_to_list() -> None:
    by_name = {program.name: program for program in PROGRAMS}
    assert with_line(by_name["imagemagick"])["ADDITIONAL_FILES"] == "/usr/bin/convert /usr/share/fonts"
    assert with_line(by_name["figlet"])["KEEP_DATA"] == "figlet"
    assert with_line(by_name["git"]) == by_name["git"].args
    assert fixes([{"fix": "KEEP_DATA=a"}, {"fix": "KEEP_DATA=b"}]) == ("KEEP_DATA=a b",)
