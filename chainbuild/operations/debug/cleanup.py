"""Remove the container, the volumes, the images and the secrets of a debug session, even if chainbuild is killed.

A second process waits for the end of the first one, at a pipe that the kernel closes. It is in a session of its own, so no
signal of the terminal reaches it, and it is started before anything is made. This module imports nothing of chainbuild,
because that process runs it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

NAME: Final = "chainbuild-debug"
_DONE: Final = b"done"
_TRIES: Final = (0.0, 3.0, 15.0)
"""Seconds before each try: what a killed session had started may still be made."""


class Names:
    """The names of everything that a debug session makes in the engine."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.container = f"{NAME}-{token}"
        self.filler = f"{NAME}-{token}-mounts"
        """A container that is never started: making it fills the volumes."""
        self.image = f"{NAME}:{token}"
        self.content = f"{NAME}:{token}-mounts"
        self.with_files = f"{NAME}:{token}-files"

    def volume(self, number: int) -> str:
        """Return the name of the volume with the content of a mount."""
        return f"{NAME}-{self.token}-{number}"


@contextmanager
def removed_at_end(*folders: Path) -> Iterator[Names]:
    """Provide names for a session; what they name is removed at the end of the `with` block, or of this process.

    If this process is killed, the folders are removed as well.
    """
    names = Names(os.urandom(6).hex())
    # -P: a folder of the tree must not be imported instead.
    argv = [sys.executable, "-P", "-m", __name__, names.token, *map(str, folders)]
    watcher = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield names
    finally:
        remove(names)
        with contextlib.suppress(OSError):
            watcher.communicate(_DONE)


def remove(names: Names) -> None:
    """Remove what the names name. What does not exist is ignored."""
    _docker("rm", "--force", "--volumes", names.container, names.filler)
    volumes = _docker("volume", "ls", "--quiet", "--filter", f"name={NAME}-{names.token}").split()
    if volumes:
        _docker("volume", "rm", "--force", *volumes)
    _docker("image", "rm", "--force", names.image, names.content, names.with_files)


def _docker(*arguments: str) -> str:
    with contextlib.suppress(OSError):
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False).stdout
    return ""


def main() -> None:
    """Wait for the end of the process that started this one, and remove what it left behind."""
    if sys.stdin.buffer.read() == _DONE:
        return
    for folder in sys.argv[2:]:
        shutil.rmtree(folder, ignore_errors=True)
    for seconds in _TRIES:
        time.sleep(seconds)
        remove(Names(sys.argv[1]))


if __name__ == "__main__":
    main()
