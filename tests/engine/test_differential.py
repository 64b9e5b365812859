"""Step keys compared with plain buildx, over generated pairs of builds that differ in one thing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.differential import generate, judge, minimized
from tests.support.plain_builds import pool

pytestmark = pytest.mark.timeout(1500)

SEED = int(os.environ.get("CHAINBUILD_FUZZ_SEED", "20260101"))
PAIRS = int(os.environ.get("CHAINBUILD_FUZZ_PAIRS", "320"))
BATCH = 80


def test_keys_change_if_the_image_of_plain_buildx_changes(base_images: str, tmp_path: Path) -> None:
    """Catch a key that stays the same although the image changes: a stale image would be reused.

    Pairs whose keys differ are always correct and are not built. If plain buildx builds a pair whose Dockerfile names
    images, the pair is also built with pinned images, which must give the same image.
    """
    tried = compared = rewritten = 0
    with pool(base_images, tmp_path) as images:
        start = SEED
        while tried < PAIRS:
            verdicts = judge(generate(BATCH, start, images), images)
            for verdict in verdicts:
                if verdict.fault:
                    small = minimized(verdict.pair, images, tries=60)
                    pytest.fail(f"{verdict.fault} (CHAINBUILD_FUZZ_SEED={start})\n{small}", pytrace=False)
            tried += len(verdicts)
            compared += sum(verdict.same_key and verdict.works for verdict in verdicts)
            rewritten += sum(verdict.rewritten for verdict in verdicts)
            start += 1
    sys.stdout.write(f"{tried} pairs tried, {compared} with the same key compared, {rewritten} with pinned images\n")
    assert compared > PAIRS // 5
    assert rewritten > PAIRS // 10
