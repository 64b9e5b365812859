"""Image versions that nobody looks after any more: found before they are left behind, and listed where they were."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from chainbuild.errors import Problem, RegistryBusyError, RegistryError, UnreachableError
from chainbuild.git import Git, Span
from chainbuild.layouts.science.forest import Forest
from chainbuild.layouts.science.from_lines import REL, WAYS_OUT, OldVersion
from chainbuild.layouts.science.manifests import MANIFEST, SCIENCE, Described, describe
from chainbuild.layouts.science.versions import is_version
from chainbuild.references import Digest, ImageReference
from chainbuild.registry.images import put_tag
from chainbuild.registry.pool import Registries

_RELEASED: Final = "released-"
_GIVEN_UP: Final = "orphan-"


class Lost(Struct, frozen=True, kw_only=True):
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


def lost_since(forest: Forest, git: Git, span: Span) -> tuple[Lost, ...]:
    """What the changes since a commit take the last final layer from: a layer that went, or got another version."""
    now = {layer.said.folder: layer.said for layer in forest.layers}
    lost: dict[str, Lost] = {}
    for path in git.changed(span, (SCIENCE,)):
        folder, _, name = path.rpartition("/")
        if name != MANIFEST or folder.count("/") != 1:
            continue
        raw = git.before(span, path)
        before = describe(raw, folder, []) if raw is not None else None
        if before is None or before.release in forest.finals:
            continue
        lost[before.release] = _lost(before, now.get(folder))
    return tuple(lost.values())


def _lost(before: Described, now: Described | None) -> Lost:
    if now is None:
        how = f"the last layer of {before.release} was taken away"
        return Lost(release=before.release, where=before.manifest, how=how)
    key = "version" if now.image == before.image else "image"
    line = now.lines.get(key, 0)
    how = f"it was changed in place from {before.release} to {now.release}"
    return Lost(release=before.release, where=now.manifest, line=line, how=how)


def lost_releases(forest: Forest, released: Iterable[str]) -> tuple[Lost, ...]:
    """What was released and has no final layer."""
    return tuple(
        Lost(release=release, how=f"{release} was released, and no layer here is of that image and version")
        for release in sorted(released)
        if release not in forest.finals
    )


def orphan_problems(old: Iterable[OldVersion], lost: Iterable[Lost], allowed: Iterable[str]) -> tuple[Problem, ...]:
    """A problem for each that is not allowed; one that is known by several ways is told once."""
    given_up = frozenset(allowed)
    told = [one.problem for one in dict.fromkeys(old) if not one.names & given_up]
    by_release: dict[str, Lost] = {}
    for one in lost:
        if one.release not in given_up:
            by_release.setdefault(one.release, one)
    return (*told, *(one.problem for one in by_release.values()))


# What the registry remembers --------------------------------------------------------------------------------------------


class Releases:
    """Which image versions were released from a repository, and which of them were given up. Tags remember it."""

    def __init__(self, registries: Registries, place: ImageReference) -> None:
        """`place` is REPO's repository in the chain registry."""
        self._registries = registries
        self._place = place
        self._tags: frozenset[str] | None = None

    def released(self) -> frozenset[str]:
        """Every `image:version` that ever got its name."""
        return self._remembered(_RELEASED)

    def given_up(self) -> frozenset[str]:
        """Those that were given up and not released again since."""
        return frozenset(
            release
            for release in self._remembered(_GIVEN_UP)
            if self._digest(_GIVEN_UP, release) == self._digest(_RELEASED, release)
        )

    def release(self, release: str, image: Digest) -> None:
        """Remember that it was released."""
        put_tag(self._registries, self._place.with_tag(_tag(_RELEASED, release)), image)

    def give_up(self, release: str) -> None:
        """Remember that it was given up, where it was ever released."""
        digest = self._digest(_RELEASED, release)
        if digest is not None:
            put_tag(self._registries, self._place.with_tag(_tag(_GIVEN_UP, release)), digest)

    def _digest(self, prefix: str, release: str) -> Digest | None:
        there = self._registries.client(self._place).head(self._place.repository, _tag(prefix, release))
        return there.digest if there else None

    def _remembered(self, prefix: str) -> frozenset[str]:
        tags = (tag.removeprefix(prefix) for tag in self._all() if tag.startswith(prefix))
        parts = (tag.rpartition("-") for tag in tags)
        return frozenset(f"{image}:{version}" for image, _, version in parts if image and is_version(version))

    def _all(self) -> frozenset[str]:
        if self._tags is None:
            self._tags = frozenset(self._registries.client(self._place).tags(self._place.repository))
        return self._tags


def _tag(prefix: str, release: str) -> str:
    image, _, version = release.rpartition(":")
    return f"{prefix}{image}-{version}"


class Orphan(Struct, frozen=True, kw_only=True):
    """A released version that gets no compat updates; `heirs` are the versions of its image that do."""

    release: str
    place: ImageReference
    heirs: tuple[str, ...]
    given_up: bool


def find_orphans(
    registries: Registries, places: Iterable[ImageReference], forest: Forest, given_up: Iterable[str]
) -> tuple[Orphan, ...]:
    """The orphans among what the repositories below each place (`{repo}`) hold as `rel/image:version`."""
    known = frozenset(given_up)
    images = {layer.said.image for layer in forest.layers}
    found: list[Orphan] = []
    for place in places:
        client = registries.client(place)
        below = f"{place.repository}/{REL}/"
        named: set[str] = set()
        # Public registries mostly refuse their catalog: there, the images of the tree are what is known.
        try:
            named = {name.removeprefix(below) for name in client.repositories() if name.startswith(below)}
        except (UnreachableError, RegistryBusyError):
            raise
        except RegistryError:
            pass
        for image in sorted(named | images):
            for tag in sorted(client.tags(f"{below}{image}")):
                release = f"{image}:{tag}"
                if not is_version(tag) or release in forest.finals:
                    continue
                heirs = tuple(one.rpartition(":")[2] for one in forest.finals if one.rpartition(":")[0] == image)
                name = ImageReference(place.registry, f"{below}{image}", tag)
                found.append(Orphan(release=release, place=name, heirs=heirs, given_up=release in known))
    return tuple(found)
