"""What `chainbuild science` does around the three lines of every run: orphans are told before, releases kept after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from chainbuild.command_line import RunRequest
from chainbuild.errors import WrongUseError
from chainbuild.layouts.science.graph import Layout, laid_out
from chainbuild.layouts.science.manifests import COMPAT
from chainbuild.layouts.science.orphans import lost_releases, orphan_problems
from chainbuild.layouts.science.words import ScienceRequest
from chainbuild.outcome import Outcome
from chainbuild.references import ImageReference, Platform
from chainbuild.science_releases import Orphan, Releases, find_orphans
from chainbuild.session import Session
from chainbuild.values import replace


@contextmanager
def prepared(request: ScienceRequest) -> Iterator[tuple[Layout, RunRequest]]:
    """The layout and the run that it is, as long as the `with` lasts."""
    with ExitStack() as stack:

        def lay_out(platforms: Sequence[Platform]) -> Layout:
            place = laid_out(request.tree, request.selection, request.place, tuple(platforms), request.state)
            return stack.enter_context(place)

        layout = lay_out(request.platforms)
        wishes = replace(request.wishes, lenient=layout.lenient, graph_for=lambda platforms: lay_out(platforms).graph)
        yield layout, RunRequest(graph=layout.graph, settings=request.settings, wishes=wishes)


def check_releases(request: ScienceRequest, session: Session) -> None:
    """What was released from this repository still has a final layer, or was given up.

    Errors: `WrongUseError`.
    """
    releases = Releases(session.registries, request.place.home)
    lost = lost_releases(request.tree.forest, releases.released())
    if not lost:
        return
    problems = orphan_problems((), lost, request.allowed | releases.given_up())
    if problems:
        raise WrongUseError(problems)


def keep_releases(request: ScienceRequest, session: Session, layout: Layout, outcome: Outcome) -> None:
    """Remember what is released now, and what was given up."""
    if not outcome.succeeded:
        return
    releases = Releases(session.registries, request.place.home)
    released = {chain.last.identity: chain.result.id for chain in layout.graph.chains if chain.option == COMPAT}
    for release, step in released.items():
        releases.release(release, outcome.results[step].record.image)
    for release in sorted(request.allowed):
        releases.give_up(release)


def orphans(request: ScienceRequest, session: Session) -> tuple[Orphan, ...]:
    """The released versions that get no compat updates: those of the chain registry, and of REPO's own."""
    given_up = Releases(session.registries, request.place.home).given_up()
    places = dict.fromkeys(
        ImageReference(place.registry, place.repository) for place in (request.place.home, request.place.released)
    )
    return find_orphans(session.registries, places, request.tree.forest, given_up)
