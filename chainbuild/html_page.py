"""HTML pages that load nothing: no script, font or other address. One style for light and dark mode, and safe foreign text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from chainbuild.text import escaped

_STYLE: Final = """
:root{color-scheme:light dark;--ground:#fff;--ink:#1c2330;--dim:#5b6575;--rule:#d9dee6;--soft:#f4f6f9;--good:#1d7a50;
--bad:#b3261e;--warn:#8a5a00}
@media(prefers-color-scheme:dark){:root{--ground:#14181f;--ink:#e6eaf0;--dim:#98a2b3;--rule:#2c3440;--soft:#1b212a;
--good:#58c08f;--bad:#ff8a80;--warn:#e0ac4e}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.5rem 4rem;max-width:1100px;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif}
h1{font-size:1.6rem;margin:0 0 .25rem}
h2{font-size:1.2rem;margin:0;overflow-wrap:anywhere}
h3{font-size:1rem;margin:1.1rem 0 .2rem}
p{margin:.3rem 0;color:var(--dim)}
code{font:.86em ui-monospace,"SFMono-Regular","Liberation Mono",Menlo,monospace;overflow-wrap:anywhere}
header{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:baseline;justify-content:space-between}
.badge{border:1px solid currentColor;border-radius:1rem;padding:0 .7rem;font-size:.85rem;white-space:nowrap}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}.dim{color:var(--dim)}
.scroll{overflow-x:auto}.scroll code{white-space:nowrap}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.28rem .8rem .28rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--dim);font-weight:600}
ul{margin:.2rem 0 .6rem;padding:0 0 0 1.1rem}
li{overflow-wrap:anywhere}
details{margin:.2rem 0 .6rem}summary{cursor:pointer;color:var(--dim)}
a{color:inherit}
"""


def document(title: str, parts: Iterable[str], *, style: str = "") -> str:
    """Return a page with a title (plain text) and parts of HTML; empty parts are left out. `style` adds to the common one."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>{_STYLE}{style}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def text(foreign: object) -> str:
    """Return foreign text for a page: nothing in it acts as HTML, and unprintable characters are shown as escapes."""
    return escape(escaped(str(foreign)))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, label: str = "") -> str:
    """Return a table of cells that are HTML. It scrolls if it is wider than the page.

    `label` describes it to screen readers, and lets the keyboard scroll it.
    """
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    named = f' role="region" aria-label="{text(label)}" tabindex="0"' if label else ""
    return f'<div class="scroll"{named}><table><tr>{head}</tr>{body}</table></div>'
