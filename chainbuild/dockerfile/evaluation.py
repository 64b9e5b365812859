"""Walks the reachable stages in order, with the variables as they are at each line, and notes what is read."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from chainbuild.dockerfile.expansion import ExpansionError, TooLongError, expand
from chainbuild.dockerfile.grammar import declarations, heredoc_word
from chainbuild.dockerfile.model import ArgDeclaration, Dockerfile, ImageWordPosition, Instruction, Scope
from chainbuild.dockerfile.results import DEFAULT_PATH, Facts, How, ImageUse, LocalSources, ParentConfig, RemoteSource
from chainbuild.dockerfile.stages import NUMBER, FromTarget, ResolvedStage, StageGraph, image_use
from chainbuild.dockerfile.words import froms, mount_fields
from chainbuild.errors import Problem

_MAIN: Final = ""
_MOST_COPIED: Final = 2_000_000
"""How many variables stages inherit in all; what comes after that is not worked out, and so in doubt."""
_REMOTE: Final = re.compile(r"(?:https?|git|ssh)://")
_PERHAPS_REMOTE: Final = re.compile(r"[A-Za-z0-9+.-]+://|[^/@:]+@[^/@:]+:|github\.com/")
_OWN_FRONTEND: Final = re.compile(r"(?:(?:docker\.io|index\.docker\.io)/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?")
_BUILD_PLATFORM: Final = re.compile(r"BUILD(?:PLATFORM|OS|ARCH|VARIANT)")
_ADDRESSES: Final = ("http://", "https://", "git://", "ssh://", "github.com/")
_SSH: Final = re.compile(r"ssh://|[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:", re.IGNORECASE)


def evaluate(dockerfile: Dockerfile, graph: StageGraph, *, args: Mapping[str, str]) -> Facts:
    """The facts of the reachable stages. Never raises."""
    run = _Evaluation(dockerfile=dockerfile, graph=graph, args=args)
    run.doubts.extend(graph.doubts)
    frontend = args.get("BUILDKIT_SYNTAX", "").strip().split(" ")[0] or dockerfile.syntax
    if frontend and not _OWN_FRONTEND.fullmatch(frontend):
        run.doubt(f"the frontend {frontend} may read anything")
        run.foreign = True
    for index in graph.reachable:
        run.stage(graph.stages[index])
    return run.facts()


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
        """Something may read any part of any context."""
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
            self.doubt(f"line {resolved.stage.line}: {resolved.origin.name} was not looked into for ONBUILD triggers")
        scope = self.first_scope(resolved)
        for found in resolved.instructions:
            self.instruction(found, resolved, scope)
        self.scopes[resolved.stage.index] = scope

    def first_scope(self, resolved: ResolvedStage) -> Scope:
        """The variables that a stage begins with: those of the stage or image that it starts from."""
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
            # Releases before 0.19 give a stage for Windows a PATH, too.
            windows = resolved.platform.startswith("windows/")
            scope.set("PATH", "" if windows else DEFAULT_PATH, doubtful=windows)
        return scope

    def of(self, context: str) -> _Reads:
        return self.reads.setdefault(context, _Reads())

    def instruction(self, found: Instruction, resolved: ResolvedStage, scope: Scope) -> None:
        if found.keyword == "ARG":
            self.arg(found, scope)
        elif found.keyword == "ENV":
            self.env(found, scope)
        elif found.keyword in {"COPY", "ADD"}:
            self.copy(found, resolved, scope)
        elif found.keyword == "RUN":
            self.run(found, resolved, scope)

    def expand(self, text: str, line: int, scope: Scope) -> tuple[str, bool]:
        """The expanded text, and whether it is in doubt."""
        try:
            expanded = expand(text, scope.env, escape=self.dockerfile.escape)
        except TooLongError:
            return "", True
        except ExpansionError as error:
            self.problems.append(Problem(path=self.dockerfile.path, line=line, message=f"{text!r}: {error}"))
            return "", True
        return expanded.text, scope.doubtful(expanded)

    def arg(self, found: Instruction, scope: Scope) -> None:
        """ARG: a build arg beats the default, a bare name takes the global value. It holds for what follows.

        Releases since 0.14 give one name after the other its value; older ones expand the names too, and every default
        with the variables from before the line. Where the two differ the variable is uncertain.
        """
        declared = declarations(found)
        older = [self.older_arg(arg, scope) for arg in declared]
        for arg, (name, older_value, older_doubtful) in zip(declared, older, strict=True):
            if name != arg.name:
                self.older_args.setdefault(name, found.line)
                scope.uncertain.add(name)
            if arg.name in self.args:
                value, doubtful = self.args[arg.name], False
            elif arg.default is not None:
                value, doubtful = self.expand(arg.default, found.line, scope)
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
        """The name and the default that releases before 0.14 give an ARG, and whether the default is in doubt.

        Both are expanded with the variables from before the line.
        """
        name = arg.name
        if not name.isidentifier():
            name, unknown = self.quietly(name, scope)
            if unknown:
                scope.doubt_all()
        return (name, *self.quietly(arg.default or "", scope))

    def quietly(self, text: str, scope: Scope) -> tuple[str, bool]:
        """The text expanded in a scope, and whether it is in doubt; empty if it cannot be expanded."""
        try:
            expanded = expand(text, scope.env, escape=self.dockerfile.escape)
        except ExpansionError:
            return "", True
        return expanded.text, scope.doubtful(expanded)

    def env(self, found: Instruction, scope: Scope) -> None:
        """ENV: all names and values are expanded with the variables from before the line."""
        if found.words and "=" not in found.words[0]:
            pairs = [(found.words[0], found.rest[len(found.words[0]) :].lstrip("\t\v\f\r "))]
        else:
            split = [word.partition("=") for word in found.words]
            pairs = [(name, text) for name, equals, text in split if equals]
        values = [
            (*self.expand(name, found.line, scope), *self.expand(text, found.line, scope)) for name, text in pairs
        ]
        for name, unknown, value, doubtful in values:
            if unknown:
                scope.doubt_all()
            else:
                scope.set(name, value, doubtful=doubtful)

    def copy(self, found: Instruction, resolved: ResolvedStage, scope: Scope) -> None:
        """COPY and ADD: their local sources, the images and stages that they take from, their URLs."""
        origins = self.origins(found, resolved)
        if found.keyword == "COPY" and origins and origins[0].kind != "context":
            return
        context = origins[0].name if origins else _MAIN
        reads = self.of(context)
        parents = found.flag("parents")
        with_parents = parents is not None and parents.lower() != "false"
        reads.with_parents |= with_parents
        if found.older:
            reads.doubts.append(
                f"line {found.line}: BuildKit before 0.15 reads the JSON form and ignores what follows it"
            )
        checksum, unknown_checksum = self.expand(found.flag("checksum") or "", found.line, scope)
        if unknown_checksum:
            checksum = ""
        for word in found.words[:-1]:
            if _is_heredoc(word):
                continue
            source, doubtful = self.expand(word, found.line, scope)
            if doubtful:
                reads.doubts.append(f"line {found.line}: what {word!r} stands for is not certain")
                if found.keyword == "ADD" and _may_become_remote(word):
                    self.remotes.append(RemoteSource(url=word, checksum="", line=found.line, certain=False))
                continue
            if found.keyword == "ADD" and _PERHAPS_REMOTE.match(source):
                self.remotes.append(RemoteSource(url=source, checksum=checksum, line=found.line))
                if _SSH.match(source):
                    self.ssh["default"] = None
                if _REMOTE.match(source):
                    continue
            self.take(context, source, found.line, required=not with_parents)

    def take(self, context: str, source: str, line: int, *, required: bool) -> None:
        """Note a source, and whether a builder refuses it if it leads nowhere."""
        pattern = clean_source(source)
        reads = self.of(context)
        reads.patterns.add(pattern)
        if required and pattern != ".":
            reads.required.setdefault(pattern, line)

    def origins(self, found: Instruction, resolved: ResolvedStage) -> list[FromTarget]:
        """What the `--from` or the mounts' `from=` of an instruction mean; notes the images."""
        return [self.origin(name, how, place, found, resolved) for name, how, place in froms(found)]

    def origin(
        self, name: str, how: How, place: ImageWordPosition | None, found: Instruction, resolved: ResolvedStage
    ) -> FromTarget:
        number = NUMBER.fullmatch(name)
        origin = self.graph.find(name, "COPY --from" if how == "COPY --from" else "RUN --mount")
        if how == "COPY --from" and number and not 0 <= int(name) < len(self.graph.stages):
            count = len(self.graph.stages)
            self.wrong(found.line, f"there is no stage {name}", f"Stages are counted from 0 to {count - 1}.")
        elif "$" in name[:-1] or (how == "COPY --from" and "$" in name):
            hint = "Give the image a stage of its own: FROM $IMAGE AS name."
            self.wrong(found.line, f"BuildKit expands no variable in from={name}", hint)
        elif origin.kind == "image":
            if number and 0 <= int(name) < len(self.graph.stages):
                hint = "Give the stage a name: FROM … AS name."
                self.wrong(found.line, f"from={name}: a mount does not know stages by their numbers", hint)
            self.images.append(
                ImageUse(reference=name, platform=self.graph.target_platform, line=found.line, how=how, place=place)
            )
        elif origin.kind == "stage":
            self.check_order(origin, name, found, resolved)
        return origin

    def wrong(self, line: int, message: str, hint: str) -> None:
        self.problems.append(Problem(path=self.dockerfile.path, line=line, message=message, hint=hint))

    def check_order(self, origin: FromTarget, name: str, found: Instruction, resolved: ResolvedStage) -> None:
        if origin.index < resolved.stage.index:
            return
        said = "is this stage itself" if origin.index == resolved.stage.index else "comes later"
        self.wrong(found.line, f"the stage {name!r} {said}", "A stage takes files from the stages above it.")

    def run(self, found: Instruction, resolved: ResolvedStage, scope: Scope) -> None:
        """RUN: its mounts."""
        origins = iter(self.origins(found, resolved))
        for value in found.flag_values("mount"):
            fields = mount_fields(value)
            origin = next(origins) if fields.get("from") else FromTarget(kind="context", name=_MAIN)
            texts = {key: self.expand(text, found.line, scope) for key, text in fields.items() if key != "from"}
            kind, kind_in_doubt = texts.get("type", ("bind", False))
            source, in_doubt = texts.get("source", ("", False))
            target, _ = texts.get("target", ("", False))
            name, _ = texts.get("id", ("", False))
            kind = kind.lower()
            if kind_in_doubt:
                self.doubt(f"line {found.line}: the type of the mount {value!r} is not certain")
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
                self.of(origin.name).doubts.append(f"line {found.line}: the source of {value!r} is not certain")
            else:
                self.take(origin.name, source, found.line, required=True)

    def facts(self) -> Facts:
        reached = set(self.graph.reachable)
        declared = {arg.name: arg.line for arg in reversed(self.dockerfile.global_args)} | self.older_args
        unreachable: dict[str, int] = {}
        for resolved in self.graph.stages:
            index = resolved.stage.index
            into = declared if index in reached and not resolved.replaced_by else unreachable
            for found in resolved.instructions:
                for arg in declarations(found) if found.keyword == "ARG" else ():
                    into.setdefault(arg.name, arg.line)
        main = self.of(_MAIN).result(self.doubts, foreign=self.foreign)
        named = {
            name: reads.result(self.doubts, foreign=self.foreign) for name, reads in self.reads.items() if name != _MAIN
        }
        if self.doubts:
            for name in self.graph.contexts:
                named.setdefault(name, _Reads().result(self.doubts, foreign=self.foreign))
        target = self.graph.target
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
            # `FROM --platform=$BUILDPLATFORM` says where a stage runs, so that it need not be emulated; what it makes is
            # for the target. Counted, no machine could reuse what one of another kind has built.
            texts.append(resolved.stage.base)
            texts += [found.original for found in resolved.instructions]
        return self.foreign or any(_BUILD_PLATFORM.search(text) for text in texts)


def _may_become_remote(word: str) -> bool:
    """Whether a value that is not known may make an address of a word, going by what stands before its first `$`."""
    first = word.partition("$")[0].lower().lstrip("\"'")
    return "@" in first or any(start.startswith(first) or first.startswith(start) for start in _ADDRESSES)


def _is_heredoc(word: str) -> bool:
    try:
        return heredoc_word(word) is not None
    except ExpansionError:
        return False


def clean_source(source: str) -> str:
    """A source as a path below the context's root: `/a/../b/` is `b`, `../x` is `x`, `/` is `.`."""
    cleaned = posixpath.normpath("/" + source).lstrip("/")
    return cleaned or "."
