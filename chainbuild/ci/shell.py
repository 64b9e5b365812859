"""Shell lines that the workflows of all vendors share. Every argument in them is quoted."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Final

from chainbuild.ci.install import Installation
from chainbuild.ci.quoting import quote
from chainbuild.errors import ExitCode

DEADLINE: Final = int(ExitCode.DEADLINE)
BEFORE: Final = "CHAINBUILD_BEFORE"
"""The variable with the commit that a release plan is compared with."""
BUILDER: Final = "chainbuild"
CREATE_BUILDER: Final = f"docker buildx create --name {BUILDER} --driver docker-container --bootstrap --use"
"""Creates a builder that sets reproducible times in layers, which the engine's own builder does not."""


def lines(*parts: str) -> str:
    """Return a script. If it has several lines, it ends in a newline, so that YAML shows it as a block."""
    return "\n".join(parts) + ("\n" if len(parts) > 1 else "")


def emulate(architectures: str) -> tuple[str, ...]:
    """Return the commands that set up emulation of some architectures, comma-separated; none if there are none."""
    return (f"docker run --privileged --rm tonistiigi/binfmt --install {architectures}",) if architectures else ()


def login(host: str, user: str, password: str, *, optional: bool = False) -> str:
    """Return the command that logs in with the user and password of these variables; the password is not an argument.

    `optional`: do nothing without a password. The vendors give no secrets to pull requests from forks.
    """
    command = f'printf \'%s\' "${password}" | docker login {quote(host)} --username "${user}" --password-stdin'
    return f'if [ -n "${{{password}-}}" ]; then {command}; fi' if optional else command


def install(installation: Installation) -> tuple[str, ...]:
    """Return the commands that install chainbuild and make it available to the rest of the script."""
    return (*installation.commands, f'export PATH="{":".join(installation.binaries)}:$PATH"')


def write_secret(variable: str, path: str) -> str:
    """Return the command that writes the value of a variable to a file that only this user can read, if it is missing."""
    folder, file = posixpath.dirname(path) or ".", quote(path)
    return (
        f"[ -e {file} ] || {{ mkdir -p -- {quote(folder)} && "
        f"( umask 077 && printf '%s' \"${{{variable}-}}\" > {file} ); }}"
    )


def if_changed(path: str, *commands: str) -> str:
    """Return commands to run only if a file differs from the commit in the variable `BEFORE`, or if that is unknown."""
    unchanged = f'[ -n "${{{BEFORE}-}}" ] && git diff --quiet "${BEFORE}" HEAD -- {quote(path)}'
    return f"if {unchanged}; then echo {quote(f'{path} has not changed')}; else {' && '.join(commands)}; fi"


def report(commands: Iterable[str], path: str, *after: str) -> tuple[str, ...]:
    """Return the commands with their output in a file and on the screen, ending with the code of the last that failed.

    `after` are the lines to run before the end, whatever the commands returned.
    """
    folder, file = posixpath.dirname(path), quote(path)
    return (
        f"mkdir -p {quote(folder)}",
        f": > {file}",
        "code=0",
        *(f"{command} >> {file} 2>&1 || code=$?" for command in commands),
        f"cat {file}",
        *after,
        'exit "$code"',
    )
