"""Find out what a workflow builds: read the six arguments, or everything that a folder contains.

Secrets are not needed for that: they are only at the vendor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from chainbuild.ci.checkout import Checkout
from chainbuild.ci.pipeline import StoredValue
from chainbuild.errors import WrongUseError
from chainbuild.execution.session import environment
from chainbuild.layouts.image_types.manifest import MANIFEST
from chainbuild.layouts.science.manifests import COMPAT, SCIENCE
from chainbuild.layouts.science.manifests import MANIFEST as SCIENCE_MANIFEST
from chainbuild.model import BuildArg, Graph
from chainbuild.parsing.option_values import ProblemCollector
from chainbuild.project.location import FILE_NAME, find_project
from chainbuild.references import Platform
from chainbuild.release.reader import read_plan
from chainbuild.release.rules import FILE_NAME as RELEASE_FILE
from chainbuild.requests.build import BuildRequest, chosen_platforms, read_build_request
from chainbuild.requests.ci.lines import given_secrets, project_secrets
from chainbuild.requests.ci.sources import (
    ArgumentsSource,
    ImageTypesSource,
    ProjectSource,
    ReleaseSource,
    ScienceSource,
    Source,
)
from chainbuild.requests.image_types import ImageTypeOptions, read_image_types
from chainbuild.requests.options import RunOptions, as_kind
from chainbuild.requests.project_runs import read_run
from chainbuild.requests.science import ScienceOptions, ScienceRequest, read_project_science, read_science
from chainbuild.values import replace

T = TypeVar("T")
_TYPES: Final = "share/docker"
_EXTERNAL: Final = " (environment)"


class CiTree(Struct, frozen=True, kw_only=True):
    """What a workflow builds, and what it needs for that."""

    root: Path
    registry: str | None
    name: str
    """What is built, in a word."""
    sources: tuple[Source, ...] = ()
    release: ReleaseSource | None = None
    request: BuildRequest | None = None
    """The run of the options and layers."""
    has_layers: bool = False
    secrets: tuple[str, ...] = ()
    """The values of `--secret` for all command lines."""
    stored: tuple[StoredValue, ...] = ()
    """What the vendor stores for the secrets."""
    variables: tuple[StoredValue, ...] = ()
    names_builders: bool = False
    """True if the project file names builders, which jobs do not have."""
    bare_types: bool = False
    """True if image types share the folder with other runs, so build args are not meant for them."""

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms of all sources; of a release plan alone, amd64."""
        found = dict.fromkeys(platform for source in self.sources for platform in source.platforms)
        return tuple(found) or (Platform.parse("amd64"),)


def read_arguments(options: RunOptions, collector: ProblemCollector) -> CiTree:
    """Read the chain that the six arguments describe; problems go to the collector."""
    secrets, stored = given_secrets(options.secrets or (), collector)
    request = _collected(lambda: read_build_request(_run_options(options)), collector)
    return CiTree(
        root=options.root,
        registry=options.registry,
        name=f"{options.repo}:{options.tag}",
        sources=(ArgumentsSource(options, request.graph),) if request else (),
        request=request,
        secrets=secrets,
        stored=stored,
        variables=_variables(request.graph if request else None, options.build_args or ()),
    )


def read_folder(
    options: RunOptions, checkout: Checkout, places: Sequence[tuple[str, str | None]], collector: ProblemCollector
) -> CiTree:
    """Read everything that a folder contains: a project or a science tree, image types, a release plan.

    `places` are the flags and registries that image types are published to. Problems go to the collector.
    """
    path = find_project(options.root) if options.root.is_dir() else None
    root = path.parent if path else options.root
    options = replace(options, root=root)
    tree = CiTree(root=root, registry=options.registry, name=root.resolve().name)
    if path:
        tree = _read_project(tree, path, options, checkout, collector)
    elif any(any(root.glob(f"{folder}/*/{SCIENCE_MANIFEST}")) for folder in (SCIENCE, COMPAT)):
        tree = _read_science(tree, options, collector)
    if any((root / _TYPES).glob(f"*/**/{MANIFEST}")):
        tree = _read_types(tree, options, checkout, [(flag, text) for flag, text in places if text], collector)
    if (root / RELEASE_FILE).is_file():
        tree = _read_release(tree, root / RELEASE_FILE, checkout, collector)
    if not tree.sources and not tree.release and not collector.problems:
        collector.add(
            "Missing arguments: PLATFORM REPO TAG BASE OPTION PRODUCTION",
            f"Give all six arguments, or run this in a folder with a {FILE_NAME}, {SCIENCE}/, {_TYPES}/ or {RELEASE_FILE}.",
        )
    return tree


def _read_project(
    tree: CiTree, path: Path, options: RunOptions, checkout: Checkout, collector: ProblemCollector
) -> CiTree:
    from chainbuild.project.reader import read_project

    asked = _Asked(environment())
    project = _collected(lambda: read_project(path, asked, has_secrets=False), collector)
    if project is None:
        return tree
    secrets, stored = given_secrets(options.secrets or (), collector)
    stored += project_secrets(project.secrets, secrets, checkout, collector)
    known = replace(project, secrets=())
    run_options = _run_options(options)
    run = None
    if project.options or project.layers:
        run = _collected(lambda: read_run(known, run_options), collector)
    science: ScienceRequest | None = None
    if project.science:
        science = _collected(lambda: read_project_science(known, run_options), collector)
    graph = run.request.graph if run else None
    source = ProjectSource(project, run_options, graph, _science_hosts(science))
    return replace(
        tree,
        registry=run_options.registry or project.registry,
        sources=(source,) if run or science else (),
        request=run.request if run else None,
        has_layers=bool(project.layers),
        names_builders=bool(project.builders),
        secrets=secrets,
        stored=stored,
        variables=_variables(graph, options.build_args or (), asked.names),
        bare_types=True,
    )


def _read_science(tree: CiTree, options: RunOptions, collector: ProblemCollector) -> CiTree:
    for flag, given in (
        ("--context", options.context),
        ("--build-arg", options.build_args),
        ("--build-context", options.build_contexts),
        ("--secret", options.secrets),
        ("--strict", options.strict),
        ("--tests", options.tests),
    ):
        if given:
            collector.add(f"{flag}: this folder has only science layers", "Remove it.")
    read = as_kind(ScienceOptions, options, repo=options.repo, deadline=None)
    science = _collected(lambda: read_science(read), collector)
    if science is None:
        return tree
    source = ScienceSource(options.repo, science.platforms, _science_hosts(science))
    return replace(tree, sources=(source,), bare_types=True)


def _science_hosts(science: ScienceRequest | None) -> tuple[str, ...]:
    return (science.place.released.registry,) if science and science.options.push else ()


def _read_types(
    tree: CiTree,
    options: RunOptions,
    checkout: Checkout,
    places: Sequence[tuple[str, str]],
    collector: ProblemCollector,
) -> CiTree:
    repository = _collected(lambda: checkout.place(options.root, "--root"), collector) or "."
    texts = {flag.removeprefix("--"): text for flag, text in places}
    read = as_kind(
        ImageTypeOptions,
        options,
        repository=options.root,
        public=texts.get("public"),
        private=texts.get("private"),
        secrets=None,
        deadline=None,
        build_args=None if tree.bare_types else options.build_args,
    )
    # Only the repository is checked out, not the image types in a user's home.
    nobody = dict(environment()) | {"HOME": str(options.root.resolve() / _TYPES)}
    request = _collected(lambda: read_image_types(read, nobody), collector)
    platforms = request.wanted.platforms if request else chosen_platforms(options, ProblemCollector())
    secrets, stored = (tree.secrets, tree.stored)
    if not tree.bare_types:
        secrets, stored = given_secrets(options.secrets or (), collector)
    hosts = tuple(dict.fromkeys(text.partition("/")[0] for _, text in places))
    source = ImageTypesSource(repository, platforms, places, hosts, takes_inputs=not tree.bare_types)
    variables = tree.variables or _variables(None, options.build_args or ())
    return replace(tree, sources=(*tree.sources, source), secrets=secrets, stored=stored, variables=variables)


def _read_release(tree: CiTree, path: Path, checkout: Checkout, collector: ProblemCollector) -> CiTree:
    plan = _collected(lambda: read_plan(path), collector)
    place = _collected(lambda: checkout.place(path, "--root"), collector)
    if plan is None or place is None:
        return tree
    hosts = dict.fromkeys(name.registry for image in plan.images for name in image.to)
    return replace(tree, release=ReleaseSource(place, tuple(hosts)))


def _run_options(options: RunOptions) -> RunOptions:
    """Return the options of a run, without secrets, and without those of the workflow, such as the deadline of its jobs."""
    fields = {name: getattr(options, name) for name in RunOptions.__struct_fields__}
    return RunOptions(**fields | {"secrets": None, "deadline": None})


class _Asked(dict[str, str]):
    """An environment that remembers which names were read: the build args of a project file that have no value."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.names: list[str] = []

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        self.names.append(name)
        return super().get(name, default)


def _variables(
    graph: Graph | None, given: Iterable[str | BuildArg], of_project: Iterable[str] = ()
) -> tuple[StoredValue, ...]:
    """Return the variables of the environment that set build args: in args files, in flags, and in the project file."""
    names = {arg.name for step in graph or () for arg in step.args if arg.origin.endswith(_EXTERNAL)}
    names |= {text for text in given if isinstance(text, str) and "=" not in text}
    names |= set(of_project)
    return tuple(StoredValue(name=name, use=f"the build arg {name}") for name in sorted(names))


def _collected(read: Callable[[], T], collector: ProblemCollector) -> T | None:
    try:
        return read()
    except WrongUseError as error:
        collector.problems += error.problems
        return None
