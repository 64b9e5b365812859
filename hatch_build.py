"""What the wheel has besides the modules: the pages of the documentation, the addresses of the project, and its README.

The addresses are those of the repository whose workflow builds the wheel. A source distribution keeps them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

GENERATED = "reference.md"
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<path>(?![a-z]+:|[#/])[^)\s]+)\)")
"""A link or an image of Markdown whose target is a file of the repository."""


class PagesHook(BuildHookInterface):
    """Put the pages of the documentation into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the pages, unless the package is installed as editable: then it finds those of the checkout."""
        if version == "editable":
            return
        docs = Path(self.root, "docs")
        for page in sorted(docs.rglob("*.md")):
            if page.name != GENERATED:
                build_data["force_include"][str(page)] = f"chainbuild/shipped/docs/{page.relative_to(docs)}"


def with_addresses(page: str, source: str, version: str) -> str:
    """Return a Markdown page whose links to files of the repository are addresses: package indexes have only the page."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}[{link['text']}]({source}/{kind}/v{version}/{link['path']})"

    return LINK.sub(absolute, page)


class MetadataHook(MetadataHookInterface):
    """Add the addresses of the project and its README to the metadata."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README, and the addresses if they are known."""
        urls = self._kept() or self._of_workflow(metadata["version"])
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        if urls:
            metadata["urls"] = urls
            readme = with_addresses(readme, urls["Source"], metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}

    def _kept(self) -> dict[str, str]:
        """Return the addresses in a source distribution."""
        path = Path(self.root, "PKG-INFO")
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return dict(re.findall(r"^Project-URL: ([^,\n]+), (\S+)$", text.partition("\n\n")[0], re.MULTILINE))

    @staticmethod
    def _of_workflow(version: str) -> dict[str, str]:
        server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
        if not server or not repository:
            return {}
        source = f"{server}/{repository}"
        return {
            "Source": source,
            "Documentation": f"{source}/blob/v{version}/docs/index.md",
            "Changelog": f"{source}/blob/v{version}/CHANGELOG.md",
            "Issues": f"{source}/issues",
        }
