"""The plain view (pipes, CI), JSON lines, and the summary at the end of a run."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

from chainbuild import events
from chainbuild.step_id import StepId
from chainbuild.step_warnings import SHOWN, StepWarning
from chainbuild.ui.summary import failing_line, result_lines
from chainbuild.ui.terminal import Terminal, plain_text
from chainbuild.ui.views import JsonView, PlainView

DIGEST = "sha256:" + "ab" * 32
STEP = StepId.parse("amd64/stock/20-openblas")


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Shown:
    def __init__(self, *, verbosity: int = 0, now: float = 2000.0, width: int | None = None) -> None:
        self._out, self._err = io.StringIO(), io.StringIO()
        self.clock = Clock(now)
        err = Terminal(stream=self._err, fixed_width=width)
        self.view = PlainView(Terminal(stream=self._out), err, verbosity=verbosity, clock=self.clock)

    def tell(self, *happened: events.Event) -> str:
        for event in happened:
            self.view.emit(event)
        return self.err()

    def err(self) -> str:
        return self._err.getvalue()

    def out(self) -> str:
        return self._out.getvalue()


def planned(step: StepId, action: str = "build", expected: float | None = None) -> events.PlannedStep:
    return events.PlannedStep(step=step, action=action, reason="", image="x", expected_seconds=expected)


def a_good_run() -> list[events.Event]:
    return [
        events.Message(at=999.0, text="the registry at localhost:5000 was started"),
        events.RunStarted(
            at=1000.0,
            steps=(planned(StepId.parse("amd64/stock/10-toolchain"), "reuse"), planned(STEP, expected=247)),
            log_folder=Path("logs/run-1"),
        ),
        events.StepReused(
            at=1000.1,
            step=StepId.parse("amd64/stock/10-toolchain"),
            image="x",
            digest=DIGEST,
            saved_seconds=190,
            size=98_000_000,
            added=60_000_000,
        ),
        events.StepStarted(at=1001.0, step=STEP, activity="build"),
        events.StepProgress(at=1001.4, step=STEP, doing="RUN apt-get install"),
        events.StepProgress(at=1002.0, step=STEP, doing="RUN make"),
        events.StepProgress(at=1002.1, step=STEP, doing="RUN apt-get install"),
        events.LogLine(at=1003.0, step=STEP, vertex="RUN make", text="\x1b[1mcc\x1b[0m -c x.c\r\n"),
        events.StepProgress(at=1200.0, step=STEP, doing="pushing layers", current=1, total=9),
        events.StepProgress(at=1201.0, step=STEP, doing="pushing layers", current=5, total=9),
        events.Verdict(at=1202.0, step=STEP, proof="libraries", passed=True, summary="412 files"),
        events.StepFinished(
            at=1248.0,
            step=STEP,
            activity="build",
            image="x",
            digest=DIGEST,
            seconds=247.0,
            size=213_000_000,
            added=34_500_000,
        ),
        events.Message(at=1249.0, level="warning", text="the args file a-args is not used\nb-args was probably meant"),
        events.RunFinished(
            at=1250.0,
            seconds=250.0,
            succeeded=True,
            results=(
                events.ImageResult(
                    name="n",
                    platform="amd64",
                    registry_name="localhost:5000/c/atom:b-stock-amd64",
                    local_name="c/atom:b-stock-amd64",
                    digest=DIGEST,
                    size=81_000_000,
                    chain_size=912_000_000,
                    compressed_size=30_100_000,
                    compressed_chain_size=310_000_000,
                ),
            ),
        ),
    ]


GOOD_ERR = """\
the registry at localhost:5000 was started
1 step to do, 1 to reuse, expected about 4m07s
[amd64/stock/10-toolchain] reused, 98 MB (60 MB added), saved 3m10s sha256:abababababab
[amd64/stock/20-openblas] building, expected 4m07s
[amd64/stock/20-openblas] 0.4s RUN apt-get install
[amd64/stock/20-openblas] 1.0s RUN make
[amd64/stock/20-openblas] 3m19s pushing layers
[amd64/stock/20-openblas] libraries passed: 412 files
[amd64/stock/20-openblas] 4m07s built, 213 MB (34.5 MB added) sha256:abababababab
warning: the args file a-args is not used
    b-args was probably meant

step            action   time    size    added  note
amd64/stock
  10-toolchain  reused          98 MB    60 MB  saved 3m10s
  20-openblas   built   4m07s  213 MB  34.5 MB

done in 4m10s: 1 reused, 1 built (3m10s saved)
logs: logs/run-1
"""

GOOD_OUT = """\
c/atom:b-stock-amd64
  registry  localhost:5000/c/atom:b-stock-amd64
  digest    sha256:abababababab
  size      81 MB, 9 % of the chain's 912 MB, compressed 30.1 MB of 310 MB
"""


def test_plain_view_prints_successful_run():
    shown = Shown()
    with shown.view:
        assert GOOD_ERR.startswith(shown.tell(*a_good_run()))
    assert shown.out() == GOOD_OUT
    assert shown.err() == GOOD_ERR


def test_plain_view_counts_what_the_user_waited():
    """The managed registry starts before the run, and stops after it."""
    shown = Shown(now=900.0)
    with shown.view:
        shown.tell(*a_good_run())
        shown.clock.now = 1260.0
    assert "done in 6m00s: 1 reused, 1 built" in shown.err()


def test_plain_view_shortens_instructions_and_leaves_flags_out():
    shown = Shown(now=1000.0)
    instruction = (
        "[analysis 3/3] RUN --network=none --mount=type=bind,from=chain,target=/rootfs python3 -m pack " + "x" * 900
    )
    with shown.view:
        shown.tell(
            events.StepStarted(at=1000.0, step=STEP, activity="minimize"),
            events.StepProgress(at=1000.0, step=STEP, doing=instruction),
        )
        shown.clock.now = 1060.0
        shown.view.beat()
        first, heartbeat = shown.err().splitlines()[1:3]
    assert first.startswith("[amd64/stock/20-openblas] 0.0s [analysis 3/3] RUN python3 -m pack xx")
    assert len(first) < 160
    assert heartbeat == "[amd64/stock/20-openblas] still minimizing, 1m00s, [analysis 3/3] RUN python3 -m pack xxxx…"


def test_results_name_the_index_of_several_platforms():
    results = [
        events.ImageResult(
            name=f"v1-tools-{platform}",
            platform=platform,
            registry_name=f"localhost:5000/acme/tools:v1-tools-{platform}",
            index_name="localhost:5000/acme/tools:v1-tools",
            index_platforms=("amd64", "aarch64"),
        )
        for platform in ("amd64", "aarch64")
    ]
    lines = [plain_text(line) for line in result_lines(results)]
    assert lines[-2:] == ["localhost:5000/acme/tools:v1-tools", "  index of  amd64, aarch64"]
    assert lines.count("localhost:5000/acme/tools:v1-tools") == 1


def test_plain_view_verbose_prints_build_output_without_escapes():
    with (shown := Shown(verbosity=1)).view:
        shown.tell(*a_good_run())
    assert "[amd64/stock/20-openblas] 2.0s │ cc -c x.c\n" in shown.err()
    assert "\x1b" not in shown.err()


def failed_run() -> list[events.Event]:
    lines = ["gcc -c a.c", "a.c:1:1: error: unknown type name 'x'", "make: *** [Makefile:3: a.o] Error 1"]
    return [
        events.RunStarted(at=1000.0, steps=(planned(STEP), planned(StepId.parse("amd64/stock/30-python")))),
        events.StepStarted(at=1000.0, step=STEP, activity="build", log_path=Path("logs/x.log")),
        events.LogLine(at=1001.0, step=STEP, vertex="RUN apt-get", text="of another instruction"),
        *(events.LogLine(at=1002.0, step=STEP, vertex="RUN make", text=text) for text in lines),
        events.StepFailed(at=1003.0, step=STEP, seconds=3.0, message="RUN make failed with exit code 2"),
        events.StepProgress(at=1003.1, step=STEP, doing="a late word of the builder"),
        events.StepSkipped(at=1003.0, step=StepId.parse("amd64/stock/30-python"), reason="20-openblas failed"),
        events.RunFinished(at=1004.0, seconds=4.0, succeeded=False),
    ]


def test_failed_run_ends_with_last_lines_of_output():
    with (shown := Shown(width=50)).view:
        shown.tell(*failed_run())
    frame = "─" * 46
    assert (
        shown.err()
        == f"""\
2 steps to do
[amd64/stock/20-openblas] building
[amd64/stock/20-openblas] 3.0s FAILED RUN make failed with exit code 2
[amd64/stock/20-openblas] 3.0s a late word of the builder
[amd64/stock/30-python] skipped: 20-openblas failed

amd64/stock/20-openblas failed: RUN make failed with exit code 2
  ┌{frame}
  │ gcc -c a.c
  ▸ a.c:1:1: error: unknown type name 'x'
  │ make: *** [Makefile:3: a.o] Error 1
  └{frame}
  log: logs/x.log

step           action   time  note
amd64/stock
  20-openblas  failed   3.0s
  30-python    skipped        20-openblas failed

failed after 4.0s: 1 failed, 1 skipped
"""
    )
    tails = shown.view.shown_tails()
    assert any(tail[-1].startswith("make: ***") for tail in tails)
    assert shown.out() == ""


def test_failed_verdict_prints_findings():
    shown = Shown()
    verdict = events.Verdict(
        at=5.0, step=STEP, proof="libraries", passed=False, summary="1 of 9", findings=("libx.so.1 is not there",)
    )
    assert shown.tell(verdict) == ("[amd64/stock/20-openblas] libraries FAILED: 1 of 9\n    libx.so.1 is not there\n")


def test_silent_step_gets_heartbeat():
    shown = Shown(now=1000.0)
    with shown.view:
        shown.tell(
            events.StepStarted(at=1000.0, step=STEP, activity="build"),
            events.StepProgress(at=1000.0, step=STEP, doing="RUN make -j2"),
        )
        before = shown.err()
        shown.clock.now = 1059.0
        shown.view.beat()
        assert shown.err() == before
        shown.clock.now = 1060.0
        shown.view.beat()
        shown.view.beat()
        told = "[amd64/stock/20-openblas] still building, 1m00s, RUN make -j2\n"
        assert shown.err() == before + told
        shown.clock.now = 1724.0
        shown.view.beat()
        assert shown.err() == before + told + told.replace("1m00s", "12m04s")
        shown.tell(events.StepFailed(at=1725.0, step=STEP, seconds=725, message="no"))
        ended = shown.err()
        shown.clock.now = 9999.0
        shown.view.beat()
        assert shown.err() == ended


def test_interrupted_run_prints_summary_with_collapsed_rest():
    names = [StepId("amd64", "stock", f"{number}-part") for number in range(10, 20)]
    shown = Shown(now=1030.0)
    try:
        with shown.view:
            shown.tell(
                events.RunStarted(at=1000.0, steps=tuple(planned(name) for name in names)),
                events.StepStarted(at=1000.0, step=names[0], activity="build"),
                events.StepProgress(at=1000.0, step=names[0], doing="RUN make"),
            )
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert shown.err().endswith(
        """
step                     action       time  note
amd64/stock
  10-part                interrupted   30s  stopped during RUN make
  11-part … 19-part (9)  not started

stopped after 30s: 1 interrupted, 9 not started
"""
    )


def test_plain_view_keeps_lines_of_threads_apart():
    shown = Shown(verbosity=1)

    def work(platform: str) -> None:
        for number in range(200):
            shown.view.emit(
                events.LogLine(step=StepId.parse(f"{platform}/o/s"), vertex="v", text=f"{platform} says {number}")
            )

    threads = [threading.Thread(target=work, args=(name,)) for name in ("amd64", "aarch64")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = shown.err().splitlines()
    assert len(lines) == 400
    assert all(line.split("│ ")[1].startswith(line[1:].split("/")[0]) for line in lines)


def test_json_view_prints_one_event_per_line():
    out = io.StringIO()
    with JsonView(Terminal(stream=out, unicode=False)) as view:
        for event in a_good_run():
            view.emit(event)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["schema"] for line in lines] == ["chainbuild.events/1"] * len(a_good_run())
    assert lines[-1]["event"] == "run_finished"
    assert "\x1b" not in out.getvalue()


def test_failing_line_is_most_likely_cause():
    lines = ["Reading package lists...", "E: Unable to locate package libfoo", "", "exit status 1"]
    assert failing_line(lines) == 1
    assert failing_line(["a", "b", ""]) == 1
    assert failing_line(["", ""]) == -1
    assert failing_line([]) == -1


def test_warnings_are_bounded_in_log_and_summary() -> None:
    warnings = tuple(StepWarning(text=f"number {number}\nx", fix="KEEP=1") for number in range(9))
    with (shown := Shown()).view:
        told = shown.tell(
            events.RunStarted(at=1000.0, steps=(planned(STEP),)),
            events.StepWarnings(at=1001.0, step=STEP, image="localhost:5000/c:t", warnings=warnings, total=40),
        )
        shown.tell(events.RunFinished(at=1002.0, seconds=2.0, succeeded=True, results=()))
    lines = [line for line in told.splitlines() if "warning: " in line]
    assert len(lines) == SHOWN + 1
    assert lines[0].endswith("warning: number 0 x (KEEP=1)")
    assert lines[-1].endswith("35 more: see chainbuild inspect localhost:5000/c:t")
    summary = shown.err()[len(told) :]
    assert "40 warnings" in summary
    assert summary.count("warning: ") == SHOWN + 1
