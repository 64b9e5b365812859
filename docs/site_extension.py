"""What the site adds to Sphinx: drawings for mermaid blocks, colours for sessions, an index of commands and flags."""

from __future__ import annotations

import re
from typing import Any, Final

from diagrams import drawing
from docutils import nodes
from docutils.nodes import Element, Node
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

_LOG: Final = getLogger(__name__)
_REFERENCE: Final = "reference"
_VARIABLE: Final = re.compile(r"CHAINBUILD_[A-Z_]+")


class MermaidDrawing(SphinxDirective):
    """Put the committed drawing of a mermaid block into the page; see `diagrams.py`."""

    has_content = True

    def run(self) -> list[Node]:
        """Return the drawing, or the block as it is with a warning."""
        text = "\n".join(self.content)
        path = drawing(text)
        self.env.note_dependency(path)
        if not path.is_file():
            problem = "no drawing of this mermaid block: run script/pictures --diagrams"
            _LOG.warning(problem, location=self.get_location())
            return [nodes.literal_block(text, text, language="none")]
        picture = path.read_text(encoding="utf-8")
        return [nodes.raw("", f'<div class="diagram" tabindex="0">{picture}</div>', format="html")]


class SessionColours(SphinxTransform):
    """Choose a language for the code blocks that name none: a terminal session, a Dockerfile, or plain text."""

    default_priority = 205

    def apply(self, **_: Any) -> None:
        """Set the language of each block."""
        for block in self.document.findall(nodes.literal_block):
            language = block.get("language")
            if not language or language in {"none", "default"}:
                block["language"] = language_of(block.astext())


def language_of(code: str) -> str:
    """Return the name of the language that a code block is coloured as."""
    lines = [line for line in code.splitlines() if line.strip()]
    if any(line.startswith("$ ") for line in lines):
        return "console"
    if any(re.match(r"FROM \S", line) for line in lines) and all(line.isascii() for line in lines):
        return "docker"
    first = lines[0] if lines else ""
    if re.match(r"(chainbuild|docker|script/\S+|pipx?|python|git)( |$)", first) and "(" not in first:
        return "shell"
    return "text"


class CommandIndex(SphinxTransform):
    """Enter the commands, flags and variables of the reference into the index, which the search asks first."""

    default_priority = 820  # before the domains collect index entries

    def apply(self, **_: Any) -> None:
        """Add an index entry and an id to each section of a command and each flag in it."""
        if self.env.current_document.docname != _REFERENCE:
            return
        for section in list(self.document.findall(nodes.section)):
            title = section[0].astext()
            if not title.startswith("chainbuild "):
                continue
            command = title.removeprefix("chainbuild ")
            self._enter(section, section["ids"][0], {title, command, command.split()[-1]})
            for item in self._items(section):
                self._enter_flag(item, section["ids"][0])

    @staticmethod
    def _items(section: Element) -> list[Element]:
        lists = [child for child in section.children if isinstance(child, nodes.definition_list)]
        return [item for each in lists for item in each.children if isinstance(item, nodes.definition_list_item)]

    def _enter_flag(self, item: Element, command: str) -> None:
        names = [literal.astext().split()[0] for literal in item[0].findall(nodes.literal)]
        names = [name for name in names if name.startswith("-")]
        if not names:
            return
        anchor = f"{command}{names[0]}"  # the long name comes first
        item[0]["ids"].append(anchor)
        variables = {text for node in item.findall(nodes.literal) for text in _VARIABLE.findall(node.astext())}
        self._enter(item[0], anchor, {*names, *variables})

    @staticmethod
    def _enter(node: Element, anchor: str, texts: set[str]) -> None:
        entries = [("single", text, anchor, "main", None) for text in sorted(texts)]
        position = 1 if isinstance(node, nodes.section) else len(node)
        node.insert(position, addnodes.index(entries=entries))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("mermaid", MermaidDrawing)
    app.add_transform(SessionColours)
    app.add_transform(CommandIndex)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
