"""Trees of numbered Dockerfiles become a graph, or their problems are reported together."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from chainbuild import limits
from chainbuild.errors import WrongUseError
from chainbuild.host.package_data import PROGRAM
from chainbuild.layouts import numbered
from chainbuild.model import BuildArg, Graph, Secret, StepKind, dependents
from chainbuild.references import ImageReference
from chainbuild.step_id import StepId
from tests.support.world import AMD64, ARM64, STAGES, STEP, THREE_STEPS, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def wrong(world: World, files: Mapping[str, str], **request: object) -> list[str]:
    """Return `path:line: message` of every problem of a tree."""
    from chainbuild.values import replace

    world.write(files)
    with pytest.raises(WrongUseError) as caught:
        numbered.read(replace(world.request(), **request))  # type: ignore[arg-type]
    assert all(problem.hint for problem in caught.value.problems)
    return [f"{problem.where}: {problem.message}" for problem in caught.value.problems]


def shown(graph: Graph) -> str:
    """Return a graph as text."""
    lines = []
    for step in graph:
        args = " ".join(f"{arg.name}={arg.value}" for arg in step.args)
        images = " ".join(f"{image.name}<-{image.source}" for image in step.images if not image.as_context)
        lines.append(f"{step.id} [{step.tag}] {images}{' | ' if args else ''}{args}")
    return "\n".join(lines)


def test_comment_sets_the_stage_that_a_step_builds(world: World) -> None:
    own = "# chainbuild: target one\nFROM fat:1 AS one\nRUN 1\nFROM slim:1 AS two\nRUN 2\n"
    world.write({**THREE_STEPS, "stock/10-Dockerfile-base": own})
    first, second, *_ = world.graph()
    assert (first.target, second.target) == ("one", None)
    assert [image.source for image in first.images if image.name == first.parent] == [ImageReference.parse("fat:1")]
    told = wrong(world, {"stock/10-Dockerfile-base": own.replace("target one", "target oen")})
    assert told[0] == "stock/10-Dockerfile-base:1: target: no such stage: 'oen'"


def test_numbered_dockerfiles_form_a_chain_with_stages(world: World) -> None:
    world.write(THREE_STEPS)
    assert (
        shown(world.graph())
        == """\
amd64/stock/10-base [v1-stock-10-base-amd64] BASE_IMAGE<-fat:1
amd64/stock/20-blas [v1-stock-20-blas-amd64] BASE_IMAGE<-amd64/stock/10-base | CPU=HASWELL
amd64/stock/30-venv [v1-stock-30-venv-amd64] BASE_IMAGE<-amd64/stock/20-blas
amd64/stock/minimize [v1-stock-minimized-amd64] BASE_IMAGE<-amd64/stock/30-venv PRODUCTION_IMAGE<-slim:1
amd64/stock/production [v1-stock-amd64] PRODUCTION_IMAGE<-slim:1 MINIMIZED_IMAGE<-amd64/stock/minimize \
BASE_IMAGE<-amd64/stock/30-venv"""
    )


def test_graph_has_chain_for_each_platform_and_option(world: World) -> None:
    world.write({**THREE_STEPS, "extras/1-Dockerfile-a": STEP, "extras/2-Dockerfile-b": STEP})
    graph = world.graph((AMD64, ARM64), ("stock", "extras"))
    assert [f"{chain.platform}/{chain.option}" for chain in graph.chains] == [
        "amd64/stock",
        "amd64/extras",
        "aarch64/stock",
        "aarch64/extras",
    ]
    assert [str(chain.base) for chain in graph.chains] == [
        "fat:1",
        "amd64/stock/production",
        "fat:1",
        "aarch64/stock/production",
    ]
    by_id = graph.by_id
    assert by_id[StepId.parse("aarch64/stock/20-blas")].args[0].value == "ARMV8"
    assert by_id[StepId.parse("amd64/extras/1-a")].image("BASE_IMAGE").source == StepId.parse("amd64/stock/production")
    assert len(by_id) == len(list(graph))
    assert dependents(graph, [StepId.parse("amd64/stock/20-blas")]) == {
        step.id
        for step in graph
        if step.platform == AMD64
        and step.id not in {StepId.parse("amd64/stock/10-base"), StepId.parse("amd64/stock/20-blas")}
    }


def test_step_has_dockerfile_args_and_secrets(world: World, tmp_path: Path) -> None:
    world.write(THREE_STEPS)
    world.secrets = (Secret(id="t", spec="id=t,src=x"),)
    step = world.graph().by_id[StepId.parse("amd64/stock/20-blas")]
    assert (step.kind, step.number, step.option, step.family) == (StepKind.BUILD, 20, "stock", "stock-20-blas-amd64")
    assert step.dockerfile == tmp_path / "stock/20-Dockerfile-blas"
    assert step.context == tmp_path
    assert step.args == (BuildArg(name="CPU", value="HASWELL", origin="stock/blas-amd64-args:1"),)
    assert step.secrets == world.secrets
    assert str(step.reference) == "localhost:5000/team/atom:v1-stock-20-blas-amd64"
    assert step.needs == (StepId.parse("amd64/stock/10-base"),)


def test_steps_are_ordered_by_number(world: World) -> None:
    world.write({"stock/9-Dockerfile-a": STEP, "stock/10-Dockerfile-b": STEP, "stock/010-Dockerfile-c": STEP})
    assert [step.name for step in world.graph().chains[0].steps] == ["9-a", "010-c", "10-b"]


def test_other_files_are_ignored(world: World) -> None:
    world.write(
        {
            "stock/10-Dockerfile-base": STEP,
            "stock/10-Dockerfile-base.dockerignore": "*",
            "stock/10-Dockerfile-base~": STEP,
            "stock/README.md": "",
            "stock/20-notes": "",
            "stock/patches/10-Dockerfile-x": "",
        }
    )
    assert [step.name for step in world.graph().chains[0].steps] == ["10-base"]


def test_stages_of_tree_replace_shipped_stages(world: World, tmp_path: Path) -> None:
    world.write({"stock/10-Dockerfile-base": STEP})
    chain = world.graph().chains[0]
    assert chain.minimize is not None
    assert chain.minimize.dockerfile.parent.name == "utilities"
    assert not chain.minimize.dockerfile.is_relative_to(tmp_path)
    assert dict(chain.minimize.contexts).keys() == {PROGRAM}
    world.write(STAGES)
    chain = world.graph().chains[0]
    assert chain.production is not None
    assert chain.production.dockerfile == tmp_path / "utilities/Dockerfile-production"


def test_stages_share_their_args_files(world: World) -> None:
    """Trees of the practice that this layout is based on set PRODUCTION_PACKAGES in the args file of minimize."""
    world.write(
        {
            "stock/10-Dockerfile-base": STEP,
            "stock/minimize-amd64-args": "ADDITIONAL_FILES=/a /b\nPRODUCTION_PACKAGES=tini\n",
            "stock/production-amd64-args": "# nothing\n",
        }
    )
    graph = world.graph().by_id
    assert [arg.name for arg in graph[StepId.parse("amd64/stock/minimize")].args] == ["ADDITIONAL_FILES"]
    assert [(arg.name, arg.value) for arg in graph[StepId.parse("amd64/stock/production")].args] == [
        ("PRODUCTION_PACKAGES", "tini")
    ]


@pytest.mark.parametrize("spelling", ["amd64", "x86_64", "x86-64"])
def test_args_file_name_accepts_any_platform_spelling(world: World, spelling: str) -> None:
    world.write(THREE_STEPS)
    world.write({"stock/blas-amd64-args": None})
    world.write({f"stock/blas-{spelling}-args": "CPU=ZEN\n"})
    assert world.graph().by_id[StepId.parse("amd64/stock/20-blas")].args[0].value == "ZEN"


def test_build_arg_flag_overrides_args_file(world: World) -> None:
    world.write(THREE_STEPS)
    world.build_args = (
        BuildArg(name="CPU", value="ZEN", origin="--build-arg"),
        BuildArg(name="http_proxy", value="http://proxy", origin="--build-arg"),
    )
    graph = world.graph().by_id
    assert {arg.name: arg.value for arg in graph[StepId.parse("amd64/stock/20-blas")].args} == {
        "CPU": "ZEN",
        "http_proxy": "http://proxy",
    }
    assert [arg.name for arg in graph[StepId.parse("amd64/stock/10-base")].args] == ["http_proxy"]


def test_bare_key_takes_value_from_environment(world: World) -> None:
    from chainbuild.values import replace

    world.write({**THREE_STEPS, "stock/blas-amd64-args": "CPU\n"})
    graph = numbered.read(replace(world.request(), environ={"CPU": "ZEN3"}))
    assert graph.by_id[StepId.parse("amd64/stock/20-blas")].args[0].value == "ZEN3"


def test_images_in_dockerfile_are_inputs(world: World) -> None:
    world.write(
        {
            "stock/10-Dockerfile-base": (
                "ARG BASE_IMAGE\nFROM --platform=$BUILDPLATFORM golang:1.22 AS tools\nFROM ${BASE_IMAGE}\n"
                "COPY --from=tools /x /x\nCOPY --from=alpine:3 /y /y\nCOPY --from=sources z /z\n"
            )
        }
    )
    world.build_contexts = (("sources", "https://example.com/z.git"),)
    images = {image.name: image for image in world.graph((ARM64,)).by_id[StepId.parse("aarch64/stock/10-base")].images}
    assert images.keys() == {"BASE_IMAGE", "golang:1.22 on the builder's platform", "alpine:3"}
    golang, alpine = images["golang:1.22 on the builder's platform"], images["alpine:3"]
    assert (golang.written, alpine.written) == ("golang:1.22", "alpine:3")
    assert (golang.platform, golang.on_builder, golang.as_context) == (AMD64, True, True)
    assert (alpine.platform, alpine.on_builder, alpine.as_context) == (ARM64, False, True)
    assert golang.origin == "stock/10-Dockerfile-base:2"
    assert golang.source == ImageReference.parse("golang:1.22")


def test_context_defaults_to_parent_folder_of_options(world: World, tmp_path: Path) -> None:
    from chainbuild.values import replace

    world.write(THREE_STEPS)
    graph = numbered.read(replace(world.request(), context=tmp_path / "src"))
    assert graph.by_id[StepId.parse("amd64/stock/10-base")].context == tmp_path / "src"
    stage = graph.by_id[StepId.parse("amd64/stock/minimize")]
    assert stage.context == stage.dockerfile.parent


# Invalid trees --------------------------------------------------------------------------------------------------------

TREES: dict[str, tuple[Mapping[str, str], list[str]]] = {
    "no numbered Dockerfiles": (
        {"stock/README": ""},
        ["stock: no numbered Dockerfiles in this folder"],
    ),
    "an ignore file alone": (
        {"stock/10-Dockerfile-base.dockerignore": ""},
        ["stock: no numbered Dockerfiles in this folder"],
    ),
    "nearly a name": (
        {"stock/10-Dockerfile-base": STEP, "stock/Dockerfile": STEP, "stock/20_dockerfile_x": STEP},
        [
            (
                "stock/20_dockerfile_x: looks like a Dockerfile but is not named NN-Dockerfile-<descriptor>, so it would not"
                " be built"
            ),
            (
                "stock/Dockerfile: looks like a Dockerfile but is not named NN-Dockerfile-<descriptor>, so it would not be"
                " built"
            ),
        ],
    ),
    "no BASE_IMAGE": (
        {"stock/10-Dockerfile-base": "FROM debian\nRUN x\n"},
        ["stock/10-Dockerfile-base:1: no FROM uses ARG BASE_IMAGE, so the step would not be based on the one before"],
    ),
    "BASE_IMAGE that no FROM uses": (
        {"stock/10-Dockerfile-base": "ARG BASE_IMAGE\n\nFROM debian\n"},
        ["stock/10-Dockerfile-base:3: no FROM uses ARG BASE_IMAGE, so the step would not be based on the one before"],
    ),
    "BASE_IMAGE that is not declared": (
        {"stock/10-Dockerfile-base": "FROM ${BASE_IMAGE}\n"},
        ["stock/10-Dockerfile-base:1: no FROM uses ARG BASE_IMAGE, so the step would not be based on the one before"],
    ),
    "two with one descriptor": (
        {"stock/10-Dockerfile-base": STEP, "stock/20-Dockerfile-base": STEP},
        ["stock/20-Dockerfile-base: duplicate descriptor 'base', used by stock/10-Dockerfile-base"],
    ),
    "the name of a stage": (
        {"stock/10-Dockerfile-minimize": STEP},
        ["stock/10-Dockerfile-minimize: the descriptor 'minimize' is the name of a stage"],
    ),
    "an orphaned args file": (
        {"stock/10-Dockerfile-base": STEP, "stock/bsae-amd64-args": "A=1"},
        ["stock/bsae-amd64-args: no step uses this args file: no Dockerfile has the descriptor 'bsae'"],
    ),
    "an args file of no platform": (
        {"stock/10-Dockerfile-base": STEP, "stock/base-amd46-args": "A=1", "stock/base-args": "A=1"},
        [
            "stock/base-amd46-args: no step uses this args file: unknown platform",
            "stock/base-args: no step uses this args file: unknown platform",
        ],
    ),
    "a malformed args file": (
        {"stock/10-Dockerfile-base": STEP + "ARG A\n", "stock/base-amd64-args": "A=1\nnonsense here\nA=2\n"},
        [
            "stock/base-amd64-args:2: 'nonsense here' is not KEY=VALUE",
            "stock/base-amd64-args:3: duplicate argument A, already set at stock/base-amd64-args:1",
        ],
    ),
    "an arg that nothing declares": (
        {"stock/10-Dockerfile-base": STEP + "ARG TARGET_CPU\n", "stock/base-amd64-args": "\nTARGT_CPU=1\n"},
        ["stock/base-amd64-args:2: no Dockerfile declares the arg TARGT_CPU"],
    ),
    "an arg of the chain": (
        {"stock/10-Dockerfile-base": STEP, "stock/base-amd64-args": "BASE_IMAGE=debian\n"},
        ["stock/base-amd64-args:1: BASE_IMAGE is set by the chain and cannot be set here"],
    ),
    "a stage's arg that neither stage declares": (
        {"stock/10-Dockerfile-base": STEP, "stock/minimize-amd64-args": "ADDITIONAL_FILE=/a\n"},
        ["stock/minimize-amd64-args:1: no Dockerfile declares the arg ADDITIONAL_FILE"],
    ),
    "two files for one platform": (
        {**THREE_STEPS, "stock/blas-x86_64-args": "CPU=ZEN\n"},
        ["stock/blas-x86_64-args: blas-amd64-args is for the same platform, linux/amd64"],
    ),
    "a bare key that is not set": (
        {**THREE_STEPS, "stock/blas-amd64-args": "# the CPU\nCPU\n"},
        ["stock/blas-amd64-args:2: CPU has no value and is not set in the environment"],
    ),
    "an image that is no image": (
        {"stock/10-Dockerfile-base": STEP + "COPY --from=Debian:12 /a /a\n"},
        ["stock/10-Dockerfile-base:4: 'Debian:12': 'Debian' is not a repository name"],
    ),
    "a Dockerfile that is empty": (
        {"stock/10-Dockerfile-base": ""},
        ["stock/10-Dockerfile-base:1: no FROM uses ARG BASE_IMAGE, so the step would not be based on the one before"],
    ),
    "a name that gives no tag": (
        {"stock/10-Dockerfile-" + "x" * 120: STEP},
        [(f"stock/10-Dockerfile-{'x' * 120}: the tag of its image is too long: 'v1-stock-10-{'x' * 120}-amd64'")],
    ),
}


@pytest.mark.parametrize(("files", "told"), TREES.values(), ids=TREES.keys())
def test_tree_problem_is_reported_at_its_place(world: World, files: Mapping[str, str], told: list[str]) -> None:
    found = wrong(world, files)
    if "empty" in str(files.get("stock/10-Dockerfile-base") or "empty"):
        found = [text for text in found if text in told] or found  # the grammar reports more problems
    assert found == told


def test_tree_problems_are_reported_together(world: World) -> None:
    found = wrong(
        world,
        {
            "stock/10-Dockerfile-base": "FROM debian\n",
            "stock/20-Dockerfile-base": STEP,
            "stock/base-amd64-args": "A B\nC=1\n",
            "stock/other-amd64-args": "A=1\n",
            "extras/10-Dockerfile-x": "FROM debian\n",
        },
        options=("stock", "extras", "graphix"),
        platforms=(AMD64, ARM64),
        build_args=(BuildArg(name="NOBODY", value="1", origin="--build-arg"),),
    )
    assert len(found) == len(set(found)) == 8
    assert [text.partition(": ")[0] for text in found] == [
        "",
        "--build-arg",
        "extras/10-Dockerfile-x:1",
        "stock/10-Dockerfile-base:1",
        "stock/20-Dockerfile-base",
        "stock/base-amd64-args:1",
        "stock/base-amd64-args:2",
        "stock/other-amd64-args",
    ]


def test_missing_option_error_suggests_nearest_name(world: World) -> None:
    world.write(THREE_STEPS)
    with pytest.raises(WrongUseError, match=r"(?s)option 'stok': no such folder: .*Perhaps you meant 'stock'"):
        world.graph(options=("stok",))
    with pytest.raises(WrongUseError, match="Available: stock"):
        world.graph(options=("graphics",))


def test_missing_root_is_reported(world: World, tmp_path: Path) -> None:
    found = wrong(world, {}, root=tmp_path / "nowhere")
    assert found == [f": option 'stock': no such folder: '{tmp_path}/nowhere/stock'"]


def test_unreadable_files_are_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root can read every file regardless of its mode, so the error is simulated."""
    read = limits.read_tree_file

    def refuse(path: Path) -> bytes:
        if path.name in {"20-Dockerfile-blas", "base-amd64-args"}:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read(path)

    monkeypatch.setattr(limits, "read_tree_file", refuse)
    found = wrong(world, {**THREE_STEPS, "stock/base-amd64-args": "A=1"})
    assert "stock/20-Dockerfile-blas: cannot be read: Permission denied" in found
    assert "stock/base-amd64-args: cannot be read: Permission denied" in found


def test_folders_in_place_of_files_are_reported(world: World) -> None:
    (world.root / "stock/20-Dockerfile-x").mkdir(parents=True)
    (world.root / "stock/base-amd64-args").mkdir()
    assert wrong(world, {"stock/10-Dockerfile-base": STEP}) == [
        "stock/20-Dockerfile-x: cannot be read: Is a directory",
        "stock/base-amd64-args: cannot be read: Is a directory",
    ]


def test_option_path_with_spaces_is_read(world: World) -> None:
    world.write({"my options/stock/10-Dockerfile-base": STEP, "my options/stock/base-amd64-args": "NOBODY=1\n"})
    assert wrong(world, {}, options=("my options/stock",)) == [
        "my options/stock/base-amd64-args:1: no Dockerfile declares the arg NOBODY"
    ]


def test_option_name_invalid_in_tags_is_reported(world: World) -> None:
    found = wrong(world, {"my stock/10-Dockerfile-base": STEP}, options=("my stock",))
    assert found == ["my stock: the folder name 'my stock' cannot be part of a tag"]


def test_options_with_same_name_are_rejected(world: World) -> None:
    world.write({"stock/10-Dockerfile-base": STEP, "other/stock/10-Dockerfile-base": STEP})
    for options in (("stock", "other/stock"), ("stock", "./stock"), ("stock", "other/../stock")):
        found = wrong(world, {}, options=options)
        assert found == [f": options 'stock' and {options[1]!r} have the same name, stock"]


def test_dockerfile_syntax_error_is_reported(world: World) -> None:
    found = wrong(world, {"stock/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUNN make\n"})
    assert len(found) == 1
    assert found[0].startswith("stock/10-Dockerfile-base:3: ")


# Names of Dockerfiles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "step", "taker"),
    [
        ("10-Dockerfile-base", "10-base", "base"),
        ("10_Dockerfile_base", "10-base", "base"),
        ("10-Dockerfile", "10", "10"),
        ("Dockerfile.10-base", "10-base", "base"),
        ("Dockerfile-10_base", "10-base", "base"),
        ("Dockerfile.10", "10", "10"),
        ("10-base.Dockerfile", "10-base", "base"),
        ("10_base.dockerfile", "10-base", "base"),
        ("10.Dockerfile", "10", "10"),
        ("10-base/Dockerfile", "10-base", "base"),
    ],
)
def test_name_of_dockerfile_gives_step_with_args_and_test(world: World, file: str, step: str, taker: str) -> None:
    files = {f"stock/{file}": f"{STEP}ARG CPU\n", "stock/20-Dockerfile-last": STEP}
    world.write(files | {f"stock/{taker}-amd64-args": "CPU=ZEN\n", f"stock/{taker}-test": "#!/bin/sh\n"})
    first, second = world.graph().chains[0].steps
    assert (first.name, first.number, first.dockerfile) == (step, 10, world.root / f"stock/{file}")
    assert first.tag == f"v1-stock-{step}-amd64"
    assert [arg.value for arg in first.args] == ["ZEN"]
    assert first.test == world.root / f"stock/{taker}-test"
    assert second.image("BASE_IMAGE").source == first.id


def test_dockerfile_in_a_folder_has_that_context(world: World) -> None:
    world.write({"stock/10-base/Dockerfile": STEP, "stock/20-last.Dockerfile": STEP, "stock/30-notes/README": ""})
    contexts = {step.name: step.context for step in world.graph().chains[0].steps}
    assert contexts == {"10-base": world.root / "stock/10-base", "20-last": world.root}


@pytest.mark.parametrize(
    ("file", "ignore"),
    [
        ("Dockerfile.10-a", "Dockerfile.10-a.dockerignore"),
        ("10-a.Dockerfile", "10-a.Dockerfile.dockerignore"),
        ("10-a/Dockerfile", "10-a/.dockerignore"),
        ("10-a/Dockerfile", "10-a/Dockerfile.dockerignore"),
    ],
)
def test_ignore_file_applies_to_every_form_of_name(world: World, file: str, ignore: str) -> None:
    text = f"{STEP}COPY notes.txt /\n"
    world.write({f"stock/{file}": text, f"stock/{ignore}": "*.txt\n", "notes.txt": "", "stock/10-a/notes.txt": ""})
    with pytest.raises(WrongUseError, match=r"COPY notes\.txt: excluded from the build context"):
        world.plan()


@pytest.mark.parametrize(
    ("first", "second", "step"),
    [
        ("10-Dockerfile-base", "Dockerfile.10-base", "10-base"),
        ("10-base.Dockerfile", "10-base/Dockerfile", "10-base"),
        ("10-Dockerfile", "10-Dockerfile-base", "10"),
        ("010-Dockerfile-base", "10_Dockerfile_base", "010-base"),
    ],
)
def test_step_with_two_names_is_reported_with_both(world: World, first: str, second: str, step: str) -> None:
    (problem,) = wrong(world, {f"stock/{first}": STEP, f"stock/{second}": STEP})
    assert problem == f"stock/{second}: the step {step} has two Dockerfiles, stock/{first} and stock/{second}"


# The ARG that takes the base image ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "ARG BASE\nFROM $BASE\n",
        "ARG BASE=debian:12\nFROM ${BASE} AS last\n",
        "ARG GO=golang:1\nARG BASE\nFROM $GO AS tools\nFROM $BASE\n",
        "ARG BASE\nFROM $BASE AS a\nFROM a AS b\nFROM b\n",
        "ARG BASE\nFROM ${BASE:-debian:12}\n",
    ],
)
def test_single_candidate_takes_the_base_and_is_noted(world: World, text: str) -> None:
    world.write({"stock/10-Dockerfile-a": text, "stock/20-Dockerfile-b": STEP, "stock/30-Dockerfile-c": text})
    graph = world.graph()
    first, second, third = graph.chains[0].steps
    assert [step.parent for step in (first, second, third)] == ["BASE", "BASE_IMAGE", "BASE"]
    assert str(first.image("BASE").source) == "fat:1"
    assert third.image("BASE").source == second.id
    assert graph.notes == ("stock: ARG BASE takes the base image, in 10-Dockerfile-a, 30-Dockerfile-c",)


@pytest.mark.parametrize(
    "text",
    [
        "ARG RUNTIME\nARG BASE\nFROM $RUNTIME AS a\nFROM $BASE\n",
        "ARG RUNTIME=a\nARG BASE=debian:12\nFROM $BASE AS a\nFROM $RUNTIME\n",
    ],
)
def test_two_candidates_for_the_base_are_reported(world: World, text: str) -> None:
    (problem,) = wrong(world, {"stock/10-Dockerfile-a": text})
    assert problem.startswith(
        "stock/10-Dockerfile-a:3: the base image can be any of the ARGs RUNTIME (line 1) and BASE"
    )
    from chainbuild.values import replace

    graph = numbered.read(replace(world.request(), base_arg="BASE"))
    assert graph.chains[0].steps[0].parent == "BASE"
    assert graph.notes == ()


def test_arg_of_another_stage_is_suggested_but_not_taken(world: World) -> None:
    text = "ARG B=x:1\nFROM $B AS builder\nFROM debian:12\nCOPY --from=builder /x /x\n"
    world.write({"stock/1-Dockerfile-a": "FROM fat:1\n", "stock/2-Dockerfile-b": text})
    with pytest.raises(WrongUseError, match=r"If B takes the image of the step before, use --base-arg B\."):
        world.graph()
    from chainbuild.values import replace

    first, second = numbered.read(replace(world.request(), base_arg="B")).chains[0].steps
    assert second.image("B").source == first.id


def test_named_base_arg_must_be_used_by_a_from(world: World) -> None:
    assert wrong(world, {"stock/10-Dockerfile-a": "ARG BASE\nFROM $BASE\n"}, base_arg="BAES") == [
        "stock/10-Dockerfile-a:2: no FROM uses the ARG BAES"
    ]


def test_base_arg_cannot_be_set_otherwise(world: World) -> None:
    args = (BuildArg(name="BASE", value="x", origin="--build-arg"),)
    files = {"stock/10-Dockerfile-a": "ARG BASE\nFROM $BASE\n", "stock/a-amd64-args": "BASE=debian\n"}
    assert wrong(world, files, build_args=args) == [
        ": --build-arg: BASE takes the base image in stock/10-Dockerfile-a",
        "stock/a-amd64-args:1: BASE is set by the chain and cannot be set here",
    ]


def test_chain_with_other_base_arg_is_built_on_pinned_parents(world: World) -> None:
    text = "ARG BASE\nFROM $BASE\nRUN one\n"
    world.write({"stock/10-a/Dockerfile": text, "stock/Dockerfile.20-b": text.replace("one", "two")})
    assert not world.run().failures
    assert [str(step) for step in world.driver.built[:2]] == ["amd64/stock/10-a", "amd64/stock/20-b"]
    world.begin_again()
    assert not world.plan().builds


# A first Dockerfile that names its base -------------------------------------------------------------------------------


def test_first_dockerfile_may_name_the_base_itself(world: World) -> None:
    world.write(
        {"stock/Dockerfile.01-base": "FROM fat:1\nRUN one\n", "stock/Dockerfile.02-top": "ARG B=x:1\nFROM $B\n"}
    )
    first, second = world.graph().chains[0].steps
    assert (first.parent, str(first.image("fat:1").source), first.image("fat:1").as_context) == ("fat:1", "fat:1", True)
    assert second.image("B").source == first.id
    assert not world.run().failures
    world.begin_again()
    assert not world.plan().builds
    world.base("second")
    world.begin_again()
    assert str(next(iter(world.plan().builds)).step.id) == "amd64/stock/01-base"


@pytest.mark.parametrize(
    ("files", "options", "path"),
    [
        ({"stock/1-Dockerfile-a": "FROM fat:2\n"}, ("stock",), "stock/1-Dockerfile-a:1"),
        ({"stock/1-Dockerfile-a": STEP, "stock/2-Dockerfile-b": "FROM fat:1\n"}, ("stock",), "stock/2-Dockerfile-b:1"),
        (
            {"stock/1-Dockerfile-a": STEP, "top/1-Dockerfile-b": "FROM fat:1\n"},
            ("stock", "top"),
            "top/1-Dockerfile-b:1",
        ),
    ],
)
def test_other_dockerfiles_must_take_the_base_as_arg(
    world: World, files: Mapping[str, str], options: tuple[str, ...], path: str
) -> None:
    assert wrong(world, files, options=options) == [
        f"{path}: no FROM uses ARG BASE_IMAGE, so the step would not be based on the one before"
    ]


def test_fifos_and_huge_files_are_reported_without_reading_them(world: World) -> None:
    folder = world.root / "stock"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "20-Dockerfile-x")
    os.mkfifo(folder / "base-amd64-args")
    with (folder / "30-Dockerfile-y").open("wb") as file:
        file.truncate(1 << 40)
    found = wrong(world, THREE_STEPS)
    assert "stock/20-Dockerfile-x: cannot be read: not a regular file" in found
    assert "stock/30-Dockerfile-y: cannot be read: larger than 4 MiB" in found
