"""The operations of `chainbuild science` around a run: check for orphans before it, and store releases after it.

Tags in the chain registry record which image versions were released and which were abandoned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from msgspec import Struct

from chainbuild.errors import RegistryBusyError, RegistryError, UnreachableError, WrongUseError
from chainbuild.execution.outcome import RunOutcome
from chainbuild.execution.session import Session
from chainbuild.layouts.science.from_lines import REL
from chainbuild.layouts.science.graph import ScienceLayout, laid_out
from chainbuild.layouts.science.layer_graph import LayerGraph
from chainbuild.layouts.science.manifests import COMPAT, is_version
from chainbuild.layouts.science.orphans import lost_releases, orphan_problems
from chainbuild.model import Graph
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.images import put_tag
from chainbuild.registry.pool import Registries
from chainbuild.requests.build import BuildRequest, without_tests
from chainbuild.requests.science import ScienceRequest
from chainbuild.values import replace

_RELEASED: Final = "released-"


_GIVEN_UP: Final = "orphan-"


class Releases:
    """The image versions that were released from a repository, and those that were abandoned, stored as tags."""

    def __init__(self, registries: Registries, place: ImageReference) -> None:
        """`place` is REPO's repository in the chain registry."""
        self._registries = registries
        self._place = place
        self._tags: frozenset[str] | None = None

    def released(self) -> frozenset[str]:
        """Return every `image:version` that was ever released."""
        return self._remembered(_RELEASED)

    def given_up(self) -> frozenset[str]:
        """Return the versions that were abandoned and not released again."""
        return frozenset(
            release
            for release in self._remembered(_GIVEN_UP)
            if self._digest(_GIVEN_UP, release) == self._digest(_RELEASED, release)
        )

    def release(self, release: str, image: Digest) -> None:
        """Record a release."""
        put_tag(self._registries, self._place.with_tag(_tag(_RELEASED, release)), image)

    def give_up(self, release: str) -> None:
        """Record that a version was abandoned, if it was ever released."""
        digest = self._digest(_RELEASED, release)
        if digest is not None:
            put_tag(self._registries, self._place.with_tag(_tag(_GIVEN_UP, release)), digest)

    def _digest(self, prefix: str, release: str) -> Digest | None:
        manifest = self._registries.client(self._place).head(self._place.repository, _tag(prefix, release))
        return manifest.digest if manifest else None

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
    """A released version that gets no compat updates; `heirs` are the versions of the same image that do."""

    release: str
    place: ImageReference
    heirs: tuple[str, ...]
    given_up: bool


def find_orphans(
    registries: Registries, places: Iterable[ImageReference], layer_graph: LayerGraph, given_up: Iterable[str]
) -> tuple[Orphan, ...]:
    """Return the orphans among the `rel/image:version` tags in the repositories below each place (`{repo}`)."""
    abandoned = frozenset(given_up)
    images = {layer.said.image for layer in layer_graph.layers}
    orphaned: list[Orphan] = []
    for place in places:
        client = registries.client(place)
        below = f"{place.repository}/{REL}/"
        named: set[str] = set()
        # Most public registries refuse to list their catalog. Then only the images of the tree are known.
        try:
            named = {name.removeprefix(below) for name in client.repositories() if name.startswith(below)}
        except (UnreachableError, RegistryBusyError):
            raise
        except RegistryError:
            pass
        for image in sorted(named | images):
            for tag in sorted(client.tags(f"{below}{image}")):
                release = f"{image}:{tag}"
                if not is_version(tag) or release in layer_graph.finals:
                    continue
                finals = (final.rpartition(":") for final in layer_graph.finals)
                heirs = tuple(version for name, _, version in finals if name == image)
                place_of_release = ImageReference(place.registry, f"{below}{image}", tag)
                orphaned.append(
                    Orphan(release=release, place=place_of_release, heirs=heirs, given_up=release in abandoned)
                )
    return tuple(orphaned)


@contextmanager
def prepared(request: ScienceRequest) -> Iterator[tuple[ScienceLayout, BuildRequest]]:
    """Provide the layout and its run within a `with` block."""
    with ExitStack() as stack:

        def lay_out(platforms: Sequence[Platform]) -> ScienceLayout:
            layout = laid_out(request.tree, request.selection, request.place, tuple(platforms), request.state)
            return stack.enter_context(layout)

        def graph_of(layout: ScienceLayout) -> Graph:
            return layout.graph if request.tests else without_tests(layout.graph)

        layout = lay_out(request.platforms)
        options = replace(
            request.options, tolerance=layout.tolerance, graph_for=lambda platforms: graph_of(lay_out(platforms))
        )
        yield layout, BuildRequest(graph=graph_of(layout), settings=request.settings, options=options)


def check_releases(request: ScienceRequest, session: Session) -> None:
    """Check that every version released from this repository has a final layer, or was abandoned.

    Errors: `WrongUseError`.
    """
    releases = Releases(session.registries, request.place.home)
    lost = lost_releases(request.tree.layer_graph, releases.released())
    if not lost:
        return
    problems = orphan_problems((), lost, request.allowed | releases.given_up())
    if problems:
        raise WrongUseError(problems)


def keep_releases(request: ScienceRequest, session: Session, layout: ScienceLayout, outcome: RunOutcome) -> None:
    """Record what is released now, and what was abandoned."""
    if not outcome.succeeded:
        return
    releases = Releases(session.registries, request.place.home)
    released = {chain.last.identity: chain.result.id for chain in layout.graph.chains if chain.option == COMPAT}
    for release, step in released.items():
        releases.release(release, outcome.results[step].record.image)
    for release in sorted(request.allowed):
        releases.give_up(release)


def orphans(request: ScienceRequest, session: Session) -> tuple[Orphan, ...]:
    """Return the orphans of the chain registry and of the registry named in REPO."""
    given_up = Releases(session.registries, request.place.home).given_up()
    places = dict.fromkeys(
        ImageReference(place.registry, place.repository) for place in (request.place.home, request.place.released)
    )
    return find_orphans(session.registries, places, request.tree.layer_graph, given_up)
