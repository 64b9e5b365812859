"""Which stages a target needs and what each starts from: FROM lines and `from=` references, resolved.

Names of stages have no case. A later stage of the same name hides an earlier one. A named context replaces the stage
or the image that it is called after, and a replaced stage is never evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct, field

from chainbuild.dockerfile.expansion import ExpansionError, TooLongError, expand
from chainbuild.dockerfile.grammar import parse_trigger
from chainbuild.dockerfile.model import Dockerfile, ImageWordPosition, Instruction, Stage
from chainbuild.dockerfile.results import LATE_ARGS, PLATFORM_ARGS, ImageUse, ParentConfig, normal_context_name
from chainbuild.dockerfile.words import froms
from chainbuild.errors import Problem, WrongUseError
from chainbuild.references import ImageReference, Platform
from chainbuild.toposort import find_cycle, topological_order
from chainbuild.values import replace

OriginKind = Literal["stage", "image", "context", "scratch"]
NUMBER: Final = re.compile(r"[+-]?[0-9]{1,9}")
# No named context replaces a stage of these names.
_NEVER_REPLACED: Final = frozenset({"scratch", "context"})


class FromTarget(Struct, frozen=True, kw_only=True):
    """What a FROM or a `from=` means: a stage by `index`, an image or a named context by `name`, or nothing."""

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
    """The values before the first FROM, as releases since 0.17 have them and (`older`) as those before it do.

    An ARG without a default sets nothing in later releases, and empties the variable in older ones, which pass no value
    on to the stages then (None). `unclear` are names whose value was not worked out.
    """

    env: Mapping[str, str]
    older: Mapping[str, str | None]
    unclear: frozenset[str]

    def is_certain(self, name: str) -> bool:
        """Whether a bare `ARG name` in a stage gives it the same value in every release."""
        return name not in self.unclear and self.env.get(name) == self.older.get(name)


class StageGraph(Struct, frozen=True, kw_only=True):
    """Every stage, the indexes of those that the target needs in order, and the global scope that FROM lines see."""

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
        """What `--from=name` or `from=name` means. A mount knows no stages by their numbers."""
        if how == "COPY --from" and NUMBER.fullmatch(name):
            index = int(name)
            return self._stage(index) if 0 <= index < len(self.stages) else FromTarget(kind="scratch", index=index)
        found = self.by_name.get(name.lower())
        if found is not None:
            return self._stage(found)
        if name == "scratch":
            return FromTarget(kind="scratch")
        if normal_context_name(name) in self.contexts:
            return FromTarget(kind="context", name=normal_context_name(name))
        return FromTarget(kind="image", name=name)

    def _stage(self, index: int) -> FromTarget:
        replaced_by = self.stages[index].replaced_by
        return FromTarget(kind="context", name=replaced_by) if replaced_by else FromTarget(kind="stage", index=index)


def references(text: str, escape: str = "\\") -> frozenset[str]:
    """The names of the variables that a word refers to; of a word that BuildKit refuses, none."""
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
    """Resolve FROM lines in order, then what the target reaches."""
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
        # Releases 0.17 and 0.18 take the stage that a replaced stage starts from all the same.
        origins = [resolved.origin]
        if not resolved.replaced_by:
            origins += [graph.find(name, how) for found in resolved.instructions for name, how, _ in froms(found)]
        waiting += [origin.index for origin in origins if origin.kind == "stage"]
    return tuple(sorted(reached))


def image_use(resolved: ResolvedStage) -> ImageUse | None:
    """The image that a stage starts from, None where it starts from something else."""
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
        """The platform args, then the ARGs before the first FROM; a build arg beats what is written."""
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
        """Expand in the global scope; and whether the value is not worked out."""
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
        """As releases before 0.17 expand it, in which an ARG without a value is set and empty."""
        env = {name: value or "" for name, value in self.older.items()}
        try:
            return expand(text, env, escape=self.dockerfile.escape).text
        except ExpansionError:
            return ""

    def expand_from(self, text: str, line: int) -> tuple[str, str]:
        """A word of a FROM as later and as older releases expand it."""
        if "$" not in text:
            value, _ = self.expand(text, line)
            return value, value
        value, unclear = self.expand(text, line)
        if unclear:
            self.doubts.append((line, f"line {line}: what {text[:40]!r} stands for is not worked out"))
        return value, self.expand_older(text)

    def differs(self, line: int, text: str, value: str, older: str) -> None:
        """Note that the releases of BuildKit take a word of a FROM for different things."""
        message = f"BuildKit before 0.17 takes {text!r} for {older!r}, later releases for {value!r}"
        hint = "Give every ARG before the first FROM a default, and write ${NAME:-value} for what may be empty."
        self.unsure.append((line, self.problem(line, message, hint)))

    def resolve(self, stage: Stage) -> None:
        """Resolve one FROM; the stages before it are resolved."""
        platform = self.platform(stage)
        base, older = self.expand_from(stage.base, stage.line)
        if older != base and self.is_usable(older):
            self.differs(stage.line, stage.base, base, older)
        if stage.name == "scratch":
            self.wrong(stage.line, "a stage is called 'scratch'", "Give it another name: scratch is the empty image.")
        replaced_by = normal_context_name(stage.name) if stage.name else ""
        if replaced_by not in self.contexts or stage.name in _NEVER_REPLACED:
            replaced_by = ""
        origin, triggers, unseen = self.origin(stage, base, platform)
        instructions: list[Instruction] = []
        for trigger in triggers:
            found, problems = parse_trigger(trigger, self.dockerfile.path, stage.line)
            self.problems.extend(problems)
            if found:
                instructions.append(found)
        own = tuple(found.rest for found in stage.instructions if found.keyword == "ONBUILD")
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
        """Whether a builder would go on with that base."""
        if base in self.by_name or base == "scratch":
            return True
        try:
            ImageReference.parse(base)
        except WrongUseError:
            return False
        return True

    def origin(self, stage: Stage, base: str, platform: str) -> tuple[FromTarget, tuple[str, ...], bool]:
        """What the stage starts from, the triggers that this brings, and whether there may be unseen ones."""
        index = self.by_name.get(base)
        if index is not None and self.stages[index].replaced_by:
            return self.from_replaced(stage, self.stages[index], platform)
        if index is not None:
            return FromTarget(kind="stage", index=index), self.stages[index].onbuild, False
        if base == "scratch":
            return FromTarget(kind="scratch"), (), False
        if not base:
            said = f" ({stage.base!r} is empty after expansion)" if stage.base else ""
            self.wrong(stage.line, f"FROM names no image{said}", "Give the ARG before the first FROM a value.")
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
        """A stage on one that a named context replaces.

        Releases before 0.17 run the triggers of the context's image, later ones those that the replaced stage has.
        """
        origin, triggers, unseen = self.from_outside(FromTarget(kind="context", name=below.replaced_by), platform)
        both = tuple(dict.fromkeys((*triggers, *below.onbuild)))
        if both:
            text = f"line {stage.line}: which ONBUILD triggers run depends on the release of BuildKit"
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
            return text.lower()  # BuildKit knows more platforms than this program; it has the last word

    def circles(self, graph: StageGraph, reachable: frozenset[int]) -> None:
        """Report unneeded stages that take files from each other; of those that the target needs, the order is checked."""
        reads: dict[str, dict[str, int]] = {}
        for resolved in graph.stages:
            index = resolved.stage.index
            for found in resolved.stage.instructions:
                for name, how, _ in froms(found):
                    origin = graph.find(name, how)
                    if index not in reachable and origin.kind == "stage":
                        reads.setdefault(str(index), {}).setdefault(str(origin.index), found.line)
        path = find_cycle(reads, topological_order(reads)) if reads else ()
        if path:
            hint = "A stage takes files from the stages above it."
            self.wrong(reads[path[0]][path[1]], "stages take files from each other in a circle", hint)

    def choose(self, target: str | None) -> int:
        if target is None:
            return len(self.stages) - 1
        index = self.by_name.get(target.lower())
        if index is None:
            known = ", ".join(sorted(self.by_name)) or "none has a name"
            self.wrong(0, f"there is no stage {target!r}", f"Stages: {known}.")
            return len(self.stages) - 1
        return index


def _with_bodies(stage: Stage, own: tuple[str, ...]) -> tuple[str, ...]:
    """The triggers as an image's config holds them: with the here-documents that belong to them."""
    bodies = []
    holders = [found for found in stage.instructions if found.keyword == "ONBUILD"]
    for found, text in zip(holders, own, strict=True):
        lines = [text]
        for heredoc in found.heredocs:
            lines += [heredoc.content.removesuffix("\n"), heredoc.name] if heredoc.content else [heredoc.name]
        bodies.append("\n".join(lines))
    return tuple(bodies)
