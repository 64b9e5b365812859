"""Notes at the images of a run what was asked of the stages up to them, before they get their names.

The last step's image, the minimized one and the result have a statement each. The index of the chain's records (see
`records.index`) remembers which statements their key has made, so that a run in which nothing changed asks nothing.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from chainbuild.asked.statement import Statement, attach_statement, payload_of, read_statements
from chainbuild.errors import RegistryError
from chainbuild.model import Chain, Graph, Step, StepId
from chainbuild.records.index import RecordIndex
from chainbuild.references import Digest
from chainbuild.registry.pool import Registries
from chainbuild.trust.keyring import KeyRing

_SCHEMA: Final = "1"


class AskedNotes:
    """The statements of one run. `note` may be called from several threads."""

    def __init__(
        self,
        graph: Graph,
        registries: Registries,
        keyring: KeyRing,
        index: RecordIndex,
        *,
        notice: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registries = registries
        self._keyring = keyring
        self._index = index
        self._notice = notice
        self._clock = clock
        self._lock = threading.Lock()
        self._chains: dict[StepId, Chain] = {}
        for chain in graph.chains:
            if chain.minimize and chain.production:
                steps = [chain.minimize, chain.production, *chain.steps[-1:]]
                self._chains |= {step.id: chain for step in steps}
        self._known = {chain.result.id: index.asked(chain) for chain in graph.chains if chain.minimize}
        self._made: dict[str, str] = {}

    def note(self, step: Step, image: Digest) -> None:
        """Have a statement at a step's image, if it ends a chain or its stages. Nothing is sent if it is there.

        A registry that cannot take it is told as a warning: the image is as good, only chains above it have to ask for
        everything themselves.
        """
        chain = self._chains.get(step.id)
        if chain is None:
            return
        mark = _mark(chain, step, image)
        known = self._known[chain.result.id].get(step.tag, frozenset())
        # Where two keys say different things of a tag, the newest one counts: only the statements tell which that is.
        if known != {mark}:
            try:
                self._attach(chain, step, image, forget=bool(known))
            except RegistryError as error:
                self._notice(f"could not note at {step.reference} what was asked of the stages: {error.message}")
                return
        with self._lock:
            self._made[step.tag] = mark

    def _attach(self, chain: Chain, step: Step, image: Digest, *, forget: bool) -> None:
        place = step.repository.with_digest(image)
        others = read_statements(self._registries, place, self._keyring)
        there = others.about([step.tag])
        if there is not None and there.asks == chain.asks:
            return
        if forget:
            # A run that is killed after this leaves no index that tells of a statement which is not there.
            self._index.forget(chain)
        at = max(self._clock(), there.at + 0.001 if there else 0.0)
        statement = Statement(image=image, tag=step.tag, at=at, asks=chain.asks)
        attach_statement(self._registries, place, statement, self._keyring, others)

    def made(self, chain: Chain) -> Mapping[str, str]:
        """Return what the chain's index is to remember: a mark for each tag that has its statement."""
        tags = [step.tag for step in chain.all_steps]
        with self._lock:
            return {tag: self._made[tag] for tag in tags if tag in self._made}


def _mark(chain: Chain, step: Step, image: Digest) -> str:
    """Return a digest of what a statement says."""
    text = payload_of([Statement(image=image, tag=step.tag, at=0.0, asks=chain.asks)])
    return hashlib.sha256(_SCHEMA.encode() + text).hexdigest()[:32]
