"""Numbered chains: an option is a folder of `NN-Dockerfile-<descriptor>` files, with `<descriptor>-<platform>-args`.

Each step's parent reaches it as the build argument `BASE_IMAGE`. The stages `minimize` and `production` end a chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chainbuild.args_files import read_args
from chainbuild.dockerfile import Dockerfile, unknown_args
from chainbuild.dockerfile.facts import all_declarations
from chainbuild.errors import WrongUseError
from chainbuild.layouts.folder import BASE, STAGES, Numbered, Tree, read_option
from chainbuild.layouts.images import DOCKER_IMAGE, image_contexts, named_images
from chainbuild.model import BuildArg, Chain, Graph, ImageInput, Secret, Step, StepKind
from chainbuild.references import ImageReference, Platform
from chainbuild.shipped import minimize_program, proof_dockerfile, shipped
from chainbuild.trials import read_trial

PRODUCTION = "PRODUCTION_IMAGE"
MINIMIZED = "MINIMIZED_IMAGE"
CHAINS_ARGS = frozenset({BASE, PRODUCTION, MINIMIZED})
"""The args that the chain sets, and nobody else."""
PROGRAM = "chainbuild-minimize"
"""The named context that the program of the stages comes in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a user asked for, parsed; `repository` is where REPO's images go in the chain registry."""

    root: Path
    platforms: tuple[Platform, ...]
    repo: ImageReference
    repository: ImageReference
    tag: str
    base: ImageReference
    options: tuple[str, ...]
    production: ImageReference
    build_platform: Platform
    context: Path | None = None
    build_args: tuple[BuildArg, ...] = ()
    build_contexts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


def read(request: Request) -> Graph:
    """Translate the tree into the Graph that was asked for.

    Errors: `WrongUseError` with every problem of every option, args file and Dockerfile at once.
    """
    reader = _Reader(request)
    graph = reader.graph()
    if reader.tree.problems:
        raise WrongUseError(reader.tree.problems)
    return graph


class _Reader:
    """Reads one tree for one request and collects what is wrong on the way."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.tree = Tree(request.root)

    def graph(self) -> Graph:
        request = self.request
        chains: list[Chain] = []
        self._check_option_names()
        options = [(name, read_option(self.tree, name, request.platforms)) for name in request.options]
        stages = {name: self._read_stage(name) for name in STAGES}
        for platform in request.platforms:
            base: ImageReference | str = request.base
            for name, dockerfiles in options:
                if not dockerfiles:
                    continue
                chain = self._chain(name, dockerfiles, stages, platform, base)
                chains.append(chain)
                base = chain.result.id
        self._check_build_args()
        return Graph(repo=request.repo, chains=tuple(chains))

    def _read_stage(self, name: str) -> tuple[Path, Dockerfile] | None:
        own = self.request.root / "utilities" / f"Dockerfile-{name}"
        path = own if own.is_file() else shipped(f"utilities/Dockerfile-{name}")
        facts = self.tree.read_dockerfile(path)
        return (path, facts) if facts else None

    # Checking ---------------------------------------------------------------------------------------------------------

    def _check_option_names(self) -> None:
        seen: dict[str, str] = {}
        for option in self.request.options:
            name = (self.request.root / option).resolve().name
            if name in seen:
                self.tree.problem(
                    None,
                    f"options {seen[name]!r} and {option!r} have the same name, {name}",
                    "Their images would have the same names; rename one of the folders.",
                )
            seen[name] = option
            if not self._is_tag(f"-{name}"):
                self.tree.problem(
                    self.request.root / option,
                    f"the folder's name {name!r} cannot be a part of a tag",
                    "An option's name has letters, digits, '_', '.', '-'.",
                )

    def _is_tag(self, text: str) -> bool:
        try:
            self.request.repository.with_tag(f"x{text}")
        except WrongUseError:
            return False
        return True

    def _check_tag(self, path: Path, option: str, tag: str) -> None:
        # A TAG or an option that can be in no tag is told once, where it is said.
        if self._is_tag(self.request.tag) and self._is_tag(f"-{option}") and not self._is_tag(tag[1:]):
            self.tree.problem(
                path,
                f"its image would be called {tag!r}, which is too long for a tag",
                "A tag has 128 characters at most: shorten TAG, the option's name or the descriptor.",
            )

    def _check_build_args(self) -> None:
        names = [arg.name for arg in self.request.build_args]
        self.tree.problems.extend(unknown_args(names, self.tree.dockerfiles, path="--build-arg"))

    # Building the graph -----------------------------------------------------------------------------------------------

    def _chain(
        self,
        option: str,
        dockerfiles: tuple[Numbered, ...],
        stages: Mapping[str, tuple[Path, Dockerfile] | None],
        platform: Platform,
        base: ImageReference | str,
    ) -> Chain:
        request = self.request
        folder = request.root / option
        name = folder.resolve().name
        steps: list[Step] = []
        parent = base
        for item in dockerfiles:
            shown_name = f"{item.prefix}-{item.descriptor}"
            args = self._args_of(folder, item.descriptor, platform, {item.path: item.facts})
            steps.append(
                self._step(
                    kind=StepKind.BUILD,
                    name=shown_name,
                    option=name,
                    number=item.number,
                    platform=platform,
                    path=item.path,
                    facts=item.facts,
                    context=request.context or request.root,
                    args=args,
                    images=((BASE, parent),),
                    tag=f"{request.tag}-{name}-{shown_name}-{platform.name}",
                    test=self._test_of(folder, item.descriptor),
                )
            )
            parent = steps[-1].id
        tests = tuple(step.test for step in steps if step.test)
        minimize, production = self._stages(folder, name, stages, platform, parent, tests)
        return Chain(
            option=name,
            platform=platform,
            base=base,
            steps=tuple(steps),
            minimize=minimize,
            production=production,
            result_tag=f"{request.tag}-{name}-{platform.name}",
        )

    def _stages(
        self,
        folder: Path,
        option: str,
        stages: Mapping[str, tuple[Path, Dockerfile] | None],
        platform: Platform,
        last: ImageReference | str,
        tests: tuple[Path, ...],
    ) -> tuple[Step | None, Step | None]:
        request = self.request
        minimize, production = stages["minimize"], stages["production"]
        if minimize is None or production is None:
            return None, None
        # PRODUCTION_PACKAGES is often written into the minimize stage's args, as the practice that this layout comes
        # from does: a stage's file may hold args of either stage, and each goes to the stages that declare it.
        files = {minimize[0]: minimize[1], production[0]: production[1]}
        said = {arg.name: arg for stage in STAGES for arg in self._args_of(folder, stage, platform, files)}
        first = self._step(
            kind=StepKind.MINIMIZE,
            name="minimize",
            number=1_000_000,
            path=minimize[0],
            facts=minimize[1],
            context=minimize[0].parent,
            args=tuple(arg for arg in said.values() if arg.name in declared_args(minimize[1])),
            images=((BASE, last), (PRODUCTION, request.production)),
            parent="",
            contexts=((PROGRAM, str(minimize_program())),),
            tag=f"{request.tag}-{option}-minimized-{platform.name}",
            option=option,
            platform=platform,
        )
        second = self._step(
            kind=StepKind.PRODUCE,
            name="production",
            number=1_000_001,
            path=production[0],
            facts=production[1],
            context=production[0].parent,
            args=tuple(arg for arg in said.values() if arg.name in declared_args(production[1])),
            images=((PRODUCTION, request.production), (MINIMIZED, first.id), (BASE, last)),
            tag=f"{request.tag}-{option}-{platform.name}",
            parent=PRODUCTION,
            # The proof is a part of this step: what it runs on must be there too.
            also_reads=(proof_dockerfile(),),
            test=self._test_of(folder, "production"),
            traced=tests,
            option=option,
            platform=platform,
        )
        return first, second

    def _step(
        self,
        *,
        kind: StepKind,
        name: str,
        option: str,
        number: int,
        platform: Platform,
        path: Path,
        facts: Dockerfile,
        context: Path,
        args: tuple[BuildArg, ...],
        images: tuple[tuple[str, ImageReference | str], ...],
        tag: str,
        contexts: tuple[tuple[str, str], ...] = (),
        parent: str = BASE,
        also_reads: tuple[Dockerfile, ...] = (),
        test: Path | None = None,
        traced: tuple[Path, ...] = (),
    ) -> Step:
        request = self.request
        self._check_tag(path if kind is StepKind.BUILD else request.root / option, option, tag)
        declared = declared_args(facts)
        given = {arg.name for arg in request.build_args}
        # The command line wins over a file: it is what the user says now.
        args = tuple(arg for arg in args if arg.name not in given) + tuple(
            arg for arg in request.build_args if arg.name in declared or not unknown_args([arg.name], (), path="")
        )
        named = dict(contexts) | dict(request.build_contexts)
        return Step(
            id=f"{platform.name}/{option}/{name}",
            kind=kind,
            name=name,
            option=option,
            number=number,
            platform=platform,
            dockerfile=path,
            context=context,
            args=args,
            images=self._inputs((facts, *also_reads), images, args, named, platform),
            contexts=tuple((name, place) for name, place in named.items() if not place.startswith(DOCKER_IMAGE)),
            secrets=request.secrets,
            test=test,
            traced=traced,
            repository=request.repository,
            tag=tag,
            parent=parent,
        )

    def _inputs(
        self,
        dockerfiles: Iterable[Dockerfile],
        images: tuple[tuple[str, ImageReference | str], ...],
        args: tuple[BuildArg, ...],
        contexts: Mapping[str, str],
        platform: Platform,
    ) -> tuple[ImageInput, ...]:
        """The images that a step stands on: those that it is given, named contexts, and what its Dockerfiles name."""
        inputs = [ImageInput(name=key, source=source, platform=platform) for key, source in images]
        from_contexts, problems = image_contexts(contexts, platform)
        self.tree.problems.extend(problems)
        inputs += from_contexts
        for dockerfile in dockerfiles:
            named, problems = named_images(
                dockerfile,
                given=[key for key, _ in images],
                args={arg.name: arg.value for arg in args},
                platform=platform,
                build_platform=self.request.build_platform,
                contexts=(*contexts, PROGRAM),
            )
            self.tree.problems.extend(problems)
            inputs += [one for one in named if one.name not in {other.name for other in inputs}]
        return tuple(inputs)

    def _test_of(self, folder: Path, taker: str) -> Path | None:
        """The test beside a Dockerfile, where there is one."""
        path = folder / f"{taker}-test"
        if not path.is_file():
            return None
        self.tree.problems.extend(read_trial(path, self.tree.shown(path))[1])
        return path

    def _args_of(
        self,
        folder: Path,
        taker: str,
        platform: Platform,
        files: Mapping[Path, Dockerfile],
    ) -> tuple[BuildArg, ...]:
        """The args of a step's args file, checked against what the Dockerfiles declare."""
        present = [
            folder / f"{taker}-{spelling}-args"
            for spelling in platform.spellings
            if (folder / f"{taker}-{spelling}-args").exists()
        ]
        if not present:
            return ()
        if len(present) > 1:
            self.tree.problem(
                present[1],
                f"{present[0].name} is for the same platform, {platform.oci}",
                "Keep one of the two files.",
            )
        args, problems = read_args(present[0], self.tree.shown(present[0]), self.request.environ)
        self.tree.problems.extend(problems)
        for arg in args:
            origin, _, line = arg.origin.removesuffix(" (environment)").rpartition(":")
            where = self.request.root / origin
            if arg.name in CHAINS_ARGS:
                self.tree.problem(
                    where,
                    f"{arg.name} belongs to the chain and is set by it",
                    "Give the base image on the command line (BASE, PRODUCTION).",
                    line=int(line),
                )
            else:
                self.tree.problems.extend(unknown_args([arg.name], files.values(), path=origin, line=int(line)))
        return args


def declared_args(dockerfile: Dockerfile) -> frozenset[str]:
    """The names that a Dockerfile declares, in any stage."""
    return frozenset(declared.name for declared in all_declarations(dockerfile))
