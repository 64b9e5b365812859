"""Use an image published elsewhere as a step's result, if its provenance labels name the step's key."""

from __future__ import annotations

import time
from collections.abc import Mapping

from chainbuild.errors import NotFoundInRegistryError
from chainbuild.images.provenance import read_provenance
from chainbuild.model import Step
from chainbuild.records.keys import Components
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.images import RemoteImage, copy_image, put_tag, resolve
from chainbuild.registry.pool import Registries
from chainbuild.values import replace


def published_as(registries: Registries, reference: ImageReference, platform: Platform, key: str) -> RemoteImage | None:
    """Return the image if it was built for exactly this key, else None.

    Errors: `LoginNeededError`, `UnreachableError`.
    """
    try:
        image = resolve(registries, reference, platform)
    except NotFoundInRegistryError:
        return None
    trail = read_provenance(image.config)
    return image if trail and trail[-1].key == key else None


def adopt(
    records: RecordStore,
    step: Step,
    components: Components,
    image: RemoteImage,
    *,
    parents: Mapping[str, str],
) -> Record:
    """Copy an image into the chain registry and record it as the step's result. `parents` as in `Record`."""
    bare = ImageReference(step.repository.registry, step.repository.repository)
    copy_image(records.registries, image.reference, bare)
    record = replace(
        Record.of_image(image, components, step=step.id, family=step.family, built_at=time.time()),
        notes={"taken from": str(image.reference)},
        parents=parents,
    )
    # Write the record just before the tag, as after a build.
    records.write(step.repository, record)
    put_tag(records.registries, step.reference, image.digest)
    return record
