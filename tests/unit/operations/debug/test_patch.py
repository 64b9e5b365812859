"""A patch of what was typed in a debug shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.dockerfile import parse
from chainbuild.dockerfile.cut import find_place
from chainbuild.operations.debug.patch import lasting, patch, typed_commands

RAW = b"FROM x\nRUN --network=none \\\n  --mount=target=/s make \\\n && make install\nCOPY a b\n"


def patched(line: int, *commands: str, raw: bytes = RAW) -> str:
    place = find_place(parse(raw, "f"), line)
    return patch(Path("/tree/one/10-Dockerfile-x"), Path("/tree"), raw, place, commands)


def added(text: str) -> list[str]:
    return [line[1:] for line in text.splitlines() if line.startswith("+") and not line.startswith("+++")]


def test_record_has_status_and_text_of_each_command() -> None:
    record = b"0\tapt-get update\x001\tfalse\x000\tcat <<E\nx\nE\x00garbage"
    assert typed_commands(record) == ((0, "apt-get update"), (1, "false"), (0, "cat <<E\nx\nE"))


def test_commands_that_failed_or_only_show_or_are_the_own_are_left_out() -> None:
    typed = [
        (0, "ls -l"),
        (0, "history | head -n 1"),
        (0, "cat x | tee y"),
        (0, "cat x > y"),
        (1, "apt-get install a"),
        (0, "apt-get install b"),
        (0, " make "),
        (0, "exit"),
        (0, ""),
        (0, "grep -q x y && touch z"),
    ]
    assert lasting(typed, "make") == ("cat x | tee y", "cat x > y", "apt-get install b", "grep -q x y && touch z")


def test_patch_adds_run_with_flags_before_instruction() -> None:
    text = patched(3, "apt-get update", "apt-get install -y b")
    assert text.startswith("--- a/one/10-Dockerfile-x\n+++ b/one/10-Dockerfile-x\n@@ -1,")
    assert added(text) == [
        "RUN --network=none --mount=target=/s apt-get update \\",
        " && apt-get install -y b",
    ]
    assert not [line for line in text.splitlines()[2:] if line.startswith("-")]


@pytest.mark.parametrize("command", ["a; b", "a || b", "a # note", "a &", "cat <<E\nx\nE", "a \\"])
def test_patch_uses_script_for_commands_that_cannot_be_chained(command: str) -> None:
    assert added(patched(5, "first", command)) == ["RUN <<'EOF'", "set -e", "first", *command.split("\n"), "EOF"]


def test_script_ends_with_line_that_no_command_has() -> None:
    assert added(patched(5, "cat <<EOF\nx\nEOF")) == ["RUN <<'EOF1'", "set -e", "cat <<EOF", "x", "EOF", "EOF1"]


def test_patch_keeps_line_ends_of_file() -> None:
    raw = RAW.replace(b"\n", b"\r\n")
    assert "+RUN --network=none --mount=target=/s a\r\n" in patched(2, "a", raw=raw)


def test_patch_of_nothing_is_empty() -> None:
    assert patched(2) == ""


@pytest.mark.parametrize("status", ["\u00b2", "0" * 5000, "", "-1"])
def test_record_with_invalid_status_is_left_out(status: str) -> None:
    assert typed_commands(f"{status}\tmake\x000\tls".encode()) == ((0, "ls"),)
