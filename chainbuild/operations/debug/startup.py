"""The files of a debug container: its start script, the settings of its shell, and the command of the instruction.

Texts of the tree are in files of their own, or quoted. Nothing of them is part of a script.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import Instruction
from chainbuild.dockerfile.cut import Place, line_of, shell_command
from chainbuild.dockerfile.shell_pieces import marked, split_pieces
from chainbuild.patterns import regex

FOLDER: Final = "/.chainbuild"
"""The folder of these files in the container."""
TYPED: Final = "typed"
"""The file with the commands that were typed, each with its status; see `patch.typed_commands`."""
PIECE: Final = "piece"
"""The file with the number of the last piece that was begun."""
_DEFAULT_SHELL: Final = ("/bin/sh", "-c")
_LABEL: Final = 100
_PROMPT: Final = regex(r"[^A-Za-z0-9._/-]+")

# bash has a history and can record what was typed; busybox has a history; other shells have neither.
_START: Final = """\
if [ -n "$CHAINBUILD_SHELL" ]; then shell=$CHAINBUILD_SHELL; else shell=bash; fi
unset CHAINBUILD_SHELL
if command -v "$shell" >/dev/null 2>&1; then
  case "$shell" in *bash) exec "$shell" --rcfile FOLDER/bashrc "$@" -i ;; esac
else
  shell=/bin/sh
fi
HISTFILE=FOLDER/history ENV=FOLDER/shrc exec "$shell" -i
"""
_BASHRC: Final = """\
unset HISTFILE HISTCONTROL HISTIGNORE
PS1='PROMPT:\\w\\$ '
if [ -s FOLDER/command ]; then history -s -- "$(<FOLDER/command)"; fi
chainbuild_typed() {
  local status=$? entry
  entry=$(HISTTIMEFORMAT= builtin history 1)
  if [[ $entry =~ ^[[:space:]]*([0-9]+)[*]?[[:space:]][[:space:]](.*)$ ]]; then
    if [ -n "${chainbuild_number-}" ] && [ "${BASH_REMATCH[1]}" != "$chainbuild_number" ]; then
      printf '%s\\t%s\\0' "$status" "${BASH_REMATCH[2]}" >>FOLDER/typed
    fi
    chainbuild_number=${BASH_REMATCH[1]}
  else
    chainbuild_number=0
  fi
}
PROMPT_COMMAND=chainbuild_typed
"""
_SHRC: Final = "PS1='PROMPT:$ '\n"


class Split(Struct, frozen=True, kw_only=True):
    """The command of an instruction in pieces: each one's text and line, and the command with marks before them."""

    texts: tuple[str, ...]
    lines: tuple[int, ...]
    marked: str


def shell_of(place: Place) -> tuple[str, ...]:
    """Return the SHELL that applies to an instruction, as far as its own stage sets it."""
    shell: tuple[str, ...] = _DEFAULT_SHELL
    for instruction in place.stage.instructions:
        if instruction.line >= place.instruction.line:
            break
        if instruction.keyword == "SHELL" and instruction.json and instruction.words:
            shell = instruction.words
    return shell


def command_of(instruction: Instruction) -> str:
    """Return the command of a RUN as it is typed into a shell; empty for other instructions."""
    if instruction.keyword != "RUN":
        return ""
    text = shell_command(instruction)
    return shlex.join(instruction.words) if text is None and instruction.json else text or ""


def can_split(place: Place, shell: Sequence[str]) -> bool:
    """Return whether the instruction has a command for a shell of the family of sh."""
    named = Path(shell[0]).name
    return shell_command(place.instruction) is not None and named in {"sh", "bash", "dash", "ash", "ksh", "busybox"}


def split(place: Place, raw: bytes, shell: Sequence[str]) -> Split:
    """Return the pieces of the instruction's command, which `can_split`."""
    text = shell_command(place.instruction) or ""
    pieces = split_pieces(text, errexit=any(re.fullmatch(r"-[a-zA-Z]*e[a-zA-Z]*", word) for word in shell[1:]))
    texts = tuple(text[piece.start : piece.end] for piece in pieces)
    lines = tuple(line_of(place.instruction, piece.start, raw) for piece in pieces)
    labels = [f"[{number}/{len(texts)}] {one_line(piece)}" for number, piece in enumerate(texts, start=1)]
    return Split(texts=texts, lines=lines, marked=marked(text, pieces, labels, f"{FOLDER}/{PIECE}"))


def one_line(text: str) -> str:
    """Return the beginning of a command on one line, without control characters."""
    words = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return words if len(words) <= _LABEL else f"{words[: _LABEL - 1]}…"


def write_files(folder: Path, command: str, name: str) -> None:
    """Write the files of the container into an empty folder, readable and writable by every user of the container."""
    prompt = _PROMPT.sub("-", name)
    scripts = {"start": _START, "bashrc": _BASHRC, "shrc": _SHRC}
    files = {file: text.replace("FOLDER", FOLDER).replace("PROMPT:", f"{prompt}:") for file, text in scripts.items()}
    files |= {
        "command": command,
        # Of busybox, which has one line for each command.
        "history": f"{command}\n" if "\n" not in command else "",
        TYPED: "",
        PIECE: "",
    }
    for file, text in files.items():
        path = folder / file
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        path.chmod(0o666)
    folder.chmod(0o777)


def interactive(shell: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the command that starts an interactive shell like SHELL, and the program to put into `CHAINBUILD_SHELL`.

    The options of SHELL apply except for `-c`, `-e`, which would end the shell at the first failure, and `-v` and `-x`. If
    SHELL is the default, the program is empty, and bash is started if the image has it.
    """
    if tuple(shell) == _DEFAULT_SHELL:
        return ("/bin/sh", f"{FOLDER}/start"), ""
    options: list[str] = []
    for word in shell[1:]:
        kept = "-" + re.sub("[cevxil]", "", word[1:]) if re.fullmatch(r"-[a-zA-Z]+", word) else word
        if kept != "-":
            options.append(kept)
    return ("/bin/sh", f"{FOLDER}/start", *options), shell[0]


def then_shell(text: str, shell: Sequence[str]) -> str:
    """Return a command that starts an interactive shell where the command `text` fails, in its folder and environment."""
    start, program = interactive(shell)
    begin = f"CHAINBUILD_SHELL={shlex.quote(program)} exec {shlex.join(start)} <&9 9<&-"
    ending = (
        "chainbuild_status=$?; trap - EXIT;"
        " if [ $chainbuild_status = 0 ]; then echo 'The instruction succeeded.' >&2;"
        f' else echo "It exited with code $chainbuild_status. The shell is where it ran." >&2; {begin}; fi'
    )
    # As in a build, nothing is on stdin.
    return f"exec 9<&0 </dev/null; trap {shlex.quote(ending)} EXIT; {text}"
