"""Compares two images of one platform; everything is read from registries, natively."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from chainbuild.comparison.contents import Contents, Entry, read_contents
from chainbuild.comparison.model import Change, Comparison, ImageSizes, differences
from chainbuild.errors import NotFoundInRegistryError
from chainbuild.images.inventory import Crumb, trail_of
from chainbuild.records.keys import Components, changes
from chainbuild.records.labels import LABELS
from chainbuild.records.store import RecordStore
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import RemoteImage
from chainbuild.text import size
from chainbuild.values import replace

Trail = Sequence[Crumb]
RECORDS: Final = "records"
"""The owner of files in which a package manager keeps its own records: they change with every package."""
_RECORDS: Final = re.compile(r"/var/lib/dpkg(/.*)?|(/usr)?/lib/apk/db(/.*)?")


def compare(records: RecordStore, before: RemoteImage, after: RemoteImage) -> Comparison:
    """What changed from `before` to `after`. Errors: `RegistryError` where a layer cannot be read."""
    old, new = read_contents(records.registries, before, after)
    return Comparison(
        before=before,
        after=after,
        sizes=(_sizes(before, old), _sizes(after, new)),
        packages=differences(versions(old, "deb", "apk"), versions(new, "deb", "apk")),
        python=differences(versions(old, "pypi"), versions(new, "pypi")),
        files=tuple(_files(old, new)),
        configuration=configuration_changes(before.config, after.config),
        steps=step_changes(
            trail_or_nothing(records, before),
            trail_or_nothing(records, after),
        ),
    )


def _sizes(image: RemoteImage, contents: Contents) -> ImageSizes:
    return ImageSizes(compressed=image.size, unpacked=contents.unpacked, layers=len(image.layers))


def versions(contents: Contents, *kinds: str) -> dict[str, str]:
    """The packages of these kinds with their versions; a name that is there twice has both.

    A distribution's name is in its normal form (PyPA, "Names and normalization"): projects change how they spell it.
    """
    found: dict[str, set[str]] = {}
    packages = [package for package in contents.ownership.packages.values() if package.kind in kinds]
    architectures: dict[str, set[str]] = {}
    for package in packages:
        architectures.setdefault(package.name, set()).add(package.arch)
    for package in packages:
        name = package.name
        if package.kind == "pypi":
            name = re.sub(r"[-_.]+", "-", name).lower()
        elif len(architectures[name]) > 1:
            name = f"{name}:{package.arch}"
        found.setdefault(name, set()).add(package.version)
    return {name: ", ".join(sorted(several)) for name, several in found.items()}


# Files ----------------------------------------------------------------------------------------------------------------


def _files(old: Contents, new: Contents) -> Iterator[Change]:
    for path in sorted({*old.files, *new.files}):
        before, after = old.files.get(path), new.files.get(path)
        there = before or after
        if before == after or there is None or (there.kind == "dir" and (before is None or after is None)):
            continue  # a folder that comes or goes is told by what is in it
        owner = new.ownership.owner(path) or old.ownership.owner(path)
        if not owner and _RECORDS.fullmatch(path):
            owner = RECORDS
        words = tuple(_file_words(before, after)) if before and after else ()
        if before and after and not words:
            continue
        yield Change(
            name=path,
            before=_described(before) if before else None,
            after=_described(after) if after else None,
            words=words,
            owner=owner,
        )


def _described(entry: Entry) -> str:
    if entry.kind == "file":
        return size(entry.size)
    return f"link to {entry.target}" if entry.kind == "link" else "folder" if entry.kind == "dir" else "special file"


def _file_words(before: Entry, after: Entry) -> Iterator[str]:
    if before.kind != after.kind or before.target != after.target:
        yield f"{_described(before)} → {_described(after)}"
        return
    if before.content != after.content:
        yield (
            f"{size(before.size)} → {size(after.size)}"
            if before.size != after.size
            else f"other content, {size(after.size)}"
        )
    if before.mode != after.mode:
        yield f"mode {before.mode:04o} → {after.mode:04o}"
    if before.owner != after.owner:
        yield f"owner {before.owner} → {after.owner}"


# Configuration --------------------------------------------------------------------------------------------------------


def configuration_changes(before: ImageConfig, after: ImageConfig) -> tuple[Change, ...]:
    """What containers of the one get otherwise than those of the other. What chainbuild says of the making is left out."""
    return differences(_settings(before), _settings(after))


def _settings(config: ImageConfig) -> dict[str, str]:
    health = config.healthcheck
    said: Mapping[str, str] = {
        "ENTRYPOINT": _listed(config.entrypoint),
        "CMD": _listed(config.cmd),
        "USER": config.user,
        "WORKDIR": config.working_dir,
        "EXPOSE": " ".join(config.exposed_ports),
        "VOLUME": " ".join(config.volumes),
        "STOPSIGNAL": config.stop_signal,
        "SHELL": _listed(config.shell),
        "ONBUILD": "; ".join(config.on_build),
        "HEALTHCHECK": f"{_listed(health.test)} {health.interval} {health.timeout} {health.retries}" if health else "",
    }
    env = {f"ENV {name}": value for name, value in config.env}
    labels = {f"LABEL {name}": value for name, value in config.labels if not name.startswith(LABELS)}
    return {name: text for name, text in said.items() if text} | env | labels


def _listed(words: Sequence[str] | None) -> str:
    return json.dumps(list(words), ensure_ascii=False) if words else ""


# Steps ----------------------------------------------------------------------------------------------------------------


def trail_or_nothing(records: RecordStore, image: RemoteImage) -> tuple[Crumb, ...]:
    """Return the steps of an image; none if no provenance found for it was made."""
    try:
        return trail_of(records, image)
    except NotFoundInRegistryError:
        return ()


def step_changes(before: Trail, after: Trail) -> tuple[Change, ...]:
    """Which steps came, went, or were made from something else, in the order of the newer image, and then what went."""
    old = {crumb.step.partition("/")[2]: crumb for crumb in before}
    new = {crumb.step.partition("/")[2]: crumb for crumb in after}
    found: list[Change] = []
    for name in dict.fromkeys([*new, *old]):
        was, now = old.get(name), new.get(name)
        if was and now:
            if was.key == now.key:
                continue
            words: tuple[str, ...] = ("made from something else; its records are gone",)
            if was.record and now.record:
                words = _step_words(was.record.components, now.record.components)
            found.append(Change(name=name, before=was.key, after=now.key, words=words))
        else:
            found.append(Change(name=name, before="" if was else None, after="" if now else None))
    return tuple(found)


def _step_words(before: Components, after: Components) -> tuple[str, ...]:
    if replace(before, images={}) == replace(after, images={}):
        return ("what it stands on changed",)
    return changes(before, after)
