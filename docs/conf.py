"""The site of the documentation: `script/docs` builds it, and fails if a link leads nowhere."""

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
extensions = ["myst_parser", "sphinx_copybutton", "site_extension"]
exclude_patterns = ["_build"]
# Code and flags are written in the text as they are typed: `--` stays, and so do quotes.
smartquotes = False

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
myst_fence_as_directive = ["mermaid"]

# Code blocks without a language get one in `site_extension`.
highlight_language = "none"
# Lexers for terminals and Dockerfiles know less than the tools.
suppress_warnings = ["misc.highlighting_failure"]
# A click copies commands without the prompt, and without what they print.
copybutton_prompt_text = r"\$ |> "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
copybutton_here_doc_delimiter = "END"

html_theme = "furo"
html_title = f"chainbuild {release}"
html_copy_source = False
html_show_copyright = False
# The reference page has the index of commands and flags; a second one would only be longer.
html_use_index = False
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["site.css"]
html_search_scorer = str(ROOT / "docs" / "search_scorer.js")
html_theme_options = {"navigation_with_keys": True}


def setup(_: Any) -> None:
    """Write the page that the code itself writes, before any page is read."""
    write_reference(Path(__file__).parent / "reference.md")
