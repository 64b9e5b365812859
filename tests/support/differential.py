"""Compare chainbuild's step keys with plain buildx builds: an unchanged key for a changed image is a fault."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from chainbuild.builder.build_spec import build_spec_for
from chainbuild.dockerfile.rewrite import pin_images
from chainbuild.errors import WrongUseError
from chainbuild.values import replace
from tests.support.plain_builds import Build, build_all, move
from tests.support.reuse_pairs import (
    CHANGES,
    EXTRA,
    HERE,
    Case,
    Pair,
    context_of,
    extra_of,
    families,
    is_plannable,
    key_of,
    step_of,
    write_case,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The result of a pair. `fault` is empty if chainbuild was right.

    `same_key`: the key is unchanged, so both cases were built; `works`: plain buildx builds the first case.
    """

    pair: Pair
    same_key: bool
    works: bool = True
    rewritten: bool = False
    fault: str = ""


def generate(number: int, start: int, images: Mapping[str, str]) -> list[Pair]:
    """Return at least `number` pairs that a plan accepts, always the same ones for a seed.

    Consecutive pairs may start from the same case; no two other cases have the same Dockerfile.
    """
    found: dict[tuple[str, ...], tuple[Pair, ...]] = {}
    while len(found) * CHANGES < number:

        @seed(start)
        @settings(
            max_examples=number,
            database=None,
            phases=(Phase.generate,),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(families())
        def collect(family: tuple[Pair, ...]) -> None:
            if is_plannable(family[0].before, images):
                found.setdefault(family[0].before.lines, family)

        collect()
        start += 1
    count = -(-number // CHANGES)
    return [pair for family in list(found.values())[:count] for pair in family]


def judge(chosen: Iterable[Pair], images: Mapping[str, str]) -> list[Verdict]:
    """Build all pairs in few calls, and compare.

    A possible fault is built again alone: parallel builds share equal parts, and BuildKit 0.13 is known to lose a stage's
    files in that case.
    """
    verdicts = _judge(list(chosen), images, together=True)
    return [_judge([verdict.pair], images, together=False)[0] if verdict.fault else verdict for verdict in verdicts]


def _judge(chosen: list[Pair], images: Mapping[str, str], *, together: bool) -> list[Verdict]:
    with tempfile.TemporaryDirectory(prefix="chainbuild-pairs-") as name:
        return _Judge(chosen, images, Path(name), together=together).verdicts()


class _Judge:
    def __init__(self, chosen: list[Pair], images: Mapping[str, str], folder: Path, *, together: bool) -> None:
        self.pairs = chosen
        self.images = images
        self.folder = folder
        self.together = together

    def verdicts(self) -> list[Verdict]:
        builds: dict[str, Build] = {}
        moved: dict[str, dict[str, Build]] = {}
        firsts: dict[int, str] = {}
        keys: dict[str, str | None] = {}
        names: list[tuple[str, str, bool]] = []
        for at, pair in enumerate(self.pairs):
            first = firsts.setdefault(id(pair.before), f"{at}")
            before = self.folder / f"b{first}"
            if first not in keys:
                build = self.build(pair.before, before, f"b{first}")
                keys[first] = self.key(pair.before, before)
                if keys[first] is not None:
                    copies = self.rewritten(pair.before, before, f"r{first}")
                    builds |= {each.name: each for each in (build, *copies)}
            after = self.build(pair.after, self.folder / f"a{at}", f"a{at}")
            same = keys[first] is not None and keys[first] == self.key(pair.after, self.folder / f"a{at}")
            if same:
                (moved.setdefault(pair.after.moved, {}) if pair.after.moved else builds)[after.name] = after
            names.append((first, f"{at}", same))
        images = build_all(list(builds.values()), self.folder, together=self.together)
        for name, its in moved.items():
            move(self.images, name, 1)
            images |= build_all(list(its.values()), self.folder, together=self.together)
            move(self.images, name, 0)
        return [
            self.verdict(pair, images.get(f"b{first}"), images.get(f"a{at}"), images.get(f"r{first}", ""), same)
            for pair, (first, at, same) in zip(self.pairs, names, strict=True)
        ]

    def build(self, case: Case, spot: Path, name: str) -> Build:
        dockerfile = write_case(case, spot, self.images)
        contexts = {EXTRA: str(extra_of(spot))} if case.with_extra else {}
        return Build(name=name, context=context_of(spot), dockerfile=dockerfile, args=case.args, contexts=contexts)

    def key(self, case: Case, spot: Path) -> str | None:
        """Return the key, or None if the plan refuses the case or knows that a builder will."""
        try:
            return key_of(case, spot, self.images)
        except WrongUseError:
            return None

    def rewritten(self, case: Case, spot: Path, name: str) -> list[Build]:
        """Return the build with images pinned as chainbuild pins them, to other names of the same images."""
        step = step_of(case, spot, self.images)
        pinned = {image.name: f"{image.written.removesuffix(':latest')}-pinned:latest" for image in step.images}
        spec = build_spec_for(step, pinned, build_platform=HERE)
        if spec.source is None:
            return []
        copy = self.folder / name
        copy.mkdir()
        (copy / "Dockerfile").write_bytes(pin_images(spec.source, {pin.place: pin.reference for pin in spec.pins}))
        if spec.ignore is not None:
            (copy / "Dockerfile.dockerignore").write_bytes(spec.ignore)
        contexts = {EXTRA: str(extra_of(spot))} if case.with_extra else {}
        return [
            Build(
                name=name,
                context=context_of(spot),
                dockerfile=copy / "Dockerfile",
                args=case.args,
                contexts=contexts | dict(spec.contexts),
            )
        ]

    def verdict(self, pair: Pair, before: str | None, after: str | None, copy: str | None, same_key: bool) -> Verdict:
        """Judge a pair. `copy` is the image of the build with pinned references, empty if there is none."""
        if before is None:
            return Verdict(pair=pair, same_key=same_key, works=False)
        fault = ""
        if same_key and before != after:
            fault = (
                "the key stays although the image changes" if after else "the key stays although the build fails now"
            )
        elif copy not in {"", before}:
            fault = "the image changes if its named images are pinned"
        return Verdict(pair=pair, same_key=same_key, rewritten=copy == before, fault=fault)


def minimized(pair: Pair, images: Mapping[str, str], *, tries: int = 200) -> Pair:
    """Return a smaller pair with a fault, by removing lines, files, args and patterns while the fault remains."""
    left = tries
    smaller = True
    while smaller and left > 0:
        smaller = False
        for candidate in _smaller(pair):
            left -= 1
            if left < 0:
                break
            if is_plannable(candidate.before, images) and _judge([candidate], images, together=False)[0].fault:
                pair, smaller = candidate, True
                break
    return pair


def _smaller(pair: Pair) -> Iterator[Pair]:
    before, after = pair.before, pair.after
    for at in reversed(range(len(before.lines))):
        lines = before.lines[:at] + before.lines[at + 1 :]
        yield replace(pair, before=replace(before, lines=lines), after=replace(after, lines=lines))
    for name in ("files", "extra", "args"):
        old, new = getattr(before, name), getattr(after, name)
        for key in [key for key in old if old[key] == new.get(key)]:
            yield replace(pair, before=_less(before, name, key), after=_less(after, name, key))
    for name in ("ignore", "own_ignore"):
        if getattr(before, name) == getattr(after, name):
            for at in range(len(getattr(before, name) or ())):
                yield replace(pair, before=_less(before, name, at), after=_less(after, name, at))


def _less(case: Case, name: str, key: object) -> Case:
    """Return the case without one entry of a mapping, or one line of a tuple."""
    value = getattr(case, name)
    less: Any
    if isinstance(value, Mapping):
        less = {other: entry for other, entry in value.items() if other != key}
    else:
        less = tuple(line for at, line in enumerate(value) if at != key)
    return replace(case, **{name: less})
