"""Read the options of `chainbuild types` into values: the image types, their relations, and the selected images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

import chainbuild
from chainbuild.dockerfile import unknown_args
from chainbuild.errors import WrongUseError
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.session import Settings, environment
from chainbuild.layouts.image_types.graph import ImageTypesTask, Purpose
from chainbuild.layouts.image_types.relations import Relations, relate
from chainbuild.layouts.image_types.roots import search_order
from chainbuild.layouts.image_types.selection import (
    PublishTargets,
    check_chain,
    check_places,
    check_publication,
    select,
)
from chainbuild.layouts.image_types.tree import Catalogue, read_catalogue
from chainbuild.parsing.option_values import ProblemCollector, read_build_args, read_secrets
from chainbuild.references import ChainRegistry, Platform
from chainbuild.requests.build import chosen_platforms, execution_options, session_settings
from chainbuild.requests.options import CommonOptions


class ImageTypeOptions(CommonOptions, frozen=True, kw_only=True):
    """The options of a run over image types, as the user gave them."""

    purpose: Purpose = Purpose.CREATE
    globs: Sequence[str] | None = None
    repository: Path | None = None
    public: str | None = None
    private: str | None = None
    no_deps: bool = False
    allow_private_base: bool = False
    allow_secret_files: bool = False
    casa_version: str | None = None


class ImageTypesRequest(Struct, frozen=True, kw_only=True):
    """A run after parsing."""

    settings: Settings
    options: ExecutionOptions
    catalogue: Catalogue
    relations: Relations
    places: PublishTargets
    wanted: ImageTypesTask
    allow_private_base: bool = False


class ImageTypesOverview(Struct, frozen=True, kw_only=True):
    """The image types and how they depend on each other, for `types list`."""

    catalogue: Catalogue
    relations: Relations
    chosen: tuple[str, ...] = field(default_factory=tuple)


def read_overview(options: ImageTypeOptions, environ: Mapping[str, str] | None = None) -> ImageTypesOverview:
    """Read the image types, including those with problems. Errors: `WrongUseError` if there are none."""
    environ = environment() if environ is None else environ
    collector = ProblemCollector()
    places = _places(options, session_settings(options, collector).chain, collector)
    if collector.problems:
        raise WrongUseError(collector.problems)
    catalogue = _catalogue(options, environ)
    current = Platform.of_this_machine()
    relations = relate(catalogue, (current,), ours=places.all, build_platform=current)
    return ImageTypesOverview(catalogue=catalogue, relations=relations, chosen=select(catalogue, options.globs or ()))


def read_image_types(options: ImageTypeOptions, environ: Mapping[str, str] | None = None) -> ImageTypesRequest:
    """Read the options and the image types.

    Errors: `WrongUseError` with every problem of the command line, else of the selection.
    """
    environ = environment() if environ is None else environ
    collector = ProblemCollector()
    settings, execution = session_settings(options, collector), execution_options(options, collector)
    current = Platform.of_this_machine()
    platforms = chosen_platforms(options, collector)
    build_args = read_build_args(options.build_args or (), environ, collector)
    secrets = read_secrets(options.secrets or (), environ, collector)
    places = _places(options, settings.chain, collector)
    if collector.problems:
        raise WrongUseError(collector.problems)
    catalogue = _catalogue(options, environ)
    args = {arg.name: arg.value for arg in build_args}
    relations = relate(catalogue, platforms, ours=places.all, args=args, build_platform=current)
    requested = ImageTypesTask(
        chosen=frozenset(select(catalogue, options.globs or ())),
        purpose=options.purpose,
        platforms=platforms,
        build_platform=current,
        dependencies=not options.no_deps,
        build_args=build_args,
        secrets=secrets,
        secret_files=options.allow_secret_files,
    )
    request = ImageTypesRequest(
        settings=settings,
        options=execution,
        catalogue=catalogue,
        relations=relations,
        places=places,
        wanted=requested,
        allow_private_base=options.allow_private_base,
    )
    _check(request)
    return request


def _places(options: ImageTypeOptions, chain: ChainRegistry, collector: ProblemCollector) -> PublishTargets:
    def place(flag: str, text: str | None) -> ChainRegistry | None:
        return collector.parse(flag, ChainRegistry.parse, text, chain) if text else None

    places = PublishTargets(
        chain=chain, public=place("--public", options.public), private=place("--private", options.private)
    )
    if not collector.problems:
        collector.problems += check_places(places)
    return places


def _catalogue(options: ImageTypeOptions, environ: Mapping[str, str]) -> Catalogue:
    roots = search_order(options.repository, environ)
    catalogue = read_catalogue(roots, version=options.casa_version or chainbuild.__version__)
    if not catalogue.images:
        looked = ", ".join(str(root.folder) for root in roots)
        raise WrongUseError("no image types found", hint=f"Searched in: {looked}.")
    return catalogue


def _check(request: ImageTypesRequest) -> None:
    """Check the selection: every build arg is declared somewhere, and nothing private is published."""
    requested, catalogue = request.wanted, request.catalogue
    names = sorted(request.relations.with_bases(requested.chosen))
    problems = list(check_chain((catalogue.images[name] for name in names), request.places))
    files = [catalogue.images[name].dockerfile for name in names]
    for arg in requested.build_args:
        problems += unknown_args([arg.name], files, path=arg.origin)
    if requested.purpose is Purpose.PUBLISH:
        problems += check_publication(
            sorted(requested.chosen), catalogue, request.relations, request.places, allow=request.allow_private_base
        )
    if problems:
        raise WrongUseError(problems)
