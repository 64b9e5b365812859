"""Merging compat layers: order of includes, the Dockerfile and the folder of files."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainbuild.errors import Problem, WrongUseError
from chainbuild.layouts.science.compat import check_dockerfile, check_includes, merge_files, merged_dockerfile, order_of
from chainbuild.layouts.science.manifests import CompatLayer

from .grove import Grove


def layers(**includes: tuple[str, ...]) -> dict[str, CompatLayer]:
    return {name: CompatLayer(name=name, path=Path(name), includes=below) for name, below in includes.items()}


def order(name: str, **includes: tuple[str, ...]) -> list[str]:
    return [layer.name for layer in order_of(name, layers(**includes))]


def test_includes_precede_layer_in_listed_order() -> None:
    assert order("top", top=("b", "a"), a=(), b=()) == ["b", "a", "top"]


def test_nested_includes_precede_their_includer() -> None:
    assert order("top", top=("mid",), mid=("low",), low=()) == ["low", "mid", "top"]


def test_shared_include_is_listed_once() -> None:
    assert order("top", top=("left", "right"), left=("low",), right=("low",), low=()) == ["low", "left", "right", "top"]


def test_include_repeated_by_another_include_is_listed_once() -> None:
    assert order("top", top=("low", "mid"), mid=("low",), low=()) == ["low", "mid", "top"]


def test_include_chain_of_thousands_is_ordered() -> None:
    names = [f"l{number:05}" for number in range(5000)]
    below = {name: (names[place + 1],) if place + 1 < len(names) else () for place, name in enumerate(names)}
    assert order(names[0], **below) == list(reversed(names))


def problems(found: Mapping[str, CompatLayer]) -> list[str]:
    told: list[Problem] = []
    check_includes(found, told)
    return [one.message for one in told]


def test_missing_and_cyclic_includes_are_reported() -> None:
    assert problems(layers(a=("b",), b=())) == []
    assert problems(layers(a=("nothing",))) == [
        "it includes 'nothing', but compat/nothing/sciserver-image.json does not exist"
    ]
    assert problems(layers(a=("b",), b=("c",), c=("b",))) == [
        "layers include each other in a cycle: b includes c includes b"
    ]
    assert problems(layers(a=("a",))) == ["layers include each other in a cycle: a includes a"]


graphs = st.integers(1, 7).flatmap(
    lambda count: st.lists(st.lists(st.integers(0, count - 1), unique=True, max_size=3), min_size=count, max_size=count)
)


@given(graphs)
def test_arbitrary_includes_are_ordered_or_reported(below: list[list[int]]) -> None:
    """Cycles are reported and never hang; otherwise an include comes once, before the layers that include it."""
    found = layers(**{f"n{place}": tuple(f"n{one}" for one in ones) for place, ones in enumerate(below)})
    told = problems(found)
    for name in found:
        names = [layer.name for layer in order_of(name, found)]
        assert len(names) == len(set(names))
        assert names[-1] == name or told
        if not told:
            for layer in order_of(name, found):
                assert all(names.index(one) < names.index(layer.name) for one in layer.includes)


# Dockerfiles ------------------------------------------------------------------------------------------------------------


def piece(text: str) -> list[tuple[int, str]]:
    told: list[Problem] = []
    check_dockerfile(CompatLayer(name="a", path=Path("a"), text=text), told)
    return [(one.line, one.message) for one in told]


def test_compat_dockerfile_with_from_is_rejected() -> None:
    assert piece("ENV A=1\nFROM debian\n") == [(2, "a compat layer must not have a FROM")]


def test_compat_dockerfile_with_open_instruction_is_rejected() -> None:
    assert piece("RUN one\n") == piece("") == piece("# only a comment") == []
    assert piece("ENV A=1\nRUN one \\\n") == [(2, "its last instruction is incomplete")]
    assert piece("RUN one \\\n# a comment\n\n") == [(3, "its last instruction is incomplete")]
    assert piece("RUN <<EOF\necho\n")[0][0] == 1


def test_compat_dockerfile_with_escape_directive_is_rejected() -> None:
    assert piece("# escape=`\nENV A=1\n") == [(1, "it sets an escape character")]


def test_compat_dockerfile_error_has_its_line() -> None:
    assert piece("ENV A=1\nNONSENSE x\n")[0][0] == 2


def test_merged_dockerfile_keeps_order_and_origins() -> None:
    low = CompatLayer(name="low", path=Path("low"), text="ENV A=1\nCOPY a /\n")
    top = CompatLayer(name="top", path=Path("top"), text='CMD ["a"]')
    merged = merged_dockerfile("sci/x:1.0", "x:1.0", [low, top])
    assert merged.text.splitlines() == [
        "FROM sci/x:1.0",
        "# compat/low/Dockerfile",
        "ENV A=1",
        "COPY a /",
        "# compat/top/Dockerfile",
        'CMD ["a"]',
        "ENV SCISERVER_IMAGE=x:1.0",
    ]
    lines = merged.text.splitlines()
    assert [(lines[line - 1], path) for line, path in merged.origins] == [
        ("ENV A=1", "compat/low/Dockerfile"),
        ('CMD ["a"]', "compat/top/Dockerfile"),
    ]
    assert merged.parsed("x").problems == ()


def test_merged_dockerfile_uses_syntax_of_its_layers() -> None:
    low = CompatLayer(name="low", path=Path("low"), text="# syntax=docker/dockerfile:1.7\nENV A=1\n")
    merged = merged_dockerfile("sci/x:1.0", "x:1.0", [low])
    assert merged.text.startswith("# syntax=docker/dockerfile:1.7\nFROM sci/x:1.0\n")
    assert merged.parsed("x").syntax == "docker/dockerfile:1.7"
    assert merged.text.splitlines()[merged.origins[0][0] - 1] == "# syntax=docker/dockerfile:1.7"


# Files ------------------------------------------------------------------------------------------------------------------


def laid(root: Path, *trees: Mapping[str, str | None]) -> Path:
    """Write and merge trees; a value of None is a folder, a value that begins with `->` a link."""
    made = []
    for number, files in enumerate(trees):
        folder = root / f"layer{number}"
        folder.mkdir()
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.mkdir(exist_ok=True)
            elif text.startswith("->"):
                path.symlink_to(text.removeprefix("->"))
            else:
                path.write_text(text)
        made.append(CompatLayer(name=folder.name, path=folder))
    merge_files(made, root / "merged")
    return root / "merged"


def content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): f"->{path.readlink()}" if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_files_of_later_layers_replace_earlier_ones(tmp_path: Path) -> None:
    merged = laid(tmp_path, {"a": "low", "b/c": "low", "b/d": "low"}, {"a": "top", "b/c": "top"})
    assert content(merged) == {"a": "top", "b/c": "top", "b/d": "low"}


def test_merged_folder_excludes_layer_definitions(tmp_path: Path) -> None:
    merged = laid(
        tmp_path, {"Dockerfile": "x", "sciserver-image.json": "x", "deep/Dockerfile": "kept", ".hidden": "kept"}
    )
    assert content(merged) == {"deep/Dockerfile": "kept", ".hidden": "kept"}


def test_later_layer_can_swap_file_and_folder(tmp_path: Path) -> None:
    merged = laid(tmp_path, {"a": "file", "b/c": "x"}, {"a/d": "in a folder", "b": "file"})
    assert content(merged) == {"a/d": "in a folder", "b": "file"}


def test_links_of_earlier_layers_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("untouched")
    merged = laid(
        tmp_path,
        {"folder": f"->{tmp_path}/outside", "link": f"->{tmp_path}/outside/file"},
        {"folder/file": "top", "link": "top"},
    )
    assert content(merged) == {"folder/file": "top", "link": "top"}
    assert content(tmp_path / "outside") == {"file": "untouched"}


def test_modes_and_links_are_kept(tmp_path: Path) -> None:
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer/run").write_text("x")
    (tmp_path / "layer/run").chmod(0o750)
    (tmp_path / "layer/folder").mkdir()
    (tmp_path / "layer/folder").chmod(0o700)
    (tmp_path / "layer/broken").symlink_to("nowhere")
    merge_files([CompatLayer(name="layer", path=tmp_path / "layer")], tmp_path / "merged")
    assert stat.S_IMODE((tmp_path / "merged/run").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "merged/folder").stat().st_mode) == 0o700
    assert (tmp_path / "merged/broken").readlink() == Path("nowhere")
    assert stat.S_IMODE((tmp_path / "merged").stat().st_mode) == 0o755


def test_special_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "layer").mkdir()
    os.mkfifo(tmp_path / "layer/pipe")
    with pytest.raises(WrongUseError, match="not a file, folder or link"):
        merge_files([CompatLayer(name="layer", path=tmp_path / "layer")], tmp_path / "merged")


def test_edit_in_merged_folder_leaves_sources_unchanged(tmp_path: Path) -> None:
    merged = laid(tmp_path, {"a": "low"}, {"a": "top"})
    (merged / "a").write_text("edited")
    assert (tmp_path / "layer0/a").read_text() == "low"
    assert (tmp_path / "layer1/a").read_text() == "top"


def test_merged_folder_is_removed_after_the_run(grove: Grove) -> None:
    grove.science("a", compat="jupyter")
    grove.compat("jupyter", "COPY start.sh /", files={"start.sh": "run"})
    with grove.laid() as (_, layout, _):
        (step,) = [step for step in layout.graph if step.option == "compat"]
        assert content(step.context) == {"start.sh": "run"}
    assert not step.context.exists()
    assert not step.dockerfile.parent.exists()
