"""Give the context of a build a name by which BuildKit recognizes files that it already has.

BuildKit keeps the files it received and compares only a file's size, time and mode with its copy (moby/buildkit#2592,
#4817, #7176): a changed file with the same three is not sent again. It keeps one copy per name of a context folder
(buildx's shared key). chainbuild therefore sends a context under a name with a digest of everything that the build can
read, including the times at which the file system last changed each entry (ctime, which programs cannot set). Unchanged
files are not sent again, and a changed file is never taken from an older copy.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

from chainbuild.errors import NotReadyError
from chainbuild.host.folders import scratch_folder
from chainbuild.host.user_folders import cache_home, private_folder

_MOST_LINKS: Final = 500
_KEPT_SECONDS: Final = 86_400.0


@contextmanager
def linked_context(root: Path, sent: str) -> Iterator[Path]:
    """Provide a link to a context's folder during the `with` block.

    `sent` is the digest of what the build can read in it; if empty, everything is sent again.
    """
    name = hashlib.sha256(os.fsencode(root) + b"\0" + sent.encode()).hexdigest()
    folder = _folder() if sent else None
    if folder is None:
        with scratch_folder() as scratch:
            # The folder has a new name each time, and the link's name depends on it.
            link = scratch / f"{scratch.name}-{name[:16]}"
            link.symlink_to(root)
            yield link
        return
    link = folder / name
    with suppress(FileExistsError):
        link.symlink_to(root)
    with suppress(OSError):
        os.utime(link, follow_symlinks=False)
    yield link


def _folder() -> Path | None:
    """Return the user's folder of links; None if it cannot be used."""
    try:
        folder = private_folder(cache_home() / "contexts")
        _tidy(folder)
    except (NotReadyError, OSError):
        return None
    return folder


@cache
def _tidy(folder: Path) -> None:
    """Remove old links, once per process: after a day of many builds there are thousands to look at."""
    with os.scandir(folder) as entries:
        links = list(entries)
    if len(links) <= _MOST_LINKS:
        return
    limit = time.time() - _KEPT_SECONDS
    for link in links:
        # Another run may delete the same link.
        with suppress(OSError):
            if link.stat(follow_symlinks=False).st_mtime < limit:
                os.unlink(link)  # noqa: PTH108 - thousands of paths are not made for it
