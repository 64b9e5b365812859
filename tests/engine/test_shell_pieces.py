"""A command with marks before its pieces does what the command does, in real shells. No engine is needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainbuild.dockerfile.shell_pieces import marked, split_pieces
from tests.support.shell_commands import commands

SHELLS = [name for name in ("dash", "bash", "busybox") if shutil.which(name)]


def run(shell: str, option: str, command: str) -> tuple[int, str]:
    argv = [shell, "sh"] if shell == "busybox" else [shell]
    done = subprocess.run([*argv, option, command], capture_output=True, text=True, check=False, cwd="/")
    return done.returncode, done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=commands(), errexit=st.booleans())
def test_marked_command_has_effect_of_command(shell: str, command: str, errexit: bool, tmp_path: Path) -> None:
    option = "-ec" if errexit else "-c"
    spans = split_pieces(command, errexit=errexit)
    record = tmp_path / "piece"
    record.unlink(missing_ok=True)
    code, out = run(shell, option, marked(command, spans, ["label"] * len(spans), str(record)))
    assert (code, out) == run(shell, option, command)
    assert 1 <= int(record.read_text()) <= len(spans)


@pytest.mark.parametrize("shell", SHELLS)
def test_record_has_number_of_failing_piece(shell: str, tmp_path: Path) -> None:
    record = tmp_path / "piece"
    command = "set -eu; x=/ && cd $x; test -d . && test -f ./no-such-file && echo never"
    spans = split_pieces(command)
    run(shell, "-c", marked(command, spans, ["label"] * len(spans), str(record)))
    failed = spans[int(record.read_text()) - 1]
    assert command[failed.start : failed.end] == "test -f ./no-such-file"
