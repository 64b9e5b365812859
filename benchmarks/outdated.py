"""`script/bench outdated`: how long `chainbuild outdated` takes, with an empty cache folder and with a filled one.

The images are put together in the registry, without builds: each step's layer has the package database that apt would have
written. The sources are Debian's own, as the local base image names them.
"""

from __future__ import annotations

import gzip
import io
import json
import resource
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.images import unpacked
from benchmarks.service import registry
from benchmarks.trees import OPTION, ChainTree, chain_tree
from chainbuild.execution.session import keyring_of
from chainbuild.images.local_store import LocalStore
from chainbuild.images.resolver import ImageResolver, find_all
from chainbuild.model import Step
from chainbuild.planning.decisions import ImageFacts, facts_of
from chainbuild.planning.inputs import InputReader
from chainbuild.planning.planner import Planner
from chainbuild.records.labels import identity_of
from chainbuild.records.record import Record
from chainbuild.records.store import RecordStore
from chainbuild.records.tags import image_tag
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import RemoteImage, put_image, put_index, resolve
from chainbuild.registry.oci import OCI_LAYER_GZIP, Descriptor, digest_of
from chainbuild.registry.pool import Registries
from chainbuild.requests.build import BuildRequest, read_build_request
from chainbuild.requests.options import RunOptions
from chainbuild.step_id import StepId

PLATFORMS = "amd64,aarch64"
SIZES = (10, 100)
"""Steps of a chain on each of the two platforms."""
REPO = "bench/outdated"
_SETTINGS = ("etc/apt", "usr/share/keyrings", "var/lib/dpkg/status")
_NAMES = ("curl", "git", "vim", "less", "file", "rsync", "wget", "tree", "jq", "zip", "unzip", "lsof", "htop", "tmux")


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One size: the images, CPU times of whole processes in seconds, and the documents of the last call of each kind."""

    images: int
    cold: float
    warm: tuple[float, ...]
    cold_document: dict[str, Any]
    document: dict[str, Any]


def measured(sizes: tuple[int, ...] = SIZES, rounds: int = 3, base: str = "debian:bookworm-slim") -> tuple[Point, ...]:
    """Measure. Every project must have updates that some of its steps would gain: anything else fails."""
    with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder, registry(in_memory=True) as endpoint:
        with Registries() as registries, unpacked(base) as root:
            settings = {path: _tarred(root, path) for path in _SETTINGS}
            place = ImageReference.parse(f"{endpoint}/bench/base:1")
            _put_base(registries, place, settings)
            trees = {steps: _forged(Path(folder), steps, endpoint, place, registries, settings) for steps in sizes}
        return tuple(_point(Path(folder), steps, tree, endpoint, rounds) for steps, tree in trees.items())


def _point(folder: Path, steps: int, tree: ChainTree, endpoint: str, rounds: int) -> Point:
    env = {"XDG_CACHE_HOME": str(folder / f"cache-{steps}")}
    argv = measure.chainbuild("outdated", "--root", tree.root, "--registry", endpoint, "--json")
    cold, cold_document = _timed(argv, env)
    measure.say(f"{2 * steps} images, empty cache: {measure.shown(cold)}")
    warm = []
    document: dict[str, Any] = {}
    for _ in range(rounds):
        seconds, document = _timed(argv, env)
        warm.append(seconds)
        measure.say(f"{2 * steps} images, filled cache: {measure.shown(seconds)}")
    if not document["rebuilt"]:
        raise measure.RunFailedError("no step would gain an update")
    return Point(images=2 * steps, cold=cold, warm=tuple(warm), cold_document=cold_document, document=document)


def _timed(argv: list[str], env: dict[str, str]) -> tuple[float, dict[str, Any]]:
    """The CPU time of a call, and its document. The time on the clock depends on the mirror, and is only shown."""
    began, used = time.perf_counter(), _cpu_seconds()
    output = measure.run(argv, env=env)
    measure.say(f"on the clock: {measure.shown(time.perf_counter() - began)}")
    return _cpu_seconds() - used, json.loads(output)


def _cpu_seconds() -> float:
    """What the children of this process have used so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def table(points: tuple[Point, ...]) -> str:
    """The page's table."""
    rows = [
        "| images | updates found | empty cache, CPU time | transferred | filled cache, CPU time | transferred | pulls |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {point.images} | {sum(row['state'] == 'outdated' for row in point.document['packages'])} "
        f"| {measure.shown(point.cold)} | {_transferred(point.cold_document)} "
        f"| {measure.shown(measure.middle(point.warm))} | {_transferred(point.document)} | 0 |"
        for point in points
    ]
    return "\n".join(rows)


def _transferred(document: dict[str, Any]) -> str:
    amount = document["transfers"]["received"] + document["transfers"]["layer_bytes"]
    return f"{amount / 1e6:.1f} MB" if amount >= 1e5 else f"{amount / 1e3:.0f} kB"


# The images -----------------------------------------------------------------------------------------------------------


def _tarred(root: Path, path: str) -> list[tuple[str, bytes]]:
    """The files at or below a path of the base image, links by their content."""
    place = root / path
    files = [place] if place.is_file() else [one for one in sorted(place.rglob("*")) if one.is_file()]
    return [(str(one.relative_to(root)), one.read_bytes()) for one in files]


def _layer(registries: Registries, place: ImageReference, files: list[tuple[str, bytes]]) -> Descriptor:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    raw = gzip.compress(stream.getvalue(), mtime=0)
    registries.client(place).put_blob(place.repository, raw)
    return Descriptor(media_type=OCI_LAYER_GZIP, digest=digest_of(raw), size=len(raw))


def _put_base(registries: Registries, place: ImageReference, settings: dict[str, list[tuple[str, bytes]]]) -> None:
    images: dict[Platform, Descriptor] = {}
    for name in PLATFORMS.split(","):
        platform = Platform.parse(name)
        files = [pair for path in _SETTINGS[:-1] for pair in settings[path]]
        files.append((_SETTINGS[-1], _status(settings, platform, 0)))
        layer = _layer(registries, place, files)
        config = ImageConfig.make(platform, [layer.digest])
        raw = put_image(registries, place.with_tag(name), config, [layer]).manifest
        images[platform] = Descriptor(media_type=raw.media_type, digest=raw.digest, size=len(raw.raw))
    put_index(registries, place, images)


def _status(settings: dict[str, list[tuple[str, bytes]]], platform: Platform, steps: int) -> bytes:
    """The database of the base image with the packages of so many steps, all of them old."""
    architecture = "arm64" if "arm64" in platform.oci else "amd64"
    ((_, base),) = settings[_SETTINGS[-1]]
    text = base.decode().replace("Architecture: amd64", f"Architecture: {architecture}")
    for name in _NAMES[: min(steps, len(_NAMES))]:
        text += f"\nPackage: {name}\nStatus: install ok installed\nArchitecture: {architecture}\nVersion: 0.1-1\n"
    return text.encode()


def _forged(
    folder: Path,
    steps: int,
    endpoint: str,
    base: ImageReference,
    registries: Registries,
    settings: dict[str, list[tuple[str, bytes]]],
) -> ChainTree:
    """Store an image and a record for every step of a chain, and a project file."""
    tree = chain_tree(folder / str(steps), steps)
    tree.write()
    (tree.root / "chainbuild.yaml").write_text(
        f"repo: {REPO}-{steps}\ntag: v1\nbase: {base}\nproduction: {base}\noptions: [{OPTION}]\n"
        f"platforms: [{PLATFORMS}]\nregistry: {endpoint}\n"
    )
    request = read_build_request(
        RunOptions(
            platform=PLATFORMS,
            repo=f"{REPO}-{steps}",
            tag="v1",
            base=str(base),
            option=OPTION,
            production=str(base),
            root=tree.root,
            registry=endpoint,
            until=tree.numbers[-1],
        )
    )
    _store(request, registries, settings)
    measure.say(f"{2 * steps} images are in the registry")
    return tree


def _store(request: BuildRequest, registries: Registries, settings: dict[str, list[tuple[str, bytes]]]) -> None:
    records = RecordStore(registries, keyring_of(request.settings), request.settings.chain)
    finder = ImageResolver(records, LocalStore(), lambda _: None, hand_over=lambda *_: None)
    found = find_all(finder, request.graph.external_images)

    def external(step: Step) -> dict[str, ImageFacts]:
        configs = {
            image.name: found[str(image.source), image.platform.oci].image.config
            for image in step.images
            if image.external is not None
        }
        return {name: ImageFacts(identity=identity_of(config)) for name, config in configs.items()}

    planner = Planner(records, InputReader(Platform.of_this_machine()), external)
    images: dict[StepId, RemoteImage] = {}
    made: dict[StepId, Record] = {}
    for number, (step, below) in enumerate(_with_parents(request, found, images)):
        place = step.repository
        files = [(_SETTINGS[-1], _status(settings, step.platform, step.number // 10)), ("step", str(number).encode())]
        layers = [
            *(_copied(registries, layer, below, place) for layer in below.layers),
            _layer(registries, place, files),
        ]
        config = ImageConfig.make(step.platform, [layer.digest for layer in layers])
        image = put_image(registries, place, config, layers)
        registries.client(place).put_manifest(
            place.repository, image_tag(image.digest), image.manifest.raw, image.manifest.media_type
        )
        images[step.id] = resolve(registries, place.with_digest(image.digest), step.platform)
        components = planner.components(step, {need: facts_of(made[need]) for need in step.needs})
        made[step.id] = Record(
            key=components.key,
            step=step.id,
            family=step.family,
            image=image.digest,
            identity=identity_of(config),
            size=image.size,
            added=image.size - below.size,
            seconds=1.0,
            built_at=time.time(),
            components=components,
            parents={one.name: made[one.from_step].key for one in step.images if one.from_step is not None},
        )
        records.write(place, made[step.id])


def _with_parents(request: BuildRequest, found: Any, images: dict[StepId, RemoteImage]) -> Iterator[tuple[Step, Any]]:
    for step in request.graph:
        image = step.image(step.parent)
        parent = image.from_step
        yield step, images[parent] if parent else found[str(image.source), image.platform.oci].image


def _copied(registries: Registries, layer: Descriptor, source: RemoteImage, place: ImageReference) -> Descriptor:
    """A layer that the repository of a step has, too."""
    client = registries.client(place)
    if source.reference.repository != place.repository:
        client.put_blob(
            place.repository, b"".join(client.stream(source.reference.repository, layer.digest, size=layer.size))
        )
    return layer
