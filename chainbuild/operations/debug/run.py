"""Run a debug session: build the state before an instruction, start a container in it, and report what happened."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.builder.failures import emulation_hint
from chainbuild.errors import BuildFailedError, NotReadyError, WrongUseError
from chainbuild.events import Event, StepProgress
from chainbuild.execution.session import Session
from chainbuild.host.folders import scratch_folder
from chainbuild.operations.debug import startup
from chainbuild.operations.debug.cleanup import removed_at_end
from chainbuild.operations.debug.container import file_of, not_as_in_build, run_in_terminal
from chainbuild.operations.debug.patch import lasting, patch, typed_commands
from chainbuild.operations.debug.prepare import Folders, Preparation, Prepared, prepare
from chainbuild.operations.debug.secrets import Ask, secret_folder
from chainbuild.operations.debug.startup import FOLDER, Split
from chainbuild.operations.debug.subject import Subject
from chainbuild.patterns import regex

_NOT_RUN: Final = frozenset({125, 126, 127, 255})
"""Exit codes of docker for a program that it could not start; programs use them, too."""
_INSTRUCTION: Final = regex(r"\[[^]]*\d+/\d+\] (?P<instruction>.+)")
"""An instruction in the builder's progress. What the builder does besides, as loading a context, has no number."""


class SessionRequest(Struct, frozen=True, kw_only=True):
    """What the user wants in the container: a shell, `command`, or (`split`) the instruction piece by piece."""

    command: tuple[str, ...] = ()
    split: bool = False
    terminal: bool
    mounts: tuple[str, ...] = ()
    """Mounts of the user's own, as docker's `--mount` takes them."""
    environ: Mapping[str, str]
    ask: Ask | None = None
    """Asks for a secret; None: there is nobody to ask."""


class SessionResult(Struct, frozen=True, kw_only=True):
    """How a session ended: the exit code of what ran, and the commands that were typed, each with its status."""

    code: int
    typed: tuple[tuple[int, str], ...] = ()


def run_session(
    subject: Subject, session: Session, request: SessionRequest, tell: Callable[[str], None]
) -> SessionResult:
    """Run a session to its end. `tell` shows a text to the user before the container starts, and after it.

    Errors: those of a build; `WrongUseError` if a secret has no source or the instruction cannot be split;
    `BuildFailedError` if a piece fails; `NotReadyError` if the container does not start.
    """
    if request.split:
        _check_split(subject, startup.shell_of(subject.place))
    with scratch_folder() as scratch, secret_folder() as secrets, removed_at_end(secrets, scratch) as names:
        preparation = Preparation(subject, session, names, Folders(scratch, secrets), partial(_show_work, tell))
        prepared = prepare(preparation, request.environ, request.ask)
        shell = prepared.state.shell or startup.shell_of(subject.place)
        pieces = None
        if request.split:
            _check_split(subject, shell)
            pieces = startup.split(subject.place, subject.raw, shell)
        tell(greeting(subject, prepared, request))
        code = run_in_terminal(_argv(subject, prepared, names.container, request, shell, pieces))
        if code in _NOT_RUN:
            _check_start(subject, names.container)
        if pieces is not None and not request.terminal:
            _check_pieces(subject, pieces, file_of(names.container, startup.PIECE), code, tell)
        typed = file_of(names.container, startup.TYPED) if request.terminal and not request.command else b""
        return SessionResult(code=code, typed=typed_commands(typed))


def _show_work(tell: Callable[[str], None], event: Event) -> None:
    """Show the instructions that the builder runs again: what it has in its cache takes no time."""
    if instruction := running_instruction(event):
        tell(f"  {startup.one_line(instruction)}")


def running_instruction(event: Event) -> str:
    """Return the instruction of the tree that a build has begun; empty if it has begun something else."""
    match = _INSTRUCTION.match(event.doing) if isinstance(event, StepProgress) and not event.total else None
    instruction = match["instruction"] if match else ""
    return "" if FOLDER in instruction or instruction.startswith("FROM ") else instruction


def _argv(
    subject: Subject, prepared: Prepared, name: str, request: SessionRequest, shell: Sequence[str], pieces: Split | None
) -> tuple[str, ...]:
    start, program = startup.interactive(shell)
    if request.command:
        start, program = request.command, ""
    elif pieces is not None:
        text = startup.then_shell(pieces.marked, shell) if request.terminal else pieces.marked
        start, program = (*shell, text), ""
    return prepared.argv(subject, name, start, terminal=request.terminal, shell=program, mounts=request.mounts)


def greeting(subject: Subject, prepared: Prepared, request: SessionRequest) -> str:
    """Return what the user sees before the container starts: the place, the mounts, and what differs from a build."""
    instruction = subject.place.instruction
    lines = [f"{subject.spec.step} ({prepared.state.platform.oci}) before {subject.where}"]
    lines += [line.rstrip() for line in instruction.original.split("\n")]
    lines += [f"mount: {mount.text}" for mount in prepared.mounts]
    lines += [
        f"differs from a build: {text}" for text in not_as_in_build(instruction, prepared.mounts, prepared.uncopied)
    ]
    if request.terminal and not request.command:
        has = " In bash, the command is in the history: press the up arrow." if startup.command_of(instruction) else ""
        lines.append(f"End the shell with: exit.{has}")
    return "\n".join(lines)


def _check_start(subject: Subject, container: str) -> None:
    """Raise if the container did not start. Errors: `NotReadyError`."""
    found, problem = _docker("inspect", "--format", "{{.State.Error}}", container)
    _, output = _docker("logs", "--tail", "1", container)
    if found and "exec format error" in f"{problem}{output}":
        raise NotReadyError(
            f"{subject.spec.step}: the engine cannot run {subject.spec.platform.oci} programs",
            hint=emulation_hint(subject.spec.platform),
        )
    if found and not problem:
        return
    raise NotReadyError(
        f"{subject.spec.step}: the container did not start: {problem or 'see the message of docker above'}",
        hint="If the image has no shell before this instruction, choose an earlier one with --at LINE, or pass a program"
        " that it has: -- PROGRAM ARGUMENT….",
    )


def _docker(*arguments: str) -> tuple[bool, str]:
    """Return whether a docker command succeeded, and its output."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return done.returncode == 0, f"{done.stdout}{done.stderr if 'logs' in arguments else ''}".strip()


def _check_split(subject: Subject, shell: Sequence[str]) -> None:
    """Check that the instruction can be run piece by piece. Errors: `WrongUseError`."""
    if not startup.can_split(subject.place, shell):
        raise WrongUseError(
            f"{subject.where}: --split needs a RUN with a command for a shell",
            hint="Omit --split, or choose such an instruction with --at LINE.",
        )


def _check_pieces(subject: Subject, pieces: Split, record: bytes, code: int, tell: Callable[[str], None]) -> None:
    """Report how the pieces ended. Errors: `BuildFailedError` for a piece that failed."""
    count = len(pieces.texts)
    number = next((number for number in range(1, count + 1) if record == b"%d" % number), 0)
    if code == 0:
        tell(f"all {count} pieces succeeded" if count > 1 else "the command succeeded; it is one piece")
    elif 0 < number <= count:
        text = startup.one_line(pieces.texts[number - 1])
        raise BuildFailedError(
            f"{subject.spec.step}: piece {number} of {count} exited with code {code}: {text}",
            where=subject.spec.where(pieces.lines[number - 1]),
        )


def patch_of(result: SessionResult, subject: Subject, root: Path) -> str:
    """Return a patch to the Dockerfile with the commands that were typed and succeeded; empty if there are none."""
    commands = lasting(result.typed, startup.command_of(subject.place.instruction))
    return patch(subject.spec.dockerfile, root, subject.raw, subject.place, commands, escape=subject.dockerfile.escape)
