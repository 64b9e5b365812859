"""A shell at the instruction that failed: what it gets, what it leaves behind, and what is written down of it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import COMMAND, OTHER, OWN, PATIENCE, Lay, Place, docker, eventually

pytestmark = pytest.mark.timeout(900)

GOOD = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo good > /good\n"
BAD = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ARG WORD=none
ENV COLOR=red
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /place
RUN head -c 8 /dev/urandom > /before
USER 1234
RUN --network=none \\
    --mount=type=bind,source=one/data,target=/data \\
    --mount=type=bind,source=one/data/a.txt,target=/etc/single \\
    --mount=type=cache,id=REPO,target=/cache,uid=1234 \\
    --mount=type=tmpfs,target=/scratch \\
    --mount=type=secret,id=token,uid=1234 \\
    echo kept > /cache/file && \\
    cd /data && export LOCAL=here && \\
# a comment
    test -f missing.txt | cat && echo never
"""
SEEN = """\
echo "$PWD $(id -u) $COLOR $WORD $(hostname) $(cat /good)"
cat /data/a.txt /etc/single /cache/file /run/secrets/token
touch /data/x 2>/dev/null || echo read-only
grep -c ' /scratch tmpfs ' /proc/mounts
ls /sys/class/net
"""


Left = Callable[[], set[str]]


def _of_sessions() -> set[str]:
    """Return what debug sessions have made in the engine."""
    listed = (
        docker("ps", "--all", "--quiet", "--filter", "name=chainbuild-debug"),
        docker("volume", "ls", "--quiet", "--filter", "name=chainbuild-debug"),
        docker("image", "ls", "--quiet", "chainbuild-debug"),
    )
    return {line for done in listed for line in done.stdout.split()}


@pytest.fixture(scope="module")
def left(engine: str) -> Left:
    """Return a function that returns what the sessions of these tests have left in the engine."""
    before = _of_sessions()
    return lambda: _of_sessions() - before


@pytest.fixture(scope="module")
def failed(lay_once: Lay, left: Left) -> Iterator[Place]:
    """A tree whose step `20-bad` failed, on both platforms."""
    place = lay_once(files={"one/10-Dockerfile-good": GOOD, "one/data/a.txt": "data\n", "token": "hidden\n"})
    text = BAD.replace("REPO", place.repo)
    (place.root / "one" / "20-Dockerfile-bad").write_text(text, encoding="utf-8")
    words = place.words(
        "one", "--until", "20", "--build-arg", "WORD=two words", "--keep-going", platform=f"{OWN},{OTHER}"
    )
    done = place.run(*words, "--secret", f"id=token,src={place.root / 'token'}")
    assert done.code == 1, done.told()
    assert f"debug: chainbuild debug {OWN}/one/20-bad" in done.err
    yield place
    assert left() == set()
    assert list(place.temporary.iterdir()) == []


@pytest.mark.parametrize("platform", [OWN, OTHER])
def test_command_gets_what_instruction_gets(failed: Place, left: Left, platform: str) -> None:
    done = failed.run("debug", f"{platform}/one/20-bad", "--", "bash", "-c", SEEN + "uname -m")
    assert done.code == 0, done.told()
    machine = {"amd64": "x86_64", "aarch64": "aarch64"}[platform]
    assert done.out.splitlines() == [
        "/place 1234 red two words buildkitsandbox good",
        *["data", "data", "kept", "hidden"],
        "read-only",
        "1",
        "lo",
        machine,
    ]
    assert "one/20-Dockerfile-bad:9" in done.err
    assert "cache mounts are copies" in done.err
    assert left() == set()


@pytest.mark.long
def test_state_is_that_of_failed_build(failed: Place) -> None:
    """What an instruction made at random is the same in every session: nothing is built again."""
    first, second = (failed.run("debug", f"{OWN}/one/20-bad", "--", "od", "/before") for _ in range(2))
    assert first.out == second.out != "", first.told()


@pytest.mark.long
def test_split_names_piece_that_fails(failed: Place) -> None:
    done = failed.run("debug", f"{OWN}/one/20-bad", "--split")
    assert done.code == 1, done.told()
    assert "piece 4 of 5 exited with code 1: test -f missing.txt | cat" in done.err
    assert "one/20-Dockerfile-bad:18" in done.err
    assert [line for line in done.err.splitlines() if re.match(r"\[\d/5\]", line)] == [
        "[1/5] echo kept > /cache/file",
        "[2/5] cd /data",
        "[3/5] export LOCAL=here",
        "[4/5] test -f missing.txt | cat",
    ]


@pytest.mark.long
def test_secret_is_needed_again_if_its_source_is_gone(failed: Place) -> None:
    token = failed.root / "token"
    token.rename(failed.root / "moved")
    try:
        done = failed.run("debug", f"{OWN}/one/20-bad", "--", "true")
        assert done.code == 2, done.told()
        assert "secret token: its source no longer exists" in done.err
        again = ["debug", f"{OWN}/one/20-bad", "--secret", "id=token,env=T", "--", "cat", "/run/secrets/token"]
        done = failed.run(*again, environ={"T": "again"})
        assert (done.code, done.out) == (0, "again"), done.told()
    finally:
        (failed.root / "moved").rename(token)


@pytest.mark.long
def test_step_that_did_not_fail_is_debugged_at_line(failed: Place) -> None:
    done = failed.run("debug", f"{OWN}/one/10-good", "--at", "3", "--", "ls", "/good")
    assert done.code == 2, done.told()
    assert "No such file" in done.err
    done = failed.run(
        "debug", f"{OWN}/one/20-bad", "--at", "7", "--", "bash", "-c", "echo $PWD $USER; ls /before; true"
    )
    assert (done.code, done.out) == (0, "/place\n"), done.told()


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(other, marks=pytest.mark.long) for other in (signal.SIGHUP, signal.SIGTERM))],
)
def test_killed_session_leaves_nothing_behind(failed: Place, left: Left, number: signal.Signals) -> None:
    process = failed.start("debug", f"{OWN}/one/20-bad", "--", "sleep", "600")
    eventually(lambda: bool(docker("ps", "--quiet", "--filter", "name=chainbuild-debug").stdout), "the container")
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    eventually(lambda: left() == set(), "nothing is left")
    eventually(lambda: not any(failed.temporary.iterdir()), "no temporary files are left")


class Terminal:
    """The command on a terminal."""

    def __init__(self, place: Place, *words: str) -> None:
        self._child, self._handle = pty.fork()
        if self._child == 0:
            os.chdir(place.root)
            os.execve(COMMAND, [str(COMMAND), *words], place.environment() | {"TERM": "dumb"})
        self.text = ""

    def expect(self, text: str) -> None:
        """Read until a text comes, and forget everything up to its end."""
        limit = time.monotonic() + PATIENCE
        while text not in self.text:
            assert time.monotonic() < limit, self.text
            if select.select([self._handle], [], [], 1)[0]:
                self.text += os.read(self._handle, 4096).decode("utf-8", "replace")
        self.text = self.text.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._handle, text.encode())

    def end(self) -> int:
        """Return the exit code of the command."""
        while True:
            try:
                self.text += os.read(self._handle, 4096).decode("utf-8", "replace")
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])


@pytest.mark.long
def test_what_was_typed_becomes_patch(failed: Place, left: Left, tmp_path: Path) -> None:
    terminal = Terminal(failed, "debug", f"{OWN}/one/20-bad", "--diff", str(tmp_path / "patch"))
    terminal.expect("End the shell with: exit.")
    terminal.expect("$ ")
    for command in ("ls /", "false", "touch /tmp/made", "echo more > /tmp/other"):
        terminal.type(f"{command}\n")
        terminal.expect("$ ")
    terminal.type("history | head -n 1\n")
    terminal.expect("echo kept > /cache/file")
    terminal.type("exit\n")
    assert terminal.end() == 0, terminal.text
    text = (tmp_path / "patch").read_text(encoding="utf-8")
    assert "+++ b/one/20-Dockerfile-bad" in text
    added = [line for line in text.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert added[0].startswith("+RUN --network=none --mount=type=bind,")
    assert [line.rpartition("uid=1234 ")[2] for line in added] == [
        "touch /tmp/made \\",
        "+ && echo more > /tmp/other",
    ]
    assert left() == set()


@pytest.mark.long
def test_split_on_terminal_starts_shell_where_piece_failed(failed: Place) -> None:
    terminal = Terminal(failed, "debug", f"{OWN}/one/20-bad", "--split")
    terminal.expect("[4/5] test -f missing.txt | cat")
    terminal.expect("It exited with code 1.")
    terminal.expect("$ ")
    terminal.type('echo "in $PWD, $LOCAL"\n')
    terminal.expect("in /data, here")
    terminal.type("exit\n")
    assert terminal.end() == 0, terminal.text
