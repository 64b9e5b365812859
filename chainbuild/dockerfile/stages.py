"""Which stages a target needs and what each starts from: FROM lines and `from=` references, resolved.

Names of stages have no case. A later stage of the same name hides an earlier one. A named context replaces the stage
or the image that it is called after, and a replaced stage is never evaluated.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from chainbuild.dockerfile.expansion import ExpansionError, expand
from chainbuild.dockerfile.grammar import parse_trigger
from chainbuild.dockerfile.model import Dockerfile, Instruction, Stage
from chainbuild.dockerfile.results import PLATFORM_ARGS, ImageUse, ParentConfig, normal_context_name
from chainbuild.errors import Problem, WrongUseError
from chainbuild.references import Platform

OriginKind = Literal["stage", "image", "context", "scratch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a FROM or a `from=` means: a stage by `index`, an image or a named context by `name`, or nothing."""

    kind: OriginKind
    index: int = -1
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedStage:
    """A stage with its origin, its platform (OCI string) and its instructions after the triggers of its base."""

    stage: Stage
    origin: Origin
    platform: str
    instructions: tuple[Instruction, ...]
    onbuild: tuple[str, ...]
    replaced_by: str = ""
    unseen_parent: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StageGraph:
    """Every stage, the indexes of those that the target needs in order, and the global scope that FROM lines see."""

    stages: tuple[ResolvedStage, ...]
    target: int
    reachable: tuple[int, ...]
    global_env: Mapping[str, str]
    uncertain: frozenset[str]
    parents: Mapping[tuple[str, str], ParentConfig]
    contexts: frozenset[str]
    target_platform: str
    problems: tuple[Problem, ...]
    doubts: tuple[str, ...]

    def find(self, name: str) -> Origin:
        """What `--from=name` or `from=name` means."""
        if name.isdecimal() and name.isascii() and len(name) < 10 and int(name) < len(self.stages):
            return self._stage(int(name))
        for resolved in reversed(self.stages):
            if resolved.stage.name and resolved.stage.name == name.lower():
                return self._stage(resolved.stage.index)
        if name == "scratch":
            return Origin(kind="scratch")
        if normal_context_name(name) in self.contexts:
            return Origin(kind="context", name=normal_context_name(name))
        return Origin(kind="image", name=name)

    def _stage(self, index: int) -> Origin:
        replaced_by = self.stages[index].replaced_by
        return Origin(kind="context", name=replaced_by) if replaced_by else Origin(kind="stage", index=index)


def references(text: str, escape: str = "\\") -> frozenset[str]:
    """The names of the variables that a word refers to; of a word that BuildKit refuses, none."""
    if "$" not in text:
        return frozenset()
    try:
        return expand(text, {}, escape=escape).looked_up
    except ExpansionError:
        return frozenset()


def mount_fields(value: str) -> dict[str, str]:
    """The fields of a `--mount`: comma-separated `key=value` or bare keys, quoted as CSV; keys in lower case."""
    try:
        row = next(csv.reader([value], strict=True), [])
    except csv.Error:
        row = value.split(",")
    fields: dict[str, str] = {}
    aliases = {"src": "source", "dst": "target", "destination": "target"}
    for cell in row:
        key, equals, text = cell.partition("=")
        name = key.strip().lower()
        fields[aliases.get(name, name)] = text if equals else ""
    return fields


def froms(found: Instruction) -> tuple[tuple[str, Literal["COPY --from", "RUN --mount"]], ...]:
    """The names that an instruction takes files from, and by which means."""
    if found.keyword == "COPY":
        source = found.flag("from")
        return ((source, "COPY --from"),) if source else ()
    if found.keyword == "RUN":
        fields = [mount_fields(value) for value in found.flag_values("mount")]
        return tuple((each["from"], "RUN --mount") for each in fields if each.get("from"))
    return ()


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
    graph = StageGraph(
        stages=tuple(resolver.stages), target=chosen, reachable=(), global_env=resolver.env,
        uncertain=frozenset(resolver.uncertain), parents=parents, contexts=contexts,
        target_platform=target_platform.oci, problems=(), doubts=(),
    )  # fmt: skip
    reachable = _reach(graph, chosen)
    lines = {graph.stages[index].stage.line for index in reachable}
    return StageGraph(
        stages=graph.stages, target=chosen, reachable=reachable, global_env=graph.global_env,
        uncertain=graph.uncertain, parents=parents, contexts=contexts, target_platform=target_platform.oci,
        problems=tuple(resolver.problems),
        doubts=tuple(doubt for line, doubt in resolver.doubts if line == 0 or line in lines),
    )  # fmt: skip


def _reach(graph: StageGraph, target: int) -> tuple[int, ...]:
    reached: set[int] = set()
    waiting = [target] if 0 <= target < len(graph.stages) else []
    while waiting:
        index = waiting.pop()
        if index in reached:
            continue
        reached.add(index)
        resolved = graph.stages[index]
        if resolved.replaced_by:
            continue
        origins = [resolved.origin]
        origins += [graph.find(name) for found in resolved.instructions for name, _ in froms(found)]
        waiting += [origin.index for origin in origins if origin.kind == "stage"]
    return tuple(sorted(reached))


def image_use(resolved: ResolvedStage) -> ImageUse | None:
    """The image that a stage starts from, None where it starts from something else."""
    if resolved.origin.kind != "image" or resolved.replaced_by:
        return None
    return ImageUse(reference=resolved.origin.name, platform=resolved.platform, line=resolved.stage.line, how="FROM")


@dataclass(slots=True)
class _Resolver:
    dockerfile: Dockerfile
    args: Mapping[str, str]
    contexts: frozenset[str]
    parents: Mapping[tuple[str, str], ParentConfig]
    target_platform: str
    env: dict[str, str] = field(default_factory=dict)
    uncertain: set[str] = field(default_factory=set)
    stages: list[ResolvedStage] = field(default_factory=list)
    by_name: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    doubts: list[tuple[int, str]] = field(default_factory=list)

    def wrong(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(path=self.dockerfile.path, line=line, message=message, hint=hint))

    def global_scope(self, build: Platform, target: Platform, target_stage: str | None) -> None:
        """The platform args, then the ARGs before the first FROM; a build arg beats what is written."""
        for side, platform in (("BUILD", build), ("TARGET", target)):
            self.env[f"{side}PLATFORM"] = platform.oci
            self.env[f"{side}OS"] = platform.os
            self.env[f"{side}ARCH"] = platform.architecture
            self.env[f"{side}VARIANT"] = platform.variant
            self.env[f"{side}OSVERSION"] = ""
        self.env["TARGETSTAGE"] = target_stage or "default"
        self.env.update({name: value for name, value in self.args.items() if name in PLATFORM_ARGS})
        for arg in self.dockerfile.global_args:
            if arg.name in self.args:
                self.env[arg.name] = self.args[arg.name]
                self.uncertain.discard(arg.name)
            elif arg.default is not None:
                self.env[arg.name] = self.expand(arg.default, arg.line, hold=arg.name)
            elif arg.name in PLATFORM_ARGS:
                self.uncertain.add(arg.name)  # builders differ: some keep the platform's value, some forget it

    def expand(self, text: str, line: int, *, hold: str = "") -> str:
        """Expand in the global scope; `hold` is the name that takes the value, and with it an uncertainty."""
        try:
            expanded = expand(text, self.env, escape=self.dockerfile.escape)
        except ExpansionError as error:
            self.wrong(line, f"{text!r}: {error}")
            return ""
        if expanded.looked_up & self.uncertain:
            if hold:
                self.uncertain.add(hold)
            else:
                self.doubts.append((line, f"line {line}: the value of {text!r} depends on the builder's version"))
        elif hold:
            self.uncertain.discard(hold)
        return expanded.text

    def resolve(self, stage: Stage) -> None:
        """Resolve one FROM; the stages before it are resolved."""
        platform = self.platform(stage)
        base = self.expand(stage.base, stage.line)
        replaced_by = normal_context_name(stage.name) if stage.name else ""
        if replaced_by not in self.contexts:
            replaced_by = ""
        origin, triggers, unseen = self.origin(stage, base, platform)
        instructions: list[Instruction] = []
        for trigger in triggers:
            found, problems = parse_trigger(trigger, self.dockerfile.path, stage.line)
            self.problems.extend(problems)
            if found:
                instructions.append(found)
        own = tuple(found.rest for found in stage.instructions if found.keyword == "ONBUILD")
        if origin.kind == "stage" and not stage.platform:
            platform = self.stages[origin.index].platform
        self.stages.append(
            ResolvedStage(
                stage=stage, origin=origin, platform=platform, instructions=(*instructions, *stage.instructions),
                onbuild=_with_bodies(stage, own), replaced_by=replaced_by, unseen_parent=unseen,
            )
        )  # fmt: skip
        if stage.name:
            self.by_name[stage.name] = stage.index

    def origin(self, stage: Stage, base: str, platform: str) -> tuple[Origin, tuple[str, ...], bool]:
        """What the stage starts from, the triggers that this brings, and whether there may be unseen ones."""
        index = self.by_name.get(base.lower())
        if index is not None and self.stages[index].replaced_by:
            name = self.stages[index].replaced_by
            return self.from_outside(Origin(kind="context", name=name), platform)
        if index is not None:
            return Origin(kind="stage", index=index), self.stages[index].onbuild, False
        if base == "scratch":
            return Origin(kind="scratch"), (), False
        if not base:
            said = f" ({stage.base!r} is empty after expansion)" if stage.base else ""
            self.wrong(stage.line, f"FROM names no image{said}", "Give the ARG before the first FROM a value.")
            return Origin(kind="scratch"), (), False
        name = normal_context_name(base)
        if name in self.contexts:
            return self.from_outside(Origin(kind="context", name=name), platform)
        return self.from_outside(Origin(kind="image", name=base), platform)

    def from_outside(self, origin: Origin, platform: str) -> tuple[Origin, tuple[str, ...], bool]:
        config = self.parents.get((origin.name, platform))
        return origin, config.onbuild if config else (), config is None

    def platform(self, stage: Stage) -> str:
        if not stage.platform:
            return self.target_platform
        text = self.expand(stage.platform, stage.line)
        if not text:
            self.wrong(stage.line, f"--platform={stage.platform} is empty after expansion")
            return self.target_platform
        try:
            return Platform.parse(text).oci
        except WrongUseError:
            return text.lower()  # BuildKit knows more platforms than this program; it has the last word

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
