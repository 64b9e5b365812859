"""Numbered chains: an option is a folder of `NN-Dockerfile-<descriptor>` files, with `<descriptor>-<platform>-args`.

Each step gets its parent as a build argument, usually `BASE_IMAGE`. A chain ends with the stages `minimize` and
`production`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from msgspec import Struct, field

from chainbuild.dockerfile import Dockerfile, unknown_args
from chainbuild.dockerfile.facts import declared_args, is_undeclared
from chainbuild.dockerfile.images import DOCKER_IMAGE, all_images, image_contexts, is_image
from chainbuild.errors import WrongUseError
from chainbuild.host.package_data import PROGRAM, minimize_program
from chainbuild.layouts.numbered_folder import BASE, STAGES, ChainFolder, Numbered, find_args_file, read_option
from chainbuild.layouts.stage_files import MINIMIZED, PRODUCTION, StageFiles, proof_dockerfile, read_stage_files
from chainbuild.layouts.test_files import read_image_test
from chainbuild.model import Ask, BuildArg, Chain, Graph, ImageInput, Publication, Secret, Step, StepKind
from chainbuild.parsing.args_files import read_args
from chainbuild.parsing.stage_args import args_for, merge, packages_for_scratch, place_of
from chainbuild.references import ImageReference, Platform
from chainbuild.step_id import StepId
from chainbuild.values import replace

CHAINS_ARGS = frozenset({BASE, PRODUCTION, MINIMIZED})
"""The args that only the chain sets."""


class NumberedRequest(Struct, frozen=True, kw_only=True):
    """The parsed request of the user; `repository` is the place of REPO's images in the chain registry."""

    root: Path
    platforms: tuple[Platform, ...]
    repo: ImageReference
    repository: ImageReference
    tag: str
    base: ImageReference
    options: tuple[str, ...]
    production: ImageReference
    build_platform: Platform
    base_arg: str = ""
    """The ARG that takes the parent in every Dockerfile. Empty: `BASE_IMAGE`, or the one that a Dockerfile uses instead."""
    context: Path | None = None
    build_args: tuple[BuildArg, ...] = ()
    build_contexts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


def read(request: NumberedRequest) -> Graph:
    """Translate the tree into the requested Graph.

    Errors: `WrongUseError` with every problem of every option, args file and Dockerfile.
    """
    reader = _Reader(request)
    graph = reader.graph()
    if reader.tree.problems:
        raise WrongUseError(reader.tree.problems)
    return graph


class _Reader:
    """Reads a tree for a request, and collects problems."""

    def __init__(self, request: NumberedRequest) -> None:
        self.request = request
        self.tree = ChainFolder(request.root)

    def graph(self) -> Graph:
        request = self.request
        chains: list[Chain] = []
        self._check_option_names()
        options = [(name, self._dockerfiles(name)) for name in request.options]
        files = {platform: self._stage_files(platform) for platform in request.platforms}
        asked = {
            (name, platform): self._stage_args(request.root / name, files[platform], platform)
            for name, dockerfiles in options
            for platform in request.platforms
            if dockerfiles
        }
        for platform in request.platforms:
            base: ImageReference | StepId = request.base
            below: tuple[Ask, ...] = ()
            for name, dockerfiles in options:
                if not dockerfiles:
                    continue
                chain = self._chain(name, dockerfiles, platform, base)
                chain = replace(chain, stage_args=asked[name, platform])
                if stages := files[platform]:
                    chain = self._with_stages(chain, request.root / name, stages, below)
                chains.append(chain)
                base, below = chain.result.id, chain.asks
        self._check_build_args(item for _, dockerfiles in options for item in dockerfiles)
        return Graph(repo=request.repo, chains=tuple(chains), notes=tuple(self.tree.notes))

    def _dockerfiles(self, option: str) -> tuple[Numbered, ...]:
        """Return the Dockerfiles of an option. The FROM of the very first one may be BASE itself."""
        request = self.request
        first = option == request.options[0]
        return read_option(
            self.tree,
            option,
            request.platforms,
            request.base_arg,
            accept_base=lambda base: first and is_image(base, request.base),
        )

    def _stage_files(self, platform: Platform) -> StageFiles | None:
        return read_stage_files(
            self.tree,
            platform=platform,
            build_platform=self.request.build_platform,
            contexts=[name for name, _ in self.request.build_contexts],
            options=self.request.options,
        )

    def _stage_args(self, folder: Path, files: StageFiles | None, platform: Platform) -> tuple[BuildArg, ...]:
        """Return the args of an option for the stages; the file of either stage may have args of both.

        PRODUCTION_PACKAGES is often set in the args of the minimize stage, as in the scripts that this layout comes from.
        Args that no stage declares (a proxy) are left out.
        """
        if files is None:
            return ()
        stages = {file.path: file.facts for file in (files.minimize, files.production)}
        args = {arg.name: arg for stage in STAGES for arg in self._args_of(folder, stage, platform, stages)}
        # The command line overrides the file.
        args |= {arg.name: arg for arg in self.request.build_args}
        declared = frozenset[str]().union(*(declared_args(facts) for facts in stages.values()))
        return tuple(arg for name, arg in args.items() if name in declared)

    # Checking ---------------------------------------------------------------------------------------------------------

    def _check_option_names(self) -> None:
        seen: dict[str, str] = {}
        for option in self.request.options:
            name = (self.request.root / option).resolve().name
            if name in seen:
                self.tree.problem(
                    None,
                    f"options {seen[name]!r} and {option!r} have the same name, {name}",
                    "Rename one of the folders: their images would have the same names.",
                )
            seen[name] = option
            if not self._is_tag(f"-{name}"):
                self.tree.problem(
                    self.request.root / option,
                    f"the folder name {name!r} cannot be part of a tag",
                    "Rename it: use letters, digits, '_', '.' and '-'.",
                )

    def _is_tag(self, text: str) -> bool:
        try:
            self.request.repository.with_tag(f"x{text}")
        except WrongUseError:
            return False
        return True

    def _check_tag(self, path: Path, option: str, tag: str) -> None:
        # An invalid TAG or option is reported once, where it is given.
        if self._is_tag(self.request.tag) and self._is_tag(f"-{option}") and not self._is_tag(tag[1:]):
            self.tree.problem(
                path,
                f"the tag of its image is too long: {tag!r}",
                "Shorten TAG, the option's name or the descriptor: a tag has at most 128 characters.",
            )

    def _check_build_args(self, dockerfiles: Iterable[Numbered]) -> None:
        names = [arg.name for arg in self.request.build_args]
        self.tree.problems.extend(unknown_args(names, self.tree.dockerfiles, path="--build-arg"))
        base_args = {item.base_arg: item for item in dockerfiles}
        for name in names:
            if name in base_args:
                self.tree.problem(
                    None,
                    f"--build-arg: {name} takes the base image in {self.tree.shown(base_args[name].path)}",
                    "Give the image as BASE.",
                )

    # Building the graph -----------------------------------------------------------------------------------------------

    def _chain(
        self, option: str, dockerfiles: tuple[Numbered, ...], platform: Platform, base: ImageReference | StepId
    ) -> Chain:
        request = self.request
        folder = request.root / option
        name = folder.resolve().name
        steps: list[Step] = []
        parent = base
        for item in dockerfiles:
            args = self._args_of(
                folder, item.name.taker, platform, {item.path: item.facts}, reserved=CHAINS_ARGS | {item.base_arg}
            )
            steps.append(
                self._step(
                    kind=StepKind.BUILD,
                    name=item.name.step,
                    option=name,
                    number=item.name.number,
                    platform=platform,
                    path=item.path,
                    facts=item.facts,
                    context=request.context or item.context or request.root,
                    args=self._with_build_args(args, declared_args(item.facts)),
                    images=((item.base_arg, parent),) if item.base_arg else (),
                    parent=item.base_arg or item.base,
                    target=item.target,
                    tag=f"{request.tag}-{name}-{item.name.step}-{platform.name}",
                    test=self._test_of(folder, item.name.taker),
                )
            )
            parent = steps[-1].id
        return Chain(
            option=name,
            platform=platform,
            base=base,
            steps=tuple(steps),
        )

    def _with_stages(self, chain: Chain, folder: Path, files: StageFiles, below: tuple[Ask, ...]) -> Chain:
        """Return the chain with its stages, and with the args that the options `below` and its own pass to them.

        The inherited args of BASE, and whether all removed args were set before, are known when BASE is found
        (`inheritance`).
        """
        request, platform, last = self.request, chain.platform, chain.last.id
        asks = merge(below, chain.stage_args, chain.option).asks
        minimize, production = (
            self._with_build_args(
                args_for(asks, declared_args(file.facts), chain.option, plain=not file.knows_lists), ()
            )
            for file in (files.minimize, files.production)
        )
        if request.production.is_scratch:
            self.tree.problems.extend(packages_for_scratch(production))
        names = self._publication(chain.option, platform)
        first = self._step(
            kind=StepKind.MINIMIZE,
            name="minimize",
            number=1_000_000,
            path=files.minimize.path,
            facts=files.minimize.facts,
            context=files.minimize.path.parent,
            args=minimize,
            images=((BASE, last), (PRODUCTION, request.production)),
            parent="",
            contexts=((PROGRAM, str(minimize_program())),),
            tag=f"{request.tag}-{chain.option}-minimized-{platform.name}",
            option=chain.option,
            platform=platform,
            target=files.minimize.target,
        )
        second = self._step(
            kind=StepKind.PRODUCE,
            name="production",
            number=1_000_001,
            path=files.production.path,
            facts=files.production.facts,
            context=files.production.path.parent,
            args=production,
            images=((PRODUCTION, request.production), (MINIMIZED, first.id), (BASE, last)),
            tag=names.tag,
            parent=PRODUCTION,
            # The proof is a part of this step, so the images that it needs are inputs, too.
            also_reads=(proof_dockerfile(),),
            test=self._test_of(folder, "production"),
            traced=tuple(step.test for step in chain.steps if step.test),
            option=chain.option,
            platform=platform,
            target=files.production.target,
        )
        second = replace(second, handed=files.handed)
        return replace(chain, minimize=first, production=second, asks=asks, publication=names)

    def _publication(self, option: str, platform: Platform) -> Publication:
        tag, home = f"{self.request.tag}-{option}", self.request.repository
        return Publication(platform=platform, index_tag=tag, home=home, local_tag=f"{tag}-{platform.name}")

    def _with_build_args(self, args: tuple[BuildArg, ...], declared: Collection[str]) -> tuple[BuildArg, ...]:
        """Return the args of a file and those of the command line, which override them.

        A step gets the args that it has `declared`, and those that BuildKit uses undeclared.
        """
        values = {arg.name for arg in self.request.build_args if arg.name in declared or is_undeclared(arg.name)}
        return tuple(arg for arg in args if arg.name not in values) + tuple(
            arg for arg in self.request.build_args if arg.name in values
        )

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
        images: tuple[tuple[str, ImageReference | StepId], ...],
        tag: str,
        contexts: tuple[tuple[str, str], ...] = (),
        parent: str = BASE,
        also_reads: tuple[Dockerfile, ...] = (),
        test: Path | None = None,
        target: str | None = None,
        traced: tuple[Path, ...] = (),
    ) -> Step:
        request = self.request
        self._check_tag(path if kind is StepKind.BUILD else request.root / option, option, tag)
        named = dict(contexts) | dict(request.build_contexts)
        return Step(
            id=StepId(platform.name, option, name),
            kind=kind,
            name=name,
            option=option,
            number=number,
            platform=platform,
            dockerfile=path,
            context=context,
            context_can_change=kind is StepKind.BUILD,
            args=args,
            images=self._inputs((facts, *also_reads), images, args, named, platform, target),
            contexts=tuple((name, place) for name, place in named.items() if not place.startswith(DOCKER_IMAGE)),
            secrets=request.secrets,
            target=target,
            test=test,
            traced=traced,
            repository=request.repository,
            tag=tag,
            parent=parent,
        )

    def _inputs(
        self,
        dockerfiles: Iterable[Dockerfile],
        images: tuple[tuple[str, ImageReference | StepId], ...],
        args: tuple[BuildArg, ...],
        contexts: Mapping[str, str],
        platform: Platform,
        target: str | None,
    ) -> tuple[ImageInput, ...]:
        """Return the images of a step: those that it is given, named contexts, and those that its Dockerfiles name."""
        own = [ImageInput(name=key, source=source, platform=platform) for key, source in images]
        from_contexts, problems = image_contexts(contexts, platform)
        self.tree.problems.extend(problems)
        inputs, problems = all_images(
            (*own, *from_contexts),
            dockerfiles,
            args={arg.name: arg.value for arg in args},
            platform=platform,
            build_platform=self.request.build_platform,
            contexts=(*contexts, PROGRAM),
            target=target,
        )
        self.tree.problems.extend(problems)
        return inputs

    def _test_of(self, folder: Path, taker: str) -> Path | None:
        """Return the test next to a Dockerfile, if there is one."""
        path = folder / f"{taker}-test"
        if not path.is_file():
            return None
        self.tree.problems.extend(read_image_test(path, self.tree.shown(path))[1])
        return path

    def _args_of(
        self,
        folder: Path,
        taker: str,
        platform: Platform,
        files: Mapping[Path, Dockerfile],
        reserved: Collection[str] = CHAINS_ARGS,
    ) -> tuple[BuildArg, ...]:
        """Return the args of a step's args file, checked against the ARGs of the Dockerfiles."""
        path = find_args_file(self.tree, folder, taker, platform)
        if path is None:
            return ()
        args, problems = read_args(path, self.tree.shown(path), self.request.environ)
        self.tree.problems.extend(problems)
        for arg in args:
            origin, line = place_of(arg.origin)
            if arg.name in reserved:
                self.tree.problem(
                    self.request.root / origin,
                    f"{arg.name} is set by the chain and cannot be set here",
                    "Set the base image on the command line (BASE, PRODUCTION).",
                    line=line,
                )
            else:
                self.tree.problems.extend(unknown_args([arg.name], files.values(), path=origin, line=line))
        return args
