"""The table of programs in docs/minimize.md says what the engine tests try."""

from __future__ import annotations

from pathlib import Path

from chainbuild.minimize.notices import fixes
from tests.support.programs import PROGRAMS, table, with_line


def test_table_of_programs_is_that_of_the_tests(repository_root: Path) -> None:
    assert "\n".join(table()) in (repository_root / "docs" / "minimize.md").read_text(encoding="utf-8")


def test_line_that_mends_a_program_is_added_to_a_list() -> None:
    by_name = {program.name: program for program in PROGRAMS}
    assert with_line(by_name["imagemagick"])["ADDITIONAL_FILES"] == "/usr/bin/convert /usr/share/fonts"
    assert with_line(by_name["figlet"])["KEEP_DATA"] == "figlet"
    assert with_line(by_name["git"]) == by_name["git"].args
    assert fixes([{"fix": "KEEP_DATA=a"}, {"fix": "KEEP_DATA=b"}]) == ("KEEP_DATA=a b",)
