"""What a workflow builds: a chain from six arguments, a project, a science tree, or image types. Each makes its own jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from chainbuild.ci.jobs import Job, JobKind, JobList, JobSplit, groups, make_jobs
from chainbuild.ci.pipeline import ReleaseCheck
from chainbuild.layouts.image_types.secrets import ALLOW
from chainbuild.model import Graph
from chainbuild.project.model import LayerEntry, Project
from chainbuild.references import Platform
from chainbuild.requests.ci.lines import PROGRAM, CommandLines
from chainbuild.requests.options import RunOptions
from chainbuild.values import replace

RunnerOf = Callable[[Platform], Hashable]
Words = Callable[[Job], tuple[str, ...]]


class Source(ABC):
    """A kind of run."""

    platforms: tuple[Platform, ...]
    push_hosts: tuple[str, ...] = ()
    """The registries that its images are pushed to."""
    needs_history: bool = False
    """True if it needs all commits of the repository."""

    @abstractmethod
    def plans(self, lines: CommandLines) -> tuple[tuple[str, ...], ...]:
        """Return the command lines that show what would be built."""

    @abstractmethod
    def add_jobs(
        self, jobs: JobList, lines: CommandLines, runner_of: RunnerOf, split: JobSplit | None
    ) -> tuple[str, ...]:
        """Add the jobs, and return notes for the user."""


def _folders(given: str | None, names: Iterable[str]) -> dict[str, str]:
    """Return the folder of each option, as the user gave it: a name is only the last part of its path."""
    folders = dict.fromkeys(word.strip().rstrip("/") for word in (given or "").split(",") if word.strip())
    return dict(zip(dict.fromkeys(names), folders, strict=True))


def _names(platforms: Sequence[Platform]) -> str:
    return ",".join(platform.name for platform in platforms)


def _hosts(graph: Graph, *, push: bool | None) -> tuple[str, ...]:
    if not push:
        return ()
    names = [chain.publication.repo or graph.repo for chain in graph.chains if chain.publication]
    return tuple(dict.fromkeys(name.registry for name in names))


def _with_commands(jobs: Sequence[Job], lines: CommandLines, words: Words, hosts: tuple[str, ...]) -> Iterator[Job]:
    for item in jobs:
        job = replace(item, hosts=hosts)
        if job.kind is JobKind.BUILD:
            until = ("--until", str(job.until)) if job.until is not None else ()
            yield replace(job, commands=(lines.run(*words(job), *until),))
        else:
            yield replace(job, commands=(lines.check(*words(job)), lines.complete(*words(job))))


class ArgumentsSource(Source):
    """A chain of options from the six arguments. Each option builds on the result of the one before it in the registry."""

    def __init__(self, options: RunOptions, graph: Graph) -> None:
        self._graph = graph
        self.platforms = tuple(dict.fromkeys(chain.platform for chain in graph.chains))
        self.push_hosts = _hosts(graph, push=options.push)
        self._options = options
        self._folders = _folders(options.option, (chain.option for chain in graph.chains))

    def plans(self, lines: CommandLines) -> tuple[tuple[str, ...], ...]:
        return (lines.plan("plan", *self._words(self.platforms, self._options.base, self._options.option)),)

    def add_jobs(
        self, jobs: JobList, lines: CommandLines, runner_of: RunnerOf, split: JobSplit | None
    ) -> tuple[str, ...]:
        job_graph = make_jobs(self._graph, runner_of, split)
        jobs.extend(_with_commands(job_graph.jobs, lines, self._job_words, self.push_hosts))
        return job_graph.notes

    def _job_words(self, job: Job) -> tuple[str, ...]:
        base = str(job.base) if job.base else self._options.base
        return ("build", *self._words(job.platforms, base, self._folders[job.option]))

    def _words(self, platforms: Sequence[Platform], base: str | None, option: str | None) -> tuple[str, ...]:
        repo, tag, production = self._options.repo, self._options.tag, self._options.production
        return (_names(platforms), *(text or "" for text in (repo, tag, base, option, production)))


class ProjectSource(Source):
    """A project file: a job for each layer and option on each platform, then jobs for the whole project.

    The last jobs reuse everything, complete the indexes, and build the science layers, if there are any. These build all
    platforms in one run, because their tags never move.
    """

    def __init__(
        self, project: Project, options: RunOptions, graph: Graph | None, science_hosts: Sequence[str]
    ) -> None:
        merged = options.merged(project)
        self._graph = graph
        self.needs_history = project.science is not None
        self._project = project
        self._options = options
        chains = graph.chains if graph else ()
        options_alone = (chain.option for chain in chains if not project.layer(chain.option))
        self._folders = _folders(merged.option, options_alone) if chains else {}
        self.platforms = tuple(dict.fromkeys(chain.platform for chain in chains)) or _of_text(merged.platform)
        self.push_hosts = (*(_hosts(graph, push=merged.push) if graph else ()), *science_hosts)

    def plans(self, lines: CommandLines) -> tuple[tuple[str, ...], ...]:
        return (lines.plan("plan", *self._overrides(self.platforms)),)

    def add_jobs(
        self, jobs: JobList, lines: CommandLines, runner_of: RunnerOf, split: JobSplit | None
    ) -> tuple[str, ...]:
        project = self._project
        divisible = self._is_divisible(lines)
        notes: tuple[str, ...] = ()
        if divisible and self._graph:
            # The science layers' job builds the options, too: `build` always builds both.
            layers = [chain for chain in self._graph.chains if project.layer(chain.option)]
            part = replace(self._graph, chains=tuple(layers)) if project.science else self._graph
            job_graph = make_jobs(part, runner_of, split, indexes=not project.layers)
            jobs.extend(_with_commands(job_graph.jobs, lines, self._job_words, self.push_hosts))
            notes = job_graph.notes
        if project.science:
            jobs.add(replace(self._whole("project", self.platforms, lines), needs=jobs.last))
            return notes
        if not divisible:
            for platform in self.platforms:
                jobs.add(self._whole(f"project-{platform.name}", (platform,), lines))
        if project.layers and len(self.platforms) > 1:
            for platforms in groups(self.platforms, runner_of):
                jobs.add(self._index(platforms, lines, jobs))
        return notes

    def _is_divisible(self, lines: CommandLines) -> bool:
        """Return whether layers can be built by jobs of their own.

        `chainbuild layer` builds a layer and the layers that it is based on. It has fewer flags than a build of the whole
        project, and it does not know layers that a Dockerfile uses in another way, for example with COPY --from.
        """
        if not self._project.layers:
            return not self._project.science
        return lines.is_plain and self._options.context is None and all(map(self._stands_alone, self._project.layers))

    def _stands_alone(self, layer: LayerEntry) -> bool:
        """Return whether a layer takes images only from the layers that it is based on."""
        chains = self._graph.chains if self._graph else ()
        homes = {step.id: chain.option for chain in chains for step in chain.all_steps}
        below = self._below()
        allowed = {layer.name}
        name = layer.name
        while name := below.get(name, ""):
            allowed.add(name)
        own = [chain for chain in chains if chain.option == layer.name]
        return all(homes[need] in allowed for chain in own for step in chain.all_steps for need in step.needs)

    def _below(self) -> dict[str, str]:
        """Return the layer that each layer is based on, by name."""
        below: dict[str, str] = {}
        previous: LayerEntry | None = None
        for layer in self._project.layers:
            below[layer.name] = layer.after(previous).base_layer
            previous = layer
        return below

    def _job_words(self, job: Job) -> tuple[str, ...]:
        if self._project.layer(job.option):
            return ("layer", job.option, "--platform", _names(job.platforms))
        base = str(job.base) if job.base else self._options.base
        return (
            "build",
            *_overrides(replace(self._options, option=self._folders[job.option], base=base), job.platforms),
        )

    def _overrides(self, platforms: Sequence[Platform]) -> tuple[str, ...]:
        return _overrides(self._options, platforms)

    def _whole(self, name: str, platforms: Sequence[Platform], lines: CommandLines) -> Job:
        return Job(
            id=name,
            title=f"the project on {_names(platforms)}",
            kind=JobKind.BUILD,
            option="",
            platforms=tuple(platforms),
            commands=(lines.run("build", *self._overrides(platforms)),),
            hosts=self.push_hosts,
        )

    def _index(self, platforms: Sequence[Platform], lines: CommandLines, jobs: JobList) -> Job:
        words = ("build", *self._overrides(platforms))
        return Job(
            id="project-index",
            title=f"indexes of {_names(platforms)}",
            kind=JobKind.INDEX,
            option="",
            platforms=tuple(platforms),
            commands=(lines.check(*words), lines.complete(*words)),
            hosts=self.push_hosts,
            needs=jobs.last,
        )


def _overrides(options: RunOptions, platforms: Sequence[Platform]) -> tuple[str, ...]:
    """Return the flags of a project's run that have the names of the arguments."""
    names = ("repo", "tag", "base", "option", "production")
    texts = [(name, getattr(options, name)) for name in names]
    return ("--platform", _names(platforms), *(word for name, text in texts if text for word in (f"--{name}", text)))


def _of_text(platforms: str | None) -> tuple[Platform, ...]:
    if not platforms:
        return (Platform.of_this_machine(),)
    return tuple(Platform.parse(name.strip()) for name in platforms.split(","))


class ScienceSource(Source):
    """A science tree without a project file: one job, because all platforms and all images are released together."""

    needs_history = True

    def __init__(self, repo: str | None, platforms: tuple[Platform, ...], push_hosts: Sequence[str]) -> None:
        self.platforms = platforms
        self.push_hosts = tuple(push_hosts)
        self._words = (*(("--repo", repo) if repo else ()), "--platform", _names(platforms))

    def plans(self, lines: CommandLines) -> tuple[tuple[str, ...], ...]:
        return (self._fitting(lines).plan("science", "plan", *self._words),)

    def _fitting(self, lines: CommandLines) -> CommandLines:
        return lines.only("--no-cache", "--jobs", "--keep-going", "--push")

    def add_jobs(
        self, jobs: JobList, lines: CommandLines, runner_of: RunnerOf, split: JobSplit | None
    ) -> tuple[str, ...]:
        del runner_of, split
        jobs.add(
            Job(
                id="science-layers",
                title=f"science layers on {_names(self.platforms)}",
                kind=JobKind.BUILD,
                option="",
                platforms=self.platforms,
                commands=(self._fitting(lines).run("science", "build", *self._words),),
                hosts=self.push_hosts,
            )
        )
        return ()


class ImageTypesSource(Source):
    """Image types of a repository: a job for each platform, the indexes, and the publication, if there is a registry for it."""

    def __init__(
        self,
        repository: str,
        platforms: tuple[Platform, ...],
        places: Sequence[tuple[str, str]],
        hosts: Sequence[str],
        *,
        takes_inputs: bool,
        allow_secret_files: bool,
    ) -> None:
        """`places` are the flags and the registries to publish to, `hosts` their hosts.

        `takes_inputs`: build args are meant for image types, because the folder has nothing else.
        """
        self.platforms = platforms
        self.push_hosts = tuple(hosts)
        self._places = tuple(word for pair in places for word in pair)
        self._secret_files = (ALLOW,) if allow_secret_files else ()
        self._repository = repository
        self._takes_inputs = takes_inputs

    def _fitting(self, lines: CommandLines) -> CommandLines:
        return lines.only("--no-cache", "--jobs", "--keep-going", inputs=self._takes_inputs)

    def plans(self, lines: CommandLines) -> tuple[tuple[str, ...], ...]:
        lines = self._fitting(lines)
        return (lines.plan("types", "plan", *self._words(self.platforms)),)

    def _words(self, platforms: Sequence[Platform]) -> tuple[str, ...]:
        return ("--repository", self._repository, "--platform", _names(platforms), *self._places, *self._secret_files)

    def add_jobs(
        self, jobs: JobList, lines: CommandLines, runner_of: RunnerOf, split: JobSplit | None
    ) -> tuple[str, ...]:
        del split
        lines = self._fitting(lines)
        last = [
            jobs.add(
                Job(
                    id=f"image-types-{platform.name}",
                    title=f"image types on {platform.name}",
                    kind=JobKind.BUILD,
                    option="",
                    platforms=(platform,),
                    commands=(lines.run("types", "build", *self._words((platform,))),),
                )
            )
            for platform in self.platforms
        ]
        for platforms in groups(self.platforms, runner_of) if len(self.platforms) > 1 else ():
            words = self._words(platforms)
            check = (*lines.plan("types", "plan", *words), "--fail-if-build")
            index = Job(
                id="image-types-index",
                title=f"image types: indexes of {_names(platforms)}",
                kind=JobKind.INDEX,
                option="",
                platforms=platforms,
                commands=(check, lines.complete("types", "build", *words)),
                needs=tuple(last),
            )
            last = [jobs.add(index)]
        if self._places:
            self._publish(jobs, lines, tuple(last))
        return ()

    def _publish(self, jobs: JobList, lines: CommandLines, needs: tuple[str, ...]) -> None:
        publish = replace(lines, renewal=())
        jobs.add(
            Job(
                id="image-types-publish",
                title="publish the image types",
                kind=JobKind.RELEASE,
                option="",
                platforms=self.platforms,
                commands=((*publish.plan("types", "publish", *self._words(self.platforms)), "--plain"),),
                hosts=self.push_hosts,
                needs=needs,
            )
        )


class ReleaseSource:
    """A release plan in the repository: pull requests check it, and the default branch applies it when it changes."""

    def __init__(self, place: str, hosts: Sequence[str]) -> None:
        """`place` is the path of the plan, relative to the top folder of the repository."""
        self.place = place
        self.push_hosts = tuple(hosts)

    def add_job(self, jobs: JobList, lines: CommandLines, platform: Platform) -> None:
        """Add the job that applies the plan after all others, on a machine for `platform`."""
        jobs.add(
            Job(
                id="release-plan",
                title="release",
                kind=JobKind.RELEASE,
                option="",
                platforms=(platform,),
                commands=(_bare(lines, "release", "apply"),),
                hosts=self.push_hosts,
                needs=jobs.last,
                release_plan=self.place,
            )
        )

    def check(self, lines: CommandLines) -> ReleaseCheck:
        """Return the commands that show the plan and check that it could be applied."""
        show = (PROGRAM, "release", "show", *lines.place[: lines.place.index("--registry")])
        return ReleaseCheck(path=self.place, commands=(show, (*_bare(lines, "release", "apply"), "--dry-run")))


def _bare(lines: CommandLines, *words: str) -> tuple[str, ...]:
    return replace(lines.only(), secrets=(), renewal=()).plan(*words)
