"""The order of Debian's versions against `dpkg --compare-versions`, on 10,000 pairs."""

from __future__ import annotations

import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from subprocess import PIPE, STDOUT

import pytest

from chainbuild.distro.debian_versions import debian_key

PAIRS = 10_000
_WORDS = ("", "~", "~~", "+", ".", "a", "Z", "rc", "~rc", "+deb12u", "+b", "~bpo12+", "ubuntu", "-", ":")


def random_version(chance: random.Random) -> str:
    """Return a version that dpkg accepts: of few parts, so that pairs are often equal at the beginning."""
    words = [str(chance.choice((0, 1, 2, 9, 10, 100)))]
    for _ in range(chance.randrange(5)):
        words += [chance.choice(_WORDS[:-2]), str(chance.choice((0, 0, 1, 2, 10)))]
    epoch = chance.choice(("", "", "0:", "1:"))
    revision = chance.choice(("", "-0", "-1", "-1~", "-1.1", "-10", "-0ubuntu1"))
    return f"{epoch}{''.join(words)}{revision}"


def claims(seed: int) -> list[tuple[str, str, str]]:
    """Return pairs with the relation that the key claims, in dpkg's words."""
    chance = random.Random(seed)
    rows = []
    for _ in range(PAIRS):
        first = random_version(chance)
        second = first + chance.choice(("~", "+", "0", "")) if chance.random() < 0.3 else random_version(chance)
        one, other = debian_key(first), debian_key(second)
        rows.append((first, "lt" if one < other else "gt" if one > other else "eq", second))
    return rows


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs dpkg")
def test_debian_order_agrees_with_dpkg_on_10000_pairs() -> None:
    rows = claims(seed=15)
    assert {relation for _, relation, _ in rows} == {"lt", "eq", "gt"}
    lines = [f"dpkg --compare-versions '{a}' {how} '{b}' || echo '{a} {how} {b}'\n" for a, how, b in rows]
    shells = [subprocess.Popen(["sh"], stdin=PIPE, stdout=PIPE, stderr=STDOUT, text=True) for _ in range(2)]
    with ThreadPoolExecutor() as threads:
        answers = [threads.submit(shell.communicate, "".join(lines[n::2])) for n, shell in enumerate(shells)]
    assert [answer.result()[0] for answer in answers] == ["", ""]
