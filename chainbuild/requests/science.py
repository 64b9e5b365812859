"""Read the arguments of `chainbuild science` into values: the tree, the selected layers, and the state of the git tree."""

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
from chainbuild.parsing.option_values import ProblemCollector, parse_platforms, parse_repository
from chainbuild.references import DOCKER_HUB, ImageReference, Platform
from chainbuild.requests.build import CommonOptions, execution_options, session_settings

DEFAULT_REPO: Final = "compute-images"


class ScienceOptions(CommonOptions, frozen=True, kw_only=True):
    """The arguments of a run over science and compat layers, as the user typed them."""

    platform: str = ""
    repo: str = ""
    ref: str | None = None
    untracked: bool = False
    include: Sequence[str] = ()
    ignore: Sequence[str] = ()
    allow_orphan: Sequence[str] = ()


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


def read_words(words: ScienceOptions, git: Git | None = None, *, orphans_are_errors: bool = True) -> ScienceRequest:
    """Read the command line and the tree.

    Errors: `WrongUseError` with every problem of the command line and the tree, else with every orphan that the tree or
    its git history shows.
    """
    collector = ProblemCollector()
    settings = session_settings(words, collector)
    options = execution_options(words, collector)
    current = Platform.of_this_machine()
    platforms = (parse_platforms(words.platform, collector) if words.platform else ()) or (current,)
    place = _place(words, settings, collector)
    allowed = _allowed(words.allow_orphan, collector)
    git = git or Git(settings.root)
    span = collector.parse("--ref", git.span, words.ref, None) if words.ref else None
    if words.untracked and not words.ref:
        collector.add("--untracked needs --ref", "Remove it: without --ref, all folders are checked anyway.")
    if words.ref and words.include:
        collector.add("--include cannot be combined with --ref", "Give folders, or select what changed since a ref.")
    if collector.problems:
        raise WrongUseError(collector.problems)
    tree = read_tree(settings.root, platforms, place, build_platform=current, allowed=allowed)
    requested = _wanted(words, tree, span, collector)
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
        options=options,
        tree=tree,
        selection=selection,
        place=place,
        platforms=platforms,
        allowed=allowed,
        state=_state(git),
    )


def _place(words: ScienceOptions, settings: Settings, collector: ProblemCollector) -> ScienceRepositories:
    fallback = ImageReference.parse(DEFAULT_REPO)
    repo = collector.parse("--repo", parse_repository, words.repo or DEFAULT_REPO, fallback)
    home = collector.parse("--repo", lambda _: settings.chain.place(repo), words.repo or DEFAULT_REPO, fallback)
    if words.push and not words.repo:
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
    words: ScienceOptions, tree: ScienceTree, span: CommitRange | None, collector: ProblemCollector
) -> LayerFilter:
    folders = [f"{SCIENCE}/{layer.path.name}" for layer in tree.layer_graph.layers]
    folders += [f"{COMPAT}/{name}" for name in tree.compat]
    named: dict[str, tuple[str, ...]] = {}
    for flag, texts in (("--include", words.include), ("--ignore", words.ignore)):
        try:
            named[flag] = folders_named(flag, texts, tree.root, folders)
        except WrongUseError as error:
            collector.problems += error.problems
    return LayerFilter(
        ref=span, untracked=words.untracked, include=named.get("--include", ()), ignore=named.get("--ignore", ())
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
