"""Publish results: the multi-platform index of an option's results, and pushes to REPO's own registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from msgspec import Struct, field

from chainbuild.errors import RegistryError, StaleIndexError
from chainbuild.execution.outcome import RunOutcome
from chainbuild.in_parallel import in_parallel
from chainbuild.model import Chain, Publication, published
from chainbuild.patterns import regex
from chainbuild.planning.generations import Generations, StaleImage
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.artifacts import copy_attached
from chainbuild.registry.images import RemoteImage, copy_image, put_index, put_tag, read_index, resolve
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries

DIRTY: Final = "-dirty"
"""Suffix of a version without a commit of its own; it is never used as an alias."""
_TAG: Final = regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class PublishedIndexes(Struct, frozen=True, kw_only=True):
    """The indexes that a run has written, with their platforms, and messages for the user."""

    platforms: Mapping[ImageReference, tuple[str, ...]]
    messages: tuple[str, ...] = ()


def publish_indexes(
    registries: Registries,
    chains: Iterable[Chain],
    outcome: RunOutcome,
    *,
    replace: bool = False,
    generations: Generations | None = None,
    refuse_stale: bool = False,
) -> PublishedIndexes:
    """Tag the chains' results in the chain registry, and update their indexes.

    The results' own tags come first, then the indexes with their other tags, then the aliases. All content is in place before
    the first tag moves. An index keeps its other platforms unless `replace` is set; `generations` finds those built from
    other inputs, and `refuse_stale` makes them an error. An existing alias is not moved.
    Errors: `StaleIndexError`; no index was changed then.
    """
    images = _in_place(registries, chains, outcome)
    targets: dict[ImageReference, dict[Platform, Descriptor]] = {}
    for chain, names in published(images):
        # A step whose tag equals the result's was already tagged after its build.
        if names.release != chain.result.reference:
            put_tag(registries, names.release, images[chain].digest)
        targets.setdefault(names.index, {})[chain.platform] = images[chain].descriptor
    chains_of = {names.index: chain for chain, names in published(images)}
    stale: tuple[StaleImage, ...] = ()
    if generations is not None and not replace:
        given = {reference: frozenset(platform.oci for platform in below) for reference, below in targets.items()}
        stale = _stale(registries, chains_of, given, generations)
        _refuse(stale, refuse_stale=refuse_stale)
    written = in_parallel(lambda target: put_index(registries, *target, merge=not replace), targets.items())
    indexes = dict(zip(targets, written, strict=True))
    for _, names in published(images):
        for tag in names.also:
            put_tag(registries, names.home.with_tag(tag), indexes[names.index].digest)
    messages: dict[str, None] = dict.fromkeys(str(image) for image in stale)
    for alias, index in _aliases(images).items():
        messages |= dict.fromkeys(_set_alias(registries, alias, indexes[index].digest))
    platforms = {
        reference: tuple(platform.name for platform in index.platforms) for reference, index in indexes.items()
    }
    return PublishedIndexes(platforms=platforms, messages=tuple(messages))


def _stale(
    registries: Registries,
    chains: Mapping[ImageReference, Chain],
    given: Mapping[ImageReference, frozenset[str]],
    generations: Generations,
) -> tuple[StaleImage, ...]:
    """Return the images that the indexes would keep although the current tree would not produce them.

    `given` maps each index to the OCI platforms that this run puts into it.
    """
    stale: list[StaleImage] = []
    for reference, platforms in given.items():
        before = read_index(registries, reference)
        for child in before.images if before else ():
            if child.platform is not None and child.platform.oci not in platforms:
                image = generations.stale(chains[reference], reference, child.platform, child.digest)
                stale += [image] if image else []
    return tuple(stale)


def _refuse(stale: tuple[StaleImage, ...], *, refuse_stale: bool) -> None:
    if stale and refuse_stale:
        raise StaleIndexError(
            "\n".join(str(image) for image in stale),
            hint="Build the other platforms as well, or drop them with --replace-index. The index was not changed.",
        )


def stale_where_pushed(
    registries: Registries,
    repo: ImageReference,
    chains: Iterable[Chain],
    generations: Generations,
    *,
    refuse_stale: bool = False,
) -> tuple[str, ...]:
    """Return warnings about out-of-date images in the indexes of REPO's own registry that the chain registry does not have.

    Errors: `StaleIndexError`.
    """
    chains_of: dict[ImageReference, Chain] = {}
    given: dict[ImageReference, frozenset[str]] = {}
    for chain, names in published(chains):
        index = read_index(registries, names.index)
        target = (names.repo or repo).with_tag(names.index_tag)
        chains_of[target] = chain
        given[target] = (
            frozenset(child.platform.oci for child in index.images if child.platform) if index else frozenset()
        )
    stale = _stale(registries, chains_of, given, generations)
    _refuse(stale, refuse_stale=refuse_stale)
    return tuple(str(image) for image in stale)


def _in_place(registries: Registries, chains: Iterable[Chain], outcome: RunOutcome) -> dict[Chain, RemoteImage]:
    """Return the published results in the repositories where they are tagged, copied if necessary."""

    def in_place(pair: tuple[Chain, Publication]) -> tuple[Chain, RemoteImage]:
        chain, names = pair
        result = outcome.results[chain.result.id].reference
        if names.home != chain.result.repository:
            copy_image(registries, result, names.home)
            result = names.home.with_digest(outcome.results[chain.result.id].record.image)
        return chain, resolve(registries, result, chain.platform)

    return dict(in_parallel(in_place, published(chains)))


def _aliases(images: Mapping[Chain, RemoteImage]) -> dict[ImageReference, ImageReference]:
    """Return the aliases to set, each with its index: the one that the image's label names, else those of the chain."""
    wanted: dict[ImageReference, ImageReference] = {}
    for chain, names in published(images):
        for alias in names.aliases:
            said = images[chain].config.label(names.alias_label).rpartition(":")[2] if names.alias_label else ""
            own = _TAG.fullmatch(said) and said.startswith(f"{names.index_tag}-") and not said.endswith(DIRTY)
            wanted[names.home.with_tag(said if own else alias)] = names.index
    return wanted


def _set_alias(registries: Registries, alias: ImageReference, digest: Digest) -> tuple[str, ...]:
    there = registries.client(alias).head(alias.repository, alias.tag_or_latest)
    if there is None:
        put_tag(registries, alias, digest)
        return ()
    return () if there.digest == digest else (f"{alias} already exists and was left unchanged ({there.digest.short})",)


class _Push(Struct, frozen=True):
    """A reference of the chain registry and its target in another registry."""

    source: ImageReference
    target: ImageReference
    only: Mapping[Platform, ImageReference] = field(default_factory=dict)
    """For an index: its images, instead of all images of the source."""
    never_moves: bool = False


def check_push(registries: Registries, repo: ImageReference, chains: Iterable[Chain]) -> None:
    """Check that the results can be pushed, before they are built. Errors: those of the registries."""
    for place in dict.fromkeys(names.repo or repo for _, names in published(chains)):
        with _pushing(place):
            registries.client(place).check_upload(place.repository)


@contextmanager
def _pushing(target: ImageReference) -> Iterator[None]:
    """Say in an error what was to be pushed."""
    try:
        yield
    except RegistryError as error:
        raise type(error)(f"cannot push to {target}: {error.message}", where=error.where, hint=error.hint) from error


def push_results(
    registries: Registries,
    repo: ImageReference,
    chains: Iterable[Chain],
    outcome: RunOutcome,
    *,
    together: bool = False,
    exact: bool = False,
) -> tuple[ImageReference, ...]:
    """Copy the chains' results and then their indexes to REPO's own registry, and return the pushed references.

    Attachments of a result (its bill of materials) are copied as well. An index is pushed after its images and keeps the
    other platforms that it has in the target. `together`: all content is copied before the first tag moves.
    `exact`: an index gets only the chains' results, whatever the chain registry's index holds, and no alias. Errors:
    those of the registries (`LoginNeededError` with what to do).
    """
    images: dict[ImageReference, _Push] = {}
    indexes: dict[ImageReference, _Push] = {}
    others: dict[ImageReference, ImageReference] = {}
    for chain, names in published(chains):
        home = names.repo or repo
        target = home.with_tag(names.tag)
        result = outcome.results[chain.result.id].reference
        images[target] = _Push(result, target)
        index = _Push(names.index, home.with_tag(names.index_tag))
        if exact:
            index = _Push(names.index, index.target, {**indexes.get(names.index, index).only, chain.platform: result})
        indexes[names.index] = index
        others |= {home.with_tag(tag): home.with_tag(names.index_tag) for tag in names.also}
        for alias in _aliases_here(registries, chain, names) if not exact else ():
            indexes[alias] = _Push(alias, home.with_tag(alias.tag_or_latest), never_moves=True)
    if together:
        for push in (*images.values(), *indexes.values()):
            with _pushing(push.target):
                _send(registries, push, name=False)
    pushed: dict[ImageReference, None] = {}
    for push in (*images.values(), *indexes.values()):
        with _pushing(push.target):
            if _send(registries, push, name=True):
                pushed[push.target] = None
    for other, same in others.items():
        there = registries.client(same).head(same.repository, same.tag_or_latest)
        if there is not None:
            put_tag(registries, other, there.digest)
            pushed[other] = None
    return tuple(pushed)


def _aliases_here(registries: Registries, chain: Chain, names: Publication) -> tuple[ImageReference, ...]:
    if not names.aliases:
        return ()
    image = resolve(registries, names.release, chain.platform)
    return tuple(_aliases({chain: image}))


def _send(registries: Registries, push: _Push, *, name: bool) -> bool:
    """Copy the source, with or without its tag. Return whether there was anything to push."""
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
        _set_alias(registries, target, here.digest)
    else:
        images = {child.platform: child for child in here.images if child.platform is not None}
        put_index(registries, target, images, merge=True)
    return True
