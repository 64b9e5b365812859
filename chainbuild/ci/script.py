"""Lines of shell that the vendors' workflows have in common. Every word in them is checked and quoted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Final

from chainbuild.errors import ExitCode

DEADLINE: Final = int(ExitCode.DEADLINE)
BINARIES: Final = "$HOME/.local/bin"
"""Where pipx puts commands."""
USER: Final = "CHAINBUILD_REGISTRY_USER"
PASSWORD: Final = "CHAINBUILD_REGISTRY_PASSWORD"  # noqa: S105  # the name of the variable


CREATE_BUILDER: Final = "docker buildx create --name chainbuild --driver docker-container --bootstrap --use"
"""Makes a builder that gives layers reproducible times, which the engine's own builder does not."""


def emulate(architecture: str) -> tuple[str, ...]:
    """What lets the machine run programs of that architecture, where there is one."""
    return (f"docker run --privileged --rm tonistiigi/binfmt --install {architecture}",) if architecture else ()


def command(words: Iterable[str]) -> str:
    """A command line, quoted."""
    return shlex.join(words)


def lines(*parts: str) -> str:
    """A script; one of several lines ends in a newline, so that YAML shows it as it is."""
    return "\n".join(parts) + ("\n" if len(parts) > 1 else "")


def login(host: str, *, user: str = USER, password: str = PASSWORD) -> str:
    """Log in with a name and a password out of these variables; neither is ever in an argument that others see."""
    return f'printf \'%s\' "${password}" | docker login {shlex.quote(host)} --username "${user}" --password-stdin'


def have_pipx(install: str) -> tuple[str, ...]:
    """What makes sure of pipx on Debian and Ubuntu, where the install command is one of pipx."""
    if not install.startswith("pipx "):
        return ()
    return ("command -v pipx > /dev/null || { sudo apt-get update && sudo apt-get install --yes pipx; }",)
