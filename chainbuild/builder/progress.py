"""Convert the builder's progress (`rawjson`) into events, and keep the last output of each instruction.

Output to stderr before the last lines is kept as well: a parallel make continues after an error.

The stream is BuildKit's SolveStatus: concatenated JSON objects, pretty-printed by some versions of buildx and one per line
in others. Anything else is the client's own text, such as the excerpt of the failing Dockerfile.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct, field

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.events import Emit, LogLine, Message, Phase, StepPhase, StepProgress, labelled
from chainbuild.patterns import regex
from chainbuild.step_id import StepId

TAIL_LINES: Final = 30
"""The maximum number of lines shown."""
_COMPLAINTS: Final = 8


class LogTail:
    """Keeps the last lines of an instruction, and its last lines on stderr."""

    def __init__(self) -> None:
        self._count = 0
        self._last: deque[str] = deque(maxlen=TAIL_LINES)
        self._complaints: deque[tuple[int, str]] = deque(maxlen=TAIL_LINES)

    def add(self, text: str, *, stderr: bool) -> None:
        """Add a line."""
        if stderr:
            self._complaints.append((self._count, text))
        self._last.append(text)
        self._count += 1

    def lines(self) -> tuple[str, ...]:
        """Return the last lines, preceded by earlier lines of stderr."""
        ending = TAIL_LINES - _COMPLAINTS - 1
        earlier = [complaint for complaint in self._complaints if complaint[0] < self._count - ending]
        if self._count <= TAIL_LINES or not earlier:
            return tuple(self._last)
        shown = earlier[-_COMPLAINTS:]
        left_out = self._count - ending - shown[-1][0] - 1
        gap = (f"… {left_out} lines …",) if left_out else ()
        return (*(text for _, text in shown), *gap, *tuple(self._last)[-ending:])


class StepTail:
    """Keeps the last lines of each instruction of a step."""

    def __init__(self) -> None:
        self._tails: dict[str, LogTail] = {}
        """The instruction that printed most recently comes last."""

    def add(self, vertex: str, text: str, *, stderr: bool) -> None:
        """Add a line of an instruction."""
        tail = self._tails.pop(vertex, None) or LogTail()
        tail.add(text, stderr=stderr)
        self._tails[vertex] = tail

    def lines(self) -> tuple[str, ...]:
        """Return the last lines of the instruction that printed last: the failed one, since the others were cancelled."""
        # Lines without a vertex are the client's own: it quotes the file instead of the output.
        vertex = next((name for name in reversed(self._tails) if name), "")
        return self._tails[vertex].lines() if vertex in self._tails else ()


# BuildKit's util/progress/logs: the limits are 2 MiB of output per instruction and 200 KiB per second.
_CLIPPED = regex(r"\[output clipped, log limit (?P<limit>.+) reached\]")
_LIFT = "BUILDKIT_STEP_LOG_MAX_SIZE=-1 and BUILDKIT_STEP_LOG_MAX_SPEED=-1 in the environment of its daemon"
_EXCERPT = regex(r"^(?P<file>\S.*):(?P<line>[0-9]+)$")
_RULE = regex(r"^-{10,}$")
_PUSHED = regex(r"pushing manifest for .+@(?P<digest>sha256:[0-9a-f]{64})")
_EXPORT = "exporting to "
_PUSH = "pushing "
_PHASES = ("exporting ", _PUSH)


class JsonStream:
    """Splits a stream of lines into JSON values and other text."""

    def __init__(self) -> None:
        self._open: list[str] = []

    def feed(self, line: str) -> dict[str, Any] | str | None:
        """Return a value that this line completes, a line of other text, or nothing yet."""
        text = line.rstrip("\r\n")
        if not self._open:
            if not text.startswith("{"):
                return text
            value = _decoded(text)
            if value is not None:
                return value
            self._open = [text]
            return None
        self._open.append(text)
        # Only the end of a pretty-printed object has a brace in the first column.
        if text != "}":
            return None
        text = self.rest()
        value = _decoded(text)
        return text if value is None else value

    def rest(self) -> str:
        """Return the lines of an unfinished value."""
        text, self._open = "\n".join(self._open), []
        return text


def _decoded(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class _Vertex(Struct):
    """An instruction: a vertex of BuildKit's graph."""

    name: str = ""
    error: str = ""
    partial: dict[int, bytes] = field(default_factory=dict)
    tail: LogTail = field(default_factory=LogTail)


class Failure(Struct, frozen=True, kw_only=True):
    """The facts about a failed build: the instruction, its line in the Dockerfile, its last output."""

    vertex: str
    error: str
    line: int
    tail: tuple[str, ...]
    text: str
    """All text that is not JSON: the client's messages."""


def hidden_flags(spec: BuildSpec) -> tuple[str, ...]:
    """Return the flags that a copy of the Dockerfile has in addition, as they are in its instructions: the longest first."""
    texts = {"".join(f" {flag}" for flag in flags) for _, flags in spec.run_flags}
    return tuple(sorted(texts - {""}, key=len, reverse=True))


class Progress:
    """Follows a build, emits its events, and keeps the facts for an error message."""

    def __init__(self, step: StepId, emit: Emit, *, hidden: Iterable[str] = (), phases: bool = True) -> None:
        """`hidden` is left out of everything that is shown: the flags that a copy of the Dockerfile has in addition.

        Without `phases`, the build is only a part of the step's work, and its export is no phase of the step.
        """
        self._step = step
        self._phases: list[Phase] = ["push", "export"] if phases else []
        """The phases that have not begun, the next one last."""
        self._hidden = tuple(hidden)
        self._emit = emit
        self._stream = JsonStream()
        self._vertices: dict[str, _Vertex] = {}
        self._text: list[str] = []
        self._doing = ""
        self._clipped = False
        self.pushed = ""
        """The digest of the pushed manifest; empty before the push."""
        self.exported = False
        """True if the build's export has finished."""

    def feed(self, line: str) -> None:
        """Process a line of buildx's output."""
        for flags in self._hidden:
            line = line.replace(flags, "")
        value = self._stream.feed(line)
        if isinstance(value, str):
            if value:
                self._text.append(value)
                self._emit(LogLine(step=self._step, vertex="", text=value, stream="stderr"))
        elif value is not None:
            self.status(value)

    def status(self, value: Mapping[str, Any]) -> None:
        """Process one value of the stream."""
        for raw in value.get("vertexes") or ():
            vertex = self._vertices.setdefault(raw["digest"], _Vertex())
            vertex.name = raw.get("name", vertex.name)
            vertex.error = raw.get("error", "") or vertex.error
            if raw.get("started") and vertex.name.startswith(_EXPORT):
                self._begin("export")
            if raw.get("started") and not raw.get("completed") and not vertex.name.startswith("[internal]"):
                self._now(vertex.name)
            if raw.get("completed"):
                self._flush(vertex)
                self.exported |= vertex.name.startswith(_EXPORT) and not vertex.error
        for raw in value.get("statuses") or ():
            if raw.get("started") and str(raw.get("id")).startswith(_PUSH):
                self._begin("push")
            if raw.get("completed") and (match := _PUSHED.fullmatch(str(raw.get("id")))):
                self.pushed = match["digest"]
            if raw.get("total") or raw.get("current"):
                what = raw.get("name") or raw.get("id") or ""
                self._emit(
                    StepProgress(
                        step=self._step,
                        doing=str(what)[:200],
                        current=int(raw.get("current") or 0),
                        total=int(raw.get("total") or 0),
                    )
                )
            elif raw.get("started") and not raw.get("completed") and str(raw.get("id")).startswith(_PHASES):
                # Parts of the export have no progress count.
                self._now(str(raw["id"])[:200])
        for raw in value.get("logs") or ():
            self._log(self._vertices.setdefault(raw["vertex"], _Vertex()), raw)
        for raw in value.get("warnings") or ():
            text = base64.b64decode(raw.get("short") or b"").decode("utf-8", "replace")
            self._emit(LogLine(step=self._step, vertex="", text=labelled("warning", text), stream="stderr"))

    def _begin(self, phase: Phase) -> None:
        """Emit that a phase begins, unless it or a later one has begun."""
        while phase in self._phases:
            if self._phases.pop() == phase:
                self._emit(StepPhase(step=self._step, phase=phase))

    def _now(self, doing: str) -> None:
        if doing != self._doing:
            self._doing = doing
            self._emit(StepProgress(step=self._step, doing=doing))

    def _log(self, vertex: _Vertex, raw: Mapping[str, Any]) -> None:
        stream = int(raw.get("stream") or 1)
        data = vertex.partial.pop(stream, b"") + base64.b64decode(raw.get("data") or b"")
        *lines, rest = data.split(b"\n")
        if rest:
            vertex.partial[stream] = rest
        for line in lines:
            self._line(vertex, line, stream)

    def _flush(self, vertex: _Vertex) -> None:
        for stream, rest in vertex.partial.items():
            self._line(vertex, rest, stream)
        vertex.partial.clear()

    def _line(self, vertex: _Vertex, line: bytes, stream: int) -> None:
        text = line.decode("utf-8", "replace")
        clipped = _CLIPPED.fullmatch(text)
        if clipped:
            text = f"==== output was dropped here (the builder's limit: {clipped['limit']}); {_LIFT} lift the limit"
            if not self._clipped:
                self._clipped = True
                warning = f"{self._step}: some output was dropped (the builder's limit: {clipped['limit']}); {_LIFT}"
                self._emit(Message(level="warning", text=f"{warning} lift the limit"))
        vertex.tail.add(text, stderr=stream == 2)
        self._emit(
            LogLine(step=self._step, vertex=vertex.name, text=text, stream="stderr" if stream == 2 else "stdout")
        )

    def failure(self) -> Failure:
        """Return the facts about the failure. Call it after the stream has ended."""
        if rest := self._stream.rest():
            self._text.append(rest)
        for vertex in self._vertices.values():
            self._flush(vertex)
        failed = next(self._failed(), _Vertex())
        line = 0
        for number, text in enumerate(self._text[:-1]):
            match = _EXCERPT.match(text)
            if match and _RULE.match(self._text[number + 1]):
                line = int(match["line"])
        error = failed.error or next(
            (text.removeprefix("ERROR: ") for text in reversed(self._text) if text.startswith("ERROR: ")),
            self._text[-1] if self._text else "",
        )
        return Failure(vertex=failed.name, error=error, line=line, tail=failed.tail.lines(), text="\n".join(self._text))

    def _failed(self) -> Iterator[_Vertex]:
        """Vertices with their own error come before those cancelled because of it."""
        with_error = [vertex for vertex in self._vertices.values() if vertex.error]
        yield from (vertex for vertex in with_error if "context canceled" not in vertex.error)
        yield from with_error
