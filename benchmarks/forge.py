"""A registry that holds every step of a tree, without a build: images that are manifests alone, and their records.

What a plan asks of the registry cannot tell them from built ones.
"""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

from chainbuild.execution.session import keyring_of
from chainbuild.images.local_store import LocalStore
from chainbuild.images.resolver import ImageResolver, find_all
from chainbuild.model import Step
from chainbuild.planning.decisions import ImageFacts
from chainbuild.planning.inputs import InputReader
from chainbuild.planning.planner import Planner
from chainbuild.records.index import RecordIndex, chains_by_index
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import image_tag
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import put_image
from chainbuild.registry.oci import OCI_CONFIG, Descriptor, Manifest, digest_of
from chainbuild.registry.pool import Registries
from chainbuild.requests.build import BuildRequest
from chainbuild.step_id import StepId

_WRITERS = 8


def put_base(registries: Registries, reference: ImageReference) -> None:
    """An image without layers to stand on."""
    put_image(registries, reference, ImageConfig.make(Platform.of_this_machine(), ()), ())


def forge_records(request: BuildRequest, registries: Registries) -> int:
    """Store an image and a record for every step of the request's graph; gives how many."""
    settings = request.settings
    records = RecordStore(registries, keyring_of(settings), settings.chain)
    finder = ImageResolver(records, LocalStore(), lambda _: None, hand_over=_nothing)
    found = find_all(finder, request.graph.external_images)

    def external(step: Step) -> dict[str, ImageFacts]:
        there = {
            image.name: found[str(image.source), image.platform.oci].image.config
            for image in step.images
            if image.external is not None
        }
        return {name: ImageFacts(identity=str(config.content_identity)) for name, config in there.items()}

    planner = Planner(records, InputReader(Platform.of_this_machine()), external)
    known: dict[StepId, ImageFacts] = {}
    made: list[tuple[Step, Record, Manifest]] = []
    for step in request.graph:
        components = planner.components(step, known)
        identity = f"sha256:{hashlib.sha256(components.key.encode()).hexdigest()}"
        manifest = _image_of(registries, step)
        known[step.id] = ImageFacts(identity=identity)
        record = Record(
            key=components.key,
            step=step.id,
            family=step.family,
            image=manifest.digest,
            identity=identity,
            size=0,
            added=0,
            seconds=1.0,
            built_at=time.time(),
            components=components,
        )
        made.append((step, record, manifest))
    with ThreadPoolExecutor(max_workers=_WRITERS) as threads:
        for _ in threads.map(lambda one: _store(records, *one), made):
            pass
    index = RecordIndex(registries, request.graph.chains, records.keyring)
    for chains in chains_by_index(request.graph.chains).values():
        steps = {step.id for chain in chains for step in chain.all_steps}
        index.update(chains[0], [record for step, record, _ in made if step.id in steps])
    return len(made)


def _image_of(registries: Registries, step: Step) -> Manifest:
    config = ImageConfig.make(step.platform, ())
    if not step.needs:
        registries.client(step.repository).put_blob(step.repository.repository, config.raw)
    return Manifest.make(
        config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(config.raw), size=len(config.raw)),
        layers=(),
        annotations={"step": str(step.id)},
    )


def _store(records: RecordStore, step: Step, record: Record, manifest: Manifest) -> None:
    """The image under the tag of its digest, and the record under its key: all that a plan without builds looks at."""
    client, place = records.registries.client(step.repository), step.repository.repository
    client.put_manifest(place, image_tag(manifest.digest), manifest.raw, manifest.media_type)
    records.write(step.repository, record)


def _nothing(local_name: str, platform: Platform, destination: str) -> None:
    raise AssertionError(f"{local_name} ({platform}) is to be in the registry at {destination}")
