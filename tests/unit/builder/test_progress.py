"""buildx's rawjson as events, and what is known of a failure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.builder.progress import TAIL_LINES, Failure, JsonStream, Progress
from chainbuild.events import Event, LogLine, Message, StepPhase, StepProgress
from chainbuild.step_id import StepId
from tests.unit.builder.rawjson import ERROR, RUN, encoded, log, vertex


def fed(*parts: dict[str, Any] | str, indent: int | None = None) -> tuple[list[Event], Failure]:
    events: list[Event] = []
    progress = Progress(StepId.parse("amd64/stock/10-base"), events.append)
    for part in parts:
        text = part if isinstance(part, str) else json.dumps(part, indent=indent)
        for line in text.split("\n"):
            progress.feed(f"{line}\n")
    return events, progress.failure()


def lines(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, LogLine)]


@pytest.mark.parametrize("indent", [None, 2, 4])
def test_log_lines_whether_pretty_printed_or_not(indent: int | None) -> None:
    events, _ = fed(vertex(), log("one\ntwo\n"), log("err\n", stream=2), indent=indent)
    assert [(event.vertex, event.text, event.stream) for event in events if isinstance(event, LogLine)] == [
        (RUN, "one", "stdout"),
        (RUN, "two", "stdout"),
        (RUN, "err", "stderr"),
    ]


def test_half_lines_wait_for_their_other_half() -> None:
    events, _ = fed(vertex(), log("on"), log("e\ntw"), log("E", stream=2), log("o\n"), log("RR\n", stream=2))
    assert lines(events) == ["one", "two", "ERR"]


def test_half_lines_of_two_instructions_are_not_mixed() -> None:
    events, _ = fed(vertex(digest="a"), vertex(digest="b", name="B"), log("x", "a"), log("y", "b"), log("1\n", "a"))
    assert lines(events) == ["x1", "y"]


def test_last_unfinished_line_is_emitted_at_the_end() -> None:
    events: list[Event] = []
    progress = Progress(StepId.parse("s"), events.append)
    progress.feed(json.dumps(vertex()))
    progress.feed(json.dumps(log("no end")))
    assert lines(events) == []
    progress.feed(json.dumps(vertex(completed="2026-01-01T00:00:01Z")))
    assert lines(events) == ["no end"]


def test_bytes_that_are_no_utf8_are_shown_as_such() -> None:
    events, _ = fed(vertex(), log(b"caf\xe9\n"), log("gr\u00fc".encode()[:3]), log("gr\u00fc".encode()[3:] + b"\n"))
    assert lines(events) == ["caf\ufffd", "gr\u00fc"]


def test_activity_is_reported_once() -> None:
    events, _ = fed(vertex(), vertex(), vertex("[internal] load build definition", "b"), vertex("[3/3] COPY", "c"))
    assert [event.doing for event in events if isinstance(event, StepProgress)] == [RUN, "[3/3] COPY"]


def test_transfers() -> None:
    status = {"id": "sha256:layer", "vertex": "sha256:1", "name": "pushing", "current": 5, "total": 10}
    events, _ = fed({"statuses": [status, {"id": "x", "vertex": "v"}]})
    assert [(event.doing, event.current, event.total) for event in events if isinstance(event, StepProgress)] == [
        ("pushing", 5, 10)
    ]


def test_export_parts_are_reported() -> None:
    began = {"id": "pushing layers", "vertex": "sha256:1", "started": "2026-01-01T00:00:00Z"}
    ended = {**began, "completed": "2026-01-01T00:00:01Z"}
    other = {"id": "resolve docker.io/x", "vertex": "sha256:1", "started": "2026-01-01T00:00:00Z"}
    events, _ = fed({"statuses": [began, other]}, {"statuses": [began]}, {"statuses": [ended]})
    assert [event.doing for event in events if isinstance(event, StepProgress)] == ["pushing layers"]


def export(*ids: str) -> list[dict[str, Any]]:
    began = {"vertex": "sha256:x", "started": "2026-01-01T00:00:00Z"}
    return [vertex("exporting to image", "sha256:x"), *({"statuses": [{"id": text, **began}]} for text in ids)]


def test_export_and_push_are_phases_of_the_step() -> None:
    parts = export("exporting layers", "pushing layers", "pushing manifest for localhost:5000/x:y")
    events, _ = fed(vertex(), *parts, *parts)
    assert [event.phase for event in events if isinstance(event, StepPhase)] == ["export", "push"]


def test_push_without_a_reported_export_is_a_phase() -> None:
    events, _ = fed({"statuses": [{"id": "pushing layers", "vertex": "sha256:x", "started": "2026-01-01T00:00:00Z"}]})
    assert [event.phase for event in events if isinstance(event, StepPhase)] == ["push"]


def test_export_of_a_part_of_the_work_is_no_phase() -> None:
    events: list[Event] = []
    progress = Progress(StepId.parse("amd64/stock/10-base"), events.append, phases=False)
    for part in export("exporting layers", "pushing layers"):
        progress.feed(json.dumps(part))
    assert not [event for event in events if isinstance(event, StepPhase)]


def test_warnings_are_lines() -> None:
    events, _ = fed({"warnings": [{"vertex": "v", "level": 1, "short": encoded("JSONArgsRecommended: x")}]})
    assert lines(events) == ["warning: JSONArgsRecommended: x"]


CLIENT = """\
ERROR: failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 2
------
 > [2/3] RUN make:
0.1 no rule
------
10-Dockerfile-base:3
--------------------
   1 |     ARG BASE_IMAGE
   2 |     FROM ${BASE_IMAGE}
   3 | >>> RUN make
   4 |
--------------------
"""


def test_failure_has_the_instruction_its_line_and_its_output() -> None:
    output = "".join(f"line {number}\n" for number in range(100))
    _, failure = fed(vertex(), log(output), vertex(error=ERROR, completed="2026-01-01T00:00:01Z"), CLIENT)
    assert failure.vertex == RUN
    assert failure.error == ERROR
    assert failure.line == 3
    assert len(failure.tail) == TAIL_LINES
    assert failure.tail[-1] == "line 99"
    assert failure.text.startswith("ERROR: failed to solve")


def test_failed_instruction_is_reported_not_a_cancelled_one() -> None:
    _, failure = fed(
        vertex("[a 1/1] RUN sleep", "a"),
        vertex("[b 1/1] RUN false", "b"),
        vertex("[a 1/1] RUN sleep", "a", error="context canceled"),
        vertex("[b 1/1] RUN false", "b", error="exit code: 1"),
    )
    assert failure.vertex == "[b 1/1] RUN false"


def test_client_error_is_used_without_a_failed_instruction() -> None:
    _, failure = fed("#0 building", "ERROR: failed to build: no builder 'x' found", "------")
    assert failure.error == "failed to build: no builder 'x' found"
    assert (failure.vertex, failure.line) == ("", 0)


def test_empty_stream_has_no_reason() -> None:
    assert fed()[1] == Failure(vertex="", error="", line=0, tail=(), text="")


def test_unfinished_line_at_the_end_is_in_the_tail() -> None:
    _, failure = fed(vertex(), log("qemu: uncaught target signal 11"))
    assert failure.tail == ()
    _, failure = fed(vertex(), log("dying"), vertex(error="exit code: 139"))
    assert failure.tail == ("dying",)


def test_text_that_begins_like_json_is_kept() -> None:
    events, failure = fed("{not json", "and more", "}", "after")
    assert lines(events) == ["{not json\nand more\n}", "after"]
    _, failure = fed("{never ends", "ERROR: x")
    assert failure.text == "{never ends\nERROR: x"


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_however_output_is_cut_the_lines_are_the_same(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    cut, _ = fed(vertex(), *(log(piece) for piece in pieces), vertex(completed="x"))
    at_once, _ = fed(vertex(), log(whole), vertex(completed="x"))
    assert lines(cut) == lines(at_once)


VALUES = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=5), max_size=2),
    max_size=4,
)


@given(st.lists(st.tuples(VALUES, st.sampled_from([None, 2]))))
def test_values_of_any_form_are_parsed(values: list[tuple[dict[str, Any], int | None]]) -> None:
    stream = JsonStream()
    found = [
        value
        for written, indent in values
        for line in json.dumps(written, indent=indent).split("\n")
        if (value := stream.feed(line + "\n")) is not None
    ]
    assert found == [written for written, _ in values]


@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=20)))
def test_text_of_any_form_is_accepted(texts: list[str]) -> None:
    fed(*texts)


def test_dropped_output_is_reported_in_place_with_a_hint() -> None:
    """BuildKit passes on 2 MiB of an instruction's output, and 200 KiB a second: such a log is not whole."""
    clip = "\n[output clipped, log limit 200KiB/s reached]\n"
    events, _ = fed(
        vertex(), log("one\n"), log(clip), log("two\n"), log("\n[output clipped, log limit 2MiB reached]\n")
    )
    texts = lines(events)
    assert texts[2].startswith("==== output was dropped here (the builder's limit: 200KiB/s)")
    assert "BUILDKIT_STEP_LOG_MAX_SIZE=-1" in texts[2]
    assert "2MiB" in texts[5]
    (warning,) = [event for event in events if isinstance(event, Message)]
    assert warning.level == "warning"


HIDDEN = " --mount=type=bind,from=localhost:5000/t@sha256:0,source=/a,target=/.a --mount=type=cache,target=/c"


def test_added_flags_are_hidden_everywhere() -> None:
    events: list[Event] = []
    progress = Progress(StepId.parse("amd64/stock/10-base"), events.append, hidden=[HIDDEN])
    name = f"[2/2] RUN{HIDDEN} --mount=type=cache,target=/d make"
    failure = vertex(name=name, error=f'process "/bin/sh -c make" of RUN{HIDDEN} make did not complete')
    for part in (vertex(name=name), log("one\n"), failure):
        progress.feed(f"{json.dumps(part)}\n")
    progress.feed(f"ERROR: failed to solve: RUN{HIDDEN} make\n")
    shown = repr((events, progress.failure()))
    assert "RUN --mount=type=cache,target=/d make" in shown
    assert "target=/.a" not in shown
    assert "target=/c " not in shown


def test_other_flags_are_not_hidden() -> None:
    events: list[Event] = []
    progress = Progress(StepId.parse("amd64/stock/10-base"), events.append, hidden=[HIDDEN])
    progress.feed(json.dumps(vertex(name="[2/2] RUN --mount=type=cache,target=/c make")))
    assert "RUN --mount=type=cache,target=/c make" in repr(events)
