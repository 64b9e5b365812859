"""Names beyond one platform and one registry: the index over an option's results, and REPO's own registry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, field

from chainbuild.errors import StaleIndexError
from chainbuild.execution.outcome import RunOutcome
from chainbuild.model import Chain
from chainbuild.planning.generations import Generations, StaleImage
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.artifacts import copy_attached
from chainbuild.registry.images import RemoteImage, copy_image, put_index, put_tag, read_index, resolve
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries

DIRTY: Final = "-dirty"
"""How a version ends that no commit stands for: it is never an alias."""
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def publish_indexes(
    registries: Registries,
    chains: Iterable[Chain],
    outcome: RunOutcome,
    *,
    replace: bool = False,
    generations: Generations | None = None,
    refuse_stale: bool = False,
) -> tuple[str, ...]:
    """Give the chains' results their names in the chain registry; what people may want to know of it is told.

    The results' own names come first, then the indexes over them with their other tags, then the aliases of those.
    Contents are all in place before the first name moves. Platforms that an index has already stay in it, unless it is
    told to `replace` it by what is given; `generations` tells which of them are of other inputs, and `refuse_stale` makes
    that an error. An alias that exists stays as it is. Errors: `StaleIndexError`; no index was changed then.
    """
    images = _in_place(registries, chains, outcome)
    wanted: dict[ImageReference, dict[Platform, Descriptor]] = {}
    for chain, image in images.items():
        # A step that is called like its result has that name since it was built.
        if chain.release != chain.result.reference:
            put_tag(registries, chain.release, image.digest)
        wanted.setdefault(chain.index, {})[chain.platform] = image.descriptor
    chains_of = {chain.index: chain for chain in images}
    stale: tuple[StaleImage, ...] = ()
    if generations is not None and not replace:
        given = {reference: frozenset(platform.oci for platform in below) for reference, below in wanted.items()}
        stale = _stale(registries, chains_of, given, generations)
        _refuse(stale, refuse_stale=refuse_stale)
    indexes = {
        reference: put_index(registries, reference, below, merge=not replace) for reference, below in wanted.items()
    }
    for chain in images:
        for tag in chain.also:
            put_tag(registries, chain.home.with_tag(tag), indexes[chain.index].digest)
    told: dict[str, None] = dict.fromkeys(str(one) for one in stale)
    for alias, chain in _aliases(images).items():
        told |= dict.fromkeys(_never_moved(registries, alias, indexes[chain.index].digest))
    return tuple(told)


def _stale(
    registries: Registries,
    chains: Mapping[ImageReference, Chain],
    given: Mapping[ImageReference, frozenset[str]],
    generations: Generations,
) -> tuple[StaleImage, ...]:
    """The images that the indexes keep from before and that the tree does not give now.

    `given` has, for every index by name, the OCI platforms that it is going to get.
    """
    found: list[StaleImage] = []
    for reference, platforms in given.items():
        before = read_index(registries, reference)
        for child in before.images if before else ():
            if child.platform is not None and child.platform.oci not in platforms:
                one = generations.stale(chains[reference], reference, child.platform, child.digest)
                found += [one] if one else []
    return tuple(found)


def _refuse(stale: tuple[StaleImage, ...], *, refuse_stale: bool) -> None:
    if stale and refuse_stale:
        raise StaleIndexError(
            "\n".join(str(one) for one in stale),
            hint="Build the other platforms, too, or drop them with --replace-index. The index was not changed.",
        )


def stale_where_pushed(
    registries: Registries,
    repo: ImageReference,
    chains: Iterable[Chain],
    generations: Generations,
    *,
    refuse_stale: bool = False,
) -> tuple[str, ...]:
    """What is to be said of the indexes in REPO's own registry: images that only they have, and that are of other inputs.

    Errors: `StaleIndexError`.
    """
    chains_of: dict[ImageReference, Chain] = {}
    given: dict[ImageReference, frozenset[str]] = {}
    for chain in chains:
        here = read_index(registries, chain.index)
        target = (chain.repo or repo).with_tag(chain.index_tag)
        chains_of[target] = chain
        given[target] = (
            frozenset(child.platform.oci for child in here.images if child.platform) if here else frozenset()
        )
    stale = _stale(registries, chains_of, given, generations)
    _refuse(stale, refuse_stale=refuse_stale)
    return tuple(str(one) for one in stale)


def _in_place(registries: Registries, chains: Iterable[Chain], outcome: RunOutcome) -> dict[Chain, RemoteImage]:
    """The results, in the repositories in which they get their names."""
    images: dict[Chain, RemoteImage] = {}
    for chain in chains:
        result = outcome.results[chain.result.id].reference
        if chain.released_to is not None:
            copy_image(registries, result, chain.released_to)
            result = chain.released_to.with_digest(outcome.results[chain.result.id].record.image)
        images[chain] = resolve(registries, result, chain.platform)
    return images


def _aliases(images: Mapping[Chain, RemoteImage]) -> dict[ImageReference, Chain]:
    """The aliases that are to be: an image that says which one it has had gets that, and only else the chain's."""
    wanted: dict[ImageReference, Chain] = {}
    for chain, image in images.items():
        for alias in chain.aliases:
            said = image.config.label(chain.alias_label).rpartition(":")[2] if chain.alias_label else ""
            own = _TAG.fullmatch(said) and said.startswith(f"{chain.index_tag}-") and not said.endswith(DIRTY)
            wanted[chain.home.with_tag(said if own else alias)] = chain
    return wanted


def _never_moved(registries: Registries, alias: ImageReference, digest: Digest) -> tuple[str, ...]:
    there = registries.client(alias).head(alias.repository, alias.tag_or_latest)
    if there is None:
        put_tag(registries, alias, digest)
        return ()
    return () if there.digest == digest else (f"{alias} exists and stays as it is ({there.digest.short})",)


class _Push(Struct, frozen=True):
    """Something of the chain registry and what it is to be called elsewhere."""

    source: ImageReference
    target: ImageReference
    only: Mapping[Platform, ImageReference] = field(default_factory=dict)
    """Of an index: the images that it is to be over, instead of all that the source is over."""
    never_moves: bool = False


def push_results(
    registries: Registries,
    repo: ImageReference,
    chains: Iterable[Chain],
    outcome: RunOutcome,
    *,
    together: bool = False,
    exact: bool = False,
) -> tuple[ImageReference, ...]:
    """Copy the chains' results and then their indexes to REPO's own registry, by digest; gives their names there.

    What is attached to a result (its bill of materials) goes with it. An index comes after every image that it names, and
    keeps the platforms that it has there and not here. `together`: every content is there before the first name moves.
    `exact`: an index gets the chains' results alone, whatever else the chain registry's names, and no alias. Errors:
    those of the registries (`LoginNeededError` with what to do).
    """
    images: dict[ImageReference, _Push] = {}
    indexes: dict[ImageReference, _Push] = {}
    others: dict[ImageReference, ImageReference] = {}
    for chain in chains:
        home = chain.repo or repo
        target = home.with_tag(chain.result_tag)
        result = outcome.results[chain.result.id].reference
        images[target] = _Push(result, target)
        index = _Push(chain.index, home.with_tag(chain.index_tag))
        if exact:
            index = _Push(chain.index, index.target, {**indexes.get(chain.index, index).only, chain.platform: result})
        indexes[chain.index] = index
        others |= {home.with_tag(tag): home.with_tag(chain.index_tag) for tag in chain.also}
        for alias in _aliases_here(registries, chain) if not exact else ():
            indexes[alias] = _Push(alias, home.with_tag(alias.tag_or_latest), never_moves=True)
    if together:
        for push in (*images.values(), *indexes.values()):
            _send(registries, push, name=False)
    pushed: dict[ImageReference, None] = {}
    for push in (*images.values(), *indexes.values()):
        if _send(registries, push, name=True):
            pushed[push.target] = None
    for other, same in others.items():
        there = registries.client(same).head(same.repository, same.tag_or_latest)
        if there is not None:
            put_tag(registries, other, there.digest)
            pushed[other] = None
    return tuple(pushed)


def _aliases_here(registries: Registries, chain: Chain) -> tuple[ImageReference, ...]:
    if not chain.aliases:
        return ()
    image = resolve(registries, chain.release, chain.platform)
    return tuple(_aliases({chain: image}))


def _send(registries: Registries, push: _Push, *, name: bool) -> bool:
    """Copy what is to be pushed, with or without its name. Whether there is anything."""
    source, target = push.source, push.target
    bare = ImageReference(target.registry, target.repository)
    if push.only:
        if name:
            chosen = {
                platform: resolve(registries, image, platform).descriptor for platform, image in push.only.items()
            }
            put_index(registries, target, chosen, merge=True)
        return True
    here = read_index(registries, source)
    if here is None:
        if source.digest is None:
            return False
        copy_image(registries, source, target if name else bare)
        copy_attached(registries, source, target)
        return True
    copy_image(registries, source.with_digest(here.digest), bare)
    if not name:
        return True
    if push.never_moves:
        _never_moved(registries, target, here.digest)
    else:
        images = {child.platform: child for child in here.images if child.platform is not None}
        put_index(registries, target, images, merge=True)
    return True
