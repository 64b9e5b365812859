"""The images that a Dockerfile reads, as BuildKit sees them: layers of the tree, old versions of them, outside images.

`{repo}/sci/{target}:{version}` is a science layer, whatever the repository before `sci/`. The file is not edited: its name
is replaced with the image of the tree in the copy of the file that the builder gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, find_facts
from chainbuild.dockerfile.images import named_images
from chainbuild.errors import Problem
from chainbuild.layouts.science.manifests import Described, version_of_build
from chainbuild.model import ImageInput
from chainbuild.references import ImageReference, Platform
from chainbuild.text import perhaps_you_meant
from chainbuild.values import replace

SCI: Final = "sci"
REL: Final = "rel"
WAYS_OUT: Final = (
    "You can add a new layer on the existing version, with the same image and version (it becomes the final layer); or add"
    " a new layer with a new version (the old layer stays); or change the layer without changing its version."
)


class OldVersion(Struct, frozen=True, kw_only=True):
    """A FROM of a version that no layer of the tree builds."""

    target: str
    version: str
    image: str
    where: str
    line: int
    hint: str = ""
    here: bool = False
    """True if the tree has the target in another version."""

    @property
    def names(self) -> frozenset[str]:
        """The names that `--allow-orphan` accepts for it."""
        return frozenset({f"{self.target}:{self.version}", f"{self.image}:{self.version}"})

    @property
    def problem(self) -> Problem:
        """The problem to report."""
        return Problem(
            path=self.where,
            line=self.line,
            message=f"its base {SCI}/{self.target}:{self.version} is no longer built by any layer",
            hint=f"{self.hint}{WAYS_OUT} To use the released image: --allow-orphan {self.target}:{self.version}.",
        )


class LayerImage(Struct, frozen=True, kw_only=True):
    """An image that a Dockerfile reads: `target` is its layer in the tree (empty: an outside image).

    `fixed`: a specific build of a layer, by digest; the layer is still built first.
    """

    wanted: ImageInput
    target: str = ""
    fixed: bool = False

    @property
    def built_here(self) -> bool:
        """True if the tree builds it."""
        return bool(self.target) and not self.fixed


class LayerImages(Struct, frozen=True, kw_only=True):
    """All images that a Dockerfile reads on a platform; `parent` is the name of the base image of its result."""

    bases: tuple[LayerImage, ...]
    old: tuple[OldVersion, ...] = ()
    problems: tuple[Problem, ...] = ()
    parent: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """The layers of the tree among them, in order, including those that are used in another version."""
        meant = (item.target for item in self.old if item.here)
        return tuple(dict.fromkeys((*(base.target for base in self.bases if base.target), *meant)))


class LayerName(Struct, frozen=True, kw_only=True):
    """The parts of a name in the form of a layer's: `prefix/kind/name:tag@digest`."""

    prefix: str
    kind: str
    name: str
    tag: str | None
    fixed: bool


def parts_of(reference: ImageReference) -> LayerName | None:
    """Return the parts of a name; None if it does not have that form."""
    *prefix, kind, name = ("", *reference.repository.split("/"))
    if kind not in {SCI, REL}:
        return None
    above = "/".join(part for part in prefix if part)
    host = "" if reference.registry == "docker.io" else reference.registry
    return LayerName(
        prefix="/".join(part for part in (host, above) if part),
        kind=kind,
        name=name,
        tag=reference.tag,
        fixed=reference.digest is not None,
    )


class Reader:
    """Reads Dockerfiles and recognizes the layers of a tree in them."""

    def __init__(
        self,
        layers: Iterable[Described],
        *,
        repo: ImageReference,
        released: ImageReference,
        allowed: Iterable[str] = (),
        build_platform: Platform,
    ) -> None:
        """`released` has the `{repo}/sci/…` images of older versions; `allowed` are accepted orphans (`image:version`)."""
        self._layers: Mapping[str, Described] = {layer.target: layer for layer in layers}
        self._images = frozenset(layer.image for layer in self._layers.values())
        self._released = released
        self._allowed = frozenset(allowed)
        self._build_platform = build_platform
        self._read: dict[tuple[str, str], tuple[tuple[ImageInput, ...], tuple[Problem, ...]]] = {}
        # A prefix before `sci/` is ours if it is REPO, empty, or used for a layer of the tree anywhere.
        self._prefixes = {"", repo.familiar_name}

    def learn(self, dockerfiles: Iterable[Dockerfile], platform: Platform) -> None:
        """Learn the prefixes that Dockerfiles use for the tree's own layers."""
        for dockerfile in dockerfiles:
            for base in self._images_of(dockerfile, platform)[0]:
                named = self._named(base)
                if named and named.kind == SCI and named.name in self._layers:
                    self._prefixes.add(named.prefix)

    def read(self, dockerfile: Dockerfile, platform: Platform) -> LayerImages:
        """Return what the Dockerfile reads on a platform."""
        inputs, problems = self._images_of(dockerfile, platform)
        message = list(problems)
        bases: list[LayerImage] = []
        old: list[OldVersion] = []
        for requested in inputs:
            result = self._classified(requested)
            if isinstance(result, Problem):
                message.append(result)
            elif isinstance(result, OldVersion) and not result.names & self._allowed:
                old.append(result)
            else:
                bases.append(result if isinstance(result, LayerImage) else LayerImage(wanted=self._rebased(requested)))
        return LayerImages(
            bases=tuple(bases), old=tuple(old), problems=tuple(message), parent=_parent(dockerfile, bases)
        )

    def _images_of(
        self, dockerfile: Dockerfile, platform: Platform
    ) -> tuple[tuple[ImageInput, ...], tuple[Problem, ...]]:
        key = dockerfile.path, platform.oci
        if key not in self._read:
            current = self._build_platform
            facts = find_facts(dockerfile, args={}, target_platform=platform, build_platform=current)
            inputs, problems = named_images(
                dockerfile, given=(), args={}, platform=platform, build_platform=current, facts=facts
            )
            self._read[key] = inputs, (*problems, *facts.problems)
        return self._read[key]

    def _named(self, wanted: ImageInput) -> LayerName | None:
        return parts_of(wanted.external) if wanted.external is not None else None

    def _classified(self, wanted: ImageInput) -> LayerImage | OldVersion | Problem:
        named = self._named(wanted)
        if named is None:
            return LayerImage(wanted=wanted)
        if named.kind == REL:
            return self._compat_image(wanted, named)
        layer = self._layers.get(named.name)
        if layer is None:
            return self._unknown(wanted, named)
        if named.fixed and named.tag in {None, layer.version.text}:
            return LayerImage(wanted=self._rebased(wanted), target=layer.target, fixed=True)
        if named.tag == layer.version.text:
            return LayerImage(wanted=wanted, target=layer.target)
        if named.tag is None:
            hint = f"Use {SCI}/{layer.layer}."
            return _problem(wanted, f"{wanted.written} has no version, which means :latest", hint)
        if version_of_build(named.tag) == layer.version.text:
            hint = f"Use {SCI}/{layer.layer}, so that the layer is rebuilt with its base."
            return _problem(wanted, f"{wanted.written} is a specific build of the layer", hint)
        return self._old(wanted, named, layer.image, f"The current layer is {SCI}/{layer.layer}. ")

    def _unknown(self, wanted: ImageInput, named: LayerName) -> LayerImage | OldVersion:
        if named.prefix not in self._prefixes:
            return LayerImage(wanted=wanted)
        hint = perhaps_you_meant(named.name, self._layers, lambda near: f"{SCI}/{self._layers[near].layer}")
        return self._old(wanted, named, named.name, hint)

    def _old(self, wanted: ImageInput, named: LayerName, image: str, hint: str) -> OldVersion:
        path, _, line = wanted.origin.rpartition(":")
        version = named.tag or ("(a digest)" if named.fixed else "latest")
        current = named.name in self._layers
        return OldVersion(
            target=named.name, version=version, image=image, where=path, line=int(line), hint=hint, here=current
        )

    def _compat_image(self, wanted: ImageInput, named: LayerName) -> LayerImage | Problem:
        if named.prefix not in self._prefixes or (not named.prefix and named.name not in self._images):
            return LayerImage(wanted=wanted)
        hint = f"Use {SCI}/TARGET:VERSION as the base; a compat image would add its compat layer twice."
        return _problem(wanted, f"{wanted.written} is a compat image", hint)

    def _rebased(self, wanted: ImageInput) -> ImageInput:
        """Return the image of the same layer in REPO, so that a test repository never uses production's images."""
        named, image = self._named(wanted), wanted.external
        if named is None or image is None:
            return wanted
        place = self._released
        source = ImageReference(place.registry, f"{place.repository}/{SCI}/{named.name}", image.tag, image.digest)
        return replace(wanted, source=source)


def on_final(said: Described, platform: Platform, piece: LayerImages) -> LayerImages:
    """Return what a compat image reads: the final layer, and what the compat layers' Dockerfiles read."""
    name = f"{SCI}/{said.layer}"
    requested = ImageInput(
        name=name, source=ImageReference.parse(name), platform=platform, as_context=True, origin=f"{said.manifest}:1"
    )
    others = (base for base in piece.bases if base.wanted.written != name)
    return replace(piece, bases=(LayerImage(wanted=requested, target=said.target), *others), parent=name)


def _problem(wanted: ImageInput, message: str, hint: str) -> Problem:
    path, _, line = wanted.origin.rpartition(":")
    return Problem(path=path, line=int(line), message=message, hint=hint)


def _parent(dockerfile: Dockerfile, bases: Iterable[LayerImage]) -> str:
    """Return the image of the last FROM that has one, which a layer's size is compared with."""
    lines = {stage.line for stage in dockerfile.stages}
    parent, last = "", 0
    for base in bases:
        line = int(base.wanted.origin.rpartition(":")[2])
        if line in lines and line >= last:
            parent, last = base.wanted.name, line
    return parent
