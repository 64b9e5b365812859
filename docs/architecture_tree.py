"""Writes the tree of packages and modules into the architecture page, from their docstrings.

python docs/architecture_tree.py
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

_DOCS = Path(__file__).parent
_PACKAGE = _DOCS.parent / "chainbuild"
_BEGIN, _END = "<!-- tree -->\n", "<!-- end of tree -->\n"
_COLUMN = 34


def page() -> str:
    """Return the architecture page with the tree as it is now."""
    text = (_DOCS / "architecture.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return "\n".join([before + _BEGIN.rstrip(), "```text", "chainbuild/", *_lines(_PACKAGE, 1), "```", _END + after])


def _lines(folder: Path, depth: int) -> list[str]:
    entries = sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name))
    lines: list[str] = []
    for path in entries:
        if path.is_dir() and (path / "__init__.py").is_file():
            lines += [_line(f"{path.name}/", path / "__init__.py", depth), *_lines(path, depth + 1)]
        elif path.suffix == ".py" and path.name != "__init__.py":
            lines.append(_line(path.name, path, depth))
    return lines


def _line(name: str, path: Path, depth: int) -> str:
    indented = "  " * depth + name
    return f"{indented:<{_COLUMN}} {_summary(path)}".rstrip()


def _summary(path: Path) -> str:
    """Return the first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = re.match(r".*?(?:\.(?= [A-Z`])|$)", paragraph)
    return (sentence[0] if sentence else paragraph).rstrip(".").replace("``", "`")


if __name__ == "__main__":
    (_DOCS / "architecture.md").write_text(page(), encoding="utf-8")
