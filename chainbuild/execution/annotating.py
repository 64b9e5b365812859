"""The annotations of results: what an image is based on, its source and revision, and when it was made.

They are those of the OCI image spec ("Pre-Defined Annotation Keys"), on the manifest of the image. Labels stay as the
Dockerfiles set them, and the content of the image is the same with and without annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from chainbuild.images.resolver import Found
from chainbuild.model import Chain, Graph, ImageInput, Step
from chainbuild.records.notes import COMMIT, DIRTY, SOURCE
from chainbuild.registry.images import RemoteImage

_PREFIX: Final = "org.opencontainers.image."
BASE_NAME: Final = f"{_PREFIX}base.name"
BASE_DIGEST: Final = f"{_PREFIX}base.digest"
REVISION: Final = f"{_PREFIX}revision"
SOURCE_URL: Final = f"{_PREFIX}source"
CREATED: Final = f"{_PREFIX}created"


class ResultAnnotations:
    """Returns the annotations of the results of a run."""

    def __init__(self, graph: Graph, found: Found, notes: Callable[[], Mapping[str, str]]) -> None:
        """`notes` returns the notes about the tree (see `records.notes`)."""
        self._chains = {chain.result.id: chain for chain in graph.chains if chain.publication}
        self._found = found
        self._notes = notes

    def of(self, step: Step, image: RemoteImage) -> dict[str, str]:
        """Return the annotations of a step's image; none if it is not the result of a chain."""
        chain = self._chains.get(step.id)
        if chain is None:
            return {}
        notes = self._notes()
        values = {
            **self._base(chain),
            # A tree with other changes has no revision of its own.
            REVISION: notes.get(COMMIT, "") if notes.get(DIRTY) == "no" else "",
            SOURCE_URL: notes.get(SOURCE, ""),
            CREATED: image.config.created,
        }
        return {name: text for name, text in values.items() if text}

    def _base(self, chain: Chain) -> dict[str, str]:
        """Return name and digest of the image whose layers the result begins with, unless a step made it."""
        image = _base_input(chain)
        if image is None or image.external is None or image.external.is_scratch:
            return {}
        resolved, reference = self._found[str(image.source), image.platform.oci], image.external
        name = f"{reference.name}:{reference.tag}" if reference.tag else reference.name
        # The digest of what the name means: of an index, if it is one. A copy from the local store has another one.
        digest = reference.digest or resolved.image.index_digest or resolved.image.digest
        return {BASE_NAME: name, BASE_DIGEST: "" if resolved.from_local_store else str(digest)}


def _base_input(chain: Chain) -> ImageInput | None:
    step = chain.production or chain.steps[0]
    return next((image for image in step.images if image.name == step.parent), None)
