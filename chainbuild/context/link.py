"""The name under which a context is sent to a builder.

BuildKit keeps what it was sent and compares only size, time and mode of a file with what it has (moby/buildkit#2592,
#4817, #7176): a file that changed, but kept these, is not sent again. It keeps one such copy for each name of a context
folder (buildx's shared key). So a context is sent under a name that holds a digest of everything that the build can read,
with the times at which the file system last changed each entry (ctime, which no program sets): what is the same is not
sent again, and nothing that changed is ever taken from an older copy.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from chainbuild.errors import NotReadyError
from chainbuild.host.folders import scratch_folder
from chainbuild.host.user_folders import cache_home, private_folder

_MOST_LINKS: Final = 500
_KEPT_SECONDS: Final = 86_400.0


@contextmanager
def linked_context(root: Path, sent: str) -> Iterator[Path]:
    """Have a link to a context's folder as long as the `with` lasts.

    `sent` is the digest of what the build can read of it; empty: unknown, then everything is sent afresh.
    """
    name = hashlib.sha256(os.fsencode(root) + b"\0" + sent.encode()).hexdigest()
    folder = _folder() if sent else None
    if folder is None:
        with scratch_folder() as scratch:
            # The folder's own name is new each time; the link's is what counts.
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
    """The user's folder of links, without old ones; None if there can be none."""
    try:
        folder = private_folder(cache_home() / "contexts")
        names = os.listdir(folder)  # noqa: PTH208 - names are enough
    except (NotReadyError, OSError):
        return None
    if len(names) > _MOST_LINKS:
        limit = time.time() - _KEPT_SECONDS
        for name in names:
            # Another run may be cleaning, too.
            with suppress(OSError):
                if (folder / name).lstat().st_mtime < limit:
                    (folder / name).unlink()
    return folder
