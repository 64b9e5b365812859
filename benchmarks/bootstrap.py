"""`script/bench bootstrap`: roots of the machine's own and a foreign platform, the latter with and without native programs."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import measure
from chainbuild.distro.architectures import is_emulated
from chainbuild.distro.debian import read_request
from chainbuild.distro.mmdebstrap import Workshop
from chainbuild.events import Event, Message
from chainbuild.references import ImageReference, Platform

SUITES = ("bookworm", "trixie")
OWN, EMULATED, NATIVE = "own", "emulated", "native"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One suite: the seconds from the request to the packed layer, by way."""

    suite: str
    foreign: str
    times: dict[str, tuple[float, ...]]

    def median(self, way: str) -> float:
        return measure.middle(self.times[way])


def measured(suites: tuple[str, ...] = SUITES, rounds: int = 3) -> tuple[Point, ...]:
    """Measure, the ways interleaved. Both ways to make a foreign root must give the same layer: anything else fails."""
    own, foreign = Platform.of_this_machine(), _foreign()
    times: dict[tuple[str, str], list[float]] = {
        (suite, way): [] for suite in suites for way in (OWN, EMULATED, NATIVE)
    }
    for turn in range(rounds):
        for suite in suites:
            layers = {}
            for way in (OWN, NATIVE, EMULATED) if turn % 2 else (EMULATED, OWN, NATIVE):
                seconds, layers[way] = _made(suite, own if way == OWN else foreign, emulate_all=way == EMULATED)
                times[suite, way].append(seconds)
                measure.say(f"round {turn + 1}: {suite}, {way}: {measure.shown(seconds)}")
            if layers[NATIVE] != layers[EMULATED]:
                raise measure.RunFailedError(f"{suite}: the layers differ: {layers[NATIVE]} and {layers[EMULATED]}")
    return tuple(
        Point(
            suite=suite,
            foreign=foreign.name,
            times={way: tuple(times[suite, way]) for way in (OWN, EMULATED, NATIVE)},
        )
        for suite in suites
    )


def _foreign() -> Platform:
    for name in ("aarch64", "amd64"):
        if is_emulated(platform := Platform.parse(name)):
            return platform
    raise measure.RunFailedError("this machine runs amd64 and aarch64 natively")


def _made(suite: str, platform: Platform, *, emulate_all: bool) -> tuple[float, str]:
    """Make a root without a registry; return the seconds and the digest of its layer."""
    said: list[str] = []

    def emit(event: Event) -> None:
        if isinstance(event, Message):
            said.append(event.text)

    request = read_request(ImageReference.parse(f"debian:{suite}-slim"))
    with Workshop(emit, emulate_all=emulate_all) as workshop:
        layer, _, seconds = workshop.make(request, (platform,))[platform.oci]
    if is_emulated(platform) and not emulate_all and not any("installed with native programs" in line for line in said):
        raise measure.RunFailedError("\n".join((f"{suite}: native programs were not used", *said)))
    return seconds, str(layer.diff_id)


def table(points: tuple[Point, ...]) -> str:
    """The page's table."""
    foreign = points[0].foreign
    rows = [
        f"| | own | {foreign}, emulated | {foreign}, native programs | emulated / own | native / own |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for point in points:
        own, emulated, native = (point.median(way) for way in (OWN, EMULATED, NATIVE))
        rows.append(
            f"| `debian:{point.suite}-slim` | {measure.shown(own)} | {measure.shown(emulated)} | {measure.shown(native)} "
            f"| {measure.ratio(emulated / own)} | {measure.ratio(native / own)} |"
        )
    return "\n".join(rows)
