"""The first steps of the `stock` option are built and pass their tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import Lay

pytestmark = pytest.mark.timeout(600)

STEPS = ("10-Dockerfile-toolchain", "20-Dockerfile-hiredis", "toolchain-test", "hiredis-test")


def test_stock_steps_build_and_pass_their_tests(lay: Lay, repository_root: Path) -> None:
    place = lay()
    shutil.copytree(repository_root / "utilities", place.root / "utilities", dirs_exist_ok=True)
    (place.root / "stock").mkdir()
    for name in STEPS:
        shutil.copy(repository_root / "stock" / name, place.root / "stock")
    done = place.build("stock", "--until", "20")
    assert done.built == ["10-toolchain", "20-hiredis"]
    # The test results are stored with the images, so there is nothing left to do.
    assert place.build("stock", "--until", "20").built == []
