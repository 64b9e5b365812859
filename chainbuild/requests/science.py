"""Read the options of `chainbuild science` into values: the tree, the selected layers, and the state of the git tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from chainbuild.errors import Problem, WrongUseError
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.session import Settings
from chainbuild.host.git import CommitRange, Git
from chainbuild.layouts.science.layer_graph import LayerFilter, LayerSelection, changed_folders, folders_named, select
from chainbuild.layouts.science.manifests import COMPAT, SCIENCE, State
from chainbuild.layouts.science.orphans import LostRelease, find_lost_since, orphan_problems
from chainbuild.layouts.science.tree import ScienceRepositories, ScienceTree, read_tree
from chainbuild.parsing.option_values import ProblemCollector, parse_repository
from chainbuild.project.model import Project
from chainbuild.references import DOCKER_HUB, ImageReference, Platform
from chainbuild.requests.build import chosen_platforms, execution_options, session_settings
from chainbuild.requests.options import CommonOptions, RunOptions, as_kind

DEFAULT_REPO: Final = "compute-images"


_NOT_FOR_SCIENCE: Final = {
    "tag": "--tag",
    "base": "--base",
    "option": "--option",
    "production": "--production",
    "first": "--from",
    "only": "--only",
    "until": "--until",
    "context": "--context",
    "build_args": "--build-arg",
    "build_contexts": "--build-context",
    "secrets": "--secret",
}
"""The options of a run that science layers do not have, with their flags."""


class ScienceOptions(CommonOptions, frozen=True, kw_only=True):
    """The options of a run over science and compat layers, as the user gave them."""

    repo: str | None = None
    ref: str | None = None
    untracked: bool = False
    include: Sequence[str] | None = None
    ignore: Sequence[str] | None = None
    allow_orphan: Sequence[str] | None = None


class ScienceRequest(Struct, frozen=True, kw_only=True):
    """A run after parsing. `allowed` are the orphans that the user accepts; `state` is None outside of a git tree."""

    settings: Settings
    options: ExecutionOptions
    tree: ScienceTree
    selection: LayerSelection
    place: ScienceRepositories
    platforms: tuple[Platform, ...]
    allowed: frozenset[str]
    state: State | None
    tests: bool = True
    """False: the tests of the images do not run."""


def read_science(options: ScienceOptions, git: Git | None = None, *, orphans_are_errors: bool = True) -> ScienceRequest:
    """Read the options and the tree.

    Errors: `WrongUseError` with every problem of the command line and the tree, else with every orphan that the tree or
    its git history shows.
    """
    collector = ProblemCollector()
    settings = session_settings(options, collector)
    execution = execution_options(options, collector)
    platforms = chosen_platforms(options, collector)
    place = _place(options, settings, collector)
    allowed = _allowed(options.allow_orphan or (), collector)
    git = git or Git(settings.root)
    span = collector.parse("--ref", git.span, options.ref, None) if options.ref else None
    if options.untracked and not options.ref:
        collector.add("--untracked needs --ref", "Remove it: without --ref, all folders are checked anyway.")
    if options.ref and options.include:
        collector.add("--include cannot be combined with --ref", "Give folders, or select what changed since a ref.")
    if collector.problems:
        raise WrongUseError(collector.problems)
    tree = read_tree(settings.root, platforms, place, build_platform=Platform.of_this_machine(), allowed=allowed)
    requested = _wanted(options, tree, span, collector)
    if collector.problems:
        raise WrongUseError(collector.problems)
    if orphans_are_errors:
        spans = (span,) if span else git.recent()
        _check_orphans(
            tree, tuple(item for since in spans for item in find_lost_since(tree.layer_graph, git, since)), allowed
        )
    selection = select(
        tree.layer_graph, tree.compat, requested, changed_folders(tree.layer_graph, tree.compat, requested, git)
    )
    return ScienceRequest(
        settings=settings,
        options=execution,
        tree=tree,
        selection=selection,
        place=place,
        platforms=platforms,
        allowed=allowed,
        state=_state(git),
        tests=options.tests is not False,
    )


def read_project_science(project: Project, options: RunOptions) -> ScienceRequest | None:
    """Return the run of the science layers of a project, or None if it has none.

    Errors: as `read_science`; also for an option that only numbered options and layers have, if the project has neither.
    """
    if project.science is None:
        return None
    unused = [flag for field, flag in _NOT_FOR_SCIENCE.items() if getattr(options, field) not in (None, (), [])]
    if unused and not (project.options or project.layers):
        hint = "Remove it. A science layer says in its own files what it builds on and with."
        raise WrongUseError(
            Problem(message=f"{flag}: {project.shown} has only science layers", hint=hint) for flag in unused
        )
    return read_science(
        as_kind(ScienceOptions, options.merged(project), root=project.science.root, repo=project.science.repo)
    )


def _place(options: ScienceOptions, settings: Settings, collector: ProblemCollector) -> ScienceRepositories:
    fallback = ImageReference.parse(DEFAULT_REPO)
    repo = collector.parse("--repo", parse_repository, options.repo or DEFAULT_REPO, fallback)
    home = collector.parse("--repo", lambda _: settings.chain.place(repo), options.repo or DEFAULT_REPO, fallback)
    if options.push and not options.repo:
        collector.add("--push needs --repo", "Give the repository to push the images to: --repo ghcr.io/acme/compute.")
    # A repository without a registry is only in the chain registry.
    return ScienceRepositories(repo=repo, home=home, released=home if repo.registry == DOCKER_HUB else repo)


def _allowed(texts: Sequence[str], collector: ProblemCollector) -> frozenset[str]:
    for text in texts:
        image, colon, version = text.rpartition(":")
        if not (image and colon and version):
            collector.add(
                f"--allow-orphan {text!r} is not IMAGE:VERSION", "For example: --allow-orphan nist-basic:1.0."
            )
    return frozenset(texts)


def _wanted(
    options: ScienceOptions, tree: ScienceTree, span: CommitRange | None, collector: ProblemCollector
) -> LayerFilter:
    folders = [f"{SCIENCE}/{layer.path.name}" for layer in tree.layer_graph.layers]
    folders += [f"{COMPAT}/{name}" for name in tree.compat]
    named: dict[str, tuple[str, ...]] = {}
    for flag, texts in (("--include", options.include or ()), ("--ignore", options.ignore or ())):
        try:
            named[flag] = folders_named(flag, texts, tree.root, folders)
        except WrongUseError as error:
            collector.problems += error.problems
    return LayerFilter(
        ref=span, untracked=options.untracked, include=named.get("--include", ()), ignore=named.get("--ignore", ())
    )


def _check_orphans(tree: ScienceTree, lost: tuple[LostRelease, ...], allowed: frozenset[str]) -> None:
    problems: tuple[Problem, ...] = orphan_problems(tree.old, lost, allowed)
    if problems:
        raise WrongUseError(problems)


def _state(git: Git) -> State | None:
    head = git.head()
    if head is None:
        return None
    return State(count=head.count, commit=head.short, dirty=git.dirty((SCIENCE, COMPAT)))
