"""Image versions that nobody looks after any more: found before they are left behind, and listed where they were."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from chainbuild.errors import Problem
from chainbuild.host.git import CommitRange, Git
from chainbuild.layouts.science.from_lines import WAYS_OUT, OldVersion
from chainbuild.layouts.science.layer_graph import LayerGraph
from chainbuild.layouts.science.manifests import MANIFEST, SCIENCE, Described, describe


class LostRelease(Struct, frozen=True, kw_only=True):
    """An `image:version` that had a final layer and has none."""

    release: str
    where: str = ""
    line: int = 0
    how: str

    @property
    def problem(self) -> Problem:
        """What it is told as."""
        return Problem(
            path=self.where,
            line=self.line,
            message=f"{self.how}: {self.release} would get no compat updates any more",
            hint=f"{WAYS_OUT} Where it is really given up: --allow-orphan {self.release}.",
        )


def find_lost_since(layer_graph: LayerGraph, git: Git, span: CommitRange) -> tuple[LostRelease, ...]:
    """What the changes since a commit take the last final layer from: a layer that went, or got another version."""
    now = {layer.said.folder: layer.said for layer in layer_graph.layers}
    lost: dict[str, LostRelease] = {}
    for path in git.changed(span, (SCIENCE,)):
        folder, _, name = path.rpartition("/")
        if name != MANIFEST or folder.count("/") != 1:
            continue
        raw = git.before(span, path)
        before = describe(raw, folder, []) if raw is not None else None
        if before is None or before.release in layer_graph.finals:
            continue
        lost[before.release] = _lost(before, now.get(folder))
    return tuple(lost.values())


def _lost(before: Described, now: Described | None) -> LostRelease:
    if now is None:
        how = f"the last layer of {before.release} was taken away"
        return LostRelease(release=before.release, where=before.manifest, how=how)
    key = "version" if now.image == before.image else "image"
    line = now.lines.get(key, 0)
    how = f"it was changed in place from {before.release} to {now.release}"
    return LostRelease(release=before.release, where=now.manifest, line=line, how=how)


def lost_releases(layer_graph: LayerGraph, released: Iterable[str]) -> tuple[LostRelease, ...]:
    """What was released and has no final layer."""
    return tuple(
        LostRelease(release=release, how=f"{release} was released, and no layer here is of that image and version")
        for release in sorted(released)
        if release not in layer_graph.finals
    )


def orphan_problems(
    old: Iterable[OldVersion], lost: Iterable[LostRelease], allowed: Iterable[str]
) -> tuple[Problem, ...]:
    """A problem for each that is not allowed; one that is known by several ways is told once."""
    given_up = frozenset(allowed)
    told = [one.problem for one in dict.fromkeys(old) if not one.names & given_up]
    by_release: dict[str, LostRelease] = {}
    for one in lost:
        if one.release not in given_up:
            by_release.setdefault(one.release, one)
    return (*told, *(one.problem for one in by_release.values()))


# What the registry remembers --------------------------------------------------------------------------------------------
