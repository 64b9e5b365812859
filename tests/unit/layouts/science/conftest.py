from __future__ import annotations

from pathlib import Path

import pytest

from .grove import Grove


@pytest.fixture
def grove(tmp_path: Path) -> Grove:
    return Grove(tmp_path / "tree")
