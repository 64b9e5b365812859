"""`chainbuild minimize explain | removed | report` on a real result, from a machine with only the registry."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chainbuild.values import replace

from .conftest import OWN, Done, Lay, Place

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def tiny(lay_once: Lay) -> Place:
    """The case `tiny`, built."""
    place = lay_once("tiny")
    place.build("tiny")
    return place


@pytest.fixture
def elsewhere(tiny: Place, tmp_path: Path) -> Place:
    """Another machine without a tree or an engine, and with the same registry."""
    root = tmp_path / "elsewhere"
    root.mkdir()
    return replace(tiny, root=root, home=tmp_path / "home", environ={"DOCKER_HOST": "tcp://127.0.0.1:9"})


def ask(place: Place, command: str, *words: str, tag: str = f"v1-tiny-{OWN}") -> Done:
    return place.run("minimize", command, f"{place.host}/{place.repo}:{tag}", *words, "--registry", place.host)


def test_explain_gives_reason_for_kept_and_removed_files(elsewhere: Place) -> None:
    done = ask(elsewhere, "explain", "/usr/local/bin/tool", "/opt/compiler/big", "/etc/debian_version", "/none")
    assert done.code == 0, done.told()
    tool, why, big, version, nothing = done.out.splitlines()
    assert tool.startswith("/usr/local/bin/tool: file")
    assert "documented folder /usr/local/bin" in why
    assert big.startswith("/opt/compiler/big: left out: it is in no kept folder")
    assert "the production image has it" in version
    assert "is not in the result" in nothing
    as_json = json.loads(ask(elsewhere, "explain", "tool", "none", "--json").out)
    assert as_json["schema"] == "chainbuild.explained/1"
    assert [row["found"] for row in as_json["files"]] == [True, False]
    minimized = ask(elsewhere, "explain", "tool", tag=f"v1-tiny-minimized-{OWN}")
    assert minimized.out.startswith("/usr/local/bin/tool: file"), minimized.told()


def test_removed_lists_removed_files_by_package(elsewhere: Place) -> None:
    done = ask(elsewhere, "removed", "--files")
    assert done.code == 0, done.told()
    lines = done.out.splitlines()
    assert lines[1].split()[:3] == ["dir:/opt/compiler", "3.0", "MB"]
    assert lines[2].split() == ["3.0", "MB", "/opt/compiler/big"]
    document = json.loads(ask(elsewhere, "removed", "--json").out)
    (compiler,) = [row for row in document["packages"] if row["package"] == "dir:/opt/compiler"]
    assert compiler["bytes"]["left"] == 3_000_000


def test_report_shows_image_by_package_and_by_step(elsewhere: Place) -> None:
    done = ask(elsewhere, "report")
    assert done.code == 0, done.told()
    page = elsewhere.root / done.out.strip()
    assert page.is_relative_to(elsewhere.root / ".chainbuild" / "reports")
    text = page.read_text(encoding="utf-8")
    document = json.loads((page.parent / "report.json").read_bytes())
    sums: dict[str, int] = {}
    for row in document["steps"]:
        sums[row["step"]] = sums.get(row["step"], 0) + sum(row["bytes"].values())
    assert list(sums) == ["base image", "tiny/10-base", "tiny/20-tool"], "30-runtime brings no bytes"
    assert sums["tiny/20-tool"] > 3_000_000
    assert sum(sums.values()) == document["sizes"]["chain"], "every byte is somebody's"
    assert re.search(r'class="head"[^>]*>base image, ', text)
    assert "tiny/20-tool" in text
    again = ask(elsewhere, "report", "-o", "there", "--json")
    assert json.loads(again.out)["page"] == "there/report.html"
    assert (elsewhere.root / "there" / "report.html").read_bytes() == page.read_bytes()


def test_image_that_is_not_a_result_is_reported(elsewhere: Place) -> None:
    step = ask(elsewhere, "removed", tag=f"v1-tiny-20-tool-{OWN}")
    assert step.code == 4, step.told()
    assert "comes before the minimize stage" in step.err
    missing = ask(elsewhere, "report", tag="none")
    assert missing.code == 4, missing.told()
    place = ask(elsewhere, "report", "-o", "/proc/none")
    assert place.code == 2, place.told()
    assert "cannot create /proc/none" in place.err
