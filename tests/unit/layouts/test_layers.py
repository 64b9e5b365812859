"""Layer folders become a graph, or their problems are reported together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.layouts import layers as plain
from chainbuild.layouts.layer_folder import LayerFolder, LayerRequest, Layers, layer_name, name_of_dockerfile
from chainbuild.model import BuildArg, Secret, StepKind, published
from chainbuild.references import ChainRegistry, ImageReference
from chainbuild.step_id import StepId
from chainbuild.values import replace
from tests.support.graphs import shown
from tests.support.world import AMD64, ARM64, CHAIN

OS = "FROM cern/slc6-base:latest\nRUN yum install gcc\n"
RELEASE = "ARG BASEIMAGE=atlas/slc6-atlasos:latest\nFROM ${BASEIMAGE}\nARG RELEASE=21\nRUN install $RELEASE\n"
STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG CPU\nRUN make\n"


def layer(root: Path, name: str, **changed: Any) -> LayerFolder:
    image = ImageReference.parse(changed.pop("image", f"meehan/{name}:latest"))
    base = changed.pop("base", None)
    if base and ("/" in base or ":" in base):
        changed["base"] = ImageReference.parse(base)
    elif base:
        changed["base_layer"] = base
    return replace(LayerFolder(name=name, folder=root / name, image=image), **changed)


def request(root: Path, *layers: LayerFolder, **changed: Any) -> LayerRequest:
    made = LayerRequest(
        root=root, layers=layers, platforms=(AMD64,), registry=ChainRegistry(CHAIN), build_platform=AMD64
    )
    return replace(made, **changed)


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def read(root: Path, files: Mapping[str, str], *layers: LayerFolder, **changed: Any) -> Layers:
    write(root, files)
    return plain.read(request(root, *layers, **changed))


def wrong(root: Path, files: Mapping[str, str], *layers: LayerFolder, **changed: Any) -> list[str]:
    write(root, files)
    with pytest.raises(WrongUseError) as caught:
        plain.read(request(root, *layers, **changed))
    assert all(problem.hint for problem in caught.value.problems)
    return [str(problem).replace(str(root), "ROOT") for problem in caught.value.problems]


# The base of a layer --------------------------------------------------------------------------------------------------


def test_base_defaults_to_from_of_the_dockerfile(tmp_path: Path) -> None:
    layers = read(tmp_path, {"os/Dockerfile": OS}, layer(tmp_path, "os"))
    assert shown(layers.graph) == "amd64/os/os [meehan/os:latest-amd64] cern/slc6-base:latest=>cern/slc6-base:latest"
    (standing,) = layers.layer_bases
    assert (str(standing.base), standing.how, standing.by_default) == (
        "cern/slc6-base:latest",
        "FROM at os/Dockerfile:1",
        True,
    )


def test_base_defaults_to_value_of_the_arg(tmp_path: Path) -> None:
    layers = read(tmp_path, {"release/Dockerfile": RELEASE}, layer(tmp_path, "release"))
    assert (
        shown(layers.graph)
        == "amd64/release/release [meehan/release:latest-amd64] BASEIMAGE<-atlas/slc6-atlasos:latest"
    )
    assert layers.layer_bases[0].how == "the default of ARG BASEIMAGE at release/Dockerfile:1"
    assert layers.layer_bases[0].by_default


def test_base_flag_is_passed_as_the_arg(tmp_path: Path) -> None:
    layers = read(
        tmp_path, {"release/Dockerfile": RELEASE}, layer(tmp_path, "release", base="meehan/slc6-atlasos:latest")
    )
    assert "BASEIMAGE<-meehan/slc6-atlasos:latest" in shown(layers.graph)
    assert layers.layer_bases[0].how == "--base, as ARG BASEIMAGE"
    assert not layers.layer_bases[0].by_default
    step = next(iter(layers.graph))
    assert step.parent == "BASEIMAGE"
    assert [arg.name for arg in step.args] == []


def test_base_flag_replaces_literal_image_without_an_edit(tmp_path: Path) -> None:
    layers = read(tmp_path, {"os/Dockerfile": OS}, layer(tmp_path, "os", base="debian:12"))
    assert "cern/slc6-base:latest=>debian:12" in shown(layers.graph)
    assert layers.layer_bases[0].how == "--base, instead of cern/slc6-base:latest at os/Dockerfile:1"
    assert (tmp_path / "os/Dockerfile").read_text() == OS


FROMS = [
    # FROM lines, ARG lines, how the base is passed
    ("FROM $BASEIMAGE", "ARG BASEIMAGE=a/b:1", "BASEIMAGE<-own/base:1"),
    ("FROM ${BASEIMAGE:-c/d}", "ARG BASEIMAGE", "BASEIMAGE<-own/base:1"),
    ("from --platform=linux/amd64 ${BASEIMAGE} as it", "ARG BASEIMAGE=a/b:1", "BASEIMAGE<-own/base:1"),
    ("FROM debian:${SUITE}", "ARG SUITE=bookworm", "debian:bookworm=>own/base:1"),
    ("FROM ${NAME}:${TAG}", "ARG NAME=a/b\nARG TAG=1", "a/b:1=>own/base:1"),
    ("FROM ${IMAGE}", "ARG TAG=1\nARG IMAGE=a/b:${TAG}", "IMAGE<-own/base:1"),
    ("FROM a/b@sha256:" + "1" * 64, "", "a/b@sha256:" + "1" * 64 + "=>own/base:1"),
    (
        "FROM ${BASEIMAGE} AS build\nRUN make\nFROM build AS more\nFROM more",
        "ARG BASEIMAGE=a/b:1",
        "BASEIMAGE<-own/base:1",
    ),
    (
        "FROM golang:1 AS tool\nFROM ${BASEIMAGE}\nCOPY --from=tool /t /t",
        "ARG BASEIMAGE=a/b:1",
        "BASEIMAGE<-own/base:1 golang:1=>golang:1",
    ),
    (
        "FROM ${BASEIMAGE} AS tool\nFROM ${BASEIMAGE}\nCOPY --from=tool /t /t",
        "ARG BASEIMAGE=a/b:1",
        "BASEIMAGE<-own/base:1",
    ),
]


@pytest.mark.parametrize(("froms", "args", "expected"), FROMS, ids=[one[0][:40] for one in FROMS])
def test_base_is_passed_as_arg_or_named_context(tmp_path: Path, froms: str, args: str, expected: str) -> None:
    layers = read(tmp_path, {"one/Dockerfile": f"{args}\n{froms}\n"}, layer(tmp_path, "one", base="own/base:1"))
    assert shown(layers.graph) == f"amd64/one/one [meehan/one:latest-amd64] {expected}"


def test_base_arg_selects_the_arg(tmp_path: Path) -> None:
    text = "ARG REGISTRY=atlas\nARG IMAGE=slc6\nFROM ${REGISTRY}/${IMAGE}\n"
    layers = read(tmp_path, {"one/Dockerfile": text}, layer(tmp_path, "one", base="own/base:1", base_arg="IMAGE"))
    assert "IMAGE<-own/base:1" in shown(layers.graph)


def test_build_arg_can_set_the_base(tmp_path: Path) -> None:
    said = (BuildArg(name="BASEIMAGE", value="meehan/slc6-atlasos", origin="--build-arg"),)
    layers = read(tmp_path, {"release/Dockerfile": RELEASE}, layer(tmp_path, "release"), build_args=said)
    assert shown(layers.graph).endswith("BASEIMAGE<-meehan/slc6-atlasos")
    assert layers.layer_bases[0].how == "arg BASEIMAGE of --build-arg"
    assert not layers.layer_bases[0].by_default


def test_comment_sets_the_stage_that_a_layer_builds(tmp_path: Path) -> None:
    text = "# chainbuild: target one\nFROM debian:12 AS one\nRUN 1\nFROM slim:1 AS two\nRUN 2\n"
    (step,) = read(tmp_path, {"one/Dockerfile": text}, layer(tmp_path, "one")).graph
    assert (step.target, step.parent) == ("one", "debian:12")


def test_layer_from_scratch_has_no_base(tmp_path: Path) -> None:
    layers = read(tmp_path, {"one/Dockerfile": "FROM scratch\nCOPY a /\n", "one/a": ""}, layer(tmp_path, "one"))
    (step,) = layers.graph
    assert (step.images, step.parent, layers.layer_bases[0].base) == ((), "", None)


WRONG = [
    (
        "ARG BASEIMAGE\nFROM ${BASEIMAGE}\n",
        {},
        ":2: FROM ${BASEIMAGE} has no image, and no base is set",
        "--base IMAGE",
    ),
    (
        "FROM ${BASEIMAGE}\n",
        {"base": "a/b:1"},
        ":1: FROM uses BASEIMAGE, but no ARG before it declares it",
        "Add ARG BASEIMAGE",
    ),
    ("FROM scratch\n", {"base": "a/b:1"}, ":1: FROM scratch: the base cannot be set here", "ARG BASEIMAGE"),
    ("ARG BASEIMAGE=A/B\nFROM ${BASEIMAGE}\n", {}, "'B' is not a repository name", "lower case"),
    (
        "ARG BASEIMAGE=a/b\nFROM ${BASEIMAGE}\n",
        {"base_arg": "BASE_IMAGE"},
        ":2: no FROM uses the ARG BASE_IMAGE",
        "Perhaps you meant BASEIMAGE.",
    ),
    (
        "ARG BASEIMAGE=a/b\nFROM debian\n",
        {"base_arg": "BASEIMAGE"},
        ":2: no FROM uses the ARG BASEIMAGE",
        "ARGs before the first FROM: BASEIMAGE.",
    ),
    ("FROM debian\n", {"base_arg": "X"}, ":1: no FROM uses the ARG X", "There is no ARG before"),
    ("RUN make\n", {}, ":1: ", ""),
]


@pytest.mark.parametrize(("text", "changed", "message", "hint"), WRONG, ids=[f"{one[0]}{one[1]}" for one in WRONG])
def test_from_without_usable_base_is_reported(
    tmp_path: Path, text: str, changed: dict[str, Any], message: str, hint: str
) -> None:
    told = wrong(tmp_path, {"one/Dockerfile": text}, layer(tmp_path, "one", **changed))
    assert any(message in one and hint in one for one in told), told


def test_base_with_build_arg_for_it_is_rejected(tmp_path: Path) -> None:
    said = (BuildArg(name="BASEIMAGE", value="a/b", origin="--build-arg"),)
    told = wrong(tmp_path, {"r/Dockerfile": RELEASE}, layer(tmp_path, "r", base="c/d:1"), build_args=said)
    assert told == ["the arg BASEIMAGE sets the base, which is set already\n    Remove the arg BASEIMAGE or the base."]


# Several layers -------------------------------------------------------------------------------------------------------

TWO = {"os/Dockerfile": OS, "release/Dockerfile": RELEASE}


def test_layers_use_earlier_layers_as_base(tmp_path: Path) -> None:
    layers = read(tmp_path, TWO, layer(tmp_path, "os"), layer(tmp_path, "release", base="os"), platforms=(AMD64, ARM64))
    assert (
        shown(layers.graph)
        == """\
amd64/os/os [meehan/os:latest-amd64] cern/slc6-base:latest=>cern/slc6-base:latest
amd64/release/release [meehan/release:latest-amd64] BASEIMAGE<-amd64/os/os
aarch64/os/os [meehan/os:latest-aarch64] cern/slc6-base:latest=>cern/slc6-base:latest
aarch64/release/release [meehan/release:latest-aarch64] BASEIMAGE<-aarch64/os/os"""
    )
    publications = [names for _, names in published(layers.graph.chains)]
    assert [names.index_tag for names in publications] == ["latest"] * 4
    assert [str(names.repo) for names in publications] == ["meehan/os", "meehan/release"] * 2
    # The local store gets NAME:TAG for this machine, as with docker build -t.
    assert [names.local_tag for names in publications] == ["latest", "latest", "latest-aarch64", "latest-aarch64"]


def test_base_naming_later_or_unknown_layer_is_reported(tmp_path: Path) -> None:
    first = layer(tmp_path, "release", base="os", path="chainbuild.yaml", line=4)
    told = wrong(tmp_path, TWO, first, layer(tmp_path, "os"))
    assert told[0].startswith("chainbuild.yaml:4: the base 'os' of the layer 'release' is a later layer")
    told = wrong(tmp_path, TWO, layer(tmp_path, "release", base="oss"))
    assert told[0].startswith("the base 'oss' of the layer 'release' is not a layer")


def test_duplicate_layer_and_image_names_are_reported(tmp_path: Path) -> None:
    one = layer(tmp_path, "os")
    told = wrong(tmp_path, TWO, one, replace(layer(tmp_path, "release", image="meehan/os"), name="os"))
    assert [text.partition("\n")[0] for text in told] == [
        "duplicate layer name 'os'",
        "the layers 'os' and 'os' have the same image meehan/os:latest",
    ]
    told = wrong(tmp_path, TWO, layer(tmp_path, "os", image=f"meehan/os:{'t' * 125}"))
    assert "the tag is too long with the platform appended" in told[0]


# Folders --------------------------------------------------------------------------------------------------------------


def test_numbered_dockerfiles_form_a_single_layer(tmp_path: Path) -> None:
    files = {
        "tools/10-Dockerfile-a": STEP,
        "tools/20-Dockerfile-b": STEP,
        "tools/b-amd64-args": "CPU=ZEN\n",
        "tools/b-test": "#!/bin/sh\ntrue\n",
    }
    layers = read(tmp_path, files, layer(tmp_path, "tools", base="debian:12"))
    assert (
        shown(layers.graph)
        == """\
amd64/tools/10-a [meehan/tools:latest-tools-10-a-amd64] BASE_IMAGE<-debian:12
amd64/tools/20-b [meehan/tools:latest-amd64] BASE_IMAGE<-amd64/tools/10-a CPU=ZEN"""
    )
    assert layers.graph.by_id[StepId.parse("amd64/tools/20-b")].test == tmp_path / "tools/b-test"
    told = wrong(tmp_path, files, layer(tmp_path, "tools", base="debian:12", base_arg="BASEIMAGE"))
    assert "no FROM uses the ARG BASEIMAGE" in told[0]
    assert "has no image, and no base is set" in wrong(tmp_path, files, layer(tmp_path, "tools"))[0]


def test_step_has_args_test_contexts_and_secrets(tmp_path: Path) -> None:
    files = {
        "r/Dockerfile": RELEASE + "ARG CPU\n",
        "r/layer-x86_64-args": "CPU=ZEN\n",
        "r/layer-test": "#!/bin/sh\ntrue\n",
    }
    said = layer(tmp_path, "r", build_args=(BuildArg(name="RELEASE", value="22", origin="chainbuild.yaml:5"),))
    secret = Secret(id="token", spec="id=token,env=T")
    layers = read(
        tmp_path,
        files,
        said,
        build_args=(BuildArg(name="CPU", value="OLD", origin="--build-arg"),),
        build_contexts=(("src", "/src"), ("tool", "docker-image://golang:1")),
        secrets=(secret,),
    )
    (step,) = layers.graph
    assert step.kind is StepKind.BUILD
    assert (step.context, step.dockerfile) == (tmp_path / "r", tmp_path / "r/Dockerfile")
    assert {arg.name: arg.value for arg in step.args} == {"CPU": "OLD", "RELEASE": "22"}
    assert step.test == tmp_path / "r/layer-test"
    assert dict(step.contexts) == {"src": "/src"}
    assert step.image("tool").asked
    assert step.secrets == (secret,)
    (bare,) = plain.read(request(tmp_path, replace(said, tests=False, context=tmp_path))).graph
    assert (bare.test, bare.context) == (None, tmp_path)


BOTH = "Keep one Dockerfile, or only NN-Dockerfile-<descriptor> files."


def test_folder_and_arg_problems_are_reported_together(tmp_path: Path) -> None:
    files = {
        "both/Dockerfile": OS,
        "both/10-Dockerfile-a": STEP,
        "none/inside/Dockerfile": OS,
        "r/Dockerfile": RELEASE,
        "r/layer-amd64-args": "RELEAS=1\n",
        "r/layer-x86_64-args": "RELEASE=1\n",
        "r/layer-test": "no script\n",
    }
    said = (BuildArg(name="RELEAZE", value="1", origin="chainbuild.yaml:9"),)
    told = wrong(
        tmp_path,
        files,
        layer(tmp_path, "both"),
        layer(tmp_path, "none"),
        layer(tmp_path, "gone"),
        layer(tmp_path, "r", build_args=said),
        build_args=(BuildArg(name="NOBODY", value="", origin="--build-arg"),),
    )
    assert told == [
        "no such folder: 'ROOT/gone'\n    A layer is a folder with a Dockerfile.",
        "--build-arg: no Dockerfile declares the arg NOBODY\n    Add 'ARG NOBODY' to the Dockerfile that uses it.",
        f"both: has both a plain Dockerfile and numbered ones (10-Dockerfile-a, …)\n    {BOTH}",
        "chainbuild.yaml:9: no Dockerfile declares the arg RELEAZE\n    Perhaps you meant RELEASE.",
        "none: has no Dockerfile\n    These subfolders have one: inside.",
        "r/layer-amd64-args:1: no Dockerfile declares the arg RELEAS\n    Perhaps you meant RELEASE.",
        "r/layer-test:1: not a program and not a script with a #! line\n    Begin it with #!/bin/sh or another interpreter.",
        "r/layer-x86_64-args: layer-amd64-args is for the same platform, linux/amd64\n    Remove one of the two files.",
    ]


@pytest.mark.parametrize(
    ("folder", "name"), [("slc6-atlasos", "slc6-atlasos"), ("My Layer", "My-Layer"), ("...", "layer"), ("é", "layer")]
)
def test_layer_name_is_derived_from_the_folder(tmp_path: Path, folder: str, name: str) -> None:
    assert layer_name(tmp_path / folder) == name


def test_plain_dockerfile_next_to_variants_is_built_with_a_note(tmp_path: Path) -> None:
    files = {"os/Dockerfile": OS, "os/Dockerfile.22-slim": OS, "os/01-Dockerfile": OS, "os/10-data/Dockerfile": OS}
    graph = read(tmp_path, files, layer(tmp_path, "os")).graph
    assert [step.name for step in graph] == ["os"]
    assert graph.notes == ("os: Dockerfile is built, not 01-Dockerfile, Dockerfile.22-slim",)


def test_numbered_layer_may_name_its_base_in_the_first_from(tmp_path: Path) -> None:
    files = {"tools/Dockerfile.01-base": "FROM alpine:3\n", "tools/Dockerfile.02-top": "ARG BASE\nFROM $BASE\n"}
    written = read(tmp_path, files, layer(tmp_path, "tools"))
    assert "alpine:3=>alpine:3" in shown(written.graph)
    replaced = read(tmp_path, files, layer(tmp_path, "tools", base="debian:12"))
    assert "alpine:3=>debian:12" in shown(replaced.graph)
    assert "BASE<-amd64/tools/01-base" in shown(replaced.graph)


# Dockerfiles with other names -----------------------------------------------------------------------------------------


def test_named_dockerfiles_of_one_folder_are_layers(tmp_path: Path) -> None:
    files = {
        "docker/base.dockerfile": "from ubuntu:18.04\narg CPU\ncopy start.sh /\n",
        "docker/Dockerfile.rover": "FROM esa/rock-base\n",
        "docker/start.sh": "",
        "docker/base-amd64-args": "CPU=k8\n",
        "docker/rover-test": "#!/bin/sh\ntrue\n",
    }
    folder = tmp_path / "docker"
    result = read(
        tmp_path,
        files,
        layer(tmp_path, "base", folder=folder, dockerfile="base.dockerfile"),
        layer(tmp_path, "rover", folder=folder, dockerfile="Dockerfile.rover", base="base"),
    )
    base, rover = result.graph
    assert (base.dockerfile, base.context) == (folder / "base.dockerfile", folder)
    assert [(arg.name, arg.value) for arg in base.args] == [("CPU", "k8")]
    assert rover.image(rover.parent).source == base.id
    assert (base.test, rover.test) == (None, folder / "rover-test")


def test_missing_named_dockerfile_is_reported_with_similar_names(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        {"docker/Dockerfile.base": "FROM debian:12\n"},
        layer(tmp_path, "docker", dockerfile="Dockerfile.bse"),
        layer(tmp_path, "other", folder=tmp_path / "docker", dockerfile="x"),
    )
    assert found == [
        "no such Dockerfile in docker: 'Dockerfile.bse'\n    Perhaps you meant 'Dockerfile.base'.",
        "no such Dockerfile in docker: 'x'\n    The folder has Dockerfile.base.",
    ]


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("Dockerfile", ""),
        ("Dockerfile.dev", "dev"),
        ("dockerfile-dev", "dev"),
        ("base.dockerfile", "base"),
        ("gpu_Dockerfile", "gpu"),
        ("Containerfile", "Containerfile"),
        ("Dockerfile.ubuntu 22", "ubuntu-22"),
    ],
)
def test_name_of_dockerfile_is_what_it_has_besides(file_name: str, name: str) -> None:
    assert name_of_dockerfile(file_name) == name


@given(st.text())
def test_name_of_any_dockerfile_fits_a_tag(file_name: str) -> None:
    assert re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)?", name_of_dockerfile(file_name))
