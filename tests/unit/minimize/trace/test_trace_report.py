"""Report the results of traced tests: which passed, what is missing, and which patterns add it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chainbuild.minimize.root import RootFileSystem
from chainbuild.minimize.trace import __main__ as command
from chainbuild.minimize.trace import report as module
from chainbuild.minimize.trace.report import TraceOfTest, is_ignored, trace_report
from tests.support.elf_builder import plant

START = (
    '8 execve("/.chainbuild-tracer/loader", ["loader"], 0x1 /* 3 vars */) = 0\n'
    '9 execve("/.chainbuild-test/test", ["test"], 0x1 /* 3 vars */) = 0\n'
)
CHAIN = {"/bin/sh": b"", "/srv/a": b"", "/srv/b": b"", "/srv/c": b"", "/usr/share/x/y": b""}


class Results:
    """Writes results of tests, and compares two images by them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chain = RootFileSystem(plant(folder / "chain", CHAIN))
        self.production = RootFileSystem(plant(folder / "production", {"/bin/sh": b"", "/srv/b": b""}))
        self.tests: list[TraceOfTest] = []

    def test(
        self, name: str, *paths: str, status: str = "0", calls: str | None = None, produced: str = "", starts: str = ""
    ) -> None:
        results = self.folder / name
        results.mkdir()
        (results / "status").write_text(f"{status}\n")
        opened = "".join(f'9 openat(AT_FDCWD</>, "{path}", O_RDONLY) = 3<{path}>\n' for path in paths)
        if calls is None:
            (results / "calls").write_text(START + opened)
        elif calls:
            (results / "calls").write_text(calls)
        (results / "messages").write_text("strace: not permitted\n")
        if produced:
            (self.folder / f"{name}-produced").mkdir()
            (self.folder / f"{name}-produced" / "status").write_text(produced)
        place = str(self.folder / f"{name}-produced") if produced else ""
        self.tests.append(TraceOfTest(name=name, results=str(results), produced=place, starts=starts))

    def report(self, *ignore: str) -> dict[str, Any]:
        return trace_report(self.chain, self.production, self.tests, ignore=ignore)

    def rows(self) -> Mapping[str, dict[str, Any]]:
        return {str(row["name"]): row for row in self.report()["tests"]}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path)


def test_missing_paths_have_tests_and_program(results: Results) -> None:
    results.test("one", "/srv/a", "/srv/b")
    results.test("two", "/srv/a", "/srv/c", "/none")
    report = results.report()
    assert {row["path"]: row["tests"] for row in report["missing"]} == {"/srv/a": ["one", "two"], "/srv/c": ["two"]}
    assert {row["program"] for row in report["missing"]} == {""}, "it is the test itself"
    assert report["paths"] == 3
    assert [row["paths"] for row in report["tests"]] == [2, 2]
    assert [(word["pattern"], word["brings"]) for word in report["words"]] == [
        ("/srv/a", ["/srv/a"]),
        ("/srv/c", ["/srv/c"]),
    ]


def test_untraced_test_has_strace_message(results: Results) -> None:
    results.test("silent", calls="", status="1")
    results.test("own", calls=START.splitlines()[0] + "\n")
    results.test("well", "/srv/b")
    rows = results.rows()
    assert {name: (row["traced"], row["said"]) for name, row in rows.items()} == {
        "silent": (False, "strace: not permitted\n"),
        "own": (False, "strace: not permitted\n"),
        "well": (True, ""),
    }


def test_interpreter_of_test_counts(results: Results) -> None:
    results.test("one", starts="/usr/share/x/y")
    assert [(row["path"], row["kind"]) for row in results.report()["missing"]] == [("/usr/share/x/y", "executed")]


def test_status_of_both_images_is_reported(results: Results) -> None:
    results.test("one", status="late", produced="3\n")
    assert (results.rows()["one"]["status"], results.rows()["one"]["produced"]) == ("late", "3")


def test_ignored_paths_are_listed_but_not_missing(results: Results) -> None:
    results.test("one", "/srv/a", "/usr/share/x/y")
    report = results.report("/usr/share/*", "/srv/none")
    assert [row["path"] for row in report["missing"]] == ["/srv/a"]
    assert report["ignored"] == ["/usr/share/x/y"]


def test_pattern_of_folder_ignores_its_content() -> None:
    assert is_ignored("/usr/share/x/y", ["/usr/share/x"])
    assert not is_ignored("/usr/share/xy", ["/usr/share/x"])


def test_missing_paths_are_limited(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MISSING", 1)
    results.test("one", "/srv/a", "/srv/c")
    report = results.report()
    assert len(report["missing"]) == 1
    assert report["tests"][0]["cut"]


def test_command_lists_calls_unknown_to_strace(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["calls"]) == 0
    names = capsys.readouterr().out.strip().split(",")
    assert "?openat" in names
    assert all(name.startswith("?") for name in names)


def test_command_compares_two_folders(results: Results, tmp_path: Path) -> None:
    results.test("one", "/srv/a")
    (tmp_path / "tests.json").write_text(f'[{{"name": "one", "results": "{tmp_path}/one", "folder": "/"}}]')
    out = tmp_path / "trace.json"
    words = ["compare", str(tmp_path / "chain"), "--production", str(tmp_path / "production")]
    assert command.main([*words, "--tests", str(tmp_path / "tests.json"), "--output", str(out)]) == 0
    assert '"/srv/a"' in out.read_text()
