"""The files sent to a builder are never those of an older build, whatever their times and sizes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import OWN, Lay, Place

pytestmark = pytest.mark.timeout(600)

LONG_AGO = (1_577_836_800, 1_577_836_800)
STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"


def rewrite(path: Path, text: str) -> None:
    """Replace the content of a file by other content of the same length, and keep its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, LONG_AGO)


def change_file(place: Place, text: str) -> None:
    rewrite(place.root / "data" / "f", text)


def change_context(place: Place, text: str) -> None:
    rewrite(place.root / "other" / "f", text)


def change_dockerfile(place: Place, text: str) -> None:
    rewrite(place.root / "opt" / "10-Dockerfile-a", f"{STEP}RUN echo {text} > /made\n")


def change_mode(place: Place, text: str) -> None:
    folder = place.root / "data" / "below"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o750 if text == "AAAA" else 0o755)
    rewrite(folder / "f", "same")
    os.utime(folder, LONG_AGO)


CASES: dict[str, tuple[Callable[[Place, str], None], str, tuple[str, ...], tuple[str, ...]]] = {
    "context": (change_file, "COPY data/f /made\n", (), ("cat", "/made")),
    "named context": (
        change_context,
        "COPY --from=other f /made\n",
        ("--build-context", "other=other"),
        ("cat", "/made"),
    ),
    "dockerfile": (change_dockerfile, "", (), ("cat", "/made")),
    "mode of a folder": (change_mode, "COPY data /made\n", (), ("stat", "-c", "%a", "/made/below")),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_content_change_with_same_size_and_time_is_sent(
    lay: Lay, case: tuple[Callable[[Place, str], None], str, tuple[str, ...], tuple[str, ...]]
) -> None:
    """Catch changed content that BuildKit does not transfer, because size, time and mode are the same.

    Trees unpacked from archives, from a Nix store, by `git restore-mtime` or by `cp -p` have such files. On the commit
    before, the image held the old content under a key of the new content forever.
    """
    change, lines, flags, command = case
    salt = f"RUN echo {time.time_ns()}\n"
    place = lay(files={"opt/10-Dockerfile-a": STEP + salt + lines})
    change(place, "AAAA")
    words = [*flags, "--until", "10"]
    assert place.build("opt", *words).built == ["10-a"]
    first = place.output(f"v1-opt-10-a-{OWN}", *command)
    change(place, "BBBB")
    assert place.build("opt", *words).built == ["10-a"]
    second = place.output(f"v1-opt-10-a-{OWN}", *command)
    assert first != second
    change(place, "AAAA")
    again = place.build("opt", *words, "--refresh", "--no-cache")
    assert again.built == ["10-a"]
    assert place.output(f"v1-opt-10-a-{OWN}", *command) == first


def test_unchanged_context_is_sent_under_the_same_name(lay: Lay) -> None:
    """Catch an unchanged context that is transferred again: its name depends on contents and times, not on the run."""
    place = lay(files={"opt/10-Dockerfile-a": f"{STEP}COPY data /made\n", "data/f": "x"})
    place.build("opt", "--until", "10")
    links = set(os.listdir(place.home / "cache" / "chainbuild" / "contexts"))
    place.build("opt", "--until", "10", "--refresh")
    assert set(os.listdir(place.home / "cache" / "chainbuild" / "contexts")) == links
    assert len(links) == 1
