"""Find out what a workflow builds: read the six arguments, or everything that a folder contains.

Secrets are not needed for that: they are only at the vendor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
from chainbuild.project.reader import read_project
from chainbuild.references import Platform
from chainbuild.release.reader import read_plan
from chainbuild.release.rules import FILE_NAME as RELEASE_FILE
from chainbuild.requests.build import BuildRequest, read_build_request
from chainbuild.requests.ci.lines import given_secrets, project_secrets
from chainbuild.requests.ci.options import CiOptions, check_flags
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

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms of all sources; of a release plan alone, amd64."""
        platforms = dict.fromkeys(platform for source in self.sources for platform in source.platforms)
        return tuple(platforms) or (Platform.parse("amd64"),)


def read_arguments(options: CiOptions, checkout: Checkout, collector: ProblemCollector) -> CiTree:
    """Read the chain that the six arguments describe; problems go to the collector."""
    del checkout
    check_flags(options, project=True, science=False, types=False, collector=collector)
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


def read_folder(options: CiOptions, checkout: Checkout, collector: ProblemCollector) -> CiTree:
    """Read everything that a folder contains: a project or a science tree, image types, a release plan.

    Problems go to the collector.
    """
    if not options.root.is_dir():
        collector.add(f"--root: no such folder: {str(options.root)!r}", "Give the folder of the project.")
    path = find_project(options.root)
    root = path.parent if path else options.root
    options = replace(options, root=root)
    science = not path and any(any(root.glob(f"{folder}/*/{SCIENCE_MANIFEST}")) for folder in (SCIENCE, COMPAT))
    types = any(any((root / _TYPES).glob(f"{depth}/{MANIFEST}")) for depth in ("*", "*/*"))
    tree = CiTree(root=root, registry=options.registry, name=root.resolve().name)
    if path:
        tree = _read_project(tree, path, options, checkout, collector)
    elif science:
        tree = _read_science(tree, options, collector)
    if types:
        tree = _read_types(tree, options, checkout, collector)
    if (root / RELEASE_FILE).is_file():
        tree = _read_release(tree, root / RELEASE_FILE, checkout, collector)
    if not tree.sources and not tree.release and not collector.problems:
        collector.add(
            "Missing arguments: PLATFORM REPO TAG BASE OPTION PRODUCTION",
            f"Give all six arguments, or run this in a folder with a {FILE_NAME}, {SCIENCE}/, {_TYPES}/ or {RELEASE_FILE}.",
        )
    check_flags(options, project=path is not None, science=science, types=types, collector=collector)
    return tree


def _read_project(
    tree: CiTree, path: Path, options: CiOptions, checkout: Checkout, collector: ProblemCollector
) -> CiTree:
    environ = _RecordingEnvironment(environment())
    project = _collected(lambda: read_project(path, environ, has_secrets=False), collector)
    if project is None:
        return tree
    secrets, stored = given_secrets(options.secrets or (), collector)
    stored += project_secrets(project.secrets, secrets, checkout, collector)
    public = replace(project, secrets=())
    run_options = _run_options(options)
    run = None
    if project.options or project.layers:
        run = _collected(lambda: read_run(public, run_options), collector)
    science: ScienceRequest | None = None
    if project.science:
        # A project of science layers alone does not accept --secret, which this reports.
        with_secrets = replace(run_options, secrets=options.secrets)
        science = _collected(lambda: read_project_science(public, with_secrets), collector)
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
        variables=_variables(graph, options.build_args or (), environ.names),
    )


def _read_science(tree: CiTree, options: CiOptions, collector: ProblemCollector) -> CiTree:
    read = as_kind(ScienceOptions, options, repo=options.repo, deadline=None)
    science = _collected(lambda: read_science(read), collector)
    if science is None:
        return tree
    source = ScienceSource(options.repo, science.platforms, _science_hosts(science))
    return replace(tree, sources=(source,))


def _science_hosts(science: ScienceRequest | None) -> tuple[str, ...]:
    return (science.place.released.registry,) if science and science.options.push else ()


def _read_types(tree: CiTree, options: CiOptions, checkout: Checkout, collector: ProblemCollector) -> CiTree:
    alone = not tree.sources
    read = as_kind(
        ImageTypeOptions,
        options,
        repository=options.root,
        platform=options.platform
        or ",".join(item.name for source in tree.sources for item in source.platforms)
        or None,
        registry=tree.registry,
        public=options.public,
        private=options.private,
        allow_secret_files=options.allow_secret_files,
        secrets=None,
        deadline=None,
        build_args=options.build_args if alone else None,
    )
    # Only the repository is checked out, not the image types in a user's home.
    nobody = dict(environment()) | {"HOME": str(options.root.resolve() / _TYPES)}
    request = _collected(lambda: read_image_types(read, nobody), collector)
    repository = _collected(lambda: checkout.place(options.root, "--root"), collector)
    if request is None or repository is None:
        return tree
    places = {flag: place for flag, place in (("--public", read.public), ("--private", read.private)) if place}
    hosts = dict.fromkeys(place.partition("/")[0] for place in places.values())
    platforms = request.wanted.platforms
    source = ImageTypesSource(
        repository,
        platforms,
        tuple(places.items()),
        tuple(hosts),
        takes_inputs=alone,
        allow_secret_files=options.allow_secret_files,
    )
    tree = replace(tree, sources=(*tree.sources, source))
    if not alone:
        return tree
    secrets, stored = given_secrets(options.secrets or (), collector)
    return replace(tree, secrets=secrets, stored=stored, variables=_variables(None, options.build_args or ()))


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


class _RecordingEnvironment(dict[str, str]):
    """An environment that remembers which names were read: the build args of a project file that have no value."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.names: list[str] = []

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        self.names.append(name)
        return super().get(name, default)


def _variables(
    graph: Graph | None, build_args: Iterable[str | BuildArg], of_project: Iterable[str] = ()
) -> tuple[StoredValue, ...]:
    """Return the variables of the environment that set build args: in args files, in flags, and in the project file."""
    names = {arg.name for step in graph or () for arg in step.args if arg.origin.endswith(_EXTERNAL)}
    names |= {text for text in build_args if isinstance(text, str) and "=" not in text}
    names |= set(of_project)
    return tuple(StoredValue(name=name, use=f"the build arg {name}") for name in sorted(names))


def _collected(read: Callable[[], T], collector: ProblemCollector) -> T | None:
    try:
        return read()
    except WrongUseError as error:
        collector.problems += error.problems
        return None
