from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.host.git import view_config

EMPTY = "[core]\nbare = false\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("[core]\n\tfileMode = false\n", "[core]\nfilemode = false\n"),
        ("[CORE] autocrlf = input ; words\n", "[core]\nautocrlf = input\n"),
        ('[core]\n\teol = "lf" # words\n', "[core]\neol = lf\n"),
        ("[core]\n\tignoreCase\n", "[core]\nignorecase = true\n"),
        ("[core]\n\tfilemode = true\n\tfilemode = false\n", "[core]\nfilemode = false\n"),
        ("[extensions]\n\tobjectFormat = sha256\n", "[extensions]\nobjectformat = sha256\n"),
        # What names programs, places or other files.
        ("[core]\n\tfsmonitor = touch /x\n\tfsmonitor = true\n", ""),
        ("[core]\n\thooksPath = hooks\n\tpager = x\n\tworktree = /\n\tsshCommand = x\n", ""),
        ('[filter "f"]\n\tclean = touch\n', ""),
        ('[include]\n\tpath = evil\n[includeIf "gitdir:/"]\n\tpath = evil\n', ""),
        ("[extensions]\n\tpartialClone = origin\n\tworktreeConfig = true\n", ""),
        # What is on the list in name only.
        ('[core "x"]\n\tfilemode = false\n', ""),
        ("[other]\n\tfilemode = false\n", ""),
        ("filemode = false\n", ""),
        ("[core]\n\teol = lf\\\nfsmonitor = x\n", ""),
        ("[core]\n\tx = y\\\n\teol = lf\n", ""),
        ("[core]\n\teol = lf\x00\n\teol = a b\n", ""),
        ("[core]\n\teol = $(touch)\n", ""),
        ("[core\n\teol = lf\n", ""),
        ("\ufeff[core]\n\teol = lf\n", ""),
        ("[core]" * 10_000, ""),
        ("[core]\n" + "a" * 100_000 + "=\n", ""),
    ],
)
def test_view_config_keeps_only_what_decides_about_changes(text: str, expected: str) -> None:
    assert view_config(text.encode()) == EMPTY + expected


def test_git_is_run_by_a_single_module() -> None:
    """Whoever starts git elsewhere obeys the configuration of the repository."""
    package = Path(__file__).parents[3] / "chainbuild"
    starts = {path.name for path in package.rglob("*.py") if '["git"' in path.read_text(encoding="utf-8")}
    assert starts == {"git.py"}
