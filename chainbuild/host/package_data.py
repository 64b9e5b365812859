"""Files that come with the program: the stages' Dockerfiles and the registry's compose file.

A wheel has them beside the package's modules; in a checkout they are at the top level.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped(name: str) -> Path:
    """Return the path of a shipped file or folder, such as `utilities/Dockerfile-minimize`."""
    installed = _PACKAGE / "shipped" / name
    return installed if installed.exists() else _PACKAGE.parent / name


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
