"""`chainbuild layer`: from its words to a run, and what people are told of the bases before it starts."""

from __future__ import annotations

import subprocess
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
    """One layer as the user typed it."""

    folder: Path
    image: str
    base: str | None = None
    base_arg: str = ""
    platform: str = ""
    tests: bool = True


class LayerRun(Struct, frozen=True, kw_only=True):
    """A run with layers in it, and what each of them stands on."""

    request: BuildRequest
    standings: tuple[LayerBase, ...] = ()


def read_layer(words: LayerOptions) -> LayerRun:
    """Read the command line and the folder.

    Errors: `WrongUseError` with every problem of both.
    """
    collector = ProblemCollector()
    settings = session_settings(words, collector)
    options = execution_options(words, collector)
    here = Platform.of_this_machine()
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
        platforms=(parse_platforms(words.platform, collector) if words.platform else ()) or (here,),
        registry=settings.chain,
        build_platform=here,
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
    """NAME:TAG that an image is to get; without a tag it is `latest`. Errors: `WrongUseError`."""
    reference = ImageReference.parse(text)
    if reference.digest:
        raise WrongUseError(f"{text!r} has a digest", hint="It is the name that the image gets: NAME:TAG.")
    return reference if reference.tag else reference.with_tag("latest")


# What is told beforehand ----------------------------------------------------------------------------------------------


def tell_standings(session: Session, standings: Sequence[LayerBase], graph: Graph, emit: Emit) -> None:
    """Tell what each layer stands on, resolved, and warn where an image of one's own is overlooked."""
    own = {str(chain.repo) for chain in graph.chains if chain.repo}
    names = local_names() + registry_names(session) if any(one.by_default for one in standings) else ()
    for standing in standings:
        base = _resolved(session, standing, graph)
        emit(Message(text=f"{standing.layer} stands on {base} ({standing.how})"))
        if standing.by_default and isinstance(standing.base, ImageReference):
            for text in _overlooked(standing, standing.base, names, own):
                emit(Message(level="warning", text=text))


def _resolved(session: Session, standing: LayerBase, graph: Graph) -> str:
    if standing.base is None:
        return "nothing"
    if isinstance(standing.base, str):
        made = next((chain for chain in graph.chains if chain.option == standing.base and chain.repo), None)
        return f"the layer {standing.base}" + (f", {made.repo}:{made.index_tag}" if made else "")
    told: list[Event] = []
    # What cannot be found, or is found elsewhere, is the run's to tell. A copy of a local image it finds without a word.
    with suppress(ChainbuildError):
        found = replace(session, emit=told.append).finder().find(standing.base, graph.chains[0].platform)
        for event in told if found.from_local_store else ():
            session.emit(event)
        return f"{standing.base}, {found.image.digest.short}"
    return str(standing.base)


def _overlooked(
    standing: LayerBase, base: ImageReference, names: Iterable[ImageReference], own: Iterable[str]
) -> list[str]:
    near = lookalikes(base, (name for name in names if str(ImageReference(name.registry, name.repository)) not in own))
    if not near:
        return []
    text = f"{base} is only what the Dockerfile of {standing.layer} says, and {near[0]} is here:"
    return [f"{text} --base {near[0]} builds on that one (or base: in chainbuild.yaml)"]


def lookalikes(base: ImageReference, names: Iterable[ImageReference]) -> tuple[ImageReference, ...]:
    """Other images whose last name part is that of `base`: those with the same tag first, else in their order."""
    last = base.repository.rpartition("/")[2]
    near = [name for name in names if name.repository.rpartition("/")[2] == last and name.name != base.name]
    # A copy of the base itself, under the chain registry's host, is no other image.
    near = [name for name in near if not name.repository.endswith(base.familiar_name)]
    return tuple(sorted(dict.fromkeys(near), key=lambda name: name.tag_or_latest != base.tag_or_latest))


def local_names() -> tuple[ImageReference, ...]:
    """The names that the engine's local image store has; none where no engine answers."""
    try:
        done = subprocess.run(
            ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ()
    return _parsed(line for line in done.stdout.splitlines() if "<none>" not in line)


def registry_names(session: Session) -> tuple[ImageReference, ...]:
    """The readable names that the chain registry holds; none where it does not list them."""
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
