"""Read the options of `chainbuild ci` into a pipeline, and report every problem at once."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from chainbuild.ci import circleci, github, gitlab
from chainbuild.ci.checkout import Checkout, read_checkout
from chainbuild.ci.install import Installation, by_command, by_image, find_installation
from chainbuild.ci.jobs import JobGraph, JobList, JobSplit
from chainbuild.ci.pipeline import Login, Pipeline, Vendor, login_to
from chainbuild.ci.quoting import is_plain_path, join
from chainbuild.errors import WrongUseError
from chainbuild.layouts.image_types.secrets import ALLOW
from chainbuild.model import Step, StepKind
from chainbuild.parsing.option_values import ProblemCollector, parse_outdated
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.registry.http.auth import is_this_machine
from chainbuild.requests.build import BuildRequest
from chainbuild.requests.ci.lines import read_lines
from chainbuild.requests.ci.machines import check_times, read_runners
from chainbuild.requests.ci.options import CiOptions
from chainbuild.requests.ci.tree import CiTree, read_arguments, read_folder
from chainbuild.requests.options import RunArguments, check_arguments
from chainbuild.step_id import StepId
from chainbuild.text import parse_duration
from chainbuild.values import replace

VENDORS: Final[Mapping[str, Vendor]] = {
    vendor.name: vendor for vendor in (github.VENDOR, gitlab.VENDOR, circleci.VENDOR)
}
USER: Final = "CHAINBUILD_REGISTRY_USER"
PASSWORD: Final = "CHAINBUILD_REGISTRY_PASSWORD"  # noqa: S105  # the name of the variable
Recorded = Callable[[BuildRequest], Mapping[StepId, float]]


def read_pipeline(
    arguments: RunArguments, overrides: RunArguments, options: CiOptions, recorded: Recorded
) -> tuple[Vendor, Pipeline]:
    """Read the arguments, or without arguments what the folder contains, into the workflow of a vendor.

    `recorded` returns the last duration of each step; it is called only for `--split`, after all checks passed. Errors:
    `WrongUseError` with every problem of the arguments and the tree; those of `recorded`.
    """
    has_arguments = any(value is not None for value in arguments)
    if has_arguments:
        check_arguments(arguments, overrides)
    options = replace(options, **(arguments if has_arguments else overrides)._asdict())
    vendor = VENDORS[options.vendor]
    collector = ProblemCollector()
    checkout = read_checkout(Path(), options.branch)
    read = read_arguments if has_arguments else read_folder
    tree = read(options, checkout, collector)
    maker = _Maker(vendor, options, checkout, tree, collector)
    if collector.problems:
        raise WrongUseError(collector.problems)
    return vendor, maker.pipeline(recorded, _made_by(options, arguments, maker))


class _Maker:
    """Checks the options of one workflow, and makes its pipeline."""

    def __init__(
        self, vendor: Vendor, options: CiOptions, checkout: Checkout, tree: CiTree, collector: ProblemCollector
    ) -> None:
        self._vendor = vendor
        self._checkout = checkout
        self._tree = tree
        self._collector = collector
        self.deadline = (options.deadline or vendor.deadline).strip().lower()
        self._seconds = collector.parse("--deadline", parse_duration, self.deadline, 1.0)
        self._most = collector.parse("--split", parse_duration, options.split, 1.0) if options.split else None
        self.runners = read_runners(options.runners or (), tree.platforms, vendor, collector)
        check_times(vendor, self.runners, self._seconds, self._most, collector)
        if self._most is not None and (tree.has_layers or tree.request is None):
            collector.add("--split needs options without layers", "Remove it. Each layer is built by a job of its own.")
        self.registry = self._registry(tree.registry)
        of_tree = replace(options, root=tree.root, registry=str(self.registry))
        lines = read_lines(of_tree, checkout, self.deadline, tree.secrets, collector)
        self.lines = replace(lines, names_builder=tree.names_builders)
        self.installation = self._installation(options)
        self._check_places(options)
        self._nightly = parse_outdated("--nightly", options.nightly, collector)
        if options.branch and vendor.knows_branch:
            collector.add(
                f"--branch: {vendor.title} builds the default branch of the repository",
                "Remove it, or change the default branch in the settings of the repository.",
            )

    def pipeline(self, recorded: Recorded, made_by: str) -> Pipeline:
        """Return the pipeline."""
        tree = self._tree
        split = None
        if self._most is not None and tree.request is not None:
            split = JobSplit(most=self._most, seconds=recorded(tree.request))
        jobs = JobList()
        notes: list[str] = [] if self._vendor.knows_branch else list(self._checkout.notes)
        for source in tree.sources:
            notes += source.add_jobs(jobs, self.lines, lambda item: self.runners[item.name].labels, split)
        if tree.release:
            tree.release.add_job(jobs, self.lines, tree.platforms[0])
        if self._nightly and self._vendor.schedules:
            notes.append(f"add a nightly schedule for the default branch at {self._vendor.schedules}")
        return Pipeline(
            graph=JobGraph(jobs=tuple(jobs.jobs), notes=tuple(notes)),
            group=tree.name,
            plans=tuple(words for source in tree.sources for words in source.plans(self.lines)),
            release=tree.release.check(self.lines) if tree.release else None,
            checkout=self._checkout,
            history=any(source.needs_history for source in tree.sources),
            logins=self._logins(),
            installation=self.installation,
            secrets=tree.stored,
            variables=tree.variables,
            state=self.lines.state,
            deadline_seconds=self._seconds,
            limit=self._vendor.limit,
            runners=self.runners,
            nightly=self._nightly,
            made_by=made_by,
        )

    def _registry(self, text: str | None) -> ChainRegistry:
        fallback = ChainRegistry("registry.invalid")
        if not text:
            self._collector.add(
                "--registry is required",
                "Jobs exchange images through it. Give a registry, for example --registry ghcr.io/OWNER.",
            )
            return fallback
        return self._collector.parse("--registry", ChainRegistry.parse, text, fallback)

    def _installation(self, options: CiOptions) -> Installation:
        """Return how jobs install chainbuild; problems go to the collector."""
        nothing = Installation(commands=(), binaries=(), why="")
        add = self._collector.add
        try:
            if options.install_image:
                if options.install:
                    add("--install cannot be combined with --install-image", "Remove one of them.")
                return by_image(ImageReference.parse(options.install_image))
            if options.install is None:
                return find_installation(self._checkout)
            words = shlex.split(options.install)
        except WrongUseError as error:
            self._collector.problems += error.problems
            return nothing
        except ValueError as error:
            add(f"--install {options.install!r}: {error}", "Give a command with its arguments.")
            return nothing
        if not words:
            add("--install is empty", "Give a command with its arguments.")
            return nothing
        return by_command(words)

    def _check_places(self, options: CiOptions) -> None:
        """Report folders that cannot be in a workflow, and registries that the vendor's machines cannot reach."""
        if not is_plain_path(self.lines.state):
            self._collector.add(
                f"--root: the path {self.lines.state!r} cannot be written into a workflow",
                "CI vendors replace templates and patterns in the paths of artifacts. Rename the folder: use letters, digits,"
                " blanks and _ . / @ + , = ~ -.",
            )
        hint = "Use a registry that CI machines can reach."
        if _is_local(self.registry.host):
            self._collector.add(f"--registry {self.registry} is on this machine", hint)
        for flag, text in (("--public", options.public), ("--private", options.private)):
            if text and _is_local(text.partition("/")[0]):
                self._collector.add(f"{flag} {text} is on this machine", hint)
        graph = self._tree.request.graph if self._tree.request else ()
        for flag, folder in dict.fromkeys(place for step in graph for place in _folders(step)):
            self._check_folder(flag, folder)
        images = dict.fromkeys(image.external for step in graph for image in step.images if image.external)
        for image in images:
            if _is_local(image.registry):
                self._collector.add(f"{image} is in a registry on this machine", hint)

    def _check_folder(self, flag: str, folder: Path) -> None:
        try:
            self._checkout.place(folder, flag)
        except WrongUseError as error:
            self._collector.problems += [item for item in error.problems if item not in self._collector.problems]

    def _logins(self) -> tuple[Login, ...]:
        """Return the logins of jobs: the chain registry first, then those that images are pushed to."""
        release = self._tree.release
        hosts = [host for source in self._tree.sources for host in source.push_hosts]
        hosts += release.push_hosts if release else ()
        own = Login(host=self.registry.host, user=USER, password=PASSWORD)
        return (own, *(login_to(host) for host in dict.fromkeys(hosts) if host != own.host))


def _is_local(registry: str) -> bool:
    """Return whether a registry, `host[:port]`, is on this machine."""
    bracket, _, rest = registry.partition("]")
    return is_this_machine(bracket.removeprefix("[") if rest or registry.endswith("]") else registry.partition(":")[0])


def _folders(step: Step) -> Iterator[tuple[str, Path]]:
    """Yield the folders of the tree that a step reads, each with the setting that chooses it."""
    if step.kind is StepKind.BUILD:
        if step.text is None:
            yield "OPTION", step.dockerfile.parent
            yield "--context", step.context
        for name, source in step.contexts:
            if "://" not in source and not source.startswith("git@"):
                yield f"--build-context {name}", Path(source)


def _made_by(options: CiOptions, arguments: RunArguments, maker: _Maker) -> str:
    """Return the command that makes the same workflow, with paths relative to the top folder of the repository."""
    lines, words = maker.lines, ["chainbuild", "ci", options.vendor]
    if arguments.platform is not None:
        words += [text or "" for text in arguments]
    else:
        overrides = [(name, getattr(options, name)) for name in RunArguments._fields]
        words += [word for name, text in overrides if text for word in (f"--{name}", text)]
    words += [*lines.place, *lines.inputs]
    words += [word for secret in options.secrets or () for word in ("--secret", secret)]
    words += [*lines.renewal, *(word for flag in lines.how for word in flag)]
    for flag, text in (("--public", options.public), ("--private", options.private), ("--branch", options.branch)):
        words += [flag, text] if text else []
    words += [ALLOW] if options.allow_secret_files else []
    words += [word for runner in options.runners or () for word in ("--runner", runner)]
    for flag, value in (("--deadline", options.deadline), ("--split", options.split)):
        words += [flag, value.strip().lower()] if value else []
    words += [f"--nightly={options.nightly}"] if options.nightly else []
    words += maker.installation.flags
    return join(words)
