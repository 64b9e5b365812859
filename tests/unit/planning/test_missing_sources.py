"""Missing sources of COPY and ADD are reported together in the plan, with hints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainbuild.context.submodules import empty_submodules
from chainbuild.errors import WrongUseError
from chainbuild.layouts import layers
from chainbuild.layouts.layer_folder import LayerFolder, LayerRequest
from chainbuild.references import ChainRegistry, ImageReference
from tests.support.world import AMD64, CHAIN, STAGES, STEP, World

FROM = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    root = tmp_path / "repository/docker"
    root.mkdir(parents=True)
    monkeypatch.chdir(root)
    return World(root)


def wrong(world: World, files: Mapping[str, str | None]) -> list[tuple[str, str, str]]:
    world.write(files)
    with pytest.raises(WrongUseError) as caught:
        world.plan()
    assert world.driver.orders == []
    return [(problem.where, problem.message, problem.hint) for problem in caught.value.problems]


def test_missing_sources_of_all_steps_are_reported_with_lines(world: World) -> None:
    told = wrong(
        world,
        {
            "stock/10-Dockerfile-a": f"{FROM}COPY src/main.c /src/\nADD data/ /data/\n",
            "stock/20-Dockerfile-b": f"{FROM}RUN --mount=type=bind,source=tools,target=/t true\n",
            "src/mein.c": "",
        },
    )
    assert [(where, message) for where, message, _ in told] == [
        ("stock/10-Dockerfile-a:3", "COPY src/main.c: no such file or folder in the build context (.)"),
        ("stock/10-Dockerfile-a:4", "ADD data: no such file or folder in the build context (.)"),
        ("stock/20-Dockerfile-b:3", "RUN --mount tools: no such file or folder in the build context (.)"),
    ]
    assert "src/mein.c" in told[0][2]


def test_parent_folder_that_has_all_sources_is_named(world: World) -> None:
    (world.root.parent / "src").mkdir()
    (told,) = wrong(world, {"stock/10-Dockerfile-a": f"{FROM}COPY src /src\n"})
    assert told[2] == "All files that the Dockerfiles copy are in ..: use --context .."


def test_parent_folder_with_only_some_sources_is_not_named(world: World) -> None:
    (world.root.parent / "src").mkdir()
    told = wrong(world, {"stock/10-Dockerfile-a": f"{FROM}COPY src /src\nCOPY here /here\n", "here": ""})
    assert [where for where, _, hint in told if "--context .." in hint] == []


def test_stage_with_missing_source_gets_no_context_hint(world: World) -> None:
    production = STAGES["utilities/Dockerfile-production"] + "COPY lost /\n"
    told = wrong(
        world, {"stock/10-Dockerfile-base": STEP, **STAGES, "utilities/Dockerfile-production": production, "lost": ""}
    )
    assert [where for where, _, _ in told] == ["utilities/Dockerfile-production:6"]
    assert "--context" not in told[0][2]


def test_ignored_source_is_reported_as_ignored(world: World) -> None:
    (told,) = wrong(
        world, {"stock/10-Dockerfile-a": f"{FROM}COPY notes.txt /\n", "notes.txt": "", ".dockerignore": "*.txt\n"}
    )
    assert told[1] == "COPY notes.txt: excluded from the build context (.) by its ignore file"


def test_empty_submodule_is_reported_with_the_command(world: World) -> None:
    (world.root / "third-party/redis").mkdir(parents=True)
    (told,) = wrong(
        world,
        {
            "stock/10-Dockerfile-a": f"{FROM}COPY third-party/redis /redis\n",
            ".gitmodules": '[submodule "redis"]\n\tpath = third-party/redis\n\turl = x\n',
        },
    )
    assert told == (
        "stock/10-Dockerfile-a:3",
        "COPY third-party/redis: the submodule third-party/redis is not checked out",
        "Run: git submodule update --init third-party/redis",
    )


def test_first_problem_names_all_submodules_that_a_run_needs(world: World) -> None:
    for name in ("one", "two", "lib/inner", "unused"):
        (world.root / name).mkdir(parents=True)
    told = wrong(
        world,
        {
            "stock/10-Dockerfile-a": f"{FROM}COPY one /\nCOPY two /\nCOPY lib /lib\n",
            ".gitmodules": "".join(f'[submodule "{x}"]\npath = {x}\n' for x in ("one", "two", "lib/inner", "unused")),
        },
    )
    assert [hint for _, _, hint in told] == [
        "Run: git submodule update --init lib/inner one two",
        "Run: git submodule update --init two",
    ]


def test_empty_submodule_inside_a_source_is_a_warning(world: World) -> None:
    (world.root / "lib/inner").mkdir(parents=True)
    world.write(
        {"stock/10-Dockerfile-a": f"{FROM}COPY lib /lib\n", ".gitmodules": '[submodule "i"]\npath = lib/inner\n'}
    )
    (warning,) = world.plan().warnings
    assert warning.startswith("stock/10-Dockerfile-a:3: COPY lib: the submodule lib/inner in it is not checked out")


def test_source_of_other_stage_or_wildcard_follows_builders(world: World) -> None:
    world.write(
        {
            "stock/10-Dockerfile-a": (
                "ARG BASE_IMAGE\nFROM scratch AS other\nFROM ${BASE_IMAGE}\nCOPY --from=other /nowhere /\n"
                "COPY <<EOT /text\nCOPY not-an-instruction /\nEOT\n"
            )
        }
    )
    assert world.plan().builds


def test_reused_step_with_a_source_that_was_deleted_is_reported(world: World) -> None:
    """Its key cannot be the same: the file was a part of it."""
    world.write({"stock/10-Dockerfile-a": f"{FROM}COPY one /\nRUN make\n", "one": "1", **STAGES})
    world.run()
    world.begin_again()
    told = wrong(world, {"one": None})
    assert [where for where, _, _ in told] == ["stock/10-Dockerfile-a:3"]


@pytest.mark.parametrize("source", ["./minimized.tar.gz", "minimized.*", "/minimized.tar.gz"])
def test_tarball_for_custom_production_is_not_missing(world: World, source: str) -> None:
    world.write(
        {
            "stock/10-Dockerfile-base": STEP,
            "utilities/01-Dockerfile-minimize": "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN tar -czf /minimized.tar.gz /opt\n",
            "utilities/02-Dockerfile-production": (
                f"ARG PRODUCTION_IMAGE\nFROM ${{PRODUCTION_IMAGE}}\nADD {source} /\nCOPY lost /\n"
            ),
        }
    )
    with pytest.raises(WrongUseError) as caught:
        world.plan()
    (problem,) = caught.value.problems
    assert problem.where == "utilities/02-Dockerfile-production:4"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ('[submodule "a"]\n\tpath = a\n', ("a",)),
        ('[submodule "a"]\n  path = "a b" ; note\n', ("a b",)),
        ('[submodule "x"]\n\tpath = ../outside\n\tpath = /etc\n\tpath = .\n', ()),
        ('[submodule "f"]\n\tpath = full\n', ()),
        ('Path="a;b" # note\npath = c # note\npath\npath = "open\npath = d"\n', ("a;b", "c")),
        ("path=" + " " * 100_000 + '"\n', ()),
    ],
)
def test_gitmodules_names_the_folders_that_are_empty(tmp_path: Path, text: str, found: tuple[str, ...]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / ".gitmodules").write_text(text)
    assert empty_submodules(tmp_path) == found


def test_submodules_of_the_repository_above_are_relative_to_the_context(tmp_path: Path) -> None:
    (tmp_path / ".gitmodules").write_text('[submodule "a"]\npath = docker/lib/a\n[submodule "b"]\npath = other\n')
    (tmp_path / "docker").mkdir()
    assert empty_submodules(tmp_path / "docker") == ("lib/a",)
    (tmp_path / "docker/.git").mkdir()
    assert empty_submodules(tmp_path / "docker") == ()


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_gitmodules_of_any_form_are_read(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    root = tmp_path_factory.mktemp("tree")
    (root / ".gitmodules").write_bytes(b"path = a\npath = " + raw)
    assert all(not path.startswith(("/", "..")) for path in empty_submodules(root))


def test_folder_of_the_dockerfiles_that_has_all_sources_is_named(world: World) -> None:
    (told,) = wrong(world, {"stock/10-Dockerfile-a": f"{FROM}COPY main.c /\n", "stock/main.c": ""})
    assert told[2] == "All files that the Dockerfiles copy are in stock: use --context stock"


def test_context_with_sources_in_absent_submodules_is_named(world: World) -> None:
    (world.root.parent / "src").mkdir()
    (world.root.parent / ".gitmodules").write_text('[submodule "redis"]\n\tpath = redis\n')
    told = wrong(world, {"stock/10-Dockerfile-a": f"{FROM}COPY src /src\nCOPY redis /redis\n"})
    assert {hint for _, _, hint in told} == {"All files that the Dockerfiles copy are in ..: use --context .."}


LAYERS = {
    "a layer": {"folder": "app"},
    "an image key": {"folder": "app", "image_key": "base.top"},
    "packages": {"folder": ".", "packages": ("app",)},
    "numbered folders": {"folder": "numbered"},
}


@pytest.mark.parametrize("changed", LAYERS.values(), ids=LAYERS.keys())
def test_missing_sources_of_layers_are_reported(world: World, changed: dict[str, Any]) -> None:
    step = "ARG BASE_IMAGE=fat:1\nFROM ${BASE_IMAGE}\nCOPY lost /\n"
    world.write(
        {
            "app/Dockerfile": step,
            "app/Dockerfile.base": step,
            "app/Dockerfile.top": step,
            "numbered/10-a/Dockerfile": step,
            "numbered/20-b/Dockerfile": step,
            "lost": "",
        }
    )
    folder = (world.root / changed["folder"]).resolve()
    layer = LayerFolder(name="x", image=ImageReference.parse("me/x:1"), **{**changed, "folder": folder})
    request = LayerRequest(
        root=world.root, layers=(layer,), platforms=(AMD64,), registry=ChainRegistry(CHAIN), build_platform=AMD64
    )
    with pytest.raises(WrongUseError) as caught:
        world.plan(layers.read(request).graph)
    assert {problem.message.partition(":")[0] for problem in caught.value.problems} == {"COPY lost"}
    assert {problem.hint for problem in caught.value.problems} == {
        "All files that the Dockerfiles copy are in .: use --context ."
    }
