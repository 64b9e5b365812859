"""IMAGE arguments of commands: what the user wrote, and the chain registry in which it is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from chainbuild.cli.runs.project import load_project, unsaid_run
from chainbuild.cli.settings import settings_from
from chainbuild.errors import WrongUseError
from chainbuild.execution.session import Settings
from chainbuild.model import Graph
from chainbuild.operations.named_images import NamedImage, TreeNames, read_named_image
from chainbuild.references import ImageReference, Platform
from chainbuild.requests.last_run import load_last_run
from chainbuild.requests.options import RunOptions
from chainbuild.values import replace


class Place(Struct, frozen=True, kw_only=True):
    """Where a command looks: the folder, the chain registry and the builders, as the flags say."""

    root: Path
    registry: str | None = None
    port: int | None = None
    builders: Sequence[str] | None = None


def read_image_arguments(
    texts: Sequence[str], platform: str | None, place: Place
) -> tuple[Settings, tuple[NamedImage, ...]]:
    """Return the settings for a session, and the images that the texts name. Errors: `WrongUseError`.

    Without a flag for the registry, steps are looked up in the registry of their run, and so are images of a managed registry
    whose port that run had.
    """
    run_settings: list[Settings] = []

    def graph() -> Graph:
        request = unsaid_run(RunOptions(root=place.root, registry=place.registry, port=place.port))
        run_settings.append(request.settings)
        return request.graph

    names = TreeNames(graph=graph, layer=lambda name: _of_layer(name, place.root))
    chosen = Platform.parse(platform) if platform else None
    images = tuple(read_named_image(text, chosen, names) for text in texts)
    port = place.port or _port_of_last_run(images, place)
    settings = settings_from(root=place.root, registry=place.registry, port=port, builders=place.builders)
    if any(image.step for image in images):
        settings = replace(settings, registry=run_settings[-1].registry, port=run_settings[-1].port)
    return settings, images


def _of_layer(name: str, root: Path) -> ImageReference | None:
    """Return the image of the project's layer with that name."""
    try:
        project = load_project(root)
    except WrongUseError:
        return None  # an image can be opened even if the project file has errors
    entry = project.layer(name) if project else None
    if project is None or entry is None:
        return None
    return entry.image if entry.image.tag else entry.image.with_tag(project.tag or "latest")


def _port_of_last_run(images: Sequence[NamedImage], place: Place) -> int | None:
    if place.registry:
        return None
    with suppress(WrongUseError):
        port = load_last_run(place.root).port
        if port and any(image.reference.registry == f"localhost:{port}" for image in images):
            return port
    return None
