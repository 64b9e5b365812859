"""The address of a tree's git repository, in a form that others can use, read without running git."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from chainbuild.host.git import find_repository, read_small
from chainbuild.patterns import regex

_SECTION: Final = regex(r"\s*\[\s*remote\s+\"origin\"\s*\]\s*(?:[#;].*)?", re.IGNORECASE)
_ANY_SECTION: Final = regex(r"\s*\[.*")
_URL: Final = regex(r"\s*url\s*=\s*\"?([^\s\"#;]+)\"?\s*(?:[#;].*)?", re.IGNORECASE)
# The two forms of git-fetch(1), "GIT URLS": with a scheme, and `[user@]host:path`.
_ADDRESS: Final = regex(r"(https?|ssh|git)://(?:[^/\s]*@)?([A-Za-z0-9.\[\]:-]+)/([^\s?#]+)\S*")
_SCP: Final = regex(r"(?:[^/@:\s]+@)?([A-Za-z0-9.-]{2,}):(?!//)/?([^\s?#]+)")


def origin_address(folder: Path) -> str:
    """Return the address of the remote `origin` of the repository around a folder, as `public_address`; empty if none."""
    repository = find_repository(folder)
    if repository is None:
        return ""
    inside, address = False, ""
    for line in read_small(repository.common / "config").decode("utf-8", "replace").splitlines():
        if _ANY_SECTION.fullmatch(line):
            inside = bool(_SECTION.fullmatch(line))
        elif inside and (match := _URL.fullmatch(line)):
            address = match[1]
    return public_address(address)


def public_address(address: str) -> str:
    """Return a repository's address as a URL without user, password, query and fragment.

    Empty if it is none that others can use: a path, or of an unknown form, as one with `@` after its host, which may be a
    password that was not encoded.
    """
    if match := _SCP.fullmatch(address):
        address = f"ssh://{match[1]}/{match[2]}"
    match = _ADDRESS.fullmatch(address)
    return f"{match[1]}://{match[2]}/{match[3]}" if match and "@" not in match[3] else ""
