"""Files that come with the program: the stages' Dockerfiles, the registry's compose file, the documentation's pages.

A wheel has them beside the package's modules; in a checkout they are at the top level.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped(name: str) -> Path:
    """Return the path of a shipped file or folder, such as `utilities/Dockerfile-minimize`."""
    installed = _PACKAGE / "shipped" / name
    return installed if installed.exists() else _PACKAGE.parent / name


def documentation_pages() -> Mapping[str, Path]:
    """Return the pages of the documentation by name, such as `reuse` or `options/stock`."""
    folder = shipped("docs")
    # In a checkout, the site's generator may have written the page of the flags, which `--help` prints.
    paths = (path for path in sorted(folder.rglob("*.md")) if path.name != "reference.md")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


PROGRAM: Final = "chainbuild-minimize"
"""The named context that contains the program of the stages and of the proofs."""


def minimize_program() -> Path:
    """Return the folder of the named context `PROGRAM`."""
    return _PACKAGE / "minimize"


def proof_path() -> Path:
    """Return the Dockerfile of the proof."""
    return shipped("utilities/Dockerfile-verify")


def singularity_path() -> Path:
    """Return the Dockerfile of the image that makes SIF files."""
    return shipped("utilities/Dockerfile-singularity")
