"""What a Dockerfile stands on, as BuildKit sees it: layers of the tree, old versions of them, and images from outside.

`{repo}/sci/{target}:{version}` names a science layer, whatever the repository before `sci/`: the file is not edited, the
name in it is replaced by what the tree makes, in the copy of the file that the builder gets.
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
    "Ways out: a new layer on the version that is there, with the same image and version (it becomes the final one); a"
    " new layer on it with a new version (the old one stays); or a change in place that keeps the version."
)


class OldVersion(Struct, frozen=True, kw_only=True):
    """A FROM of a version that no layer of the tree builds any more."""

    target: str
    version: str
    image: str
    where: str
    line: int
    hint: str = ""
    here: bool = False
    """Whether the tree has the target, in another version."""

    @property
    def names(self) -> frozenset[str]:
        """By what `--allow-orphan` may call it."""
        return frozenset({f"{self.target}:{self.version}", f"{self.image}:{self.version}"})

    @property
    def problem(self) -> Problem:
        """What it is told as."""
        return Problem(
            path=self.where,
            line=self.line,
            message=f"it stands on {SCI}/{self.target}:{self.version}, which no layer here builds any more",
            hint=f"{self.hint}{WAYS_OUT} Or take it as it was released: --allow-orphan {self.target}:{self.version}.",
        )


class LayerImage(Struct, frozen=True, kw_only=True):
    """An image that a Dockerfile reads: `target` is the layer that it is (empty: an image from outside).

    `fixed`: it is a layer of the tree, but one build of it, by digest; the layer comes first all the same.
    """

    wanted: ImageInput
    target: str = ""
    fixed: bool = False

    @property
    def built_here(self) -> bool:
        """Whether it is what the tree makes now."""
        return bool(self.target) and not self.fixed


class LayerImages(Struct, frozen=True, kw_only=True):
    """All images that a Dockerfile reads on one platform; `parent` is the name of the one that its result stands on."""

    bases: tuple[LayerImage, ...]
    old: tuple[OldVersion, ...] = ()
    problems: tuple[Problem, ...] = ()
    parent: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """The layers of the tree among them, in order; one that is meant in another version is meant all the same."""
        meant = (one.target for one in self.old if one.here)
        return tuple(dict.fromkeys((*(base.target for base in self.bases if base.target), *meant)))


class LayerName(Struct, frozen=True, kw_only=True):
    """The parts of a name that could be a layer's: `prefix/kind/name:tag@digest`."""

    prefix: str
    kind: str
    name: str
    tag: str | None
    fixed: bool


def parts_of(reference: ImageReference) -> LayerName | None:
    """The parts, where the name is of that form."""
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
    """Reads Dockerfiles with the layers of a tree in mind."""

    def __init__(
        self,
        layers: Iterable[Described],
        *,
        repo: ImageReference,
        released: ImageReference,
        allowed: Iterable[str] = (),
        build_platform: Platform,
    ) -> None:
        """`released` is where `{repo}/sci/…` of older versions are found; `allowed` are `image:version` given up."""
        self._layers: Mapping[str, Described] = {layer.target: layer for layer in layers}
        self._images = frozenset(layer.image for layer in self._layers.values())
        self._released = released
        self._allowed = frozenset(allowed)
        self._build_platform = build_platform
        self._read: dict[tuple[str, str], tuple[tuple[ImageInput, ...], tuple[Problem, ...]]] = {}
        # A repository before `sci/` is one of ours where it is REPO, none, or stands before a layer of the tree somewhere.
        self._prefixes = {"", repo.familiar_name}

    def learn(self, dockerfiles: Iterable[Dockerfile], platform: Platform) -> None:
        """Take the repositories before the tree's own layers as the tree's, wherever its files name them."""
        for dockerfile in dockerfiles:
            for base in self._images_of(dockerfile, platform)[0]:
                named = self._named(base)
                if named and named.kind == SCI and named.name in self._layers:
                    self._prefixes.add(named.prefix)

    def read(self, dockerfile: Dockerfile, platform: Platform) -> LayerImages:
        """What the Dockerfile reads on a platform."""
        inputs, problems = self._images_of(dockerfile, platform)
        told = list(problems)
        bases: list[LayerImage] = []
        old: list[OldVersion] = []
        for wanted in inputs:
            found = self._classified(wanted)
            if isinstance(found, Problem):
                told.append(found)
            elif isinstance(found, OldVersion) and not found.names & self._allowed:
                old.append(found)
            else:
                bases.append(found if isinstance(found, LayerImage) else LayerImage(wanted=self._rebased(wanted)))
        return LayerImages(bases=tuple(bases), old=tuple(old), problems=tuple(told), parent=_parent(dockerfile, bases))

    def _images_of(
        self, dockerfile: Dockerfile, platform: Platform
    ) -> tuple[tuple[ImageInput, ...], tuple[Problem, ...]]:
        key = dockerfile.path, platform.oci
        if key not in self._read:
            here = self._build_platform
            facts = find_facts(dockerfile, args={}, target_platform=platform, build_platform=here)
            inputs, problems = named_images(
                dockerfile, given=(), args={}, platform=platform, build_platform=here, facts=facts
            )
            self._read[key] = inputs, (*problems, *facts.problems)
        return self._read[key]

    def _named(self, wanted: ImageInput) -> LayerName | None:
        return parts_of(wanted.source) if isinstance(wanted.source, ImageReference) else None

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
            hint = f"Write {SCI}/{layer.layer}."
            return _problem(wanted, f"{wanted.written} names no version, and so means :latest", hint)
        if version_of_build(named.tag) == layer.version.text:
            hint = f"Write {SCI}/{layer.layer}: the layer is then built again with what it stands on."
            return _problem(wanted, f"{wanted.written} names one build of the layer", hint)
        return self._old(wanted, named, layer.image, f"Here is {SCI}/{layer.layer}. ")

    def _unknown(self, wanted: ImageInput, named: LayerName) -> LayerImage | OldVersion:
        if named.prefix not in self._prefixes:
            return LayerImage(wanted=wanted)
        hint = perhaps_you_meant(named.name, self._layers, lambda near: f"{SCI}/{self._layers[near].layer}")
        return self._old(wanted, named, named.name, hint)

    def _old(self, wanted: ImageInput, named: LayerName, image: str, hint: str) -> OldVersion:
        path, _, line = wanted.origin.rpartition(":")
        version = named.tag or ("(a digest)" if named.fixed else "latest")
        here = named.name in self._layers
        return OldVersion(
            target=named.name, version=version, image=image, where=path, line=int(line), hint=hint, here=here
        )

    def _compat_image(self, wanted: ImageInput, named: LayerName) -> LayerImage | Problem:
        if named.prefix not in self._prefixes or (not named.prefix and named.name not in self._images):
            return LayerImage(wanted=wanted)
        hint = f"Science layers stand on {SCI}/TARGET:VERSION; a compat image would bring its compat layer in twice."
        return _problem(wanted, f"{wanted.written} is a compat image", hint)

    def _rebased(self, wanted: ImageInput) -> ImageInput:
        """The image of the same layer in REPO: a test repository never stands on production's images."""
        named = self._named(wanted)
        if named is None or not isinstance(wanted.source, ImageReference):
            return wanted
        place = self._released
        source = ImageReference(
            place.registry, f"{place.repository}/{SCI}/{named.name}", wanted.source.tag, wanted.source.digest
        )
        return replace(wanted, source=source)


def on_final(said: Described, platform: Platform, piece: LayerImages) -> LayerImages:
    """What a compat image reads: the final layer, and what the compat layers' Dockerfiles read besides."""
    name = f"{SCI}/{said.layer}"
    wanted = ImageInput(
        name=name, source=ImageReference.parse(name), platform=platform, as_context=True, origin=f"{said.manifest}:1"
    )
    others = (base for base in piece.bases if base.wanted.written != name)
    return replace(piece, bases=(LayerImage(wanted=wanted, target=said.target), *others), parent=name)


def _problem(wanted: ImageInput, message: str, hint: str) -> Problem:
    path, _, line = wanted.origin.rpartition(":")
    return Problem(path=path, line=int(line), message=message, hint=hint)


def _parent(dockerfile: Dockerfile, bases: Iterable[LayerImage]) -> str:
    """The image of the last FROM that names one: what a layer's size is measured against."""
    lines = {stage.line for stage in dockerfile.stages}
    parent, last = "", 0
    for base in bases:
        line = int(base.wanted.origin.rpartition(":")[2])
        if line in lines and line >= last:
            parent, last = base.wanted.name, line
    return parent
