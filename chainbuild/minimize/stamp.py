"""What a builder does not look at when it decides whether it has copied a tree before: times and hard links.

BuildKit takes a COPY from its cache where names, modes, owners, attributes and contents are the same, and gives the times
of files that it copied then. A tree that is copied together with an empty folder called by its stamp is copied as it is.
"""

# Paths here are strings of an image, which may hold bytes that are no text
# ruff: noqa: PTH118, PTH208

from __future__ import annotations

import hashlib
import os
import stat


def stamp(folder: str) -> str:
    """A digest, in hex, of the times (in seconds, as layers have them) and the hard links of ``folder`` and all below it.

    OSError where something cannot be looked at.
    """
    digest = hashlib.sha256()
    links: dict[tuple[int, int], bytes] = {}
    todo = [os.fsencode(folder)]
    top = len(todo[0])
    while todo:
        path = todo.pop()
        status = os.lstat(path)
        name = path[top:]
        first, is_folder = b"", stat.S_ISDIR(status.st_mode)
        if not is_folder and status.st_nlink > 1:
            first = links.setdefault((status.st_dev, status.st_ino), name)
        digest.update(b"%d %d %d " % (len(name), len(first), int(status.st_mtime)) + name + first)
        if is_folder:
            todo.extend(sorted((os.path.join(path, entry) for entry in os.listdir(path)), reverse=True))
    return digest.hexdigest()
