"""Resolve FROM lines and `from=` references: the stages that a target needs, and what each stage is based on.

Stage names are case-insensitive. A later stage of the same name hides an earlier stage. A named context replaces the
stage or image of the same name, and a replaced stage is never evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct, field

from chainbuild.dockerfile.expansion import ExpansionError, TooLongError, expand
from chainbuild.dockerfile.grammar import parse_trigger
from chainbuild.dockerfile.model import Dockerfile, ImageWordPosition, Instruction, Stage
from chainbuild.dockerfile.results import LATE_ARGS, PLATFORM_ARGS, ImageUse, ParentConfig, normal_context_name
from chainbuild.dockerfile.words import froms
from chainbuild.errors import Problem, WrongUseError
from chainbuild.patterns import regex
from chainbuild.references import ImageReference, Platform
from chainbuild.toposort import find_cycle, topological_order
from chainbuild.values import replace

OriginKind = Literal["stage", "image", "context", "scratch"]
NUMBER: Final = regex(r"[+-]?[0-9]{1,9}")
# Named contexts never replace stages with these names.
_NEVER_REPLACED: Final = frozenset({"scratch", "context"})


class FromTarget(Struct, frozen=True, kw_only=True):
    """The target of a FROM or `from=`: a stage by `index`, an image or a named context by `name`, or nothing."""

    kind: OriginKind
    index: int = -1
    name: str = ""


class ResolvedStage(Struct, frozen=True, kw_only=True):
    """A stage with its origin, its platform (OCI string) and its instructions after the triggers of its base."""

    stage: Stage
    origin: FromTarget
    platform: str
    instructions: tuple[Instruction, ...]
    onbuild: tuple[str, ...]
    replaced_by: str = ""
    unseen_parent: bool = False


class GlobalScope(Struct, frozen=True, kw_only=True):
    """The values before the first FROM, in BuildKit since 0.17 and (`older`) before.

    An ARG without a default sets nothing in newer releases. In older releases it empties the variable, and passes no
    value to the stages (None). `unclear` are names whose value is unknown.
    """

    env: Mapping[str, str]
    older: Mapping[str, str | None]
    unclear: frozenset[str]

    def is_certain(self, name: str) -> bool:
        """Return whether a bare `ARG name` in a stage gives it the same value in every release."""
        return name not in self.unclear and self.env.get(name) == self.older.get(name)


class StageGraph(Struct, frozen=True, kw_only=True):
    """Every stage, the indexes of the stages that the target needs in order, and the global scope of FROM lines."""

    stages: tuple[ResolvedStage, ...]
    by_name: Mapping[str, int]
    target: int
    reachable: tuple[int, ...]
    scope: GlobalScope
    parents: Mapping[tuple[str, str], ParentConfig]
    contexts: frozenset[str]
    target_platform: str
    problems: tuple[Problem, ...]
    doubts: tuple[str, ...]

    def find(self, name: str, how: Literal["COPY --from", "RUN --mount"]) -> FromTarget:
        """Return the target of `--from=name` or `from=name`. Mounts do not support stage numbers."""
        if how == "COPY --from" and NUMBER.fullmatch(name):
            index = int(name)
            return self._stage(index) if 0 <= index < len(self.stages) else FromTarget(kind="scratch", index=index)
        result = self.by_name.get(name.lower())
        if result is not None:
            return self._stage(result)
        if name == "scratch":
            return FromTarget(kind="scratch")
        if normal_context_name(name) in self.contexts:
            return FromTarget(kind="context", name=normal_context_name(name))
        return FromTarget(kind="image", name=name)

    def _stage(self, index: int) -> FromTarget:
        replaced_by = self.stages[index].replaced_by
        return FromTarget(kind="context", name=replaced_by) if replaced_by else FromTarget(kind="stage", index=index)


def references(text: str, escape: str = "\\") -> frozenset[str]:
    """Return the names of the variables in a word; empty if BuildKit rejects the word."""
    if "$" not in text:
        return frozenset()
    try:
        return expand(text, {}, escape=escape).looked_up
    except ExpansionError:
        return frozenset()


def resolve_stages(
    dockerfile: Dockerfile,
    *,
    args: Mapping[str, str],
    target: str | None,
    target_platform: Platform,
    build_platform: Platform,
    contexts: frozenset[str],
    parents: Mapping[tuple[str, str], ParentConfig],
) -> StageGraph:
    """Resolve the FROM lines in order, then find the stages that the target needs."""
    resolver = _Resolver(
        dockerfile=dockerfile, args=args, contexts=contexts, parents=parents, target_platform=target_platform.oci
    )
    resolver.global_scope(build_platform, target_platform, target)
    for stage in dockerfile.stages:
        resolver.resolve(stage)
    chosen = resolver.choose(target)
    scope = GlobalScope(env=resolver.env, older=resolver.older, unclear=frozenset(resolver.unclear))
    graph = StageGraph(
        stages=tuple(resolver.stages),
        by_name=resolver.by_name,
        target=chosen,
        reachable=(),
        scope=scope,
        parents=parents,
        contexts=contexts,
        target_platform=target_platform.oci,
        problems=(),
        doubts=(),
    )
    reachable = _reach(graph, chosen)
    resolver.circles(graph, frozenset(reachable))
    lines = {0, *(graph.stages[index].stage.line for index in reachable)}
    return replace(
        graph,
        reachable=reachable,
        problems=(*resolver.problems, *(problem for line, problem in resolver.unsure if line in lines)),
        doubts=tuple(doubt for line, doubt in resolver.doubts if line in lines),
    )


def _reach(graph: StageGraph, target: int) -> tuple[int, ...]:
    reached: set[int] = set()
    waiting = [target] if 0 <= target < len(graph.stages) else []
    while waiting:
        index = waiting.pop()
        if index in reached:
            continue
        reached.add(index)
        resolved = graph.stages[index]
        # BuildKit 0.17 and 0.18 use the base stage of a replaced stage anyway.
        origins = [resolved.origin]
        if not resolved.replaced_by:
            origins += [graph.find(name, how) for result in resolved.instructions for name, how, _ in froms(result)]
        waiting += [origin.index for origin in origins if origin.kind == "stage"]
    return tuple(sorted(reached))


def image_use(resolved: ResolvedStage) -> ImageUse | None:
    """Return the base image of a stage; None if its base is not an image."""
    if resolved.origin.kind != "image" or resolved.replaced_by:
        return None
    line = resolved.stage.line
    return ImageUse(
        reference=resolved.origin.name, platform=resolved.platform, line=line, how="FROM", place=ImageWordPosition(line)
    )


class _Resolver(Struct):
    dockerfile: Dockerfile
    args: Mapping[str, str]
    contexts: frozenset[str]
    parents: Mapping[tuple[str, str], ParentConfig]
    target_platform: str
    env: dict[str, str] = field(default_factory=dict)
    older: dict[str, str | None] = field(default_factory=dict)
    unclear: set[str] = field(default_factory=set)
    stages: list[ResolvedStage] = field(default_factory=list)
    by_name: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unsure: list[tuple[int, Problem]] = field(default_factory=list)
    doubts: list[tuple[int, str]] = field(default_factory=list)

    def wrong(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(self.problem(line, message, hint))

    def problem(self, line: int, message: str, hint: str) -> Problem:
        return Problem(path=self.dockerfile.path, line=line, message=message, hint=hint)

    def global_scope(self, build: Platform, target: Platform, target_stage: str | None) -> None:
        """Set the platform args, then the ARGs before the first FROM; build args override the defaults in the file."""
        for side, platform in (("BUILD", build), ("TARGET", target)):
            self.env[f"{side}PLATFORM"] = platform.oci
            self.env[f"{side}OS"] = platform.os
            self.env[f"{side}ARCH"] = platform.architecture
            self.env[f"{side}VARIANT"] = platform.variant
            self.env[f"{side}OSVERSION"] = ""
        last = self.dockerfile.stages[-1].name if self.dockerfile.stages else ""
        self.env["TARGETSTAGE"] = target_stage or last or "default"
        self.env.update({name: value for name, value in self.args.items() if name in PLATFORM_ARGS})
        self.older.update({name: value for name, value in self.env.items() if name not in LATE_ARGS})
        for arg in self.dockerfile.global_args:
            if arg.name in self.args:
                self.env[arg.name] = self.older[arg.name] = self.args[arg.name]
                self.unclear.discard(arg.name)
            elif arg.default is not None:
                older = self.expand_older(arg.default)
                self.env[arg.name], unclear = self.expand(arg.default, arg.line)
                self.older[arg.name] = older
                (self.unclear.add if unclear else self.unclear.discard)(arg.name)
            else:
                self.older[arg.name] = None

    def expand(self, text: str, line: int) -> tuple[str, bool]:
        """Expand in the global scope; also return whether the value is unknown."""
        try:
            expanded = expand(text, self.env, escape=self.dockerfile.escape)
        except TooLongError as error:
            self.doubts.append((line, f"line {line}: {text[:40]!r}: {error}"))
            return "", True
        except ExpansionError as error:
            self.wrong(line, f"{text!r}: {error}")
            return "", False
        return expanded.text, bool(expanded.looked_up & self.unclear)

    def expand_older(self, text: str) -> str:
        """Expand as BuildKit before 0.17 does, in which an ARG without a value is set and empty."""
        env = {name: value or "" for name, value in self.older.items()}
        try:
            return expand(text, env, escape=self.dockerfile.escape).text
        except ExpansionError:
            return ""

    def expand_from(self, text: str, line: int) -> tuple[str, str]:
        """Return a word of a FROM as newer and as older releases expand it."""
        if "$" not in text:
            value, _ = self.expand(text, line)
            return value, value
        value, unclear = self.expand(text, line)
        if unclear:
            self.doubts.append((line, f"line {line}: the value of {text[:40]!r} is unknown"))
        return value, self.expand_older(text)

    def differs(self, line: int, text: str, value: str, older: str) -> None:
        """Record that a word of a FROM has different values in different releases of BuildKit."""
        message = f"BuildKit before 0.17 expands {text!r} to {older!r}, later releases to {value!r}"
        hint = "Give every ARG before the first FROM a default, and write ${NAME:-value} for values that may be empty."
        self.unsure.append((line, self.problem(line, message, hint)))

    def resolve(self, stage: Stage) -> None:
        """Resolve a FROM. The stages before it are resolved already."""
        platform = self.platform(stage)
        base, older = self.expand_from(stage.base, stage.line)
        if older != base and self.is_usable(older):
            self.differs(stage.line, stage.base, base, older)
        if stage.name == "scratch":
            self.wrong(stage.line, "a stage is named 'scratch'", "Rename it: scratch is the empty image.")
        replaced_by = normal_context_name(stage.name) if stage.name else ""
        if replaced_by not in self.contexts or stage.name in _NEVER_REPLACED:
            replaced_by = ""
        origin, triggers, unseen = self.origin(stage, base, platform)
        instructions: list[Instruction] = []
        for trigger in triggers:
            result, problems = parse_trigger(trigger, self.dockerfile.path, stage.line)
            self.problems.extend(problems)
            if result:
                instructions.append(result)
        own = tuple(result.rest for result in stage.instructions if result.keyword == "ONBUILD")
        if origin.kind == "stage":
            platform = self.stages[origin.index].platform
        self.stages.append(
            ResolvedStage(
                stage=stage,
                origin=origin,
                platform=platform,
                instructions=(*instructions, *stage.instructions),
                onbuild=_with_bodies(stage, own),
                replaced_by=replaced_by,
                unseen_parent=unseen,
            )
        )
        if stage.name:
            self.by_name[stage.name] = stage.index

    def is_usable(self, base: str) -> bool:
        """Return whether a builder would accept this base."""
        if base in self.by_name or base == "scratch":
            return True
        try:
            ImageReference.parse(base)
        except WrongUseError:
            return False
        return True

    def origin(self, stage: Stage, base: str, platform: str) -> tuple[FromTarget, tuple[str, ...], bool]:
        """Return what the stage is based on, the triggers of its base, and whether there may be unknown triggers."""
        index = self.by_name.get(base)
        if index is not None and self.stages[index].replaced_by:
            return self.from_replaced(stage, self.stages[index], platform)
        if index is not None:
            return FromTarget(kind="stage", index=index), self.stages[index].onbuild, False
        if base == "scratch":
            return FromTarget(kind="scratch"), (), False
        if not base:
            detail = f" ({stage.base!r} is empty after expansion)" if stage.base else ""
            self.wrong(stage.line, f"FROM has no image{detail}", "Set a default for the ARG before the first FROM.")
            return FromTarget(kind="scratch"), (), False
        name = normal_context_name(base)
        if name in self.contexts:
            return self.from_outside(FromTarget(kind="context", name=name), platform)
        return self.from_outside(FromTarget(kind="image", name=base), platform)

    def from_outside(self, origin: FromTarget, platform: str) -> tuple[FromTarget, tuple[str, ...], bool]:
        config = self.parents.get((origin.name, platform))
        return origin, config.onbuild if config else (), config is None

    def from_replaced(
        self, stage: Stage, below: ResolvedStage, platform: str
    ) -> tuple[FromTarget, tuple[str, ...], bool]:
        """Return what a stage is based on whose base stage is replaced by a named context.

        BuildKit before 0.17 runs the triggers of the context's image, later releases those of the replaced stage.
        """
        origin, triggers, unseen = self.from_outside(FromTarget(kind="context", name=below.replaced_by), platform)
        both = tuple(dict.fromkeys((*triggers, *below.onbuild)))
        if both:
            text = f"line {stage.line}: the ONBUILD triggers that run depend on the BuildKit release"
            self.doubts.append((stage.line, text))
        return origin, both, unseen

    def platform(self, stage: Stage) -> str:
        if not stage.platform:
            return self.target_platform
        text, older = self.expand_from(stage.platform, stage.line)
        if older != text and older:
            self.differs(stage.line, f"--platform={stage.platform}", text, older)
        if not text:
            self.wrong(stage.line, f"--platform={stage.platform} is empty after expansion")
            return self.target_platform
        try:
            return Platform.parse(text).oci
        except WrongUseError:
            return text.lower()  # BuildKit may support a platform that chainbuild does not know

    def circles(self, graph: StageGraph, reachable: frozenset[int]) -> None:
        """Report a cycle among unneeded stages. For the stages that the target needs, the order is checked elsewhere."""
        reads: dict[str, dict[str, int]] = {}
        for resolved in graph.stages:
            index = resolved.stage.index
            for result in resolved.stage.instructions:
                for name, how, _ in froms(result):
                    origin = graph.find(name, how)
                    if index not in reachable and origin.kind == "stage":
                        reads.setdefault(str(index), {}).setdefault(str(origin.index), result.line)
        path = find_cycle(reads, topological_order(reads)) if reads else ()
        if path:
            hint = "Copy only from stages above."
            self.wrong(reads[path[0]][path[1]], "stages copy files from each other in a cycle", hint)

    def choose(self, target: str | None) -> int:
        if target is None:
            return len(self.stages) - 1
        index = self.by_name.get(target.lower())
        if index is None:
            names = ", ".join(sorted(self.by_name)) or "none has a name"
            self.wrong(0, f"no such stage: {target!r}", f"Stages: {names}.")
            return len(self.stages) - 1
        return index


def _with_bodies(stage: Stage, own: tuple[str, ...]) -> tuple[str, ...]:
    """Return the triggers in the form of an image's config, with their here-documents."""
    bodies = []
    holders = [result for result in stage.instructions if result.keyword == "ONBUILD"]
    for result, text in zip(holders, own, strict=True):
        lines = [text]
        for heredoc in result.heredocs:
            lines += [heredoc.content.removesuffix("\n"), heredoc.name] if heredoc.content else [heredoc.name]
        bodies.append("\n".join(lines))
    return tuple(bodies)
