"""Images that a Dockerfile names itself are pinned word by word; stages of the same names stay what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.builder.build_spec import BuildSpec, Pin, build_spec_for, copy_for_builder, leaves_its_folder
from chainbuild.builder.buildx import BuildxDriver
from chainbuild.dockerfile import parse
from chainbuild.dockerfile.images import named_images
from chainbuild.dockerfile.model import ImageWordPosition
from chainbuild.dockerfile.rewrite import pin_images
from chainbuild.errors import WrongUseError
from chainbuild.model import ImageInput, Step, StepKind
from chainbuild.planning.trigger_images import with_trigger_images
from chainbuild.references import ImageReference
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.world import AMD64, ARM64, World

PINNED = "localhost:5000/x@sha256:"


def inputs(text: str, **args: str) -> tuple[ImageInput, ...]:
    dockerfile = parse(text.encode(), "D")
    found, problems = named_images(dockerfile, given=("BASE_IMAGE",), args=args, platform=AMD64, build_platform=AMD64)
    assert not problems
    return found


def spec(folder: Path, text: str, images: tuple[ImageInput, ...] | None = None) -> BuildSpec:
    path = folder / "10-Dockerfile-x"
    path.write_text(text)
    base = ImageInput(name="BASE_IMAGE", source=ImageReference.parse("debian"), platform=AMD64)
    step = Step(
        id=StepId.parse("amd64/o/10-x"),
        kind=StepKind.BUILD,
        name="10-x",
        option="o",
        number=10,
        platform=AMD64,
        dockerfile=path,
        context=folder,
        images=(base, *(inputs(text) if images is None else images)),
        repository=ImageReference.parse("localhost:5000/x"),
        tag="t",
    )
    pinned = {image.name: f"{PINNED}{at}" for at, image in enumerate(step.images)}
    return build_spec_for(step, pinned, build_platform=AMD64)


def rewritten(made: BuildSpec) -> str:
    assert made.source is not None
    return pin_images(made.source, {pin.place: pin.reference for pin in made.pins}).decode()


@pytest.mark.parametrize(
    ("text", "built"),
    [
        (
            "ARG BASE_IMAGE\nFROM golang AS golang\nFROM ${BASE_IMAGE}\nCOPY --from=golang a b",
            "ARG BASE_IMAGE\nFROM {}1 AS golang\nFROM ${BASE_IMAGE}\nCOPY --from=golang a b",
        ),
        (
            "FROM golang:latest AS golang\nFROM golang\nCOPY --from=docker.io/library/golang a b",
            "FROM {}1 AS golang\nFROM golang\nCOPY --from={}2 a b",
        ),
        (
            "FROM golang AS Golang\nFROM scratch\nCOPY --from=GOLANG a b\nCOPY --from=golang:latest a b",
            "FROM {}1 AS Golang\nFROM scratch\nCOPY --from=GOLANG a b\nCOPY --from={}2 a b",
        ),
        ("FROM golang\nRUN --mount=from=golang,target=/t x", "FROM {}1\nRUN --mount=from={}1,target=/t x"),
        (
            "FROM --platform=linux/arm64 x AS a\nFROM x\nCOPY --from=a b c",
            "FROM --platform=linux/arm64 {}1 AS a\nFROM {}2\nCOPY --from=a b c",
        ),
        (
            "FROM --platform=$BUILDPLATFORM x AS a\nFROM x\nCOPY --from=a b c",
            "FROM --platform=$BUILDPLATFORM {}1 AS a\nFROM {}2\nCOPY --from=a b c",
        ),
        ("ARG V=1\nFROM x:${V}\nCOPY --from=x:1 a b", "ARG V=1\nFROM {}1\nCOPY --from={}1 a b"),
    ],
)
def test_order_pins_words_and_leaves_stages_alone(tmp_path: Path, text: str, built: str) -> None:
    made = spec(tmp_path, text)
    assert rewritten(made) == built.replace("{}", PINNED)
    assert made.contexts == ()


def test_order_without_named_images_builds_from_the_file_itself(tmp_path: Path) -> None:
    made = spec(tmp_path, "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN x")
    assert (made.source, made.pins) == (None, ())


def test_order_pins_an_onbuild_trigger_of_the_file_by_a_context(tmp_path: Path) -> None:
    made = spec(tmp_path, "FROM a AS b\nONBUILD COPY --from=tool x y\nFROM b")
    assert dict(made.contexts) == {"tool": f"docker-image://{PINNED}2"}
    assert rewritten(made).startswith(f"FROM {PINNED}1 AS b\nONBUILD COPY --from=tool x y\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "FROM a AS b\nONBUILD COPY --from=docker.io/library/tool x y\nFROM c AS tool\nFROM b\nCOPY --from=tool x y",
            3,
        ),
        ("# syntax=example.com/front\nFROM golang AS golang", 2),
        ("# syntax=example.com/front\nFROM index.docker.io/library/golang:latest AS golang", 2),
        ("# syntax=example.com/front\nFROM --platform=linux/arm64 x AS a\nFROM x\nCOPY --from=a b c", 3),
    ],
)
def test_named_images_that_only_a_context_could_pin_are_problems(text: str, line: int) -> None:
    _, problems = named_images(parse(text.encode(), "D"), given=(), args={}, platform=AMD64, build_platform=AMD64)
    assert [problem.line for problem in problems] == [line]
    assert problems[0].hint


def test_order_for_a_foreign_frontend_pins_by_contexts(tmp_path: Path) -> None:
    made = spec(tmp_path, "# syntax=example.com/front\nFROM x AS a\nFROM scratch\nCOPY --from=a b c")
    assert (made.source, dict(made.contexts)) == (None, {"x": f"docker-image://{PINNED}1"})


def test_order_of_a_file_that_names_another_image_by_now_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WrongUseError, match=r"10-Dockerfile-x:2: new was added after this run was planned"):
        spec(tmp_path, "ARG BASE_IMAGE\nFROM new", images=inputs("FROM old"))


def test_order_follows_words_that_moved_to_other_lines(tmp_path: Path) -> None:
    made = spec(tmp_path, "# a comment\n\nFROM old", images=inputs("FROM old"))
    assert [pin.place for pin in made.pins] == [ImageWordPosition(3)]


def test_base_put_in_the_place_of_a_name_counts_for_every_platform(tmp_path: Path) -> None:
    images = (ImageInput(name="x", source=StepId.parse("amd64/o/base"), platform=AMD64, as_context=True),)
    made = spec(tmp_path, "FROM --platform=linux/arm64 x AS a\nFROM x\nCOPY --from=a b c", images=images)
    assert [pin.reference for pin in made.pins] == [f"{PINNED}1"] * 2


def test_name_on_two_platforms_is_two_images_of_the_key(world: World) -> None:
    text = "ARG BASE_IMAGE\nFROM --platform=linux/arm64 fat:1 AS a\nFROM fat:1 AS b\nFROM ${BASE_IMAGE}\n"
    world.write({"stock/10-Dockerfile-base": f"{text}COPY --from=a x y\nCOPY --from=b x z\n"})
    graph = world.graph((AMD64,))
    step = graph.by_id[StepId.parse("amd64/stock/10-base")]
    planner = world.planned(graph).planner
    images = planner.images(step, {})
    names = {"fat:1", "fat:1 for linux/arm64", "BASE_IMAGE"}
    assert images.keys() == names
    components = planner.components(step, {})
    assert components.images.keys() == names
    other = {**images, "fat:1 for linux/arm64": replace(images["fat:1"], identity="sha256:other")}
    assert planner._inputs.components(step, other).key != components.key
    assert {image.platform for image in step.images if image.as_context} == {AMD64, ARM64}


def test_trigger_of_a_parent_that_reads_an_unknown_image_is_a_problem(world: World) -> None:
    world.write({"stock/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN x\n"})
    graph = world.graph((AMD64,))
    step = graph.by_id[StepId.parse("amd64/stock/10-base")]
    planner = world.planned(graph).planner
    images = planner.images(step, {})
    images["BASE_IMAGE"] = replace(images["BASE_IMAGE"], on_build=("COPY --from=tools:1 /x /x",))
    with pytest.raises(WrongUseError) as caught:
        planner._inputs.components(step, images)
    (problem,) = caught.value.problems
    assert "of this FROM's image reads tools:1" in problem.message
    assert "--build-context tools:1=docker-image://tools:1" in problem.hint


def triggered(world: World, *triggers: str, dockerfile: str = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN x\n") -> Step:
    world.write({"stock/10-Dockerfile-base": dockerfile})
    graph = world.graph((AMD64,))
    found = dict(world.found(graph))
    key = str(ImageReference.parse("fat:1")), AMD64.oci
    base = found[key]
    config = replace(base.image.config, on_build=triggers)
    found[key] = replace(base, image=replace(base.image, config=config))
    return with_trigger_images(graph, found, build_platform=AMD64).by_id[StepId.parse("amd64/stock/10-base")]


def test_trigger_of_a_base_image_adds_the_image_that_it_reads(world: World) -> None:
    step = triggered(world, "COPY --from=debian:bookworm-slim /x /x", "RUN --mount=from=slim:2,target=/t x")
    added = [image for image in step.images if image.by_trigger]
    assert [(image.name, image.platform) for image in added] == [("debian:bookworm-slim", AMD64), ("slim:2", AMD64)]
    made = build_spec_for(
        step, {image.name: f"{PINNED}{at}" for at, image in enumerate(step.images)}, build_platform=AMD64
    )
    assert dict(made.contexts) == {
        "debian:bookworm-slim": f"docker-image://{PINNED}1",
        "slim:2": f"docker-image://{PINNED}2",
    }


def test_trigger_that_reads_a_stage_of_that_name_reads_no_image(world: World) -> None:
    text = "ARG BASE_IMAGE\nFROM scratch AS tool\nFROM ${BASE_IMAGE}\n"
    step = triggered(world, "COPY --from=tool /x /x", dockerfile=text)
    assert not [image for image in step.images if image.by_trigger]


def test_trigger_whose_image_a_stage_is_called_like_is_a_problem(world: World) -> None:
    text = "ARG BASE_IMAGE\nFROM scratch AS tool\nFROM ${BASE_IMAGE}\n"
    with pytest.raises(WrongUseError) as caught:
        triggered(world, "COPY --from=library/tool:latest /x /x", dockerfile=text)
    assert [(problem.line, "trigger" in problem.message) for problem in caught.value.problems] == [(2, True)]


def test_trigger_of_a_step_counts_for_the_step_after_it(world: World) -> None:
    head = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
    world.write(
        {
            "stock/10-Dockerfile-base": f"{head}ONBUILD COPY --from=debian:bookworm-slim /x /x\n",
            "stock/20-Dockerfile-next": f"{head}RUN x\n",
            "stock/30-Dockerfile-last": f"{head}RUN x\n",
        }
    )
    graph = world.graph((AMD64,))
    more = with_trigger_images(graph, world.found(graph), build_platform=AMD64)
    added = {step.id: [image.name for image in step.images if image.by_trigger] for step in more}
    assert added[StepId.parse("amd64/stock/20-next")] == ["debian:bookworm-slim"]
    assert not added[StepId.parse("amd64/stock/10-base")]
    assert not added[StepId.parse("amd64/stock/30-last")]


def test_graph_without_triggers_stays_the_same_object(world: World) -> None:
    world.write({"stock/10-Dockerfile-base": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN x\n"})
    graph = world.graph((AMD64,))
    assert with_trigger_images(graph, world.found(graph), build_platform=AMD64) is graph


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# The copy ---------------------------------------------------------------------------------------------------------------


def test_copy_has_the_files_that_builders_expect(tmp_path: Path) -> None:
    (tmp_path / "10-Dockerfile-x.dockerignore").write_text("a\n")
    made = spec(tmp_path, "FROM old")
    assert made.ignore == b"a\n"
    (tmp_path / "10-Dockerfile-x.rego").write_text("package docker")
    target = tmp_path / "copy"
    target.mkdir()
    copy = copy_for_builder(b"FROM new", made.ignore, made.dockerfile, target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        copy.name: b"FROM new",
        "10-Dockerfile-x.dockerignore": b"a\n",
        "10-Dockerfile-x.rego": b"package docker",
    }


@pytest.mark.parametrize(("own", "ignore"), [(None, None), ("", b""), ("b\n", b"b\n")])
def test_copy_includes_only_the_own_ignore_file(tmp_path: Path, own: str | None, ignore: bytes | None) -> None:
    (tmp_path / ".dockerignore").write_text("a\n")
    if own is not None:
        (tmp_path / "10-Dockerfile-x.dockerignore").write_text(own)
    assert spec(tmp_path, "FROM old").ignore == ignore


@pytest.mark.parametrize(("target", "leaves"), [("../out", True), ("in", False), ("sub/in", False), ("gone", False)])
def test_link_out_of_its_folder_is_detected(tmp_path: Path, target: str, leaves: bool) -> None:
    folder = tmp_path / "option"
    (folder / "sub").mkdir(parents=True)
    for path in (tmp_path / "out", folder / "in", folder / "sub" / "in"):
        path.write_text("FROM scratch")
    (folder / "D").symlink_to(target)
    assert leaves_its_folder(folder / "D") is leaves
    (tmp_path / "alias").symlink_to(folder)
    assert leaves_its_folder(tmp_path / "alias" / "D") is leaves


def test_link_out_of_its_folder_is_built_from_a_copy(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}")
    folder = tmp_path / "option"
    folder.mkdir()
    (folder / "10-Dockerfile-x").symlink_to("../out")
    made = spec(folder, "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}")
    assert (made.source, made.pins) == (b"ARG BASE_IMAGE\nFROM ${BASE_IMAGE}", ())


def test_command_shows_the_content_of_the_copy(tmp_path: Path) -> None:
    made = spec(tmp_path, "FROM old")
    argv = BuildxDriver().command(replace(made, shown="o/10-Dockerfile-x"))
    assert argv[argv.index("--file") + 1] == f"<o/10-Dockerfile-x with line 1: old -> {PINNED}1>"
    pin = Pin(place=ImageWordPosition(1), word="old", reference="localhost:5000/x@<digest of amd64/o/5-y>")
    assert "<digest of amd64/o/5-y>" in BuildxDriver().command(replace(made, pins=(pin,)))[argv.index("--file") + 1]
