"""Draw the mermaid blocks of the pages: `script/pictures --diagrams`.

A browser that shows the site loads no drawing program: each block has a drawing in `_diagrams`, named after the digest
of the block's text. GitHub draws the same blocks by itself. npm and Chromium are needed, to draw only.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).resolve().parent
DRAWINGS: Final = DOCS / "_diagrams"
_MERMAID: Final = "mermaid@11"
_BLOCK: Final = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The drawing is part of the page, so it takes the colours of the theme, light or dark.
_STYLE: Final = """
.node rect, .node path, .node circle, .node polygon {
  fill: var(--color-background-secondary) !important; stroke: var(--color-foreground-border) !important;
}
.nodeLabel, .edgeLabel, .edgeLabel p { color: var(--color-foreground-primary) !important; }
.edgeLabel, .edgeLabel p, .labelBkg { background-color: var(--color-background-primary) !important; }
.flowchart-link, .edgePaths path { stroke: var(--color-foreground-muted) !important; }
.marker, .marker path { fill: var(--color-foreground-muted) !important; stroke: none !important; }
foreignObject { overflow: visible; }
"""
_PAGE: Final = """<!doctype html><meta charset="utf-8"><body><pre id="result"></pre><script src="mermaid.min.js"></script>
<script>
mermaid.initialize({startOnLoad: false, theme: "neutral", deterministicIds: true, themeCSS: STYLE,
  fontFamily: "sans-serif", flowchart: {htmlLabels: true, padding: 14}});
mermaid.render("NAME", TEXT).then(
  drawing => { document.getElementById("result").textContent = drawing.svg; },
  problem => { document.getElementById("result").textContent = "failed: " + problem; });
</script>
"""


def blocks(page: str) -> list[str]:
    """Return the texts of a page's mermaid blocks."""
    return _BLOCK.findall(page)


def drawing(text: str) -> Path:
    """Return the path of a block's drawing."""
    return DRAWINGS / f"{hashlib.sha256(text.strip().encode()).hexdigest()[:16]}.svg"


def all_blocks() -> list[str]:
    """Return the mermaid blocks of all pages."""
    return [text for page in sorted(DOCS.rglob("*.md")) for text in blocks(page.read_text(encoding="utf-8"))]


def _draw(text: str, target: Path, scratch: Path, browser: str) -> None:
    # A column of text is narrow: what GitHub draws from left to right goes from top to bottom here.
    text = text.replace("flowchart LR", "flowchart TB", 1)
    page = _PAGE.replace("STYLE", json.dumps(_STYLE)).replace("NAME", f"d{target.stem}")
    (scratch / "page.html").write_text(page.replace("TEXT", json.dumps(text)), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    command = [browser, *flags, f"--user-data-dir={scratch / 'profile'}", (scratch / "page.html").as_uri()]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = re.search(r'<pre id="result">(.*?)</pre>', shown, re.DOTALL)
    svg = html.unescape(result[1]) if result else ""
    if not svg.startswith("<svg"):
        sys.exit(f"mermaid drew nothing: {svg or shown[:2000]}\n{text}")
    target.write_text(svg + "\n", encoding="utf-8")
    sys.stderr.write(f"docs/_diagrams/{target.name}\n")


def main() -> None:
    """Draw what has no drawing yet, and remove drawings that no page has."""
    texts = all_blocks()
    DRAWINGS.mkdir(exist_ok=True)
    for path in set(DRAWINGS.glob("*.svg")) - {drawing(text) for text in texts}:
        path.unlink()
    missing = [text for text in texts if not drawing(text).is_file() or "--all" in sys.argv]
    if not missing:
        return
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    npm = shutil.which("npm")
    if not browser or not npm:
        sys.exit("docs/diagrams.py: npm and Chromium are needed to draw")
    with tempfile.TemporaryDirectory(prefix="chainbuild-diagrams-") as name:
        scratch = Path(name)
        subprocess.run([npm, "install", "--silent", "--prefix", name, _MERMAID], check=True, cwd=name)
        shutil.copy(scratch / "node_modules" / "mermaid" / "dist" / "mermaid.min.js", scratch)
        for text in missing:
            _draw(text, drawing(text), scratch, browser)


if __name__ == "__main__":
    main()
