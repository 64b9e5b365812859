"""Layers: the Dockerfiles of a folder become one image on a base.

These are one plain `Dockerfile`, numbered ones, those of an image key, or those of packages. Each layer has a full image
name. Its base is the image or earlier layer that the user sets, else the image in its Dockerfile. Next to a plain
Dockerfile, `layer-<platform>-args` and `layer-test` have the role of `<descriptor>-<platform>-args` and
`<descriptor>-test` next to a numbered one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, unknown_args
from chainbuild.dockerfile.facts import declared_args
from chainbuild.dockerfile.images import (
    DOCKER_IMAGE,
    BaseImage,
    find_base_image,
    image_contexts,
    is_image,
    named_images,
)
from chainbuild.errors import WrongUseError
from chainbuild.layouts.layer_folder import LayerBase, LayerFolder, LayerRequest, Layers, Piece
from chainbuild.layouts.layer_pieces import read_pieces
from chainbuild.layouts.numbered_folder import ChainFolder, find_args_file
from chainbuild.layouts.test_files import read_image_test
from chainbuild.model import BuildArg, Chain, Graph, ImageInput, Publication, Step, StepKind
from chainbuild.parsing.args_files import read_args
from chainbuild.references import SCRATCH, ImageReference, Platform
from chainbuild.step_id import StepId


def read(request: LayerRequest) -> Layers:
    """Translate the layers' folders into the requested Graph.

    Errors: `WrongUseError` with every problem of every folder, args file and Dockerfile.
    """
    reader = _Reader(request)
    layers = reader.layers()
    if reader.tree.problems:
        raise WrongUseError(reader.tree.problems)
    return layers


class _Base(Struct, frozen=True, kw_only=True):
    """The base of a step: the image input (None: no base), and its description."""

    image: ImageInput | None
    told: LayerBase


class _Reader:
    """Reads the folders for a request, and collects problems."""

    def __init__(self, request: LayerRequest) -> None:
        self.request = request
        self.tree = ChainFolder(request.root)
        self._last: dict[tuple[str, str], Step] = {}
        """The last step of a layer, by layer and platform."""

    def layers(self) -> Layers:
        self._check_names()
        pieces = {
            (layer.name, platform): read_pieces(self.tree, layer, platform)
            for layer in self.request.layers
            for platform in self.request.platforms
        }
        self._check_build_args(pieces)
        chains: list[Chain] = []
        layer_bases: dict[str, LayerBase] = {}
        for platform in self.request.platforms:
            for layer in self.request.layers:
                chain = self._chain(layer, pieces[layer.name, platform], platform, layer_bases)
                if chain:
                    chains.append(chain)
        repo = self.request.layers[0].image
        graph = Graph(
            repo=ImageReference(repo.registry, repo.repository),
            chains=tuple(chains),
            notes=tuple(dict.fromkeys(self.tree.notes)),
        )
        return Layers(graph=graph, layer_bases=tuple(layer_bases.values()))

    # Reading and checking ---------------------------------------------------------------------------------------------

    def _wrong(self, layer: LayerFolder, message: str, hint: str) -> None:
        self.tree.problems.append(layer.problem(message, hint))

    def _check_names(self) -> None:
        names: dict[str, LayerFolder] = {}
        images: dict[str, LayerFolder] = {}
        for layer in self.request.layers:
            if layer.name in names:
                self._wrong(layer, f"duplicate layer name {layer.name!r}", "Rename one of them.")
            for tag in dict.fromkeys((layer.image.tag_or_latest, *layer.tags)):
                image = f"{layer.image.name}:{tag}"
                if image in images:
                    named = layer.image.with_tag(tag)
                    text = f"the layers {images[image].name!r} and {layer.name!r} have the same image {named}"
                    self._wrong(layer, text, "Change the image or tag of one of them.")
                images.setdefault(image, layer)
            if layer.base_layer and layer.base_layer not in names:
                later = any(other.name == layer.base_layer for other in self.request.layers)
                text = f"the base {layer.base_layer!r} of the layer {layer.name!r} "
                text += "is a later layer" if later else "is not a layer"
                self._wrong(layer, text, "Use an image or an earlier layer.")
            names.setdefault(layer.name, layer)
            self._check_tags(layer)

    def _check_tags(self, layer: LayerFolder) -> None:
        try:
            for platform in self.request.platforms:
                layer.image.with_tag(f"{layer.image.tag_or_latest}-{platform.name}")
        except WrongUseError:
            text = f"{layer.image}: the tag is too long with the platform appended"
            self._wrong(layer, text, "Shorten it: a tag has at most 128 characters.")

    def _check_build_args(self, pieces: Mapping[tuple[str, Platform], tuple[Piece, ...]]) -> None:
        every: list[Dockerfile] = []
        for layer in self.request.layers:
            files = [piece.facts for (name, _), found in pieces.items() if name == layer.name for piece in found]
            every += files
            for arg in layer.build_args if files else ():
                path, _, line = arg.origin.rpartition(":")
                where = (path, int(line)) if line.isdecimal() else (arg.origin, 0)
                self.tree.problems += unknown_args([arg.name], files, path=where[0], line=where[1])
        for arg in self.request.build_args if every else ():
            self.tree.problems += unknown_args([arg.name], every, path=arg.origin)

    # Building the graph -----------------------------------------------------------------------------------------------

    def _chain(
        self, layer: LayerFolder, pieces: tuple[Piece, ...], platform: Platform, layer_bases: dict[str, LayerBase]
    ) -> Chain | None:
        request = self.request
        result_tag = f"{layer.image.tag_or_latest}-{platform.name}"
        steps: list[Step] = []
        for piece in pieces:
            args = self._args(layer, piece, platform)
            if steps:
                base = _Base(
                    image=ImageInput(name=piece.base_arg, source=steps[-1].id, platform=platform),
                    told=LayerBase(layer=layer.name, base=None, how=""),
                )
            else:
                result = self._base(layer, piece, args, platform)
                if result is None:
                    return None
                base = result
                layer_bases.setdefault(layer.name, base.told)
            last = piece is pieces[-1]
            tag = result_tag if last else f"{layer.image.tag_or_latest}-{layer.name}-{piece.name}-{platform.name}"
            steps.append(self._step(layer, piece, args, base, platform, tag))
        if not steps:
            return None
        self._last[layer.name, platform.oci] = steps[-1]
        return Chain(
            option=layer.name,
            platform=platform,
            base=_base_of(steps[0]),
            steps=tuple(steps),
            publication=Publication(
                platform=platform,
                index_tag=layer.image.tag_or_latest,
                home=steps[-1].repository,
                also=layer.tags,
                repo=ImageReference(layer.image.registry, layer.image.repository),
                local_tag=layer.image.tag_or_latest if platform.same_as(request.build_platform) else result_tag,
            ),
        )

    def _base(self, layer: LayerFolder, piece: Piece, args: tuple[BuildArg, ...], platform: Platform) -> _Base | None:
        """Return the base of a layer's first step; None if there is a problem, which is recorded."""
        values = {arg.name: arg.value for arg in args}
        base_image = find_base_image(
            piece.facts,
            args=values,
            platform=platform,
            build_platform=self.request.build_platform,
            target=self.tree.target_of(piece.path),
        )
        if base_image is None:
            return None
        arg = layer.base_arg or base_image.arg
        given = next((item for item in args if item.name == arg), None)
        stays = base_image.is_nothing and layer.base is not None and layer.base.is_scratch
        if (layer.base is not None or layer.base_layer) and not stays:
            if given:
                self._wrong(
                    layer, f"the arg {arg} sets the base, which is set already", f"Remove the arg {arg} or the base."
                )
                return None
            return self._put(layer, piece, base_image, arg, platform)
        return self._as_written(layer, piece, base_image, arg, given, platform)

    def _put(
        self, layer: LayerFolder, piece: Piece, base_image: BaseImage, arg: str, platform: Platform
    ) -> _Base | None:
        """Return the base that the user set, in place of the Dockerfile's own."""
        where = f"{piece.facts.path}:{base_image.line}"
        if arg and not layer.base_arg and not base_image.declared:
            self.tree.problem(
                piece.path,
                f"FROM uses {arg}, but no ARG before it declares it",
                f"Add ARG {arg} before the first FROM.",
                line=base_image.line,
            )
            return None
        if not arg and (base_image.is_nothing or not base_image.reference):
            self.tree.problem(
                piece.path,
                f"FROM {base_image.written}: the base cannot be set here",
                "Replace it with ARG BASEIMAGE and FROM ${BASEIMAGE}.",
                line=base_image.line,
            )
            return None
        source: ImageReference | StepId | None = layer.base
        if layer.base_layer:
            below = self._last.get((layer.base_layer, platform.oci))
            source = below.id if below else None
        if source is None:
            return None
        by = layer.base_said or "the layer before it"
        how = f"{by}, as ARG {arg}" if arg else by
        if not arg and not (layer.base is not None and is_image(base_image.reference, layer.base)):
            how += f", instead of {base_image.reference} at {where}"
        image = ImageInput(
            name=arg or base_image.reference,
            source=source,
            platform=platform,
            as_context=not arg,
            origin=f"{layer.path}:{layer.line}" if layer.path else by,
        )
        told = LayerBase(layer=layer.name, base=layer.base, base_layer=layer.base_layer, how=how)
        return _Base(image=image, told=told)

    def _as_written(
        self,
        layer: LayerFolder,
        piece: Piece,
        base_image: BaseImage,
        arg: str,
        given: BuildArg | None,
        platform: Platform,
    ) -> _Base | None:
        """Return the base that the Dockerfile or a build arg sets."""
        where = f"{piece.facts.path}:{base_image.declared or base_image.line}"
        if base_image.is_nothing:
            return _Base(image=None, told=LayerBase(layer=layer.name, base=None, how=f"FROM scratch at {where}"))
        if not base_image.reference:
            self.tree.problem(
                piece.path,
                f"FROM {base_image.written} has no image, and no base is set",
                "Set it with --base IMAGE, or with base: of the layer in chainbuild.yaml.",
                line=base_image.line,
            )
            return None
        try:
            reference = ImageReference.parse(base_image.reference)
        except WrongUseError as error:
            for problem in error.problems:
                self.tree.problem(piece.path, problem.message, problem.hint, line=base_image.line)
            return None
        if given:
            how = f"arg {arg} of {given.origin}"
        else:
            how = f"the default of ARG {arg} at {where}" if arg else f"FROM at {where}"
        image = ImageInput(
            name=arg or base_image.reference, source=reference, platform=platform, as_context=not arg, origin=where
        )
        layer_base = LayerBase(layer=layer.name, base=reference, how=how, by_default=given is None)
        return _Base(image=image, told=layer_base)

    def _step(
        self, layer: LayerFolder, piece: Piece, args: tuple[BuildArg, ...], base: _Base, platform: Platform, tag: str
    ) -> Step:
        request = self.request
        inputs = [base.image] if base.image else []
        taken = {item.name for item in inputs}
        args = tuple(arg for arg in args if arg.name not in taken)
        named = dict(request.build_contexts)
        from_contexts, problems = image_contexts(named, platform)
        self.tree.problems += problems
        others, more = named_images(
            piece.facts,
            given=[item.name for item in inputs if not item.as_context],
            args={arg.name: arg.value for arg in args},
            platform=platform,
            build_platform=request.build_platform,
            contexts=tuple(named),
            target=self.tree.target_of(piece.path),
        )
        self.tree.problems += more
        for item in (*from_contexts, *others):
            if item.name not in taken and item.written not in taken:
                inputs.append(item)
                taken.add(item.name)
        return Step(
            id=StepId(platform.name, layer.name, piece.name),
            kind=StepKind.BUILD,
            name=piece.name,
            option=layer.name,
            number=piece.number,
            platform=platform,
            dockerfile=piece.path,
            context=piece.context,
            context_can_change=True,
            args=args,
            images=tuple(inputs),
            contexts=tuple((name, place) for name, place in named.items() if not place.startswith(DOCKER_IMAGE)),
            secrets=request.secrets,
            target=self.tree.target_of(piece.path),
            test=self._test(piece) if layer.tests else None,
            repository=request.registry.place(layer.image),
            tag=tag,
            parent=base.image.name if base.image else "",
        )

    def _test(self, piece: Piece) -> Path | None:
        path = piece.files / f"{piece.taker}-test"
        if not path.is_file():
            return None
        self.tree.problems += read_image_test(path, self.tree.shown(path))[1]
        return path

    def _args(self, layer: LayerFolder, piece: Piece, platform: Platform) -> tuple[BuildArg, ...]:
        """Return the args of a Dockerfile: of the layout, then of its args file, of the layer, and those for all layers."""
        declared = declared_args(piece.facts)
        values = {arg.name: arg for arg in piece.args if arg.name in declared}
        path = find_args_file(self.tree, piece.files, piece.taker, platform)
        if path:
            args, problems = read_args(path, self.tree.shown(path), self.request.environ)
            self.tree.problems += problems
            for arg in args:
                where, _, line = arg.origin.removesuffix(" (environment)").rpartition(":")
                self.tree.problems += unknown_args([arg.name], [piece.facts], path=where, line=int(line))
            values |= {arg.name: arg for arg in args}
        for arg in (*layer.build_args, *self.request.build_args):
            if arg.name in declared or not unknown_args([arg.name], (), path=""):
                values[arg.name] = arg
        return tuple(values.values())


def _base_of(first: Step) -> ImageReference | StepId:
    """Return the base of a chain's first step, or `scratch` if it has no base."""
    return first.image(first.parent).source if first.parent else SCRATCH
