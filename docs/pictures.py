"""Make the pictures of the home page from a real run: `script/pictures`.

The commands are those of the page itself, typed into a terminal (tmux) that nobody looks at. A copy of the screen in
the middle of the build becomes `_static/run.svg`; the plan after the change becomes `_static/plan.svg`. A Docker engine
that builds for amd64 and aarch64 is needed, and the image debian:bookworm-slim.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

DOCS: Final = Path(__file__).resolve().parent
ROOT: Final = DOCS.parent
COLUMNS: Final = 88
# Width and height of a character, as rich draws it.
_CELL: Final = (12.2, 24.4)
_BLOCK: Final = re.compile(r"^```shell\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMESPACE: Final = "http://www.w3.org/2000/svg"
# What rich needs to fill in, without the fonts that its own format loads from another host.
_FORMAT: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 WIDTH HEIGHT" role="img">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect width="WIDTH" height="HEIGHT" rx="10" fill="#292929"/>
<g transform="translate(16, 12)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Terminal:
    """A terminal of a fixed size with a shell in it, in a tmux server of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._name = f"chainbuild-pictures-{os.getpid()}"
        variables = [f"{key}={value}" for key, value in environment.items()]
        shell = ["env", "-i", *variables, "bash", "--norc", "--noprofile"]
        size = ["-x", str(COLUMNS), "-y", "40"]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(folder), shlex.join(shell))

    def type(self, line: str) -> None:
        """Clear the screen and type a line, with the return key."""
        self._tmux("send-keys", "C-l")
        time.sleep(0.5)
        self._tmux("send-keys", "-l", f" {line}")
        self._tmux("send-keys", "Enter")

    def screen(self) -> str:
        """Return what the screen shows, with its colours."""
        return self._tmux("capture-pane", "-e", "-p").rstrip()

    def close(self) -> None:
        """End the terminal and what runs in it."""
        self._tmux("kill-server")

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def blocks(page: str) -> list[str]:
    """Return the shell blocks of a page, in order."""
    return _BLOCK.findall(page)


def svg(lines: list[str], name: str) -> str:
    """Return a picture of a terminal's lines, which may hold colours as escape sequences."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True, highlight=False)
    picture = console.export_svg(code_format=_FORMAT, unique_id=name)
    width, height = round(COLUMNS * _CELL[0] + 32), round(len(lines) * _CELL[1] + 28)
    return picture.replace("WIDTH", str(width)).replace("HEIGHT", str(height))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(terminal: Terminal, *patterns: str, seconds: int) -> str:
    """Return the first screen whose text has all the patterns."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        screen = terminal.screen()
        plain = Text.from_ansi(screen).plain
        if all(re.search(pattern, plain, re.MULTILINE) for pattern in patterns):
            return screen
        time.sleep(0.2)
    sys.exit(f"no screen with {patterns} within {seconds} s; the last one:\n{terminal.screen()}")


def _typed(command: str) -> str:
    """Return the page's command for two platforms."""
    return command.replace("amd64", "amd64,aarch64", 1)


def _write(name: str, command: str, lines: list[str]) -> None:
    prompt = f"\x1b[32m$\x1b[0m {command}"
    picture = svg([prompt, *lines], name)
    for private in (socket.gethostname(), str(Path.home()), tempfile.gettempdir(), str(ROOT), "http"):
        if private.strip("/") and private in picture.replace(_NAMESPACE, ""):
            sys.exit(f"{name}.svg would show {private}")
    (DOCS / "_static" / f"{name}.svg").write_text(picture, encoding="utf-8")
    sys.stderr.write(f"docs/_static/{name}.svg\n")


def _environment(scratch: Path) -> dict[str, str]:
    binaries = scratch / "bin"
    binaries.mkdir()
    program = ROOT / ".venv" / "bin" / "chainbuild"
    # The engine keeps no image of the run.
    wrapper = f'#!/bin/sh\ncase "$1" in plan) exec {program} "$@" ;; *) exec {program} "$@" --no-load ;; esac\n'
    (binaries / "chainbuild").write_text(wrapper, encoding="utf-8")
    (binaries / "chainbuild").chmod(0o755)
    (scratch / "home").mkdir()
    return {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "HOME": str(scratch / "home"),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "PS1": "$ ",
        "CHAINBUILD_REGISTRY_PORT": str(_free_port()),
        "CHAINBUILD_REGISTRY_DATA": str(scratch / "registry"),
        **{key: os.environ[key] for key in ("DOCKER_HOST", "DOCKER_CONTEXT") if key in os.environ},
    }


def main() -> None:
    """Make both pictures."""
    make_tree, build, change = blocks((DOCS / "index.md").read_text(encoding="utf-8"))
    build_command = _typed(build.splitlines()[0])
    change_command, plan_command = change.splitlines()
    # The builder's cache has no result for this number, so the picture shows a first build.
    make_tree = make_tree.replace("STARS=500000", f"STARS={500_000 + int(time.time()) % 10_000}")
    scratch = Path(tempfile.mkdtemp(prefix="chainbuild-pictures-"))
    folder = scratch / "work"
    folder.mkdir()
    subprocess.run(["bash", "-euc", make_tree], check=True, cwd=folder)
    shutil.copy(folder / "sky" / "minimize-amd64-args", folder / "sky" / "minimize-aarch64-args")
    terminal = Terminal(folder, _environment(scratch))
    try:
        _wait_for(terminal, r"^\$", seconds=10)
        terminal.type(build_command)
        live = _wait_for(terminal, r"minimize +minimizing", r"10-catalogue +\[.*s$", seconds=300)
        _wait_for(terminal, r"^done in", r"^\$ *$", seconds=600)
        terminal.type(change_command)
        terminal.type(_typed(plan_command))
        plan = _wait_for(terminal, r"^expected about", r"^\$ *$", seconds=60)
    finally:
        terminal.close()
        shutil.rmtree(scratch, ignore_errors=True)
    _write("run", build_command, _from(live, "amd64/sky"))
    _write("plan", _typed(plan_command), _from(plan, "step ")[:-1])


def _from(screen: str, start: str) -> list[str]:
    """Return the lines of a screen from the first one that begins with a text: what comes before is about the registry."""
    lines = screen.splitlines()
    first = next(index for index, line in enumerate(lines) if Text.from_ansi(line).plain.startswith(start))
    return lines[first:]


if __name__ == "__main__":
    main()
