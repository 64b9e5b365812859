"""The JSON schema of `chainbuild.yaml` (draft 2020-12), made from the rules that its reader follows.

python -m chainbuild.project.schema > docs/chainbuild.schema.json
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from chainbuild.json_schema import as_text, schema_of
from chainbuild.project.keys import PROJECT
from chainbuild.project.place import FILE_NAME
from chainbuild.scratch import write_whole
from chainbuild.tree_folder import make_own_folder

SCHEMA_PLACE: Final = ".chainbuild/chainbuild.schema.json"
"""Where a project's copy of the schema lies, from its folder: that of the version that was last used there."""


def schema() -> dict[str, Any]:
    """The schema's document."""
    return schema_of(PROJECT, FILE_NAME, "What chainbuild does in a folder, without flags.")


def schema_text() -> str:
    """The schema as it is published."""
    return as_text(schema())


def put_schema(root: Path) -> None:
    """Have this version's schema in a project, for editors. One that cannot be written to is none the worse for it."""
    path, text = root / SCHEMA_PLACE, schema_text()
    with suppress(OSError):
        make_own_folder(root)
        if path.is_symlink() or not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text.encode())


if __name__ == "__main__":
    sys.stdout.write(schema_text())
