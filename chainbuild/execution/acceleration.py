"""Decide which steps of a run get native tools, have the tools made, and put them into the steps' builds."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.builder.failures import emulation_hint
from chainbuild.context.dockerignore import own_ignore
from chainbuild.dockerfile import Dockerfile, parse
from chainbuild.dockerfile.evaluation import foreign_frontend
from chainbuild.errors import ChainbuildError
from chainbuild.execution.options import ExecutionOptions
from chainbuild.execution.session import Session
from chainbuild.images.resolver import Found
from chainbuild.model import Graph, ImageInput, Step, StepKind
from chainbuild.native.check import VERDICT, CheckLog, prepare_log, read_comparison
from chainbuild.native.entries import own_entry
from chainbuild.native.probe import start_natively
from chainbuild.native.roots import Root
from chainbuild.native.runs import Use, native_runs, writes_specs
from chainbuild.native.settings import NativeChoice, NativeMode
from chainbuild.native.tools import IMAGES, TRIPLETS, Tools, compiled_graph, image_of, read_tools, tools_graph
from chainbuild.references import Platform
from chainbuild.registry.images import RemoteImage
from chainbuild.step_id import StepId
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.planning.decisions import Decision, Plan

_RUNS_ITSELF: Final = {"linux/amd64": frozenset({"linux/386"}), "linux/arm64": frozenset({"linux/arm/v7", "linux/arm"})}
"""Other platforms whose programs a processor runs without emulation."""


class ToolSource(Struct, frozen=True, kw_only=True):
    """The steps that make some tools: what is planned for them, and how to carry that out."""

    decisions: tuple[Decision, ...]
    existing: RemoteImage | None
    """The image, if nothing needs to be built."""
    make: Callable[[], RemoteImage]
    """Build the image. Errors: those of a build."""


PlanTools = Callable[[Graph], ToolSource]
"""Plan the graph of some tools. Errors: those of finding images."""


class StepAcceleration(Struct, frozen=True, kw_only=True):
    """What a step's build gets: `text` is for the plan, `tools` the key of the tools in the acceleration."""

    text: str
    choice: NativeChoice = field(default_factory=NativeChoice)
    tools: tuple[str, str] | None = None
    uses: frozenset[Use] = frozenset()
    log: str = ""
    """The id of the cache mount with the log of a check; empty: nothing is checked."""


class Acceleration:
    """The native tools of a run. Before `plan`, there are none, and builds are as they are."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.steps: dict[StepId, StepAcceleration] = {}
        self._sources: dict[tuple[str, str], tuple[ToolSource, Root, PlanTools]] = {}
        self._tools: dict[tuple[str, str], Tools] = {}

    # The plan ---------------------------------------------------------------------------------------------------------

    @property
    def texts(self) -> Mapping[StepId, str]:
        """Why steps are native or emulated, for those where it matters."""
        return {step: found.text for step, found in self.steps.items() if found.text}

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What is planned for the tools that are not there yet."""
        return tuple(
            decision
            for key, (source, _, _) in self._sources.items()
            if key not in self._tools
            for decision in source.decisions
        )

    def plan(self, plan: Plan, found: Found, options: ExecutionOptions, plan_tools: PlanTools) -> None:
        """Decide for every step that is to be built."""
        roots = _Roots(self._session, plan.graph, found)
        for decision in plan.builds:
            step = decision.step
            if step.kind is not StepKind.BUILD or not self._is_emulated(step.platform):
                continue
            choice = options.native.of(step)
            try:
                dockerfile = parse(step.read_dockerfile(), str(step.dockerfile))
            except OSError:
                continue  # reported when the step is built
            text = _reason_against(step, dockerfile, choice)
            uses = frozenset[Use]() if text else self._uses(step, dockerfile)
            if not text and not uses and not writes_specs(dockerfile):
                continue  # nothing in it compiles or installs
            root = text or roots.of(step)
            if isinstance(root, str):
                self.steps[step.id] = StepAcceleration(text=root)
                continue
            against = roots.against(step, root)
            if choice.mode is NativeMode.CHECK:
                against |= {Use.PACKAGES: "packages, because a check cannot compare them"}
            reasons = [reason for use, reason in against.items() if use in uses or use is Use.COMPILERS]
            self._choose(step, choice, uses - against.keys(), reasons, root, plan_tools)

    def _choose(
        self,
        step: Step,
        choice: NativeChoice,
        uses: frozenset[Use],
        reasons: Sequence[str],
        root: Root,
        plan_tools: PlanTools,
    ) -> None:
        """Note which tools a step gets, for the uses that nothing is against; `reasons` are those against others."""
        key = root.name, step.platform.oci
        if uses and (problem := self._look_up(key, root, step.platform, plan_tools)):
            self.steps[step.id] = StepAcceleration(text=problem)
            return
        texts = [self._text(key, root, uses)] if uses else []
        texts += [f"emulated: {'; '.join(reasons)}"] if reasons else []
        checked = choice.mode is NativeMode.CHECK and Use.COMPILERS in uses
        self.steps[step.id] = StepAcceleration(
            text="; ".join(filter(None, texts)),
            choice=choice,
            tools=key if uses else None,
            uses=uses,
            log=f"chainbuild-native-{uuid.uuid4().hex}" if checked else "",
        )

    def _is_emulated(self, platform: Platform) -> bool:
        machine = self._session.builder_platform(platform)
        return platform.oci != machine.oci and platform.oci not in _RUNS_ITSELF.get(machine.oci, ())

    def _look_up(self, key: tuple[str, str], root: Root, platform: Platform, plan_tools: PlanTools) -> str:
        """Find out whether some tools exist or can be made. Return why not; empty if they do or can."""
        if key in self._sources:
            return ""
        try:
            graph = tools_graph(self._session.chain, root, platform, self._session.builder_platform(platform))
            source = plan_tools(graph)
            if source.existing is not None:
                self._tools[key] = self._best(read_tools(self._session.registries, source.existing), root, plan_tools)
        except ChainbuildError as error:
            return f"emulated: no native tools of {root.name}: {error.message}"
        self._sources[key] = source, root, plan_tools
        return ""

    def _best(self, tools: Tools, root: Root, plan_tools: PlanTools) -> Tools:
        """Return the tools with compilers from source if packages have none and they were compiled before; else `tools`."""
        if not tools.compilable:
            return tools
        machine = self._session.builder_platform(tools.platform)
        graph = compiled_graph(self._session.chain, root, tools.platform, machine, tools.compilable)
        existing = plan_tools(graph).existing
        return read_tools(self._session.registries, existing) if existing is not None else tools

    def _text(self, key: tuple[str, str], root: Root, uses: frozenset[Use]) -> str:
        tools = self._tools.get(key)
        platform = Platform.parse(key[1]).name
        if tools is None:
            return f"native: tools of {key[0]} for {platform}, made first"
        native, missing = tools.text(uses), tools.missing(uses)
        parts = [f"native: {native} for {platform}"] if native else []
        parts += [f"emulated: {missing}"] if missing else []
        if tools.compilable and Use.COMPILERS in uses:
            parts.append(f"compile it once: chainbuild native {image_of(root)} --platform {platform}")
        return "; ".join(parts)

    # The run ----------------------------------------------------------------------------------------------------------

    def make_tools(self) -> Iterator[str]:
        """Make the tools that do not exist yet. Yield what went wrong; the steps concerned are emulated."""
        for key, (source, root, plan_tools) in self._sources.items():
            try:
                if key not in self._tools:
                    self._tools[key] = self._best(read_tools(self._session.registries, source.make()), root, plan_tools)
            except ChainbuildError as error:
                yield f"native tools of {key[0]} could not be made, so everything is emulated: {error.message}"
                continue
            yield from self._without_a_start(key)
        for step, found in self.steps.items():
            log = self._log_of(step, found)
            if log is not None:
                prepare_log(self._session.driver, log)

    def _without_a_start(self, key: tuple[str, str]) -> Iterator[str]:
        """Do without tools that the builder cannot start. Yield why."""
        tools = self._tools[key]
        if not tools.native:
            return
        try:
            start_natively(self._session.driver, tools)
        except ChainbuildError as error:
            del self._tools[key]
            yield (
                f"the builder starts no native programs in builds for {tools.platform.name}, so everything is emulated:"
                f" {error.message}. {emulation_hint(tools.platform)}"
            )

    def _log_of(self, step: StepId, found: StepAcceleration) -> CheckLog | None:
        """Return the log of a step's check; None if nothing is checked."""
        tools = self._tools.get(found.tools) if found.tools else None
        if tools is None or not tools.offered([Use.COMPILERS]) or not found.log:
            return None
        return CheckLog(step=step, tools=tools, name=found.log, percent=found.choice.percent)

    def applied(self, step: Step, spec: BuildSpec) -> BuildSpec:
        """Return the specification of a step's build with the native tools in it, if it gets any."""
        tools, found = self._tools_of(step)
        if tools is None or found is None:
            return spec
        raw = spec.source if spec.source is not None else step.read_dockerfile()
        runs = self._uses_by_line(step, parse(raw, spec.shown)).items()
        flags = ((line, tools.flags(uses & found.uses, found.log, found.choice.percent)) for line, uses in runs)
        added = tuple((line, words) for line, words in flags if words)
        if not added:
            return spec
        return replace(
            spec,
            source=raw,
            ignore=spec.ignore if spec.source is not None else own_ignore(step.dockerfile),
            run_flags=added,
        )

    def verdicts(self, step: Step) -> Mapping[str, str]:
        """Return what a checked build compared, for the record. Errors: those of the build that reads it."""
        _, found = self._tools_of(step)
        log = self._log_of(step.id, found) if found is not None else None
        if log is None:
            return {}
        return {VERDICT: read_comparison(self._session.driver, log).text}

    def notes(self, step: Step) -> Mapping[str, str]:
        """Return the notes of a record about the tools that its build used."""
        tools, found = self._tools_of(step)
        text = tools.text(found.uses) if tools is not None and found is not None else ""
        return {"native": f"{text} ({tools.image})"} if tools is not None and text else {}

    def _tools_of(self, step: Step) -> tuple[Tools | None, StepAcceleration | None]:
        found = self.steps.get(step.id)
        return (self._tools.get(found.tools) if found is not None and found.tools else None), found

    def _uses(self, step: Step, dockerfile: Dockerfile) -> frozenset[Use]:
        return frozenset[Use]().union(*self._uses_by_line(step, dockerfile).values())

    def _uses_by_line(self, step: Step, dockerfile: Dockerfile) -> Mapping[int, frozenset[Use]]:
        return native_runs(
            dockerfile,
            args=_args(step),
            platform=step.platform,
            build_platform=self._session.builder_platform(step.platform),
            contexts=frozenset(name for name, _ in step.contexts),
            target=step.target,
        )


def _args(step: Step) -> Mapping[str, str]:
    return {arg.name: arg.value for arg in step.args}


def _reason_against(step: Step, dockerfile: Dockerfile, choice: NativeChoice) -> str:
    """Return why a step gets no native tools whatever it is built on; empty if nothing is against it."""
    if choice.mode is NativeMode.OFF:
        return "emulated: native tools are off"
    if step.platform.oci not in TRIPLETS:
        return f"emulated: there are no native tools for {step.platform.oci}"
    frontend = foreign_frontend(dockerfile, _args(step))
    return f"emulated: the frontend {frontend} is not Docker's" if frontend else ""


class _Roots:
    """The roots that the steps of a graph are built on, each read once."""

    def __init__(self, session: Session, graph: Graph, found: Found) -> None:
        self._session = session
        self._steps = graph.by_id
        self._found = found
        self._known: dict[str, Root | None] = {}
        self._written: dict[StepId, Mapping[Use, str]] = {}

    def of(self, step: Step) -> Root | str:
        """Return the root that a step is built on, or why it gets no native tools."""
        root = self._root(_parent(self._below(step)[-1]))
        if root is None or root.distribution not in IMAGES or not root.suite:
            return f"emulated: not a {' or '.join(name.capitalize() for name in IMAGES)} root"
        return root

    def against(self, step: Step, root: Root) -> dict[Use, str]:
        """Return why a step gets no native tools for some uses: files of its own are where they would be mounted."""
        found: dict[Use, str] = {}
        # From the lowest step, so that each Dockerfile is read once.
        for one in reversed(self._below(step)):
            if one.id not in self._written:
                self._written[one.id] = _written_by(one)
            found = {**self._written[one.id], **found}
        if root.own_specs:
            found.setdefault(Use.COMPILERS, f"its base has a specs file of GCC of its own, {root.own_specs}")
        if root.own_entry:
            found.setdefault(Use.PACKAGES, f"packages, because its base has a program {root.own_entry} of its own")
        return found

    def _below(self, step: Step) -> Sequence[Step]:
        """Return a step, its parent, and so on."""
        below = [step]
        while (image := _parent(below[-1])) is not None and image.from_step is not None:
            below.append(self._steps[image.from_step])
        return below

    def _root(self, image: ImageInput | None) -> Root | None:
        resolved = self._found.get((str(image.source), image.platform.oci)) if image is not None else None
        if resolved is None or resolved.named.is_scratch:
            return None
        name = str(resolved.image.digest)
        if name not in self._known:
            try:
                self._known[name] = self._session.backends.read_root(self._session.registries, resolved.image)
            except ChainbuildError:
                self._known[name] = None
        return self._known[name]


def _parent(step: Step) -> ImageInput | None:
    return next((image for image in step.images if image.name == step.parent), None)


def _written_by(step: Step) -> Mapping[Use, str]:
    """Return what a step writes where native tools would be mounted, by their use."""
    try:
        dockerfile = parse(step.read_dockerfile(), str(step.dockerfile))
    except OSError:
        return {}
    entry = own_entry(dockerfile, step.context)
    found = {Use.COMPILERS: f"{step.name} writes a specs file of GCC"} if writes_specs(dockerfile) else {}
    return {**found, Use.PACKAGES: f"packages, because {step.name} may write {entry}"} if entry else found
