"""How the images of a chain are based on each other: which step brought a package, and which step would gain an update.

A package belongs to the lowest image that has it in the same version. A step gains the update of a package that it brought,
and the lowest step that upgrades everything (`apt-get upgrade`) gains those of the packages below it. A step that installs
from package lists which a lower step downloaded gains nothing by itself: then the lower step is the one to renew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from chainbuild.outdated.inventory import Inventory, InventoryReader
from chainbuild.outdated.model import APK, DEB, PYPI, Finding, Installed, State
from chainbuild.patterns import regex
from chainbuild.records.record import REFRESHED, Record, base_layers
from chainbuild.registry.images import RemoteImage
from chainbuild.step_id import StepId
from chainbuild.values import replace

BASE: Final = "base image"
_LISTS: Final = regex(r"\b(?:apt|apt-get|aptitude)\b[^\n;&|]*\bupdate\b")
_UPGRADES: Final = {
    DEB: regex(r"\b(?:apt|apt-get|aptitude)\b[^\n;&|]*\b(?:upgrade|dist-upgrade|full-upgrade|safe-upgrade)\b"),
    APK: regex(r"\bapk\b[^\n;&|]*\bupgrade\b"),
}
_CONTINUED: Final = regex(r"\\[ \t]*\n")


class Made(Struct, frozen=True, kw_only=True, eq=False):
    """An image, the step that made it (None: an image from outside), and the images that it was made from, its base first."""

    step: StepId | None
    name: str
    image: RemoteImage
    inventory: Inventory
    inputs: tuple[Made, ...] = ()
    record: Record | None = None

    @property
    def dockerfile(self) -> str:
        """The Dockerfile of the step, with continued lines joined; empty if it is unknown."""
        return _CONTINUED.sub(" ", self.record.components.dockerfile) if self.record else ""

    def below(self) -> Iterator[Made]:
        """Yield the images that this one is based on, the nearest first."""
        made = self
        while made.inputs:
            made = made.inputs[0]
            yield made


class Origin(Struct, frozen=True, kw_only=True):
    """The image that brought a package, and the step to renew for its update; None if no step would gain it."""

    brought_by: Made
    renews: Made | None = None


class Lineages:
    """The images of steps with records, each read once."""

    def __init__(
        self,
        reader: InventoryReader,
        records: Mapping[str, tuple[Record, RemoteImage]],
        bases: Mapping[StepId, str] | None = None,
    ) -> None:
        """`records` has the record and the image of steps by key. `bases` are the names of the images from outside."""
        self.reader = reader
        self._records = records
        self._bases = bases or {}
        self._by_identity = {record.identity: key for key, (record, _) in records.items()}
        self._made: dict[str, Made] = {}
        self._owners: dict[int, dict[tuple[str, ...], Made]] = {}

    def of_key(self, key: str) -> Made:
        """Return the image of the record with a key, after all those below it. Errors: `RegistryError`."""
        # Parents first; iterative, because a chain may be longer than Python's stack. `above`: the steps on the way up.
        todo, above = [(key, False)], set()
        while todo:
            current, parents_are_made = todo.pop()
            if current in self._made:
                continue
            if parents_are_made:
                self._made[current] = self._make(current)
                above.discard(current)
                continue
            above.add(current)
            todo.append((current, True))
            todo += [(one, False) for one in self._parents(self._records[current][0]) if one not in above]
        return self._made[key]

    def _make(self, key: str) -> Made:
        record, image = self._records[key]
        inputs = tuple(self._made[parent] for parent in self._parents(record) if parent in self._made)
        layers = tuple(layer.digest for layer in image.layers)
        below = [
            made for made in inputs if layers[: len(made.image.layers)] == tuple(x.digest for x in made.image.layers)
        ]
        if below:
            direct = max(below, key=lambda made: len(made.image.layers))
            others = tuple(made for made in inputs if made is not direct)
        else:
            # The base is an image from outside: its layers are the lowest ones.
            count = base_layers(record.added, image.layers)
            direct = Made(
                step=None,
                name=self._bases.get(record.step, BASE),
                image=image,
                inventory=self.reader.read(image, count),
            )
            others = inputs
        return Made(
            step=record.step,
            name=str(record.step),
            image=image,
            inventory=self.reader.read(image),
            inputs=(direct, *others),
            record=record,
        )

    def _parents(self, record: Record) -> list[str]:
        """Return the keys of the steps that a step was built from.

        After an early cut-off, the record of a parent has another key, and the same content.
        """
        keys = []
        for name, key in record.parents.items():
            known = key if key in self._records else self._by_identity.get(record.components.images.get(name, ""))
            if known is not None and known != record.key:
                keys.append(known)
        return keys

    def outside(self, image: RemoteImage, name: str) -> Made:
        """Return an image of which nothing is known but its content. Errors: `RegistryError`."""
        return Made(step=None, name=name, image=image, inventory=self.reader.read(image))

    def origin(self, made: Made, package: Installed) -> Origin:
        """Return what brought a package of an image, and the step to renew for its update."""
        path = [made]
        while (owner := self._owner(path[-1], package)) is not path[-1]:
            path.append(owner)
        return Origin(brought_by=path[-1], renews=_renews(path, package))

    def _owner(self, made: Made, package: Installed) -> Made:
        """Return the input of an image that has a package in the same version; the image itself if none has."""
        owners = self._owners.get(id(made))
        if owners is None:
            owners = {}
            for other in reversed(made.inputs):
                owners |= dict.fromkeys(other.inventory.identities, other)
            self._owners[id(made)] = owners
        return owners.get(package.identity, made)


def _renews(path: Sequence[Made], package: Installed) -> Made | None:
    """Return the step to renew. `path`: the images that have the package, the one that brought it last."""
    made = path[-1]
    if made.step is None:
        upgrades = _UPGRADES.get(package.kind)
        steps = [one for one in path if one.step is not None and upgrades and upgrades.search(one.dockerfile)]
        if not steps:
            return None
        made = steps[-1]
    if made.step is not None and made.step.is_stage and (package.kind == PYPI or package.only_files):
        return None  # the stages only copy files of such packages
    if package.kind != DEB or _LISTS.search(made.dockerfile):
        return made
    # Its package lists are those of a lower step, unless a script of its own downloads them.
    return next((one for one in made.below() if one.step is not None and _LISTS.search(one.dockerfile)), made)


# Pins in Dockerfiles --------------------------------------------------------------------------------------------------


def pinned_by_step(finding: Finding, made: Made) -> Finding:
    """Return the finding as pinned if the Dockerfile of the step that brought the package names its exact version."""
    if finding.state is not State.OUTDATED or not made.dockerfile:
        return finding
    package = finding.package
    sign = "==" if package.kind not in {DEB, APK} else "="
    for word in made.dockerfile.replace('"', " ").replace("'", " ").split():
        name, found, version = word.partition(sign)
        plain = name.partition(":")[0].partition("[")[0].lower()
        if found and version and plain == package.name.lower():
            return replace(finding, state=State.PINNED, note=f"{made.name} installs {word[:100]}")
    return finding


# Renewals -------------------------------------------------------------------------------------------------------------


def update_name(finding: Finding) -> str:
    """Return the update as a word for the note of a record: `deb:libssl3=3.0.17-1`."""
    package = finding.package
    return f"{package.kind}:{package.name}={finding.candidate}".replace(" ", "")


def was_tried(finding: Finding, made: Made) -> bool:
    """Return whether a step was renewed for an update already, and did not get it."""
    note = made.record.notes.get(REFRESHED, "") if made.record else ""
    return update_name(finding) in note.split()
