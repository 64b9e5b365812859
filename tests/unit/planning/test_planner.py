"""Plans: the action of every step and its reason."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from chainbuild.context.remote import RemoteContent
from chainbuild.errors import Problem, WrongUseError
from chainbuild.events import Message
from chainbuild.model import BuildArg, Graph, ImageInput, Secret, Step
from chainbuild.planning.decisions import Decision, ImageFacts, Plan, Renewal, facts_of
from chainbuild.planning.missing_sources import Checked
from chainbuild.planning.plan_json import SCHEMA, plan_as_json
from chainbuild.planning.planner import Planner, make_plan, pinned_before, until
from chainbuild.records.keys import Components
from chainbuild.records.notes import digest_note
from chainbuild.records.record import Lookup, Record
from chainbuild.references import Digest, ImageReference
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import AMD64, ARM64, STEP, THREE_STEPS, World

BASE, BLAS, VENV = (
    StepId.parse("amd64/stock/10-base"),
    StepId.parse("amd64/stock/20-blas"),
    StepId.parse("amd64/stock/30-venv"),
)
MINIMIZE, PRODUCTION = StepId.parse("amd64/stock/minimize"), StepId.parse("amd64/stock/production")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(THREE_STEPS)
    return made


@pytest.fixture
def built(world: World) -> World:
    world.run()
    world.begin_again()
    return world


def told(plan: Plan) -> str:
    """A plan as a person reads it; digests are counted in the order in which they come."""
    lines = [f"{decision.action:<8} {decision.step.id}: {decision.reason}" for decision in plan.decisions]
    text = "\n".join(lines)
    for number, digest in enumerate(dict.fromkeys(re.findall(r"\b[0-9a-f]{12}\b", text)), start=1):
        text = text.replace(digest, f"<{number}>")
    return text


NEVER = """\
build    amd64/stock/10-base: never built
build    amd64/stock/20-blas: never built
build    amd64/stock/30-venv: never built
minimize amd64/stock/minimize: never built
produce  amd64/stock/production: never built"""

UNCHANGED = """\
reuse    amd64/stock/10-base: unchanged
reuse    amd64/stock/20-blas: unchanged
reuse    amd64/stock/30-venv: unchanged
reuse    amd64/stock/minimize: unchanged
reuse    amd64/stock/production: unchanged"""


def test_new_chain_is_never_built(world: World) -> None:
    assert told(world.plan()) == NEVER
    assert world.driver.orders == []
    assert world.fake.counted("PUT") + world.fake.counted("POST") == 0, "a plan only reads"


def test_unchanged_chain_is_reused(built: World) -> None:
    plan = built.plan()
    assert told(plan) == UNCHANGED
    assert plan.builds == ()
    assert plan.expected_seconds == 0
    assert plan.publishes == (
        ("localhost:5000/team/atom:v1-stock-amd64", "result of stock for amd64"),
        ("localhost:5000/team/atom:v1-stock", "multi-platform index of stock"),
    )


def test_arg_change_is_the_reason(built: World) -> None:
    built.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    assert (
        told(built.plan())
        == """\
reuse    amd64/stock/10-base: unchanged
build    amd64/stock/20-blas: arg CPU changed from "HASWELL" to "ZEN"
build    amd64/stock/30-venv: parent 20-blas: arg CPU changed from "HASWELL" to "ZEN"
minimize amd64/stock/minimize: parent 20-blas: arg CPU changed from "HASWELL" to "ZEN"
produce  amd64/stock/production: parent 20-blas: arg CPU changed from "HASWELL" to "ZEN"\
"""
    )


def test_dockerfile_change_names_its_lines_to_the_last_step(built: World) -> None:
    built.write({"stock/10-Dockerfile-base": STEP.replace("RUN make", "RUN make -j8")})
    assert (
        told(built.plan())
        == """\
build    amd64/stock/10-base: Dockerfile changed (line 3)
build    amd64/stock/20-blas: parent 10-base: Dockerfile changed (line 3)
build    amd64/stock/30-venv: parent 10-base: Dockerfile changed (line 3)
minimize amd64/stock/minimize: parent 10-base: Dockerfile changed (line 3)
produce  amd64/stock/production: parent 10-base: Dockerfile changed (line 3)"""
    )


def test_base_image_change_is_the_reason(built: World) -> None:
    built.base("second")
    assert (
        told(built.plan())
        == """\
build    amd64/stock/10-base: base image fat:1 moved from <1> to <2>
build    amd64/stock/20-blas: parent 10-base: base image fat:1 moved from <1> to <2>
build    amd64/stock/30-venv: parent 10-base: base image fat:1 moved from <1> to <2>
minimize amd64/stock/minimize: parent 10-base: base image fat:1 moved from <1> to <2>
produce  amd64/stock/production: parent 10-base: base image fat:1 moved from <1> to <2>"""
    )


def test_deleted_image_is_the_reason(built: World) -> None:
    built.host.forget(built.plan().decisions[2].cached_record.image)  # type: ignore[union-attr]
    assert (
        told(built.plan())
        == """\
reuse    amd64/stock/10-base: unchanged
reuse    amd64/stock/20-blas: unchanged
build    amd64/stock/30-venv: its image was deleted from the registry
minimize amd64/stock/minimize: parent 30-venv: its image was deleted from the registry
produce  amd64/stock/production: parent 30-venv: its image was deleted from the registry"""
    )


def test_step_added_in_the_middle_is_never_built(built: World) -> None:
    built.write({"stock/15-Dockerfile-tools": STEP + "RUN tools\n"})
    assert (
        told(built.plan())
        == """\
reuse    amd64/stock/10-base: unchanged
build    amd64/stock/15-tools: never built
build    amd64/stock/20-blas: parent 15-tools: never built
build    amd64/stock/30-venv: parent 15-tools: never built
minimize amd64/stock/minimize: parent 15-tools: never built
produce  amd64/stock/production: parent 15-tools: never built"""
    )


def test_step_removed_from_the_middle_rebuilds_the_next(built: World) -> None:
    built.write({"stock/20-Dockerfile-blas": None, "stock/blas-amd64-args": None, "stock/blas-aarch64-args": None})
    assert told(built.plan()).splitlines()[:2] == [
        "reuse    amd64/stock/10-base: unchanged",
        "build    amd64/stock/30-venv: parent 10-base has different content",
    ]


FILES: list[tuple[dict[str, str | None], str]] = [
    ({"src/setup.py": "setup(2)\n"}, "file src/setup.py changed"),
    ({"src/more.py": ""}, "file src/more.py added"),
    ({"src/setup.py": None}, "file src/setup.py removed"),
    ({".dockerignore": "src/*.py\n"}, "file src/setup.py removed"),
    ({"stock/30-Dockerfile-venv.dockerignore": "src/*\n"}, "file src/setup.py removed"),
    (
        {f"src/{number}": "" for number in range(5)},
        "file src/0 added; file src/1 added; file src/2 added; and 2 more files",
    ),
]


@pytest.mark.parametrize(("files", "reason"), FILES)
def test_context_change_is_the_reason(built: World, files: dict[str, str | None], reason: str) -> None:
    built.write(files)
    decisions = {decision.step.id: decision for decision in built.plan().decisions}
    reasons = {step: decision.reason for step, decision in decisions.items()}
    assert reasons[BASE] == reasons[BLAS] == "unchanged"
    assert reasons[PRODUCTION] == f"parent 30-venv: {reason}"
    assert reasons[VENV] == reason


@pytest.mark.parametrize("text", ["*.pyc\n", "# a comment\n", "build\n!build/x\n"])
def test_ignore_file_selecting_same_files_causes_no_rebuild(built: World, text: str) -> None:
    """An ignore file is in the key by the files that it selects, not by its bytes."""
    built.write({".dockerignore": text, "stock/20-Dockerfile-blas.dockerignore": text})
    assert not built.plan().builds


def test_mode_change_is_the_reason(built: World) -> None:
    (built.root / "src/setup.py").chmod(0o755)
    assert f"build    {VENV}: file src/setup.py mode changed from 644 to 755" in told(built.plan())


def test_unread_file_causes_no_rebuild(built: World) -> None:
    built.write({"stock/20-notes.txt": "other notes", "README.md": "new", "stock/blas-aarch64-args": "CPU=OTHER\n"})
    (built.root / "src/setup.py").touch()
    assert told(built.plan()) == UNCHANGED


def test_command_line_arg_is_the_reason(built: World) -> None:
    built.build_args = (BuildArg(name="CPU", value="ZEN", origin="--build-arg"),)
    assert f'build    {BLAS}: arg CPU changed from "HASWELL" to "ZEN"' in told(built.plan())
    assert f"reuse    {BASE}: unchanged" in told(built.plan()), "it declares no such arg"


def test_secret_id_counts_and_its_source_does_not(built: World) -> None:
    mounted = STEP.replace("RUN make", "RUN --mount=type=secret,id=token make")
    built.write({"stock/10-Dockerfile-base": mounted})
    built.run()
    built.secrets = (Secret(id="token", spec="id=token,src=/one"),)
    text = told(built.plan())
    assert f"build    {BASE}: secrets changed from none to token" in text
    built.write({"stock/20-Dockerfile-blas": THREE_STEPS["stock/20-Dockerfile-blas"]})
    built.run()
    built.secrets = (Secret(id="token", spec="id=token,env=OTHER"),)
    assert built.plan().builds == ()


def test_named_context_folder_counts_by_its_files(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / f"{tmp_path.name}-sources"
    elsewhere.mkdir()
    (elsewhere / "a.c").write_text("one")
    world.write({"stock/20-Dockerfile-blas": THREE_STEPS["stock/20-Dockerfile-blas"] + "COPY --from=sources a.c /\n"})
    world.build_contexts = (("sources", str(elsewhere)),)
    world.run()
    assert world.plan().builds == ()
    (elsewhere / "a.c").write_text("two")
    assert f"build    {BLAS}: file sources://a.c changed" in told(world.plan())


def test_file_named_like_context_file_has_a_separate_key(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / f"{tmp_path.name}-sources"
    elsewhere.mkdir()
    (elsewhere / "a.c").write_text("one")
    world.write(
        {
            "sources:a.c": "mine",
            "sources:/a.c": "mine, too",
            "stock/10-Dockerfile-base": STEP + "COPY . /all/\nCOPY --from=sources . /sources/\n",
        }
    )
    world.build_contexts = (("sources", str(elsewhere)),)
    world.run()
    for changed in (elsewhere / "a.c", world.root / "sources:a.c", world.root / "sources:/a.c"):
        before = changed.read_text()
        changed.write_text("changed")
        assert world.plan().decisions[0].action == "build", changed
        changed.write_text(before)
    assert world.plan().builds == ()


def asked(answers: dict[str, str]) -> RemoteContent:
    """A git that returns these commits and fails for other refs."""

    def run(arguments: Sequence[str], _: Mapping[str, str]) -> tuple[int, str, str]:
        commit = answers.get(arguments[2])
        return (0, f"{commit}\tHEAD\n", "") if commit else (128, "", "fatal: could not read from remote repository")

    return RemoteContent(run_git=run)


def test_content_of_the_network_that_moved_is_a_reason(world: World) -> None:
    """ADD of a repository and a remote context are asked for at plan time, as BuildKit asks in every build."""
    address, context = "https://example.com/r.git", "https://example.com/c.git"
    world.write({"stock/10-Dockerfile-base": STEP + f"ADD {address} /src\nCOPY --from=src /x /x\n"})
    world.build_contexts = (("src", context),)
    commits = {address: "1" * 40, context: "2" * 40}
    world.remotes = asked(commits)
    world.run()
    assert not world.plan().builds
    commits[address] = "3" * 40
    reason = f'remote content {address} changed from "commit {"1" * 40}" to "commit {"3" * 40}"'
    assert f"build    {BASE}: {reason}" in told(world.plan())
    commits[address] = "1" * 40
    assert not world.plan().builds
    commits[context] = "4" * 40
    assert world.plan().decisions[0].reason.startswith(f"remote content {context} changed")


def test_ambiguous_address_is_built_and_never_kept(world: World) -> None:
    text = STEP + "ARG A=https://example.com/1\nARG A=https://example.com/2 B=$A\nADD $B /src\n"
    world.write({"stock/10-Dockerfile-base": text})
    world.run()
    why = "could not query $B: its value cannot be determined"
    assert f"build    {BASE}: {why}" in told(world.plan())


def test_unreachable_remote_content_is_built_and_never_kept(world: World) -> None:
    address = "https://example.com/r.git"
    world.write({"stock/10-Dockerfile-base": STEP + f"ADD {address} /src\n"})
    commits = {address: "1" * 40}
    world.remotes = asked(commits)
    world.run()
    del commits[address]
    why = f"could not query {address}: fatal: could not read from remote repository"
    assert f"build    {BASE}: {why}" in told(world.plan())
    world.begin_again()
    world.run()
    assert BASE in world.driver.built
    assert any("could not all be queried" in event.text for event in world.events if isinstance(event, Message))
    commits[address] = "1" * 40
    assert not world.plan().builds


def test_option_on_top_names_the_first_cause(world: World) -> None:
    world.write({"extras/10-Dockerfile-more": STEP})
    world.run(world.graph(options=("stock", "extras")))
    world.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    last = world.plan(world.graph(options=("stock", "extras"))).decisions[-1]
    assert last.step.id == StepId.parse("amd64/extras/production")
    assert last.reason == 'parent 20-blas: arg CPU changed from "HASWELL" to "ZEN"'


def test_platforms_are_planned_separately(built: World) -> None:
    plan = built.plan(built.graph((AMD64, ARM64)))
    assert [decision.action for decision in plan.decisions] == ["reuse"] * 5 + ["build"] * 3 + ["minimize", "produce"]
    assert {decision.reason for decision in plan.decisions[5:]} == {"never built"}


# --refresh, --refresh-after, --from, --until --------------------------------------------------------------------------


def test_refresh_rebuilds_steps_of_earlier_runs(built: World) -> None:
    plan = built.plan(renewal=Renewal(refresh=True, since=built.now + 1))
    assert (
        told(plan)
        == """\
build    amd64/stock/10-base: --refresh
build    amd64/stock/20-blas: parent 10-base: --refresh
build    amd64/stock/30-venv: parent 10-base: --refresh
minimize amd64/stock/minimize: parent 10-base: --refresh
produce  amd64/stock/production: parent 10-base: --refresh"""
    )


def test_image_of_this_run_is_not_renewed_again(built: World) -> None:
    assert told(built.plan(renewal=Renewal(refresh=True, since=built.now))) == UNCHANGED


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (3600, "unchanged"),
        (86401, "older than --refresh-after (1 day old)"),
        (10 * 86400, "older than --refresh-after (10 days old)"),
    ],
)
def test_refresh_after_rebuilds_steps_older_than_the_age(built: World, age: float, reason: str) -> None:
    built.now += age
    plan = built.plan(renewal=Renewal(refresh_after=86400, since=built.now))
    assert plan.decisions[0].reason == reason


def test_refresh_after_hours(built: World) -> None:
    built.now += 7200
    plan = built.plan(renewal=Renewal(refresh_after=3600, since=built.now))
    assert plan.decisions[0].reason == "older than --refresh-after (2 hours old)"


def test_change_is_reported_before_a_refresh(built: World) -> None:
    built.write({"stock/10-Dockerfile-base": STEP + "RUN more\n"})
    plan = built.plan(renewal=Renewal(refresh=True, since=built.now + 1))
    assert plan.decisions[0].reason == "Dockerfile changed (line 4)"


def test_from_reuses_the_steps_before_without_checking(built: World) -> None:
    built.write({"stock/10-Dockerfile-base": STEP + "RUN more\n", "src/setup.py": "setup(2)\n"})
    assert (
        told(built.plan(first=30))
        == """\
reuse    amd64/stock/10-base: reused without checking (--from 30): image of v1-stock-10-base-amd64, built \
1970-01-12 13:46 UTC, <1>
reuse    amd64/stock/20-blas: unchanged
build    amd64/stock/30-venv: file src/setup.py changed
minimize amd64/stock/minimize: parent 30-venv: file src/setup.py changed
produce  amd64/stock/production: parent 30-venv: file src/setup.py changed"""
    )


def test_from_requires_the_steps_before(world: World) -> None:
    with pytest.raises(WrongUseError, match=r"--from 20: amd64/stock/10-base is not in the chain registry") as caught:
        world.plan(first=20)
    assert "Run without --from" in str(caught.value)


def test_from_needs_the_image_too(built: World) -> None:
    built.host.forget(built.plan().decisions[0].cached_record.image)  # type: ignore[union-attr]
    with pytest.raises(WrongUseError, match="--from 20"):
        built.plan(first=20)


def test_until_ends_with_that_step(world: World) -> None:
    cut = until(world.graph(), 20)
    assert [step.id for step in cut] == [BASE, BLAS]
    assert cut.chains[0].result.id == BLAS
    assert told(world.plan(cut)) == "\n".join(NEVER.splitlines()[:2])


def test_planner_treats_only_as_from_and_until(built: World) -> None:
    built.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    cut = until(built.graph(), 20)
    assert (
        told(built.plan(cut, first=20))
        == """\
reuse    amd64/stock/10-base: unchanged
build    amd64/stock/20-blas: arg CPU changed from "HASWELL" to "ZEN"\
"""
    )


def test_taken_before_leaves_the_stages(world: World) -> None:
    assert set(pinned_before(world.graph(), 30)) == {BASE, BLAS}


# The planner alone ----------------------------------------------------------------------------------------------------

REPOSITORY = ImageReference("localhost:5000", "team/atom")
DIGEST = Digest("sha256:" + "1" * 64)


class FakeRecords:
    def __init__(self) -> None:
        self.by_key: dict[str, Record] = {}
        self.newest: dict[str, Record] = {}
        self.gone: set[str] = set()

    def look_up(self, repository: ImageReference, key: str) -> Lookup:
        return Lookup(record=self.by_key.get(key))

    def last(self, repository: ImageReference, family: str) -> Lookup:
        return Lookup(record=self.newest.get(family))

    def of_image(self, repository: ImageReference, image: Digest) -> Lookup:
        return Lookup()

    def tagged(self, reference: ImageReference) -> Digest | None:
        return None

    def elsewhere(self, key: str) -> tuple[Record, ImageReference] | None:
        return None

    def misfit(self, repository: ImageReference, record: Record) -> str:
        return "its image was deleted from the registry" if record.key in self.gone else ""


class FakeInputs:
    """Inputs of a step: its name as the Dockerfile, and the identities of its images."""

    def __init__(self) -> None:
        self.looked = 0

    def components(self, step: Step, images: dict[str, ImageFacts]) -> Components:
        self.looked += 1
        return Components(
            dockerfile=step.name,
            platform="linux/amd64",
            images={name: facts.identity for name, facts in images.items()},
        )

    def check(self, step: Step, images: dict[str, ImageFacts]) -> Checked:
        return Checked()

    def problems(self, checked: Sequence[Checked]) -> tuple[Problem, ...]:
        return ()

    def with_fresh_inputs(self) -> FakeInputs:
        return FakeInputs()


def record(components: Components, **changed: object) -> Record:
    made = Record(
        key=components.key,
        step=StepId.parse("s"),
        family="s",
        image=DIGEST,
        identity=f"identity of {components.dockerfile}",
        size=10,
        added=1,
        seconds=60.0,
        built_at=100.0,
        components=components,
    )
    return replace(made, **changed)  # type: ignore[arg-type]


@pytest.fixture
def graph(world: World) -> Graph:
    return world.graph()


def test_newest_record_only_explains(graph: Graph) -> None:
    records, inputs = FakeRecords(), FakeInputs()
    planner = Planner(records, inputs, lambda step: {"BASE_IMAGE": ImageFacts(identity="base")})  # type: ignore[arg-type]
    step = next(iter(graph))
    now = planner.components(step, {})
    records.newest[step.family] = record(now)
    decision = planner.plan_step(step, {})
    assert (decision.action, decision.reason) == ("build", "its record was deleted from the registry")
    records.by_key[now.key] = record(now)
    assert planner.plan_step(step, {}).action == "reuse"
    records.gone.add(now.key)
    assert planner.plan_step(step, {}).reason == "its image was deleted from the registry"


def test_expected_seconds_are_those_of_the_last_time(graph: Graph) -> None:
    records = FakeRecords()
    planner = Planner(records, FakeInputs(), lambda step: {})  # type: ignore[arg-type]
    for step in graph:
        if step.name != "30-venv":
            records.newest[step.family] = record(Components(dockerfile="other", platform="linux/amd64"))
    plan = make_plan(graph, planner)
    expected = {decision.step.name: decision.expected_seconds for decision in plan.decisions}
    assert expected == {"10-base": 60.0, "20-blas": 60.0, "30-venv": None, "minimize": 60.0, "production": 60.0}
    assert plan.expected_seconds == 240.0


def test_planner_with_fresh_inputs_reads_again(graph: Graph) -> None:
    inputs = FakeInputs()
    pinned = {StepId.parse("x"): "--from 1"}
    planner = Planner(FakeRecords(), inputs, lambda step: {}, pinned_steps=pinned)  # type: ignore[arg-type]
    fresh = planner.with_fresh_inputs()
    assert fresh._inputs is not inputs  # type: ignore[comparison-overlap]
    assert fresh._pinned_steps == pinned


def test_image_input_without_base_is_called_an_image(graph: Graph) -> None:
    step = next(iter(graph))
    tools = ImageInput(name="golang:1.22", source=ImageReference.parse("golang:1.22"), platform=AMD64, as_context=True)
    step = replace(step, images=(*step.images, tools))
    before = Components(dockerfile="10-base", platform="linux/amd64", images={"golang:1.22": "sha256:" + "1" * 64})
    records = FakeRecords()
    records.newest[step.family] = record(before, notes={digest_note("golang:1.22"): "sha256:" + "3" * 64})
    planner = Planner(
        records,
        FakeInputs(),  # type: ignore[arg-type]
        lambda _: {"golang:1.22": ImageFacts(identity="sha256:" + "2" * 64, digest="sha256:" + "4" * 64)},
    )
    decision = planner.plan_step(step, {})
    assert decision.reason == f"image golang:1.22 moved from {'3' * 12} to {'4' * 12}"


def test_facts_of_a_record() -> None:
    components = Components(dockerfile="x", platform="linux/amd64")
    made = record(components, env=("A=1",), on_build=("RUN x",))
    assert facts_of(made) == ImageFacts(identity="identity of x", digest=str(DIGEST), env=("A=1",), on_build=("RUN x",))


# JSON -----------------------------------------------------------------------------------------------------------------


def test_plan_as_json_has_all_fields(built: World) -> None:
    built.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    plan = built.plan()
    document = json.loads(plan_as_json(plan, {BLAS: ("docker", "buildx", "build")}, {}))
    assert document["schema"] == SCHEMA == "chainbuild.plan/1"
    assert document["builds"] == 4
    assert document["publishes"] == [
        {"name": "localhost:5000/team/atom:v1-stock-amd64", "what": "result of stock for amd64"},
        {"name": "localhost:5000/team/atom:v1-stock", "what": "multi-platform index of stock"},
    ]
    base, blas, venv, *_ = document["steps"]
    assert base["action"] == "reuse"
    assert base["digest"].startswith("sha256:")
    assert base["expected_seconds"] == 0.0
    assert base["command"] is None
    assert blas == {
        "step": str(BLAS),
        "platform": "linux/amd64",
        "option": "stock",
        "action": "build",
        "reason": 'arg CPU changed from "HASWELL" to "ZEN"',
        "image": "localhost:5000/team/atom:v1-stock-20-blas-amd64",
        "key": blas["key"],
        "digest": None,
        "built_at": None,
        "from": None,
        "warning": None,
        "expected_seconds": blas["expected_seconds"],
        "native": None,
        "needs": [str(BASE)],
        "arguments": [],
        "command": ["docker", "buildx", "build"],
    }
    assert blas["key"].startswith("k1-")
    assert venv["key"] is None, "nobody knows it before its parent is built"


def test_plan_and_run_agree(built: World) -> None:
    built.write({"stock/blas-amd64-args": "CPU=ZEN\n"})
    planned = [decision.step.id for decision in built.plan().builds]
    built.run()
    assert built.driver.built == planned


def test_decision_action_is_the_plan_action(graph: Graph) -> None:
    words = {step.name: Decision(step=step, cached_record=None, reason="").action for step in graph}
    assert words == {
        "10-base": "build",
        "20-blas": "build",
        "30-venv": "build",
        "minimize": "minimize",
        "production": "produce",
    }
