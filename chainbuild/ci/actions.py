"""The actions that GitHub workflows use, each pinned to the commit of a release.

`PINS` was read from the tags of the actions' own repositories on GitHub: `git ls-remote https://github.com/NAME TAG^{}`
prints the commit of a release. A tag can be moved; a commit cannot be changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple


class Pin(NamedTuple):
    """A release of an action."""

    version: str
    commit: str


CHECKOUT: Final = "actions/checkout"
UPLOAD: Final = "actions/upload-artifact"
BUILDX: Final = "docker/setup-buildx-action"
LOGIN: Final = "docker/login-action"
QEMU: Final = "docker/setup-qemu-action"

PINS: Final[Mapping[str, Pin]] = {
    CHECKOUT: Pin("v7.0.1", "3d3c42e5aac5ba805825da76410c181273ba90b1"),
    UPLOAD: Pin("v7.0.0", "bbbca2ddaa5d8feaa63e36b76fdaad77386f024f"),
    BUILDX: Pin("v4.3.0", "37fe631027851001ddb9b187196cc803df7f5f0e"),
    LOGIN: Pin("v4.1.0", "4907a6ddec9925e35a0a9e82d7399ccc52663121"),
    QEMU: Pin("v4.2.0", "96fe6ef7f33517b61c61be40b68a1882f3264fb8"),
}


def uses(action: str) -> str:
    """Return the value of `uses`."""
    return f"{action}@{PINS[action].commit}"


def with_versions(text: str) -> str:
    """Return the text of a workflow with the version of every action in a comment, which YAML libraries cannot write."""
    for action, pin in PINS.items():
        line = re.compile(rf"^( *(?:- )?uses: {re.escape(uses(action))})$", re.MULTILINE)
        text = line.sub(rf"\1 # {pin.version}", text)
    return text
