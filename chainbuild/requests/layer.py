"""Read the arguments of `chainbuild layer` into a run, and report the base of each layer before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from chainbuild.errors import ChainbuildError, RegistryError, WrongUseError
from chainbuild.events import Emit, Event, Message
from chainbuild.execution.session import Session, environment
from chainbuild.layouts import layers as plain
from chainbuild.layouts.layer_folder import LayerBase, LayerFolder, LayerRequest, Layers, layer_name
from chainbuild.model import Graph
from chainbuild.parsing.option_values import (
    ProblemCollector,
    parse_platforms,
    read_build_args,
    read_build_contexts,
    read_context,
    read_secrets,
)
from chainbuild.records.tags import is_machine_tag
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.build import BuildRequest, CommonOptions, execution_options, session_settings
from chainbuild.values import replace


class LayerOptions(CommonOptions, frozen=True, kw_only=True):
    """The arguments for one layer, as the user typed them."""

    folder: Path
    image: str
    base: str | None = None
    base_arg: str = ""
    platform: str = ""
    tests: bool = True


class LayerRun(Struct, frozen=True, kw_only=True):
    """A run with layers, and the base of each layer."""

    request: BuildRequest
    standings: tuple[LayerBase, ...] = ()


def read_layer(words: LayerOptions) -> LayerRun:
    """Read the command line and the folder.

    Errors: `WrongUseError` with every problem of both.
    """
    collector = ProblemCollector()
    settings = session_settings(words, collector)
    options = execution_options(words, collector)
    current = Platform.of_this_machine()
    scratch = ImageReference("docker.io", "library/layer", "latest")
    environ = environment()
    image = collector.parse("--tag", parse_image_name, words.image, scratch)
    base = collector.parse("--base", ImageReference.parse, words.base, scratch) if words.base else None
    request = LayerRequest(
        root=settings.root,
        layers=(
            LayerFolder(
                name=layer_name(words.folder),
                folder=words.folder.resolve(),
                image=image,
                base=base,
                base_arg=words.base_arg,
                context=read_context(words.context, collector),
                tests=words.tests,
            ),
        ),
        platforms=(parse_platforms(words.platform, collector) if words.platform else ()) or (current,),
        registry=settings.chain,
        build_platform=current,
        build_args=read_build_args(words.build_args, environ, collector),
        build_contexts=read_build_contexts(words.build_contexts, collector),
        secrets=read_secrets(words.secrets, environ, collector),
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
        request=BuildRequest(graph=layers.graph, settings=settings, options=replace(options, graph_for=graph_for)),
        standings=layers.standings,
    )


def parse_image_name(text: str) -> ImageReference:
    """Parse the name of an image to build, NAME:TAG; the default tag is `latest`. Errors: `WrongUseError`."""
    reference = ImageReference.parse(text)
    if reference.digest:
        raise WrongUseError(f"{text!r} has a digest", hint="Give the name of the new image: NAME:TAG.")
    return reference if reference.tag else reference.with_tag("latest")


# Messages before the run ----------------------------------------------------------------------------------------------


def tell_standings(session: Session, standings: Sequence[LayerBase], graph: Graph, emit: Emit) -> None:
    """Report the resolved base of each layer, and warn if a local image with a similar name is not used."""
    own = {str(chain.repo) for chain in graph.chains if chain.repo}
    names = local_names(session) + registry_names(session) if any(item.by_default for item in standings) else ()
    for standing in standings:
        base = _resolved(session, standing, graph)
        emit(Message(text=f"base of {standing.layer}: {base} ({standing.how})"))
        if standing.by_default and isinstance(standing.base, ImageReference):
            for text in _overlooked(standing, standing.base, names, own):
                emit(Message(level="warning", text=text))


def _resolved(session: Session, standing: LayerBase, graph: Graph) -> str:
    if standing.base is None:
        return "none"
    if isinstance(standing.base, str):
        made = next((chain for chain in graph.chains if chain.option == standing.base and chain.repo), None)
        return f"layer {standing.base}" + (f", {made.repo}:{made.index_tag}" if made else "")
    events: list[Event] = []
    # The run reports an image that is missing or found elsewhere. Only the note about a local image is passed on.
    with suppress(ChainbuildError):
        result = replace(session, emit=events.append).finder().find(standing.base, graph.chains[0].platform)
        for event in events if result.from_local_store else ():
            session.emit(event)
        return f"{standing.base}, {result.image.digest.short}"
    return str(standing.base)


def _overlooked(
    standing: LayerBase, base: ImageReference, names: Iterable[ImageReference], own: Iterable[str]
) -> list[str]:
    near = lookalikes(base, (name for name in names if str(ImageReference(name.registry, name.repository)) not in own))
    if not near:
        return []
    text = f"the Dockerfile of {standing.layer} names {base}, but {near[0]} exists here, too:"
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
