"""The page and the trace of a run: complete, safe against foreign text, and without anything from elsewhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

from chainbuild import events
from chainbuild.run_report.page import page
from chainbuild.run_report.trace_events import trace_events
from chainbuild.step_id import StepId
from chainbuild.step_warnings import StepWarning
from tests.unit.run_report.runs import ARM, AT, BASE, BLAS, began, built, finished, image, reused, timeline

LOGS: Final = Path("/tree/.chainbuild/logs/run")
FOREIGN: Final = "<script>alert('x')</script>\x1b[31m&\u202e"
_VOID: Final = {"meta", "br", "img", "hr", "input", "link"}


class Elements(HTMLParser):
    """Collects the elements of a page, and fails if one is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if "href" in values else []
        assert "src" not in values
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def whole_run(folder: Path) -> str:
    verdict = events.Verdict(
        at=AT + 8.0, step=BLAS, proof="libraries", passed=False, summary="1 missing", findings=("libx.so",)
    )
    warning = events.StepWarnings(
        at=AT + 8.0, step=BLAS, image=image(BLAS), warnings=(StepWarning(kind="data", text="a gap"),), total=4
    )
    run = timeline(
        folder,
        events.Message(at=AT - 2.0, level="warning", text="the registry is slow"),
        began(BASE, BLAS),
        reused(BASE, 0.2),
        built(BLAS, 0.5, ("export", 5.0), ("push", 6.0), ("check", 7.0), end=9.0),
        verdict,
        warning,
        events.RunPhase(at=AT + 9.0, phase="load"),
        finished(10.0),
    )
    return page(run, LOGS)


def test_page_has_what_the_run_did(tmp_path: Path) -> None:
    text = whole_run(tmp_path)
    for part in (
        "succeeded",
        "12s",
        "2.0s planning",
        "1 reused, saved 3m10s",
        "Dockerfile changed (line 8)",
        "98 MB compressed, 1 MB added",
        "built 8.5s",
        "libraries",
        "libx.so",
        "3 more: see <code>chainbuild inspect",
        "the registry is slow",
        "81 MB of 912 MB",
        "team/atom:v1-stock-amd64",
        "loaded locally",
    ):
        assert part in text, part


def test_page_is_well_formed_and_loads_nothing(tmp_path: Path) -> None:
    text = whole_run(tmp_path)
    elements = Elements(text)
    assert {"script", "link", "img", "iframe"} & set(elements.tags) == set()
    assert "default-src 'none'" in text
    assert "url(" not in text
    assert "@import" not in text
    assert len(set(elements.ids)) == len(elements.ids)
    inside = {link[1:] for link in elements.links if link.startswith("#")}
    assert inside <= set(elements.ids)
    assert "amd64-stock-20-blas.log" in elements.links
    assert not [link for link in elements.links if ":" in link]


def test_links_to_logs_are_relative_to_the_page(tmp_path: Path) -> None:
    run = timeline(tmp_path, began(BASE), built(BASE, 0.0, end=1.0))
    links = Elements(page(run, Path("/tree"))).links
    assert ".chainbuild/logs/run/amd64-stock-10-base.log" in links


@pytest.mark.parametrize(
    ("log", "link"),
    [
        ("/tree/a b#c?.log", "a%20b%23c%3F.log"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
    ],
)
def test_link_to_a_log_is_a_relative_path(log: str, link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    start = events.StepStarted(at=AT, step=BASE, activity="build", log_path=Path(log))
    folder = Path("/tree") if log.startswith("/") else tmp_path
    assert link in Elements(page(timeline(tmp_path, began(BASE), start), folder)).links


def test_foreign_text_cannot_act_on_the_page(tmp_path: Path) -> None:
    step = StepId("amd64", f"<b>{FOREIGN}", f'"{FOREIGN}')
    run = timeline(
        tmp_path,
        events.Message(at=AT, level="error", text=FOREIGN),
        began(step),
        events.StepStarted(at=AT, step=step, activity=FOREIGN),
        events.LogLine(at=AT, step=step, vertex="RUN x", text=FOREIGN),
        events.Verdict(at=AT, step=step, proof=FOREIGN, passed=False, summary=FOREIGN, findings=(FOREIGN,)),
        events.StepFailed(at=AT + 1, step=step, seconds=1.0, message=f"{FOREIGN}\n{FOREIGN}"),
        events.RunFailed(at=AT + 2, message=f"other {FOREIGN}", exit_code=1),
    )
    text = page(run, LOGS)
    elements = Elements(text)
    assert "script" not in elements.tags
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("end", "word"),
    [
        (events.RunFailed(at=AT + 5, message="interrupted", exit_code=130, interrupted=True), "interrupted"),
        (events.RunFailed(at=AT + 5, message="ghcr.io needs a login", exit_code=4), "ghcr.io needs a login"),
        (None, "The events have no end of the run"),
    ],
)
def test_page_of_a_run_that_did_not_finish(end: events.Event | None, word: str, tmp_path: Path) -> None:
    start = events.StepStarted(at=AT + 1, step=BASE, activity="build")
    run = timeline(tmp_path, began(BASE, BLAS), start, [end] if end else [])
    text = page(run, LOGS)
    Elements(text)
    assert word in text
    assert "not started" in text
    assert "stopped after" in text


def test_failed_step_shows_its_last_lines_and_its_log(tmp_path: Path) -> None:
    log = LOGS / "amd64-stock-10-base.log"
    run = timeline(
        tmp_path,
        began(BASE),
        events.StepStarted(at=AT, step=BASE, activity="build", log_path=log),
        events.LogLine(at=AT, step=BASE, vertex="RUN make", text="foo.c:1: error: no such thing"),
        events.StepFailed(at=AT + 1, step=BASE, seconds=1.0, message="RUN make exited with code 2"),
        finished(1.0, succeeded=False),
    )
    text = page(run, LOGS)
    failures = text[text.index("<h2>Failures</h2>") : text.index("<h2>Timeline</h2>")]
    assert "foo.c:1: error: no such thing" in failures
    assert "RUN make exited with code 2" in failures
    assert 'href="amd64-stock-10-base.log"' in failures


def test_many_reused_steps_are_collapsed(tmp_path: Path) -> None:
    steps = [StepId("amd64", "stock", f"{number}-step") for number in range(300)]
    run = timeline(
        tmp_path,
        began(*steps),
        [reused(step, 0.1) for step in steps[:299]],
        built(steps[299], 1.0, end=400.0),
        finished(400.0),
    )
    text = page(run, LOGS)
    Elements(text)
    assert "↺ 299 reused steps, saved 15h47m" in text
    assert len(text) < 400_000


@pytest.mark.parametrize("seconds", [0.0, 0.2, 7.0, 59.0, 3_700.0, 90_000.0, 4_000_000.0])
def test_axis_has_a_few_lines_whatever_the_duration(seconds: float, tmp_path: Path) -> None:
    run = timeline(tmp_path, began(BASE), built(BASE, 0.0, end=seconds), finished(seconds))
    text = page(run, LOGS)
    axis = re.search(r'<div class="axis".*?</div></div>', text)
    assert axis is not None
    assert 1 <= axis[0].count("<span style") <= 9
    places = [float(place) for place in re.findall(r"(?:left|width):([-\d.]+)%", text)]
    assert all(0.0 <= place <= 100.0 for place in places)


# The trace ------------------------------------------------------------------------------------------------------------


def test_trace_has_a_thread_for_each_step(tmp_path: Path) -> None:
    run = timeline(
        tmp_path,
        began(BASE, BLAS, ARM, needs={BLAS: (BASE,)}),
        reused(BASE, 0.5),
        built(BLAS, 1.0, ("export", 3.0), ("push", 4.0), end=5.0),
        built(ARM, 1.0, end=4.0),
        events.RunPhase(at=AT + 5.0, phase="index"),
        finished(6.0),
    )
    document = json.loads(json.dumps(trace_events(run)))
    every = document["traceEvents"]
    names = {(event["pid"], event["tid"]): event["args"]["name"] for event in every if event["name"] == "thread_name"}
    assert names == {(1, 0): "run", (2, 1): "stock/10-base", (2, 2): "stock/20-blas", (3, 1): "stock/10-base"}
    processes = {event["pid"]: event["args"]["name"] for event in every if event["name"] == "process_name"}
    assert processes == {1: "run", 2: "amd64", 3: "aarch64"}
    spans = [(event["name"], event["ts"], event["dur"]) for event in every if event["ph"] == "X" and event["tid"] == 2]
    assert spans == [
        ("waiting for 10-base", 0, 500_000),
        ("waiting for a free job", 500_000, 500_000),
        ("20-blas", 1_000_000, 4_000_000),
        ("build", 1_000_000, 2_000_000),
        ("export", 3_000_000, 1_000_000),
        ("push", 4_000_000, 1_000_000),
    ]
    (instant,) = [event for event in every if event["ph"] == "i"]
    assert (instant["name"], instant["ts"]) == ("10-base: reused", 500_000)


def test_spans_of_a_thread_nest(tmp_path: Path) -> None:
    """Trace viewers show an event within another one; two that overlap otherwise are dropped."""
    run = timeline(
        tmp_path,
        began(BASE, BLAS),
        built(BASE, 1.0, ("export", 3.0), end=6.0),
        built(BLAS, 3.0, end=9.0),
        finished(9.0),
    )
    by_thread: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in trace_events(run)["traceEvents"]:
        if event["ph"] == "X":
            by_thread.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    for spans in by_thread.values():
        for start, end in spans:
            for other, last in spans:
                assert not (start < other < end < last)
