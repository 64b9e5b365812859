"""Compare two images of one platform. Everything is read from registries, and nothing is run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from chainbuild.comparison.contents import Contents, Entry, read_contents
from chainbuild.comparison.model import Change, Comparison, ImageSizes, differences
from chainbuild.errors import NotFoundInRegistryError
from chainbuild.images.inventory import Crumb, trail_of
from chainbuild.patterns import regex
from chainbuild.records.keys import Components, changes
from chainbuild.records.labels import LABELS
from chainbuild.records.store import RecordStore
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import RemoteImage
from chainbuild.text import size
from chainbuild.values import replace

Trail = Sequence[Crumb]
RECORDS: Final = "records"
"""The owner of a package manager's own database files, which change with every package."""
_RECORDS: Final = regex(r"/var/lib/dpkg(/.*)?|(/usr)?/lib/apk/db(/.*)?")


def compare(records: RecordStore, before: RemoteImage, after: RemoteImage) -> Comparison:
    """Return what changed from `before` to `after`. Errors: `RegistryError` if a layer cannot be read."""
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
    """Return the packages of these kinds with their versions; a package that is installed twice has both versions.

    Names of Python distributions are normalized (PyPA, "Names and normalization"), because projects change the spelling.
    """
    versions_of: dict[str, set[str]] = {}
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
        versions_of.setdefault(name, set()).add(package.version)
    return {name: ", ".join(sorted(several)) for name, several in versions_of.items()}


# Files ----------------------------------------------------------------------------------------------------------------


def _files(old: Contents, new: Contents) -> Iterator[Change]:
    for path in sorted({*old.files, *new.files}):
        before, after = old.files.get(path), new.files.get(path)
        entry = before or after
        if before == after or entry is None or (entry.kind == "dir" and (before is None or after is None)):
            continue  # the files of a new or removed folder are enough
        owner = new.ownership.owner(path) or old.ownership.owner(path)
        if not owner and _RECORDS.fullmatch(path):
            owner = RECORDS
        words = tuple(entry_changes(before, after)) if before and after else ()
        if before and after and not words:
            continue
        yield Change(
            name=path,
            before=describe_entry(before) if before else None,
            after=describe_entry(after) if after else None,
            words=words,
            owner=owner,
        )


def describe_entry(entry: Entry) -> str:
    """Return the size of a file, or what else an entry is."""
    if entry.kind == "file":
        return size(entry.size)
    return f"link to {entry.target}" if entry.kind == "link" else "folder" if entry.kind == "dir" else "special file"


def entry_changes(before: Entry, after: Entry) -> Iterator[str]:
    """Yield what differs between two entries: kind, content, mode, owner, extended attributes."""
    if before.kind != after.kind or before.target != after.target:
        yield f"{describe_entry(before)} → {describe_entry(after)}"
        return
    if before.content != after.content:
        yield (
            f"{size(before.size)} → {size(after.size)}"
            if before.size != after.size
            else f"different content, {size(after.size)}"
        )
    if before.mode != after.mode:
        yield f"mode {before.mode:04o} → {after.mode:04o}"
    if before.owner != after.owner:
        yield f"owner {before.owner} → {after.owner}"
    old, new = dict(before.xattrs), dict(after.xattrs)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"attribute {name} {'added' if name not in old else 'removed' if name not in new else 'changed'}"


# Configuration --------------------------------------------------------------------------------------------------------


def configuration_changes(before: ImageConfig, after: ImageConfig) -> tuple[Change, ...]:
    """Return what differs in the configuration of containers. Labels that chainbuild sets itself are left out."""
    return differences(_settings(before), _settings(after))


def _settings(config: ImageConfig) -> dict[str, str]:
    health = config.healthcheck
    settings: Mapping[str, str] = {
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
    return {name: text for name, text in settings.items() if text} | env | labels


def _listed(words: Sequence[str] | None) -> str:
    return json.dumps(list(words), ensure_ascii=False) if words else ""


# Steps ----------------------------------------------------------------------------------------------------------------


def trail_or_nothing(records: RecordStore, image: RemoteImage) -> tuple[Crumb, ...]:
    """Return the steps of an image; empty if the records do not say how it was made."""
    try:
        return trail_of(records, image)
    except NotFoundInRegistryError:
        return ()


def step_changes(before: Trail, after: Trail) -> tuple[Change, ...]:
    """Return the steps that were added, changed or removed: in the order of the newer image, removed steps last."""
    old = {crumb.step.in_option: crumb for crumb in before}
    new = {crumb.step.in_option: crumb for crumb in after}
    results: list[Change] = []
    for name in dict.fromkeys([*new, *old]):
        was, now = old.get(name), new.get(name)
        if was and now:
            if was.key == now.key:
                continue
            words: tuple[str, ...] = ("inputs changed; the records that name them are gone",)
            if was.record and now.record:
                words = _step_words(was.record.components, now.record.components)
            results.append(Change(name=name, before=was.key, after=now.key, words=words))
        else:
            results.append(Change(name=name, before="" if was else None, after="" if now else None))
    return tuple(results)


def _step_words(before: Components, after: Components) -> tuple[str, ...]:
    if replace(before, images={}) == replace(after, images={}):
        return ("its parent image changed",)
    return changes(before, after)
