"""Find image versions that no layer builds any more, before they are left behind, and list those that were."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from chainbuild.errors import Problem
from chainbuild.host.git import CommitRange, Git
from chainbuild.layouts.science.from_lines import WAYS_OUT, OldVersion
from chainbuild.layouts.science.layer_graph import LayerGraph
from chainbuild.layouts.science.manifests import MANIFEST, SCIENCE, Described, describe


class LostRelease(Struct, frozen=True, kw_only=True):
    """An `image:version` that had a final layer and no longer has one."""

    release: str
    where: str = ""
    line: int = 0
    how: str

    @property
    def problem(self) -> Problem:
        """The problem to report."""
        return Problem(
            path=self.where,
            line=self.line,
            message=f"{self.how}: {self.release} would no longer get compat updates",
            hint=f"{WAYS_OUT} To give it up: --allow-orphan {self.release}.",
        )


def find_lost_since(layer_graph: LayerGraph, git: Git, span: CommitRange) -> tuple[LostRelease, ...]:
    """Return the releases that lost their last final layer since a commit: it was removed or got another version."""
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
        how = f"the last layer of {before.release} was removed"
        return LostRelease(release=before.release, where=before.manifest, how=how)
    key = "version" if now.image == before.image else "image"
    line = now.lines.get(key, 0)
    how = f"the layer was changed in place from {before.release} to {now.release}"
    return LostRelease(release=before.release, where=now.manifest, line=line, how=how)


def lost_releases(layer_graph: LayerGraph, released: Iterable[str]) -> tuple[LostRelease, ...]:
    """Return the releases that have no final layer."""
    return tuple(
        LostRelease(release=release, how=f"{release} was released, but no layer has this image and version")
        for release in sorted(released)
        if release not in layer_graph.finals
    )


def orphan_problems(
    old: Iterable[OldVersion], lost: Iterable[LostRelease], allowed: Iterable[str]
) -> tuple[Problem, ...]:
    """Return a problem for each orphan that is not allowed, each release only once."""
    given_up = frozenset(allowed)
    problems = [item.problem for item in dict.fromkeys(old) if not item.names & given_up]
    by_release: dict[str, LostRelease] = {}
    for item in lost:
        if item.release not in given_up:
            by_release.setdefault(item.release, item)
    return (*problems, *(item.problem for item in by_release.values()))


# What the registry remembers --------------------------------------------------------------------------------------------
