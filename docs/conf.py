"""The site of the documentation: `script/docs` builds it, and fails where a link leads nowhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from reference_page import write_reference  # noqa: E402

import chainbuild  # noqa: E402

project = "chainbuild"
release = version = chainbuild.__version__
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
html_theme = "furo"
html_title = f"chainbuild {release}"
html_copy_source = False
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
exclude_patterns = ["_build"]
# Fences for terminals and Dockerfiles whose lexers know less than the tools.
highlight_options = {"default": {"stripnl": False}}
suppress_warnings = ["misc.highlighting_failure"]


def setup(_: Any) -> None:
    """Before anything is read: the pages that the code itself writes."""
    write_reference(Path(__file__).parent / "reference.md")
