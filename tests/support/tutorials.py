"""The tutorials of the documentation: sections whose commands are typed one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from tests.support.pages import blocks, section


class Tutorial(Struct, frozen=True, kw_only=True):
    """Sections of a page whose commands are typed one after the other, in an empty folder."""

    page: str
    sections: tuple[str, ...]
    prints: tuple[str, ...]
    """What the commands print among other things."""
    images: str
    """A pattern for the names that they load into the engine."""
    has_examples: bool = False
    """Whether the reader is in a checkout, with its folder of examples."""
    named: tuple[str, ...] = ()
    """Images of Docker Hub that plans name and nothing is built on: the test puts others in their place."""
    is_long: bool = True
    """Whether it takes more than 20 seconds."""

    def script(self, root: Path, platform: str) -> str:
        """Return everything that is typed, for a platform: the pages show amd64, and say so."""
        page = (root / self.page).read_text(encoding="utf-8")
        typed = [block.script() for name in self.sections for block in blocks(section(page, name)) if block.is_typed]
        text = "\n".join(typed)
        return text if platform == "amd64" else re.sub(r"\bamd64\b(?!,)", platform, text)


TUTORIALS: Final = (
    Tutorial(
        page="docs/index.md",
        sections=("Try it in thirty seconds",),
        prints=("arg STARS added",),
        images=r"me/sky:",
        is_long=False,
    ),
    Tutorial(
        page="README.md",
        sections=("Quick start",),
        prints=("hello from SQLite 3.", 'arg GREETING added ("good morning")'),
        images=r"acme/tools:",
    ),
    Tutorial(
        page="docs/getting-started.md",
        sections=("Build an image", "Build it again", "Save the arguments"),
        prints=("hello\n", "Dockerfile changed"),
        images=r"me/first:",
    ),
    Tutorial(
        page="docs/chain.md",
        sections=(
            "Write the Dockerfiles",
            "Add tests",
            "Show the plan",
            "Build",
            "Set arguments for one platform",
            "Look inside a step",
            "Add a platform",
            "Add an option",
        ),
        prints=("never built", "hello from SQLite 3.", "GOOD MORNING FROM SQLITE 3."),
        images=r"acme/greet:",
    ),
    Tutorial(
        page="docs/layers.md",
        sections=(
            "The base layer",
            "The release layer on that base",
            "Run your program in it",
            "Both layers as one project",
        ),
        prints=("Configured AnalysisBase-21.2.75", "5 events", "unchanged"),
        images=r"meehan/",
        has_examples=True,
        named=("atlas/slc6-atlasos:latest",),
    ),
    Tutorial(
        page="docs/science.md",
        sections=("Tutorial",),
        prints=("3 science builds and 2 compat builds", "notebook of nist:2.0-1-", "file welcome.txt changed"),
        images=r"acme/images/",
        has_examples=True,
    ),
    Tutorial(
        page="docs/image-types.md",
        sections=("A repository", "An image type of your own"),
        prints=("hello from lab-analysis", "pytorch:debian-12"),
        images=r"(lab-\w+|pytorch):",
        has_examples=True,
    ),
)
