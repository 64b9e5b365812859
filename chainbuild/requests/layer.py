"""Read the options of `chainbuild layer` into a run, and report the base of each layer before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from chainbuild.errors import ChainbuildError, RegistryError, WrongUseError
from chainbuild.events import Emit, Event, Message
from chainbuild.execution.session import Session, environment
from chainbuild.layouts import layers as plain
from chainbuild.layouts.image_keys import check_key
from chainbuild.layouts.layer_folder import LayerBase, LayerFolder, LayerRequest, Layers, layer_name
from chainbuild.model import Graph, published
from chainbuild.parsing.option_values import (
    ProblemCollector,
    read_build_args,
    read_build_contexts,
    read_context,
    read_secrets,
)
from chainbuild.records.tags import is_machine_tag
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.build import BuildRequest, chosen_platforms, execution_options, session_settings
from chainbuild.requests.options import CommonOptions
from chainbuild.values import replace


class LayerOptions(CommonOptions, frozen=True, kw_only=True):
    """The options of a run of one layer, as the user gave them."""

    folder: Path
    image: str | None = None
    """None for a layer of the project."""
    base: str | None = None
    base_arg: str | None = None
    dockerfile: str | None = None
    image_key: str | None = None
    packages: Sequence[str] | None = None
    skip_packages: Sequence[str] | None = None
    search_dirs: Sequence[str] | None = None
    alone: bool = False
    """Build only this layer of the project, on its bases as they are in the registry."""


class LayerRun(Struct, frozen=True, kw_only=True):
    """A run with layers, and the base of each layer."""

    request: BuildRequest
    layer_bases: tuple[LayerBase, ...] = ()


def read_layer(options: LayerOptions) -> LayerRun:
    """Read the options and the folder.

    Errors: `WrongUseError` with every problem of both.
    """
    if options.alone:
        raise WrongUseError(
            "--alone cannot be combined with --image",
            hint="--alone is for a layer of chainbuild.yaml; a folder with --image is always built alone.",
        )
    collector = ProblemCollector()
    settings = session_settings(options, collector)
    execution = execution_options(options, collector)
    scratch = ImageReference("docker.io", "library/layer", "latest")
    environ = environment()
    image = collector.parse("--image", parse_image_name, options.image or "", scratch)
    base = collector.parse("--base", ImageReference.parse, options.base, scratch) if options.base else None
    request = LayerRequest(
        root=settings.root,
        layers=(
            LayerFolder(
                name=layer_name(options.folder, options.dockerfile or ""),
                folder=options.folder.resolve(),
                image=image,
                base=base,
                base_arg=options.base_arg or "",
                context=read_context(options.context, collector),
                dockerfile=_dockerfile(options, collector),
                image_key=_image_key(options, collector),
                packages=tuple(options.packages or ()),
                skip_packages=tuple(options.skip_packages or ()),
                search_dirs=_search_dirs(options, collector),
                tests=options.tests is not False,
            ),
        ),
        platforms=chosen_platforms(options, collector),
        registry=settings.chain,
        build_platform=Platform.of_this_machine(),
        build_args=read_build_args(options.build_args or (), environ, collector),
        build_contexts=read_build_contexts(options.build_contexts or (), collector),
        secrets=read_secrets(options.secrets or (), environ, collector),
        environ=environ,
    )
    layers: Layers | None = None
    try:
        layers = plain.read(request)
    except WrongUseError as error:
        collector.problems += error.problems
    if collector.problems or layers is None:
        raise WrongUseError(collector.problems)

    def graph_for(platforms: Sequence[Platform]) -> Graph:
        return plain.read(replace(request, platforms=tuple(platforms))).graph

    return LayerRun(
        request=BuildRequest(graph=layers.graph, settings=settings, options=replace(execution, graph_for=graph_for)),
        layer_bases=layers.layer_bases,
    )


def _dockerfile(options: LayerOptions, collector: ProblemCollector) -> str:
    """Return the name of the Dockerfile, if any; problems go to the collector."""
    name = options.dockerfile or ""
    if name and (options.image_key or options.packages):
        collector.add("--dockerfile cannot be combined with --image-key or --package", "Remove one of them.")
    if "/" in name:
        collector.add(f"--dockerfile: {name!r} is a path", "Pass its folder as DIR, and here only the file's name.")
    return name


def _image_key(options: LayerOptions, collector: ProblemCollector) -> str:
    """Return the image key, if any; problems go to the collector."""
    key = options.image_key
    if key is None:
        return ""
    if options.packages:
        collector.add("--image-key cannot be combined with --package", "Remove one of them.")
    collector.parse("--image-key", check_key, key, None)
    return key


def _search_dirs(options: LayerOptions, collector: ProblemCollector) -> tuple[Path, ...]:
    """Return the folders to search; problems of them, and of flags that have no use, go to the collector."""
    folders = tuple(Path(text) for text in options.search_dirs or ())
    if options.skip_packages and not options.packages:
        collector.add("--skip-package needs --package", "Remove it, or add that flag.")
    if folders and not (options.image_key or options.packages):
        collector.add("--search-dir needs --image-key or --package", "Remove it, or add one of these flags.")
    for folder in folders:
        if not folder.is_dir():
            collector.add(f"--search-dir: no such folder: {str(folder)!r}", "Check the path.")
    return tuple(folder.resolve() for folder in folders)


def parse_image_name(text: str) -> ImageReference:
    """Parse the name of an image to build, NAME:TAG; the default tag is `latest`. Errors: `WrongUseError`."""
    reference = ImageReference.parse(text)
    if reference.digest:
        raise WrongUseError(f"{text!r} has a digest", hint="Give the name of the new image: NAME:TAG.")
    return reference if reference.tag else reference.with_tag("latest")


# Messages before the run ----------------------------------------------------------------------------------------------


def report_bases(session: Session, layer_bases: Sequence[LayerBase], graph: Graph, emit: Emit) -> None:
    """Report the resolved base of each layer, and warn if a local image with a similar name is not used."""
    own = {str(names.repo) for _, names in published(graph.chains) if names.repo}
    names = local_names(session) + registry_names(session) if any(item.by_default for item in layer_bases) else ()
    for layer_base in layer_bases:
        base = _resolved(session, layer_base, graph)
        emit(Message(text=f"base of {layer_base.layer}: {base} ({layer_base.how})"))
        if layer_base.by_default and layer_base.base is not None:
            for text in _overlooked(layer_base, layer_base.base, names, own):
                emit(Message(level="warning", text=text))


def _resolved(session: Session, layer_base: LayerBase, graph: Graph) -> str:
    if layer_base.base_layer:
        every = (names for chain, names in published(graph.chains) if chain.option == layer_base.base_layer)
        made = next((names for names in every if names.repo), None)
        return f"layer {layer_base.base_layer}" + (f", {made.repo}:{made.index_tag}" if made else "")
    if layer_base.base is None:
        return "none"
    events: list[Event] = []
    # The run reports an image that is missing or found elsewhere. Only the note about a local image is passed on.
    with suppress(ChainbuildError):
        result = replace(session, emit=events.append).finder().find(layer_base.base, graph.chains[0].platform)
        for event in events if result.from_local_store else ():
            session.emit(event)
        return f"{layer_base.base}, {result.image.digest.short}"
    return str(layer_base.base)


def _overlooked(
    layer_base: LayerBase, base: ImageReference, names: Iterable[ImageReference], own: Iterable[str]
) -> list[str]:
    near = lookalikes(base, (name for name in names if str(ImageReference(name.registry, name.repository)) not in own))
    if not near:
        return []
    text = f"the Dockerfile of {layer_base.layer} names {base}, but {near[0]} exists here, too:"
    return [f"{text} to build on it, use --base {near[0]} (or base: in chainbuild.yaml)"]


def lookalikes(base: ImageReference, names: Iterable[ImageReference]) -> tuple[ImageReference, ...]:
    """Return other images with the same last part of the name as `base`: first those with the same tag."""
    last = base.repository.rpartition("/")[2]
    near = [name for name in names if name.repository.rpartition("/")[2] == last and name.name != base.name]
    # A copy of the base in the chain registry is not another image.
    near = [name for name in near if not name.repository.endswith(base.familiar_name)]
    return tuple(sorted(dict.fromkeys(near), key=lambda name: name.tag_or_latest != base.tag_or_latest))


def local_names(session: Session) -> tuple[ImageReference, ...]:
    """Return the names in the engine's local image store; none if no engine responds."""
    return _parsed(session.local.names())


def registry_names(session: Session) -> tuple[ImageReference, ...]:
    """Return the readable names in the chain registry; none if it does not support listing."""
    client = session.registries.client(session.chain.host)
    names: list[str] = []
    with suppress(RegistryError):
        for repository in sorted(client.repositories()):
            if repository.startswith(session.chain.prefix):
                tags = [tag for tag in client.tags(repository) if not is_machine_tag(tag)]
                names += [f"{session.chain.host}/{repository}:{tag}" for tag in tags]
    return _parsed(names)


def _parsed(texts: Iterable[str]) -> tuple[ImageReference, ...]:
    names: list[ImageReference] = []
    for text in texts:
        with suppress(WrongUseError):
            names.append(ImageReference.parse(text))
    return tuple(dict.fromkeys(names))
