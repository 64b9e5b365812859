"""Read and write the statements of what was asked of the stages, in registries.

What was asked of the stages up to the base image of a chain, which an earlier run or another machine has made.

| base image | where the statement is |
| --- | --- |
| a result, a minimized image, the last step of an option; by tag or by digest, also through an index | attached to it |
| another step of an option | attached to the option's result: of the tag that the step's tag tells, else the newest one |
| a layer on a result, or a copy from the local image store | attached to that result, which the trail in the labels names |

A statement that no trusted key has signed does not count. A warning says so, unless there is one that counts for the tag.

Notes at the images of a run what was asked of the stages up to them, before they get their names.

The last step's image, the minimized one and the result have a statement each. The index of the chain's records (see
`records.index`) remembers which statements their key has made, so that a run in which nothing changed asks nothing.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from chainbuild.errors import DamagedContentError, NotFoundInRegistryError, RegistryError
from chainbuild.images.provenance import read_provenance
from chainbuild.images.resolver import Found, ResolvedImage
from chainbuild.images.stage_statement import (
    Refusal,
    StageStatement,
    Statements,
    attach_statement,
    payload_of,
    read_statements,
)
from chainbuild.model import Ask, Chain, Graph, ImageInput, Step, StepId
from chainbuild.records.index import RecordIndex
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.pool import Registries
from chainbuild.trust.keyring import KeyRing

_PRODUCTION: Final = "production"
_STAGES: Final = frozenset({"minimize", _PRODUCTION})


class AskedReader:
    """Reads for the chains of one run. Each image is asked for once."""

    def __init__(self, records: RecordStore, found: Found, notice: Callable[[str], None]) -> None:
        self._records = records
        self._found = found
        self._notice = notice
        self._known: dict[tuple[str, str], tuple[Ask, ...]] = {}
        self.used: dict[str, float] = {}
        """When the statements that counted were made, by what names them in `SeenRecords`."""

    def asks_of(self, chain: Chain, base: ImageInput) -> tuple[Ask, ...]:
        """Return what was asked up to the base image of a chain; nothing if it is no image of chainbuild's.

        Errors: `RegistryError` if the registry does not answer clearly.
        """
        key = (str(base.source), base.platform.oci)
        found = self._found.get(key)
        if found is None:
            return ()
        if key not in self._known:
            self._known[key] = self._asks(found, chain.platform)
        return self._known[key]

    def _asks(self, found: ResolvedImage, platform: Platform) -> tuple[Ask, ...]:
        named, image = found.named, found.image
        trail = read_provenance(image.config)
        results = [crumb for crumb in trail if crumb.step.endswith(f"/{_PRODUCTION}")]
        # The tags of steps and minimized images end with the platform; they have no trail.
        looks_made = self._records.chain.holds(image.reference) and (
            named.digest is not None or any(named.tag_or_latest.endswith(f"-{one}") for one in platform.spellings)
        )
        if not results and not looks_made:
            return ()
        tags = _names(named, platform)
        statements = read_statements(self._records.registries, image.reference, self._records.keyring)
        if not statements.trusted and not statements.refused:
            if results:
                statements = self._of_trail(image.reference, results[-1].key)
            else:
                record = self._records.of_image(_place(image.reference), image.digest).record
                if record is None or not _is_step(record):
                    return ()
                statements, tags = self._of_option(named, image.reference, record)
        return self._chosen(named, statements, tags)

    def _of_trail(self, place: ImageReference, key: str) -> Statements:
        """Return the statements about a result that an image is based on or is a copy of: its record has that key."""
        record = self._records.look_up(_place(place), key).record
        if record is None:
            elsewhere = self._records.elsewhere(key)
            if elsewhere is None:
                return Statements()
            record, place = elsewhere
        return self._at(place, record.image) if record.image != place.digest else Statements()

    def _of_option(
        self, named: ImageReference, place: ImageReference, record: Record
    ) -> tuple[Statements, tuple[str, ...]]:
        """Return the statements about the result of the option that a step is of, and the result's tag if it is known."""
        platform, option, name = record.step.split("/")
        tag = named.tag_or_latest if named.tag else ""
        end = f"-{option}-{name}-{platform}"
        if tag.endswith(end):
            result = f"{tag.removesuffix(end)}-{option}-{platform}"
            there = self._records.tagged(_place(place).with_tag(result))
            if there is not None:
                return self._at(place, there), (result,)
        last = self._records.last(_place(place), f"{option}-{_PRODUCTION}-{platform}").record
        return self._at(place, last.image) if last else Statements(), ()

    def _at(self, place: ImageReference, image: Digest) -> Statements:
        try:
            return read_statements(self._records.registries, _place(place).with_digest(image), self._records.keyring)
        except (NotFoundInRegistryError, DamagedContentError):
            return Statements()

    # Choosing ---------------------------------------------------------------------------------------------------------

    def _chosen(self, named: ImageReference, statements: Statements, tags: tuple[str, ...]) -> tuple[Ask, ...]:
        if statements.about(tags) is None:
            for text in dict.fromkeys(_refused(named, refusal) for refusal in statements.refused):
                self._notice(text)
        trusted = [one for one in statements.trusted if not self._is_older(named, one)]
        if not trusted:
            if not statements.refused and not statements.trusted:
                self._notice(
                    f"{named}: no statement of its options' stage arguments is attached, so nothing is inherited;"
                    " build that image again with this version of chainbuild, or set the arguments here"
                )
            return ()
        chosen = Statements(trusted=tuple(trusted)).about(tags)
        if chosen is None:
            chosen = max(trusted, key=lambda one: one.at)
            newest = {one.tag: one for one in sorted(trusted, key=lambda one: one.at)}
            if len({one.asks for one in newest.values()}) > 1:
                when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(chosen.at))
                self._notice(
                    f"{named}: {', '.join(sorted(newest))} are the same image, and asked different things of the stages;"
                    f" those of {chosen.tag} hold, of {when}; name the one that is meant by its tag"
                )
        self.used[_seen_name(chosen)] = chosen.at
        return chosen.asks

    def _is_older(self, named: ImageReference, statement: StageStatement) -> bool:
        if not self._records.seen.is_before(_seen_name(statement), statement.at):
            return False
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(statement.at))
        self._notice(
            f"{named}: a statement of what {statement.tag} asked of the stages, of {when}, does not count: it is older than"
            " the one that this machine used last"
        )
        return True


def _names(named: ImageReference, platform: Platform) -> tuple[str, ...]:
    """Return the tags by which a base image is meant: an index is called like its images, without the platform."""
    if named.tag is None and named.digest is not None:
        return ()
    tag = named.tag_or_latest
    return (tag, *(f"{tag}-{one}" for one in platform.spellings))


def _is_step(record: Record) -> bool:
    parts = record.step.split("/")
    return len(parts) == 3 and parts[2] not in _STAGES


def _place(reference: ImageReference) -> ImageReference:
    return ImageReference(reference.registry, reference.repository)


def _seen_name(statement: StageStatement) -> str:
    return f"asked {statement.image} {statement.tag}"


def _refused(named: ImageReference, refusal: Refusal) -> str:
    trust = f"; to trust it: chainbuild trust add {refusal.keys[0]}" if refusal.keys else ""
    return f"{named}: a statement of what its options asked of the stages does not count: {refusal.why}{trust}"


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
        statement = StageStatement(image=image, tag=step.tag, at=at, asks=chain.asks)
        attach_statement(self._registries, place, statement, self._keyring, others)

    def made(self, chain: Chain) -> Mapping[str, str]:
        """Return what the chain's index is to remember: a mark for each tag that has its statement."""
        tags = [step.tag for step in chain.all_steps]
        with self._lock:
            return {tag: self._made[tag] for tag in tags if tag in self._made}


def _mark(chain: Chain, step: Step, image: Digest) -> str:
    """Return a digest of what a statement says."""
    text = payload_of([StageStatement(image=image, tag=step.tag, at=0.0, asks=chain.asks)])
    return hashlib.sha256(_SCHEMA.encode() + text).hexdigest()[:32]
