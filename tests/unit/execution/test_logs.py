"""The files of a run."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild import events
from chainbuild.execution.logs import JOURNAL, LogFiles, file_name, prune
from chainbuild.step_id import StepId

DIGEST = "sha256:" + "ab" * 32
STEP = StepId.parse("amd64/stock/20-openblas")


def line(text: str, *, vertex: str = "RUN make", at: float = 101.5, step: StepId = STEP) -> events.LogLine:
    return events.LogLine(at=at, step=step, vertex=vertex, text=text)


def test_step_log_has_every_line_complete(tmp_path: Path):
    folder = tmp_path / ".chainbuild" / "logs" / "run-1"
    with LogFiles(folder) as files:
        assert not folder.exists()
        path = files.path_of(STEP)
        assert path == folder / "amd64-stock-20-openblas.log"
        for event in (
            events.RunStarted(at=99.0, steps=(), log_folder=folder),
            events.StepStarted(at=100.0, step=STEP, activity="build", log_path=path),
            line("\x1b[32mgreen\x1b[0m"),
            line(" 5%\r50%\r99%"),
            line("two\nlines", vertex="RUN other", at=102.25),
            line("a broken byte \udcff"),
            events.Verdict(at=103.0, step=STEP, proof="libraries", passed=False, summary="1 of 9", findings=("libx",)),
            events.StepFailed(at=104.0, step=STEP, seconds=4.0, message="exit code 2"),
        ):
            files.emit(event)
        # whole before anything is closed
        assert (
            path.read_bytes().decode()
            == """\
     0.000  ==== build
     1.500  ---- RUN make
     1.500  \x1b[32mgreen\x1b[0m
     1.500   5%\r50%\r99%
     2.250  ---- RUN other
     2.250  two
     2.250  lines
     1.500  ---- RUN make
     1.500  a broken byte \\udcff
     3.000  ==== libraries FAILED: 1 of 9
     3.000  libx
     4.000  ==== failed after 4.0s: exit code 2
"""
        )
    journal = [json.loads(entry) for entry in (folder / JOURNAL).read_text().splitlines()]
    assert [entry["event"] for entry in journal][:3] == ["run_started", "step_started", "log_line"]
    assert len(journal) == 8
    assert (tmp_path / ".chainbuild" / "logs" / "latest").resolve() == folder
    assert os.readlink(folder.parent / "latest") == "run-1"


def test_repeated_step_appends_to_its_log(tmp_path: Path):
    with LogFiles(tmp_path / "run") as files:
        for activity in ("build", "publish"):
            files.emit(events.StepStarted(at=1.0, step=STEP, activity=activity))
            files.emit(events.StepFinished(at=3.0, step=STEP, activity=activity, image="x", digest=DIGEST, seconds=2.0))
        assert files.path_of(STEP).read_text().count("====") == 4


def test_reused_steps_have_no_log_file(tmp_path: Path):
    with LogFiles(tmp_path / "run") as files:
        files.emit(events.StepReused(step=STEP, image="x", digest=DIGEST))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [JOURNAL]


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("amd64/stock/20-openblas", "amd64-stock-20-openblas.log"),
        ("amd64/../../etc/passwd", "amd64-..-..-etc-passwd.log"),
        ("../x", "x.log"),
        ("a b/$(rm)/\n;c", "a_b-_rm_-_c.log"),
        ("", "step.log"),
        ("日本", "_.log"),
    ],
)
def test_file_names_are_harmless(step: str, name: str):
    assert file_name(StepId.parse(step)) == name


@given(st.text())
def test_step_id_of_any_form_gives_a_plain_name(step: str):
    name = file_name(StepId.parse(step))
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name) < 200
    assert name.isascii()


def test_step_logs_never_share_a_file(tmp_path: Path):
    files = LogFiles(tmp_path / "run")
    steps = [StepId.parse(text) for text in ("a/b-c", "a-b/c", "A/b-c", "a/b c", "a/b$c")]
    names = {files.path_of(step).name.lower() for step in steps}
    assert len(names) == 5
    assert files.path_of(steps[1]) == files.path_of(StepId.parse("a-b/c"))


def test_old_runs_are_pruned_and_other_folders_kept(tmp_path: Path):
    for number in range(25):
        run = tmp_path / f"run-{number:02d}"
        run.mkdir()
        (run / JOURNAL).write_text("")
        os.utime(run / JOURNAL, (number, number))
    (tmp_path / "not-a-run").mkdir()
    (tmp_path / "a-file").write_text("")
    with LogFiles(tmp_path / "run-new") as files:
        files.emit(events.Message(text="x"))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["a-file", "latest", "not-a-run", *(f"run-{number:02d}" for number in range(6, 25)), "run-new"]
    assert prune(tmp_path / "nothing-here") == ()


def test_full_disk_does_not_end_a_run(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with LogFiles(tmp_path / "file" / "run") as files:
        files.emit(line("x"))
        files.emit(line("y"))
    assert "are incomplete" in files.trouble


def test_events_after_the_end_are_dropped(tmp_path: Path):
    files = LogFiles(tmp_path / "run")
    files.emit(line("x"))
    files.close()
    files.emit(line("late"))
    assert "late" not in files.path_of(STEP).read_text()


def test_threads_write_whole_lines(tmp_path: Path):
    with LogFiles(tmp_path / "run") as files:

        def work(name: str) -> None:
            for number in range(300):
                files.emit(line(f"{name} {number}", step=StepId.parse(f"{name}/o/s")))
                files.emit(line(f"{name} {number}", step=StepId.parse("shared/o/s"), vertex=""))

        threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len((tmp_path / "run" / "shared-o-s.log").read_text().splitlines()) == 900
    assert len((tmp_path / "run" / "a-o-s.log").read_text().splitlines()) == 301
    for entry in (tmp_path / "run" / JOURNAL).read_text().splitlines():
        json.loads(entry)
