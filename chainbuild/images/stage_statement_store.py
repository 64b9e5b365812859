"""Read and write statements of stage settings in registries.

Reading finds the settings up to the base image of a chain, which an earlier run or another machine has built:

| base image | where the statement is |
| --- | --- |
| a result, a minimized image, the last step of an option; by tag or by digest, also through an index | attached to it |
| another step of an option | attached to the option's result of the same TAG, else the newest one |
| a layer on a result, or a copy from the local image store | attached to the result named by the provenance labels |

Statements that no trusted key has signed are ignored, with a warning unless a trusted one exists for the tag.

Writing attaches a statement to the images of a run before they are tagged: the last step's image, the minimized one and
the result. The index of the chain's records (see `records.index`) lists the statements of its key, so that a run without
changes needs no requests.
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
from chainbuild.model import Ask, Chain, Graph, ImageInput, Step
from chainbuild.records.index import RecordIndex
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.references import Digest, ImageReference, Platform
from chainbuild.registry.pool import Registries
from chainbuild.step_id import PRODUCTION, StepId
from chainbuild.trust.keyring import KeyRing


class StatementReader:
    """Reads the statements for the chains of one run. Each image is queried once."""

    def __init__(self, records: RecordStore, found: Found, notice: Callable[[str], None]) -> None:
        self._records = records
        self._found = found
        self._notice = notice
        self._known: dict[tuple[str, str], tuple[Ask, ...]] = {}
        self.used: dict[str, float] = {}
        """Times of the used statements, by their names in `SeenRecords`."""

    def asks_of(self, chain: Chain, base: ImageInput) -> tuple[Ask, ...]:
        """Return the settings up to the base image of a chain; empty if chainbuild did not build it.

        Errors: `RegistryError` unless the registry responds clearly.
        """
        key = (str(base.source), base.platform.oci)
        image = self._found.get(key)
        if image is None:
            return ()
        if key not in self._known:
            self._known[key] = self._asks(image, chain.platform)
        return self._known[key]

    def _asks(self, found: ResolvedImage, platform: Platform) -> tuple[Ask, ...]:
        named, image = found.named, found.image
        trail = read_provenance(image.config)
        results = [entry for entry in trail if entry.step.option and entry.step.name == PRODUCTION]
        # The tags of steps and minimized images end with the platform; they have no trail.
        looks_made = self._records.chain.holds(image.reference) and (
            named.digest is not None
            or any(named.tag_or_latest.endswith(f"-{spelling}") for spelling in platform.spellings)
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
        """Return the statements about the result, with that record key, that an image is based on or copied from."""
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
        """Return the statements about the result of a step's option, and the result's tag if known."""
        platform, option, name = record.step.platform, record.step.option, record.step.name
        tag = named.tag_or_latest if named.tag else ""
        end = f"-{option}-{name}-{platform}"
        if tag.endswith(end):
            result = f"{tag.removesuffix(end)}-{option}-{platform}"
            digest = self._records.tagged(_place(place).with_tag(result))
            if digest is not None:
                return self._at(place, digest), (result,)
        last = self._records.last(_place(place), f"{option}-{PRODUCTION}-{platform}").record
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
        trusted = [statement for statement in statements.trusted if not self._is_older(named, statement)]
        if not trusted:
            if not statements.refused and not statements.trusted:
                self._notice(
                    f"{named}: no statement of its stage settings is attached, so nothing is inherited;"
                    " rebuild that image with this version of chainbuild, or set the arguments here"
                )
            return ()
        chosen = Statements(trusted=tuple(trusted)).about(tags)
        if chosen is None:
            chosen = max(trusted, key=lambda statement: statement.at)
            newest = {statement.tag: statement for statement in sorted(trusted, key=lambda statement: statement.at)}
            if len({statement.asks for statement in newest.values()}) > 1:
                when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(chosen.at))
                self._notice(
                    f"{named}: {', '.join(sorted(newest))} are the same image with different stage settings;"
                    f" using those of {chosen.tag}, from {when}; use the tag you mean to select others"
                )
        self.used[_seen_name(chosen)] = chosen.at
        return chosen.asks

    def _is_older(self, named: ImageReference, statement: StageStatement) -> bool:
        if not self._records.seen.is_before(_seen_name(statement), statement.at):
            return False
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(statement.at))
        self._notice(
            f"{named}: the statement of {statement.tag}'s stage settings ({when}) is ignored: it is older than"
            " the one this machine used last"
        )
        return True


def _names(named: ImageReference, platform: Platform) -> tuple[str, ...]:
    """Return the tags that may denote a base image: an index has the tag of its images without the platform."""
    if named.tag is None and named.digest is not None:
        return ()
    tag = named.tag_or_latest
    return (tag, *(f"{tag}-{spelling}" for spelling in platform.spellings))


def _is_step(record: Record) -> bool:
    step = record.step
    return bool(step.option) and "/" not in step.name and not step.is_stage


def _place(reference: ImageReference) -> ImageReference:
    return ImageReference(reference.registry, reference.repository)


def _seen_name(statement: StageStatement) -> str:
    return f"asked {statement.image} {statement.tag}"


def _refused(named: ImageReference, refusal: Refusal) -> str:
    trust = f"; to trust it: chainbuild trust add {refusal.keys[0]}" if refusal.keys else ""
    return f"{named}: a statement of its stage settings is ignored: {refusal.why}{trust}"


_SCHEMA: Final = "1"


class StatementWriter:
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
        """Attach a statement to a step's image if it ends a chain or its stages, unless it is already attached.

        If the registry rejects it, warn only: the image is valid, but chains above it do not inherit its
        settings.
        """
        chain = self._chains.get(step.id)
        if chain is None:
            return
        mark = _mark(chain, step, image)
        marks = self._known[chain.result.id].get(step.tag, frozenset())
        # If keys disagree about a tag, the newest statement applies; the marks do not tell which that is.
        if marks != {mark}:
            try:
                self._attach(chain, step, image, forget=bool(marks))
            except RegistryError as error:
                self._notice(f"could not attach the stage settings to {step.reference}: {error.message}")
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
            # A run that is killed after this leaves no index that lists a missing statement.
            self._index.forget(chain)
        at = max(self._clock(), there.at + 0.001 if there else 0.0)
        statement = StageStatement(image=image, tag=step.tag, at=at, asks=chain.asks)
        attach_statement(self._registries, place, statement, self._keyring, others)

    def made(self, chain: Chain) -> Mapping[str, str]:
        """Return the marks for the chain's index, by tag."""
        tags = [step.tag for step in chain.all_steps]
        with self._lock:
            return {tag: self._made[tag] for tag in tags if tag in self._made}


def _mark(chain: Chain, step: Step, image: Digest) -> str:
    """Return a digest of what a statement says."""
    text = payload_of([StageStatement(image=image, tag=step.tag, at=0.0, asks=chain.asks)])
    return hashlib.sha256(_SCHEMA.encode() + text).hexdigest()[:32]
