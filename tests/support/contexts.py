"""Trees with sources that a builder may miss."""

from __future__ import annotations

from pathlib import Path


def make(root: Path, *names: str) -> Path:
    """Write files that contain their path; `a -> b` is a link."""
    for name in names:
        path, arrow, target = name.partition(" -> ")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            (root / path).symlink_to(target)
        else:
            (root / path).write_text(path)
    return root


MISSING = (
    ("a", "", False),
    ("b", "", True),
    ("d/e", "", False),
    ("d/x", "", True),
    ("d", "d", True),
    ("d", "d/*", False),
    ("d", "d\n!d/g", False),
    ("d/g", "d\n!d/g", False),
    ("d/e", "d\n!d/g", True),
    ("a", "a", True),
    ("empty", "", False),
    ("empty", "empty", True),
    ("link", "", False),
    ("link", "link", True),
    ("link", "a", True),
    ("gone", "", True),
    ("dirlink/g", "", False),
    ("dirlink/x", "", True),
    ("dirlink/g", "d/g", True),
    ("a/x", "", True),
    ("abs", "", False),
    ("none*", "", False),
    ("[b]", "", False),
    ("*", "", True),
    ("*", "gone", False),
    ("lin*", "", False),
    ("go*", "", True),
    ("lin*", "a", True),
    ("d/*", "", False),
    ("d*/g", "", False),
    ("g?ne", "gone", False),
    ("*/gone", "", False),
)
"""Sources, ignore files, and whether a builder rejects the COPY because the source is missing."""


def missing_tree(root: Path) -> Path:
    """Create the tree of the cases in `MISSING`."""
    make(root, "a", "d/e", "d/g", "link -> a", "gone -> nowhere", "dirlink -> d", "abs -> /d/g")
    (root / "empty").mkdir()
    return root
