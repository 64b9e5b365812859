"""Packages with comment headers become chains in the order of jetson-containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import WrongUseError
from chainbuild.layouts import layers as plain
from chainbuild.layouts.layer_folder import LayerFolder, LayerRequest, Layers
from chainbuild.layouts.package_configs import read_configs
from chainbuild.layouts.package_headers import Header, build_order, find_packages, read_header
from chainbuild.references import ChainRegistry, ImageReference
from tests.support.graphs import shown
from tests.support.world import AMD64, CHAIN

STEP = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN make\n"


def header(name: str = "", **keys: str) -> str:
    lines = [f"# name: {name}"] * bool(name) + [f"# {key}: {value}" for key, value in keys.items()]
    return "\n".join(["#---", *lines, "#---", STEP])


TREE = {
    "packages/build/essential/Dockerfile": header("build-essential", group="build"),
    "packages/build/python/Dockerfile": header("python", depends="build-essential"),
    "packages/build/cmake/cmake_pip/Dockerfile": header(
        "cmake:pip", alias="cmake", depends="[build-essential, python]"
    ),
    "packages/numpy/Dockerfile": header(depends="[build-essential, python]"),
    "packages/torch/Dockerfile": header("pytorch", alias="[torch, pt]", depends="[cmake, numpy]"),
    "packages/torch/vision/Dockerfile": header("torchvision", depends="[pytorch, cmake]"),
}


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def read(root: Path, *packages: str, **changed: Any) -> Layers:
    base = changed.pop("base", ImageReference.parse("l4t:36"))
    layer = LayerFolder(
        name="ml",
        folder=root / "packages",
        image=ImageReference.parse("me/ml:1"),
        packages=packages,
        base=base,
        **changed,
    )
    request = LayerRequest(
        root=root, layers=(layer,), platforms=(AMD64,), registry=ChainRegistry(CHAIN), build_platform=AMD64
    )
    return plain.read(request)


def wrong(root: Path, *packages: str, **changed: Any) -> list[str]:
    with pytest.raises(WrongUseError) as caught:
        read(root, *packages, **changed)
    assert all(problem.hint for problem in caught.value.problems)
    return [str(problem).replace(str(root), "ROOT") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("FROM debian\n#---\n# name: a\n#---\n", None),
        ("# a comment\nFROM debian\n", None),
        ("#---\n# name: a\n# depends: [b, 'c:1']\n#---\n", Header(name="a", depends=("b", "c:1"), line=3)),
        ("# syntax=docker/dockerfile:1\n#---\n# depends: b\n#---\n", Header(depends=("b",), line=3)),
        ("#---\n# depends:\n#  - b\n#  - c\n#---\n", Header(depends=("b", "c"), line=3)),
        ("#---\n# alias: 3.10\n# docs: |\n#  any: text\n#---\n", Header(aliases=("3.10",))),
        ("#-----\n# Text: [that] is: no YAML\n#-----\n", None),
        ("#---\n# - a\n#---\n", None),
    ],
)
def test_header_is_read_as_yaml_between_fences(text: str, found: Header | None) -> None:
    assert read_header(text) == found


@pytest.mark.parametrize(
    ("names", "depends", "order"),
    [
        (["a"], {"a": ["b", "c"], "c": ["b"]}, ["b", "c", "a"]),
        (["a"], {"a": ["c", "b"], "c": ["b"]}, ["b", "c", "a"]),
        (["a", "b"], {"a": ["b"]}, ["b", "a"]),
        (["a", "d"], {"d": ["x"], "a": ["x"]}, ["x", "a", "d"]),
        # A version replaces the plain name, and meets later requests for it.
        (["a"], {"a": ["p", "q"], "q": ["p:2"]}, ["p:2", "q", "a"]),
        (["p:2", "a"], {"a": ["p"]}, ["p:2", "a"]),
        (["a", "p:2"], {"a": ["p"]}, ["p:2", "a"]),
    ],
)
def test_order_puts_dependencies_right_before_what_needs_them(
    names: Sequence[str], depends: Mapping[str, Sequence[str]], order: Sequence[str]
) -> None:
    assert build_order(names, lambda name: depends.get(name, ())) == order


LOST = "#---\n# name: app\n# depends: [\n# buildkit_device: x\n#   one, two]\n#---\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("#---\n# name: [\n#---\n", 2, "the comment header is not YAML: "),
        ("#---\n# depends: [{a: b}, c]\n#---\n", 2, "depends: has something that is not the name of a package"),
        (LOST, 4, "depends: has something that is not the name of a package"),
    ],
)
def test_header_that_would_lose_a_setting_is_a_problem(tmp_path: Path, text: str, line: int, message: str) -> None:
    """A dependency of a real package was left out without a word: YAML reads `buildkit_device: x one` as an item."""
    write(tmp_path, {"packages/app/Dockerfile": text + STEP, "packages/two/Dockerfile": header()})
    (problem, *_) = wrong(tmp_path, "app", skip_packages=("c",))
    assert problem.startswith(f"packages/app/Dockerfile:{line}: {message}")


def test_packages_of_json_and_yaml_files_are_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "packages/base/Dockerfile": header(),
            "packages/riva/Dockerfile.cpp": STEP,
            "packages/riva/Dockerfile.python": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG V\nRUN make\n",
            "packages/riva/config.json": """{"riva:cpp": {"dockerfile": "Dockerfile.cpp", "depends": ["base"]},
                "riva:python": {"dockerfile": "Dockerfile.python", "build_args": {"V": 3}, "depends": "riva:cpp"}}""",
            "packages/all/all.yml": "name: all\nalias: everything\ndepends: ['riva:python']\n",
            "packages/all/compose.yml": "services: {a: {image: b}}\n",
            "packages/own/Dockerfile": header(depends="base"),
            "packages/own/config.yaml": "depends: [all]\n",
        },
    )
    steps = list(read(tmp_path, "own").graph)
    assert [step.name for step in steps] == ["base", "riva-cpp", "riva-python", "own"]
    assert [(arg.name, arg.value) for arg in steps[2].args] == [("V", "3")]
    assert [step.name for step in read(tmp_path, "everything").graph] == ["base", "riva-cpp", "riva-python"]


def test_missing_dockerfile_that_a_config_names_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, {"packages/riva/config.json": '{"riva:cpp": {"dockerfile": "Dockerfile.gone"}}'})
    assert wrong(tmp_path, "riva:cpp")[0].startswith("packages/riva/Dockerfile.gone: cannot be read: No such file")


@given(st.text('{}[]:,"ab \n#-&*!', max_size=60))
def test_configs_are_read_or_left_out(text: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "config.yml")
        path.write_text(text)
        assert isinstance(read_configs(path), tuple)


def test_order_with_a_cycle_ends_with_an_error() -> None:
    with pytest.raises(ValueError, match="a"):
        build_order(["a"], {"a": ["b"], "b": ["a"]}.__getitem__)


def test_cycle_of_many_packages_is_found() -> None:
    names = [f"p{number}" for number in range(1000)]
    with pytest.raises(ValueError, match="p"):
        build_order(names, dict(zip(names, [[name] for name in (*names[1:], "p0")], strict=True)).__getitem__)


def test_order_without_skipped_packages() -> None:
    depends = {"a": ["b", "c"], "b": ["x"], "c": [], "x": []}
    assert build_order(["a"], depends.__getitem__, skip=["b"]) == ["c", "a"]


def test_packages_become_a_chain(tmp_path: Path) -> None:
    write(tmp_path, TREE)
    layers = read(tmp_path, "torchvision")
    assert (
        shown(layers.graph)
        == """\
amd64/ml/build-essential [me/ml:1-ml-build-essential-amd64] BASE_IMAGE<-l4t:36
amd64/ml/python [me/ml:1-ml-python-amd64] BASE_IMAGE<-amd64/ml/build-essential
amd64/ml/cmake-pip [me/ml:1-ml-cmake-pip-amd64] BASE_IMAGE<-amd64/ml/python
amd64/ml/numpy [me/ml:1-ml-numpy-amd64] BASE_IMAGE<-amd64/ml/cmake-pip
amd64/ml/pytorch [me/ml:1-ml-pytorch-amd64] BASE_IMAGE<-amd64/ml/numpy
amd64/ml/torchvision [me/ml:1-amd64] BASE_IMAGE<-amd64/ml/pytorch"""
    )
    assert layers.graph.notes == ("packages of ml: build-essential, python, cmake:pip, numpy, pytorch, torchvision",)
    contexts = [str(step.context.relative_to(tmp_path)) for step in layers.graph]
    assert contexts[:2] == ["packages/build/essential", "packages/build/python"]


def test_alias_and_name_of_a_package_build_it_once(tmp_path: Path) -> None:
    write(tmp_path, TREE)
    assert [step.name for step in read(tmp_path, "cmake", "cmake:pip").graph] == [
        "build-essential",
        "python",
        "cmake-pip",
    ]


def test_package_in_search_dir_counts_first(tmp_path: Path) -> None:
    write(tmp_path, {**TREE, "own/numpy/Dockerfile": header("numpy")})
    steps = list(read(tmp_path, "numpy", search_dirs=(tmp_path / "own",)).graph)
    assert [str(step.dockerfile.relative_to(tmp_path)) for step in steps] == ["own/numpy/Dockerfile"]


def test_missing_packages_are_reported_at_what_needs_them(tmp_path: Path) -> None:
    tree = {**TREE, "packages/app/Dockerfile": header("app", depends="[pytroch, 'python:3.12', pip_cache]")}
    write(tmp_path, {**tree, "packages/build/python/config.py": ""})
    told = wrong(tmp_path, "app")
    assert [text.partition("\n")[0] for text in told] == [
        f"packages/app/Dockerfile:3: no Dockerfile below packages is the package '{name}'"
        for name in ("pip_cache", "python:3.12", "pytroch")
    ]
    assert "packages/build/python/config.py may define it" in told[1]
    assert "Perhaps you meant pytorch." in told[2]
    skipped = read(tmp_path, "app", skip_packages=("pytroch", "python:3.12", "pip_cache")).graph
    assert [step.name for step in skipped] == ["app"]


def test_unknown_package_is_reported_where_it_was_requested(tmp_path: Path) -> None:
    write(tmp_path, TREE)
    (problem,) = wrong(tmp_path, "pytroch", path="chainbuild.yaml", line=7)
    assert problem.startswith("chainbuild.yaml:7: no Dockerfile below packages is the package 'pytroch'")
    assert "Perhaps you meant pytorch." in problem


def test_package_with_a_program_is_noted(tmp_path: Path) -> None:
    write(tmp_path, {**TREE, "packages/build/python/config.py": "raise SystemExit"})
    assert "not run: config.py of packages/build/python" in read(tmp_path, "python").graph.notes[1]


def test_cycle_of_packages_is_reported(tmp_path: Path) -> None:
    write(tmp_path, {"packages/a/Dockerfile": header(depends="b"), "packages/b/Dockerfile": header(depends="a")})
    assert wrong(tmp_path, "a")[0].startswith("the dependencies of packages form a cycle: ")


def test_lowest_package_needs_a_base(tmp_path: Path) -> None:
    write(tmp_path, TREE)
    told = wrong(tmp_path, "python", base=None)
    assert told[0].startswith("packages/build/essential/Dockerfile:6: FROM ${BASE_IMAGE} has no image")


def test_packages_are_found_at_all_depths_without_hidden_folders(tmp_path: Path) -> None:
    write(tmp_path, {"a/b/c/d/Dockerfile": STEP, ".git/x/Dockerfile": STEP, "node_modules/y/Dockerfile": STEP})
    assert find_packages([tmp_path]).names == ("d",)


def test_dependencies_of_a_plain_layer_are_noted(tmp_path: Path) -> None:
    write(tmp_path, TREE)
    layer = LayerFolder(
        name="numpy",
        folder=tmp_path / "packages/numpy",
        image=ImageReference.parse("me/numpy:1"),
        base=ImageReference.parse("l4t:36"),
    )
    request = LayerRequest(
        root=tmp_path, layers=(layer,), platforms=(AMD64,), registry=ChainRegistry(CHAIN), build_platform=AMD64
    )
    assert [note.partition(";")[0] for note in plain.read(request).graph.notes] == [
        "packages/numpy/Dockerfile depends on build-essential, python"
    ]
