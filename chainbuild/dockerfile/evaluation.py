"""Walk the reachable stages in order, with the values of ARG and ENV at each line, and collect all that a build reads."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from chainbuild.dockerfile.expansion import ExpansionError, TooLongError, expand
from chainbuild.dockerfile.grammar import declarations, is_heredoc
from chainbuild.dockerfile.model import ArgDeclaration, Dockerfile, ImageWordPosition, Instruction, Scope
from chainbuild.dockerfile.results import DEFAULT_PATH, Facts, How, ImageUse, LocalSources, ParentConfig, RemoteSource
from chainbuild.dockerfile.stages import NUMBER, FromTarget, ResolvedStage, StageGraph, image_use
from chainbuild.dockerfile.words import froms, may_become_remote, mount_fields
from chainbuild.errors import Problem
from chainbuild.patterns import regex

_MAIN: Final = ""
_MOST_COPIED: Final = 2_000_000
"""The limit of variables that stages inherit in total; beyond it, values are unknown and therefore in doubt."""
_REMOTE: Final = regex(r"(?:https?|git|ssh)://")
_PERHAPS_REMOTE: Final = regex(r"[A-Za-z0-9+.-]+://|[^/@:]+@[^/@:]+:|github\.com/")
_OWN_FRONTEND: Final = regex(r"(?:(?:docker\.io|index\.docker\.io)/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?")
_BUILD_PLATFORM: Final = regex(r"BUILD(?:PLATFORM|OS|ARCH|VARIANT)")
_SSH: Final = regex(r"ssh://|[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:", re.IGNORECASE)


def evaluate(dockerfile: Dockerfile, graph: StageGraph, *, args: Mapping[str, str]) -> Facts:
    """Return the facts of the reachable stages. Never raises."""
    run = _Evaluation(dockerfile=dockerfile, graph=graph, args=args)
    run.doubts.extend(graph.doubts)
    frontend = foreign_frontend(dockerfile, args)
    if frontend:
        run.doubt(f"the frontend {frontend} may read anything")
        run.foreign = True
    for index in graph.reachable:
        run.stage(graph.stages[index])
    return run.facts()


def foreign_frontend(dockerfile: Dockerfile, args: Mapping[str, str]) -> str:
    """Return the frontend that reads the Dockerfile; empty if it is Docker's own."""
    frontend = args.get("BUILDKIT_SYNTAX", "").strip().split(" ")[0] or dockerfile.syntax
    return "" if _OWN_FRONTEND.fullmatch(frontend) else frontend


class _Reads(Struct):
    patterns: set[str] = field(default_factory=set)
    required: dict[str, int] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    with_parents: bool = False

    def result(self, doubts: list[str], *, foreign: bool) -> LocalSources:
        reasons = tuple(dict.fromkeys((*doubts, *self.doubts)))
        patterns = (".",) if "." in self.patterns else tuple(sorted(self.patterns))
        return LocalSources(
            patterns=patterns,
            required=tuple(sorted(self.required)),
            everything=bool(reasons) or "." in self.patterns,
            doubts=reasons,
            with_parents=self.with_parents,
            past_ignore=foreign,
        )


class _Evaluation(Struct):
    dockerfile: Dockerfile
    graph: StageGraph
    args: Mapping[str, str]
    scopes: dict[int, Scope] = field(default_factory=dict)
    environs: dict[int, dict[str, str] | None] = field(default_factory=dict)
    """The environment in the config of each stage; None if it is unknown."""
    reads: dict[str, _Reads] = field(default_factory=dict)
    images: list[ImageUse] = field(default_factory=list)
    remotes: list[RemoteSource] = field(default_factory=list)
    secrets: dict[str, None] = field(default_factory=dict)
    ssh: dict[str, None] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    older_args: dict[str, int] = field(default_factory=dict)
    copied: int = 0
    foreign: bool = False

    def doubt(self, reason: str) -> None:
        """Record a reason why any part of any context may be read."""
        self.doubts.append(reason)

    def stage(self, resolved: ResolvedStage) -> None:
        if resolved.replaced_by:
            self.of(resolved.replaced_by).patterns.add(".")
            return
        if use := image_use(resolved):
            self.images.append(use)
        if resolved.origin.kind == "context":
            self.of(resolved.origin.name).patterns.add(".")
        if resolved.unseen_parent:
            self.doubt(f"line {resolved.stage.line}: ONBUILD triggers of {resolved.origin.name} are unknown")
        scope = self.first_scope(resolved)
        self.environs[resolved.stage.index] = self.first_environ(resolved, scope)
        for result in resolved.instructions:
            self.instruction(result, resolved, scope)
        self.scopes[resolved.stage.index] = scope

    def first_scope(self, resolved: ResolvedStage) -> Scope:
        """Return the variables at the start of a stage: those of the stage or image that it is based on."""
        origin = resolved.origin
        if origin.kind == "stage":
            inherited = self.scopes.get(origin.index)
            self.copied += len(inherited.env) if inherited else 0
            if inherited is None or self.copied > _MOST_COPIED:
                return Scope({}, set(), open=True)
            return inherited.copy()
        config: ParentConfig | None = ParentConfig() if origin.kind == "scratch" else None
        if config is None:
            config = self.graph.parents.get((origin.name, resolved.platform))
        if config is None:
            return Scope({}, set(), open=True)
        env = dict(entry.partition("=")[::2] for entry in config.env)
        scope = Scope(env, set(), open=False)
        if "PATH" not in env:
            # BuildKit before 0.19 sets a PATH in Windows stages, too.
            windows = resolved.platform.startswith("windows/")
            scope.set("PATH", "" if windows else DEFAULT_PATH, doubtful=windows)
        return scope

    def first_environ(self, resolved: ResolvedStage, scope: Scope) -> dict[str, str] | None:
        """Return the environment at the start of a stage, in which ARGs of the stage below do not count."""
        if resolved.origin.kind != "stage":
            return None if scope.open or scope.uncertain else dict(scope.env)
        below = None if scope.open else self.environs.get(resolved.origin.index)
        return None if below is None else dict(below)

    def of(self, context: str) -> _Reads:
        return self.reads.setdefault(context, _Reads())

    def instruction(self, instruction: Instruction, resolved: ResolvedStage, scope: Scope) -> None:
        if instruction.keyword == "ARG":
            self.arg(instruction, scope)
        elif instruction.keyword == "ENV":
            self.env(instruction, resolved, scope)
        elif instruction.keyword in {"COPY", "ADD"}:
            self.copy(instruction, resolved, scope)
        elif instruction.keyword == "RUN":
            self.run(instruction, resolved, scope)

    def expand(self, text: str, line: int, scope: Scope) -> tuple[str, bool]:
        """Return the expanded text, and whether it is in doubt."""
        try:
            expanded = expand(text, scope.env, escape=self.dockerfile.escape)
        except TooLongError:
            return "", True
        except ExpansionError as error:
            self.problems.append(Problem(path=self.dockerfile.path, line=line, message=f"{text!r}: {error}"))
            return "", True
        return expanded.text, scope.doubtful(expanded)

    def arg(self, instruction: Instruction, scope: Scope) -> None:
        """ARG: a build arg overrides the default; a bare name takes the global value. Applies to the lines below.

        BuildKit since 0.14 sets the names of a line one after another. Older releases also expand the names, and expand
        every default with the variables before the line. A variable is uncertain if the two differ.
        """
        declared = declarations(instruction)
        older = [self.older_arg(arg, scope) for arg in declared]
        for arg, (name, older_value, older_doubtful) in zip(declared, older, strict=True):
            if name != arg.name:
                self.older_args.setdefault(name, instruction.line)
                scope.uncertain.add(name)
            if arg.name in self.args:
                value, doubtful = self.args[arg.name], False
            elif arg.default is not None:
                value, doubtful = self.expand(arg.default, instruction.line, scope)
                doubtful |= older_doubtful or older_value != value
            elif arg.name in self.graph.scope.env:
                value, doubtful = self.graph.scope.env[arg.name], not self.graph.scope.is_certain(arg.name)
            elif self.graph.scope.is_certain(arg.name):
                continue
            else:
                scope.uncertain.add(arg.name)
                continue
            scope.set(arg.name, value, doubtful=doubtful)

    def older_arg(self, arg: ArgDeclaration, scope: Scope) -> tuple[str, str, bool]:
        """Return the name and default of an ARG in BuildKit before 0.14, and whether the default is in doubt.

        Both are expanded with the variables before the line.
        """
        name = arg.name
        if not name.isidentifier():
            name, unknown = self.quietly(name, scope)
            if unknown:
                scope.doubt_all()
        return (name, *self.quietly(arg.default or "", scope))

    def quietly(self, text: str, scope: Scope) -> tuple[str, bool]:
        """Return the text expanded in a scope, and whether it is in doubt; empty if it cannot be expanded."""
        try:
            expanded = expand(text, scope.env, escape=self.dockerfile.escape)
        except ExpansionError:
            return "", True
        return expanded.text, scope.doubtful(expanded)

    def env(self, instruction: Instruction, resolved: ResolvedStage, scope: Scope) -> None:
        """ENV: all names and values are expanded with the variables before the line."""
        if instruction.words and "=" not in instruction.words[0]:
            pairs = [(instruction.words[0], instruction.rest[len(instruction.words[0]) :].lstrip("\t\v\f\r "))]
        else:
            split = [word.partition("=") for word in instruction.words]
            pairs = [(name, text) for name, equals, text in split if equals]
        values = [
            (*self.expand(name, instruction.line, scope), *self.expand(text, instruction.line, scope))
            for name, text in pairs
        ]
        environ = self.environs[resolved.stage.index]
        for name, unknown, value, doubtful in values:
            if unknown:
                scope.doubt_all()
            else:
                scope.set(name, value, doubtful=doubtful)
            if unknown or doubtful or environ is None:
                self.environs[resolved.stage.index] = environ = None
            else:
                environ[name] = value

    def copy(self, instruction: Instruction, resolved: ResolvedStage, scope: Scope) -> None:
        """COPY and ADD: collect their local sources, source images and stages, and URLs."""
        origins = self.origins(instruction, resolved)
        if instruction.keyword == "COPY" and origins and origins[0].kind != "context":
            return
        context = origins[0].name if origins else _MAIN
        reads = self.of(context)
        parents = instruction.flag("parents")
        with_parents = parents is not None and parents.lower() != "false"
        reads.with_parents |= with_parents
        if instruction.older:
            reads.doubts.append(
                f"line {instruction.line}: BuildKit before 0.15 reads this as the JSON form and ignores the rest of the line"
            )
        checksum, unknown_checksum = self.expand(instruction.flag("checksum") or "", instruction.line, scope)
        if unknown_checksum:
            checksum = ""
        for word in instruction.words[:-1]:
            if is_heredoc(word):
                continue
            source, doubtful = self.expand(word, instruction.line, scope)
            if doubtful:
                reads.doubts.append(f"line {instruction.line}: the value of {word!r} is not certain")
                if instruction.keyword == "ADD" and may_become_remote(word):
                    self.remotes.append(RemoteSource(url=word, checksum="", line=instruction.line, certain=False))
                continue
            if instruction.keyword == "ADD" and _PERHAPS_REMOTE.match(source):
                self.remotes.append(RemoteSource(url=source, checksum=checksum, line=instruction.line))
                if _SSH.match(source):
                    self.ssh["default"] = None
                if _REMOTE.match(source):
                    continue
            self.take(context, source, instruction.line, required=not with_parents)

    def take(self, context: str, source: str, line: int, *, required: bool) -> None:
        """Record a source, and whether a builder rejects it if it does not exist."""
        pattern = clean_source(source)
        reads = self.of(context)
        reads.patterns.add(pattern)
        if required and pattern != ".":
            reads.required.setdefault(pattern, line)

    def origins(self, instruction: Instruction, resolved: ResolvedStage) -> list[FromTarget]:
        """Return the targets of an instruction's `--from` or of its mounts' `from=`, and record the images."""
        return [self.origin(name, how, place, instruction, resolved) for name, how, place in froms(instruction)]

    def origin(
        self, name: str, how: How, place: ImageWordPosition | None, instruction: Instruction, resolved: ResolvedStage
    ) -> FromTarget:
        number = NUMBER.fullmatch(name)
        origin = self.graph.find(name, "COPY --from" if how == "COPY --from" else "RUN --mount")
        if how == "COPY --from" and number and not 0 <= int(name) < len(self.graph.stages):
            count = len(self.graph.stages)
            self.wrong(instruction.line, f"no such stage: {name}", f"Use a number from 0 to {count - 1}, or a name.")
        elif "$" in name[:-1] or (how == "COPY --from" and "$" in name):
            hint = "Add a stage for the image: FROM $IMAGE AS name."
            self.wrong(instruction.line, f"from={name}: BuildKit does not expand variables here", hint)
        elif origin.kind == "image":
            if number and 0 <= int(name) < len(self.graph.stages):
                hint = "Name the stage: FROM … AS name."
                self.wrong(instruction.line, f"from={name}: a mount cannot refer to a stage by number", hint)
            self.images.append(
                ImageUse(
                    reference=name, platform=self.graph.target_platform, line=instruction.line, how=how, place=place
                )
            )
        elif origin.kind == "stage":
            self.check_order(origin, name, instruction, resolved)
        return origin

    def wrong(self, line: int, message: str, hint: str) -> None:
        self.problems.append(Problem(path=self.dockerfile.path, line=line, message=message, hint=hint))

    def check_order(self, origin: FromTarget, name: str, instruction: Instruction, resolved: ResolvedStage) -> None:
        if origin.index < resolved.stage.index:
            return
        where = "is this stage itself" if origin.index == resolved.stage.index else "comes later"
        self.wrong(instruction.line, f"the stage {name!r} {where}", "Copy only from stages above it.")

    def run(self, instruction: Instruction, resolved: ResolvedStage, scope: Scope) -> None:
        """RUN: collect its mounts."""
        origins = iter(self.origins(instruction, resolved))
        for value in instruction.flag_values("mount"):
            fields = mount_fields(value)
            origin = next(origins) if fields.get("from") else FromTarget(kind="context", name=_MAIN)
            texts = {key: self.expand(text, instruction.line, scope) for key, text in fields.items() if key != "from"}
            kind, kind_in_doubt = texts.get("type", ("bind", False))
            source, in_doubt = texts.get("source", ("", False))
            target, _ = texts.get("target", ("", False))
            name, _ = texts.get("id", ("", False))
            kind = kind.lower()
            if kind_in_doubt:
                self.doubt(f"line {instruction.line}: the type of the mount {value!r} is not certain")
            elif kind == "secret":
                self.secrets[source or name or posixpath.basename(target)] = None
                continue
            elif kind == "ssh":
                self.ssh[name or "default"] = None
                continue
            elif kind == "tmpfs" or (kind == "cache" and not fields.get("from")):
                continue
            if origin.kind != "context":
                continue
            if in_doubt:
                self.of(origin.name).doubts.append(f"line {instruction.line}: the source of {value!r} is not certain")
            else:
                self.take(origin.name, source, instruction.line, required=True)

    def facts(self) -> Facts:
        reached = set(self.graph.reachable)
        declared = {arg.name: arg.line for arg in reversed(self.dockerfile.global_args)} | self.older_args
        unreachable: dict[str, int] = {}
        for resolved in self.graph.stages:
            index = resolved.stage.index
            into = declared if index in reached and not resolved.replaced_by else unreachable
            for result in resolved.instructions:
                for arg in declarations(result) if result.keyword == "ARG" else ():
                    into.setdefault(arg.name, arg.line)
        main = self.of(_MAIN).result(self.doubts, foreign=self.foreign)
        named = {
            name: reads.result(self.doubts, foreign=self.foreign) for name, reads in self.reads.items() if name != _MAIN
        }
        if self.doubts:
            for name in self.graph.contexts:
                named.setdefault(name, _Reads().result(self.doubts, foreign=self.foreign))
        target = self.graph.target
        environ = self.environs.get(target)
        every_doubt = dict.fromkeys(
            (*self.doubts, *(doubt for sources in (main, *named.values()) for doubt in sources.doubts))
        )
        return Facts(
            reachable=self.graph.reachable,
            images=tuple(dict.fromkeys(self.images)),
            sources=main,
            named_sources=tuple(sorted(named.items(), key=lambda item: item[0])),
            remotes=tuple(dict.fromkeys(self.remotes)),
            declared_args=declared,
            unreachable_args={name: line for name, line in unreachable.items() if name not in declared},
            secrets=tuple(sorted(self.secrets)),
            ssh=tuple(sorted(self.ssh)),
            onbuild=self.graph.stages[target].onbuild if 0 <= target < len(self.graph.stages) else (),
            env=None if environ is None else tuple(f"{name}={value}" for name, value in environ.items()),
            variables=dict(self.scopes[target].env) if target in self.scopes else {},
            build_platform_counts=self.build_platform_counts(),
            foreign=self.foreign,
            source_lines={
                (name, pattern): line for name, reads in self.reads.items() for pattern, line in reads.required.items()
            },
            doubts=tuple(every_doubt),
            problems=(*self.graph.problems, *self.problems),
        )

    def build_platform_counts(self) -> bool:
        texts = [arg.default or "" for arg in self.dockerfile.global_args]
        for index in self.graph.reachable:
            resolved = self.graph.stages[index]
            # `FROM --platform=$BUILDPLATFORM` only sets where a stage runs, to avoid emulation; its result is for the
            # target. If it counted, machines of different kinds could not share a result.
            texts.append(resolved.stage.base)
            texts += [result.original for result in resolved.instructions]
        return self.foreign or any(_BUILD_PLATFORM.search(text) for text in texts)


def clean_source(source: str) -> str:
    """Return a source as a normalized path below the context's root: `/a/../b/` is `b`, `../x` is `x`, `/` is `.`."""
    cleaned = posixpath.normpath("/" + source).lstrip("/")
    return cleaned or "."
