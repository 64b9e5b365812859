"""Names beyond one platform and one registry: the index over an option's results, and REPO's own registry."""

from __future__ import annotations

from collections.abc import Iterable

from chainbuild.execute import Outcome
from chainbuild.model import Chain
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import copy_image, put_index, read_index, resolve
from chainbuild.registry.oci import Descriptor
from chainbuild.registry.pool import Registries
from chainbuild.registry.referrers import copy_attached


def publish_indexes(
    registries: Registries, chains: Iterable[Chain], outcome: Outcome, *, replace: bool = False
) -> None:
    """Put the chains' results into their options' indexes.

    Platforms that an index has already stay in it, unless it is told to `replace` it by what is given.
    """
    wanted: dict[ImageReference, dict[Platform, Descriptor]] = {}
    for chain in chains:
        image = resolve(registries, outcome.results[chain.result.id].reference, chain.platform)
        wanted.setdefault(chain.index, {})[chain.platform] = image.descriptor
    for reference, images in wanted.items():
        put_index(registries, reference, images, merge=not replace)


def push_results(
    registries: Registries, repo: ImageReference, chains: Iterable[Chain], outcome: Outcome
) -> tuple[ImageReference, ...]:
    """Copy the chains' results and then their indexes to REPO's own registry, by digest; gives their names there.

    What is attached to a result (its bill of materials) goes with it. An index comes after every image that it names, and
    keeps the platforms that it has there and not here. Errors: those of the registries (`LoginNeededError` with what to
    do).
    """
    pushed: dict[ImageReference, None] = {}
    indexes: dict[ImageReference, ImageReference] = {}
    for chain in chains:
        target = repo.with_tag(chain.result_tag)
        result = outcome.results[chain.result.id].reference
        copy_image(registries, result, target)
        copy_attached(registries, result, target)
        pushed[target] = None
        indexes[chain.index] = repo.with_tag(chain.index_tag)
    for source, target in indexes.items():
        here = read_index(registries, source)
        if here is None:
            continue
        copy_image(registries, source.with_digest(here.digest), ImageReference(target.registry, target.repository))
        images = {child.platform: child for child in here.images if child.platform is not None}
        put_index(registries, target, images, merge=True)
        pushed[target] = None
    return tuple(pushed)
