"""Build an image again from its provenance, in a part of the chain registry of its own and without any cache, and compare.

The tree gives the files, the provenance says which base images to take and what every step must give. The first step that
differs is named: by its inputs (Dockerfile, args, files), else by the content of its image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.attestations.account import Account, StepAccount
from chainbuild.comparison.compare import compare
from chainbuild.comparison.model import Comparison
from chainbuild.errors import NotFoundInRegistryError, RegistryError, WrongUseError
from chainbuild.events import Message
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.outcome import RunOutcome, StepResult
from chainbuild.execution.pipeline import build_run
from chainbuild.execution.session import Session
from chainbuild.model import Chain, Graph, ImageInput, Step, StepKind
from chainbuild.records.index import SeenRecords
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.references import ChainRegistry, Digest, ImageReference, Platform
from chainbuild.registry.images import RemoteImage, resolve
from chainbuild.step_id import StepId
from chainbuild.values import replace

PREFIX: Final = "rebuild-"
"""The first part of the repositories that a rebuild uses; the start of the image's digest follows."""


class RebuiltStep(Struct, frozen=True, kw_only=True):
    """How a step came out: `inputs` are the differences of its inputs, `content` is that of its image from the original one.

    `same`: both images have the same content, apart from the times of files; `identical`: also in these. An original image
    that the registry no longer has is compared as part of the images above it.
    """

    step: str
    same: bool
    identical: bool = False
    inputs: tuple[str, ...] = ()
    content: tuple[str, ...] = ()


class RebuildReport(Struct, frozen=True, kw_only=True):
    """The results of the steps that were built again, lowest first; `kept` are steps of base images, which were not."""

    image: ImageReference
    steps: tuple[RebuiltStep, ...]
    kept: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Return whether every step gave the same content."""
        return all(step.same for step in self.steps)

    @property
    def first(self) -> RebuiltStep | None:
        """Return the lowest step that differs; None if there is none."""
        return next((step for step in self.steps if not step.same), None)


def registry_for(chain: ChainRegistry, image: RemoteImage) -> ChainRegistry:
    """Return the part of a chain registry in which an image is built again."""
    name = f"{PREFIX}{image.digest.hex[:12]}"
    return ChainRegistry(chain.host, f"{chain.prefix}/{name}" if chain.prefix else name)


def rebuild(
    session: Session,
    graph: Graph,
    image: RemoteImage,
    account: Account,
    options: ExecutionOptions,
    *,
    log_folder: Path | None = None,
    log_path: Callable[[StepId], Path | None] = lambda _: None,
) -> RebuildReport:
    """Build the image of `account` again, and compare every step with it.

    `graph` is that of the tree, read for the registry that `registry_for` returns. Errors: `WrongUseError` if the tree has
    no such step, or another program wrote the provenance; those of a build.
    """
    if not account.is_own:
        raise WrongUseError(
            f"the provenance of {image.reference} was written by {account.builder}, not by chainbuild",
            hint="Build the image again with the program that built it.",
        )
    wanted = {step.step: step for step in account.steps}
    graph = _pinned(session, _part_of(graph, account), wanted)
    known = [wanted[str(step.id)] for step in graph if str(step.id) in wanted]
    changed = _changes_of_tree(graph, account, wanted)
    kept = tuple(step.step for step in account.steps if step not in known and step.step not in changed)
    if any(changed.values()):
        # It cannot give the same image: say why at once.
        steps = tuple(RebuiltStep(step=step, same=not inputs, inputs=inputs) for step, inputs in changed.items())
        return RebuildReport(image=image.reference, steps=steps, kept=kept)
    with _own_part(session, image) as own:
        outcome = build_run(graph, own, options, log_folder=log_folder, log_path=log_path)
        if outcome.failures:
            raise next(iter(outcome.failures.values()))
        return RebuildReport(image=image.reference, steps=tuple(_results(session, image, known, outcome)), kept=kept)


def _part_of(graph: Graph, account: Account) -> Graph:
    """Return the chains that the image is made from, without the stages of the lower ones. Errors: `WrongUseError`."""
    result = account.steps[-1].step
    chain = next((chain for chain in graph.chains if str(chain.result.id) == result), None)
    if chain is None:
        results = ", ".join(str(chain.result.id) for chain in graph.chains)
        raise WrongUseError(
            f"the tree does not build {result}",
            hint=f"Run this in the folder that the image was built from, after a build there. Its results: {results}.",
        )
    needed = {result}
    by_id = graph.by_id
    todo = [chain.result.id]
    while todo:
        for need in by_id[todo.pop()].needs:
            if str(need) not in needed:
                needed.add(str(need))
                todo.append(need)
    chains = tuple(_cut(each, needed) for each in graph.chains if str(each.steps[0].id) in needed)
    return replace(graph, chains=chains, together=False)


def _cut(chain: Chain, needed: set[str]) -> Chain:
    return replace(
        chain,
        steps=tuple(step for step in chain.steps if str(step.id) in needed),
        minimize=chain.minimize if chain.minimize and str(chain.minimize.id) in needed else None,
        production=chain.production if chain.production and str(chain.production.id) in needed else None,
        publication=None,
    )


def _pinned(session: Session, graph: Graph, wanted: Mapping[str, StepAccount]) -> Graph:
    """Return the graph with every external image as the provenance has it, by digest."""

    def pinned(step: Step) -> Step:
        account = wanted.get(str(step.id))
        digests = {image.name: image.sha256 for image in account.images} if account else {}
        images = tuple(_with_digest(session, image, digests.get(image.name, "")) for image in step.images)
        return replace(step, images=images)

    chains = tuple(
        replace(
            chain,
            steps=tuple(map(pinned, chain.steps)),
            minimize=pinned(chain.minimize) if chain.minimize else None,
            production=pinned(chain.production) if chain.production else None,
        )
        for chain in graph.chains
    )
    return replace(graph, chains=chains)


def _with_digest(session: Session, image: ImageInput, sha256: str) -> ImageInput:
    if image.external is None or not sha256 or image.external.is_scratch:
        return image
    pinned = ImageReference.parse(f"{image.external.name}@sha256:{sha256}")
    # The chain registry has the images that came from the local store, or were copied in.
    place = session.chain.place(image.external).with_digest(Digest(f"sha256:{sha256}"))
    here = session.registries.client(place).head(place.repository, Digest(f"sha256:{sha256}"))
    return replace(image, source=place if here else pinned)


def _changes_of_tree(graph: Graph, account: Account, wanted: Mapping[str, StepAccount]) -> dict[str, tuple[str, ...]]:
    """Return what differs in the tree from the provenance, as far as it is known before a build, by step, lowest first.

    A step of the provenance that the tree lacks is one of a base image, unless it is of the result's own option.
    """
    changes = {
        str(step.id): _input_changes(step, wanted[str(step.id)])
        if str(step.id) in wanted
        else ("the image was built without this step",)
        for step in graph
    }
    result = StepId.parse(account.steps[-1].step)
    for name in wanted:
        step = StepId.parse(name)
        if name not in changes and (step.platform, step.option) == (result.platform, result.option):
            changes[name] = ("the tree does not have this step",)
    return changes


def _input_changes(step: Step, account: StepAccount) -> tuple[str, ...]:
    """Return what of a step's inputs in the tree differs from the provenance, as far as it is known before a build."""
    changes = []
    digest = hashlib.sha256(step.read_dockerfile()).hexdigest()
    if account.dockerfile_sha256 not in {"", digest}:
        changes.append(
            f"{account.dockerfile} is another Dockerfile: {digest[:12]}, not {account.dockerfile_sha256[:12]}"
        )
    if step.kind is StepKind.BUILD:
        # Those of the stages are known only once the base image's settings are.
        changes += _arg_changes({arg.name: arg.value for arg in step.args}, account.args)
    return tuple(changes)


def _arg_changes(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[str]:
    for name, value in before.items():
        if now.get(name) != value:
            yield f'arg {name} is {_quoted(now.get(name))}, not "{value}"'


def _quoted(value: str | None) -> str:
    return "missing" if value is None else f'"{value}"'


@contextmanager
def _own_part(session: Session, image: RemoteImage) -> Iterator[Session]:
    """Yield a session whose chain registry is a part of its own, without records, and whose builder uses no cache."""
    chain = registry_for(session.chain, image)
    settings = replace(session.settings, registry=chain, no_cache=True)
    records = RecordStore(session.registries, session.records.keyring, chain, SeenRecords(None))
    backends = replace(session.backends, seen=lambda _: SeenRecords(None))
    driver = session.backends.driver(settings.builders, True)
    _remove_all(session, chain)
    try:
        yield replace(session, settings=settings, records=records, driver=driver, backends=backends)
    finally:
        _remove_all(session, chain)


def _remove_all(session: Session, chain: ChainRegistry) -> None:
    """Delete everything in a part of the registry; a registry that does not allow it keeps some manifests."""
    client = session.registries.client(chain.host)
    try:
        names = [name for name in client.repositories() if name.startswith(f"{chain.prefix}/")]
        for name in names:
            for tag in client.tags(name):
                with suppress(NotFoundInRegistryError):
                    client.delete_manifest(name, client.manifest(name, tag).digest)
    except RegistryError as error:
        session.emit(Message(level="note", text=f"could not empty {chain}: {error.message}"))


def _results(
    session: Session, image: RemoteImage, wanted: list[StepAccount], outcome: RunOutcome
) -> Iterator[RebuiltStep]:
    """Yield the results of the steps, lowest first, up to the first that differs."""
    records = {account.step: outcome.results[StepId.parse(account.step)] for account in wanted}
    inputs = {account.step: tuple(_record_changes(records[account.step].record, account)) for account in wanted}
    identical = {account.step: records[account.step].record.identity == account.identity for account in wanted}
    # If the result is the same, so is what it contains of the steps below it, and reading all of them takes long.
    if identical[wanted[-1].step] or not _content_changes(session, image, image, records[wanted[-1].step]):
        for account in wanted:
            yield RebuiltStep(
                step=account.step, same=True, identical=identical[account.step], inputs=inputs[account.step]
            )
        return
    for account in wanted:
        changes: tuple[str, ...] = ()
        original = image if account is wanted[-1] else _original(session, image, account)
        if not identical[account.step]:
            changes = _content_changes(session, image, original, records[account.step])
        yield RebuiltStep(
            step=account.step,
            same=not changes,
            identical=identical[account.step],
            inputs=inputs[account.step],
            content=changes,
        )
        if changes:
            # What is above is built on it, and says nothing more.
            return


def _content_changes(
    session: Session, image: RemoteImage, original: RemoteImage | None, result: StepResult
) -> tuple[str, ...]:
    """Return what differs between an original image and the one that was built again, but for the times of files."""
    if original is None:
        return ()
    rebuilt = resolve(session.registries, result.reference, image.platform)
    return tuple(_lines(compare(session.records, original, rebuilt)))


def _record_changes(record: Record, account: StepAccount) -> Iterator[str]:
    """Yield what the step read that the provenance does not have, or has with other content."""
    yield from _arg_changes(record.components.args, account.args)
    for name, value in record.components.args.items():
        if name not in account.args:
            yield f'arg {name} is "{value}", which the provenance does not have'
    files = {
        path: text.split(" ", 2)[-1][:64] for path, text in record.components.files.items() if text.startswith("file ")
    }
    before = {path: digest for path, digest in account.files.items() if digest}
    for path in sorted({*files, *before}):
        if path not in files:
            yield f"file {path} is missing"
        elif path not in before:
            yield f"file {path} is new"
        elif files[path] != before[path]:
            yield f"file {path} is another one: {files[path][:12]}, not {before[path][:12]}"


def _original(session: Session, image: RemoteImage, account: StepAccount) -> RemoteImage | None:
    place = ImageReference(image.reference.registry, image.reference.repository)
    with suppress(RegistryError, WrongUseError):
        reference = ImageReference.parse(f"{place.name}@{account.image}")
        return resolve(session.registries, reference, Platform.parse(account.platform or image.platform.oci))
    return None


def _lines(comparison: Comparison) -> Iterator[str]:
    """Yield the differences, files first: their paths are what to look for."""
    for change in comparison.files:
        yield f"file {change}"
    for change in (*comparison.packages, *comparison.python, *comparison.configuration):
        yield str(change)
