"""Reports of traced tests."""

from __future__ import annotations

from typing import Any

NONE = {"kind_of_package": "", "package": "", "version": ""}

MAGIC = {"kind_of_package": "deb", "package": "libmagic-mgc", "version": "5.44"}


def row(name: str = "production-test", **changes: Any) -> dict[str, Any]:
    usual = {"name": name, "status": "0", "produced": "", "traced": True, "paths": 7, "cut": False, "said": ""}
    return usual | changes


def missing(*tests: str) -> dict[str, Any]:
    """Return two paths that tests use and the image lacks."""
    of = {"tests": list(tests or ("production-test",)), "kind": "opened", "program": "/usr/bin/file"}
    return {
        "missing": [{"path": "/srv/a", **of, **NONE}, {"path": "/usr/lib/file/magic.mgc", **of, **MAGIC}],
        "words": [
            {"path": "/srv/a", "pattern": "/srv/a", "brings": ["/srv/a"], **NONE},
            {"path": "/usr/lib/file", "pattern": "/usr/lib/file", "brings": ["/usr/lib/file/magic.mgc"], **MAGIC},
        ],
    }
