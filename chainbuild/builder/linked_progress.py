"""Divide the progress of a solve of several builds among the builds.

buildx puts the name of a build before each of its instructions, `[NAME 2/3] RUN …`. The builder reports an instruction in
the build that it is part of and in all builds that are based on that one, with the same digest each time, and before it
starts. So an instruction belongs to the lowest build that it was reported in, and what the others report is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.builder.progress import Failure, JsonStream, Progress, hidden_flags
from chainbuild.events import Emit
from chainbuild.references import Digest

TARGET: Final = "step-"
"""What the names of builds begin with; their place follows."""
_NAMED: Final = re.compile(rf"\[{TARGET}(?P<place>\d+)(?:(?P<only>\] )| )")
_AT_FAULT: Final = re.compile(rf"^ERROR: target {TARGET}\d+: ")
_EXPORTS: Final = "exporting to "


class LinkedProgress:
    """Follows a solve. A build begins when the one before it is exported, even if a part of it ran earlier."""

    def __init__(
        self,
        specs: Sequence[BuildSpec],
        emit: Emit,
        begins: Callable[[int], None],
        stands: Callable[[int, Digest], None],
    ) -> None:
        """`begins` and `stands` are called with the place of a build: when it begins, and when its image was pushed."""
        self._begins = begins
        self._stands = stands
        self._stream = JsonStream()
        hidden = {flags for spec in specs for flags in hidden_flags(spec)}
        self._hidden = tuple(sorted(hidden, key=len, reverse=True))
        self._begun = 0
        self._builds = [Progress(spec.step, emit) for spec in specs]
        self._owner: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._logged: set[tuple[object, ...]] = set()
        self._standing: set[int] = set()
        self._text: list[str] = []

    def feed(self, line: str) -> None:
        """Process a line of buildx's output."""
        for flags in self._hidden:
            line = line.replace(flags, "")
        value = self._stream.feed(line)
        if isinstance(value, str):
            if value:
                self._text.append(value)
        elif value is not None:
            self._divide(value)

    def begin(self, place: int) -> None:
        """Begin a build, unless it has begun, and the builds before it."""
        while self._begun <= place:
            self._begins(self._begun)
            self._begun += 1

    def _divide(self, value: Mapping[str, Any]) -> None:
        parts: dict[int, dict[str, list[Mapping[str, Any]]]] = {}

        def give(place: int, kind: str, raw: Mapping[str, Any]) -> None:
            parts.setdefault(place, {}).setdefault(kind, []).append(raw)

        exported = []
        for raw in value.get("vertexes") or ():
            place, name = _split(raw.get("name", ""))
            owner = self._owner.get(raw["digest"])
            if place is None or place >= len(self._builds) or (owner is not None and owner < place):
                continue
            self._owner[raw["digest"]] = place
            give(place, "vertexes", {**raw, "name": name})
            if raw.get("started") and name.startswith(_EXPORTS):
                exported.append(place)
        for kind in ("statuses", "logs", "warnings"):
            for raw in value.get(kind) or ():
                owner = self._owner.get(raw.get("vertex", ""))
                if owner is not None and not (kind == "logs" and self._was_logged(raw)):
                    give(owner, kind, raw)
        for place in exported:
            self.begin(min(place + 1, len(self._builds) - 1))
        for place, part in sorted(parts.items()):
            self._builds[place].status(part)
            self._look(place)

    def _was_logged(self, raw: Mapping[str, Any]) -> bool:
        mark = (raw.get("vertex"), raw.get("timestamp"), raw.get("stream"), hash(raw.get("data")))
        if mark in self._logged:
            return True
        self._logged.add(mark)
        return False

    def _look(self, place: int) -> None:
        build = self._builds[place]
        if place not in self._standing and build.exported and build.pushed:
            self._standing.add(place)
            self.begin(place)
            self._stands(place, Digest(build.pushed))

    def failure(self) -> tuple[int | None, Failure]:
        """Return the facts about the failure, and the build at fault if an instruction of it failed.

        Call it after the stream has ended.
        """
        if rest := self._stream.rest():
            self._text.append(rest)
        text = [_AT_FAULT.sub("ERROR: ", _split(line)[1]) for line in self._text]
        for place, build in enumerate(self._builds):
            failure = build.failure()
            own = failure.vertex and not failure.vertex.startswith(("[internal]", _EXPORTS))
            if own and failure.error and "context canceled" not in failure.error:
                self.begin(place)
                for line in text:
                    build.feed(line)
                return place, build.failure()
        first = next((place for place in range(len(self._builds)) if place not in self._standing), 0)
        for line in text:
            self._builds[first].feed(line)
        return None, self._builds[first].failure()


def _split(name: str) -> tuple[int | None, str]:
    """Return the place of the build that an instruction's name begins with, and the name without it."""
    match = _NAMED.search(name)
    if match is None:
        return None, name
    return int(match["place"]), name[: match.start()] + ("" if match["only"] else "[") + name[match.end() :]
