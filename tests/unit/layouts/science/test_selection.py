"""Selection of layers: missing in the registry, changed since a commit, or named, with their dependents."""

from __future__ import annotations

from typing import Any

import pytest

from chainbuild.errors import WrongUseError

from .grove import Grove


@pytest.fixture
def tree(grove: Grove) -> Grove:
    """a <- b <- c of image x, versions 1.0, 1.0 and 2.0; an independent d; jupyter includes common, rstudio does not."""
    grove.science("a", image="x", compat="jupyter")
    grove.science("b", "FROM sci/a:1.0", image="x", compat="jupyter")
    grove.science("c", "FROM sci/b:1.0", image="x", version="2.0", compat="jupyter")
    grove.science("d", image="y", compat="rstudio")
    grove.compat("common", "COPY note /opt/", files={"note": "common"})
    grove.compat("jupyter", "CMD jupyter", includes=["common"])
    grove.compat("rstudio", "CMD rstudio")
    return grove


ALL = ["science/a", "science/b", "science/c", "science/d", "compat/x-1.0", "compat/x-2.0", "compat/y-1.0"]


def test_selection_defaults_to_images_missing_in_registry(tree: Grove) -> None:
    assert tree.builds() == ALL
    assert tree.run().succeeded
    assert tree.built == ALL
    assert tree.builds() == []


def test_compat_change_rebuilds_compat_images_only(tree: Grove) -> None:
    tree.run()
    (tree.root / "compat/common/note").write_text("changed")
    assert tree.builds() == ["compat/x-1.0", "compat/x-2.0"]


def test_science_change_rebuilds_dependents(tree: Grove) -> None:
    tree.run()
    (tree.root / "science/b/Dockerfile").write_text("FROM sci/a:1.0\nRUN more\n")
    assert tree.builds() == ["science/b", "science/c", "compat/x-1.0", "compat/x-2.0"]


def test_unchanged_content_stops_rebuild_of_dependents(tree: Grove) -> None:
    """Early cut-off: a layer is rebuilt with the same content."""
    tree.run()
    kept = {step: digest for step, digest in tree.tags().items() if "/rel/" in step}
    (tree.root / "science/a/Dockerfile").write_text("# only a comment\nFROM debian:1\n")
    before = tree.resolved("compute-images/sci/a:1.0").config

    push = tree.driver._push

    def same(spec: Any) -> Any:
        image = push(spec)
        if str(spec.step) == "amd64/science/a":
            layers = [
                tree.fake.host("localhost:5000").blobs["compute-images/sci/a", str(layer.digest)]
                for layer in tree.resolved("compute-images/sci/a:1.0").layers
            ]
            image = tree.fake.add_image(
                spec.image,
                spec.platform,
                layers=layers,
                env=before.env,
            )
        return image

    tree.driver._push = same  # type: ignore[method-assign]
    assert tree.builds() == ["science/a", "science/b", "science/c", "compat/x-1.0", "compat/x-2.0"]
    assert tree.run().succeeded
    assert tree.built == ["science/a"]
    assert {step: digest for step, digest in tree.tags().items() if "/rel/" in step} == kept


# --ref --------------------------------------------------------------------------------------------------------------------


def selected(grove: Grove, **words: object) -> tuple[list[str], list[str]]:
    found = grove.request(**words).selection
    return sorted(found.targets), sorted(found.releases)


def test_ref_selects_changed_layers_and_dependents(tree: Grove) -> None:
    tree.git.differs = ("science/b/Dockerfile",)
    assert selected(tree, ref="HEAD^") == (["b", "c"], ["x:1.0", "x:2.0"])
    tree.git.differs = ("compat/common/note",)
    assert selected(tree, ref="HEAD^") == ([], ["x:1.0", "x:2.0"])
    tree.git.differs = ("compat/rstudio/deep/er/file", "README.md", "science/gone/Dockerfile")
    assert selected(tree, ref="HEAD^") == ([], ["y:1.0"])
    tree.git.differs = ()
    assert selected(tree, ref="HEAD^") == ([], [])


def test_base_of_selected_layer_is_built_without_tags(tree: Grove) -> None:
    tree.git.differs = ("science/c/Dockerfile",)
    assert tree.builds(ref="HEAD^") == ["science/a", "science/b", "science/c", "compat/x-2.0"]
    tree.run(ref="HEAD^")
    assert {name for name in tree.tags() if "-" not in name.rpartition(":")[2]} == {
        "compute-images/sci/c:2.0",
        "compute-images/rel/x:2.0",
    }


def test_moved_base_is_ignored_with_ref(tree: Grove) -> None:
    tree.run()
    tree.base("second")
    assert "science/a" in tree.builds()
    tree.git.differs = ("compat/common/note",)
    (tree.root / "compat/common/note").write_text("changed")
    assert tree.builds(ref="HEAD^") == ["compat/x-1.0", "compat/x-2.0"]
    tree.git.differs = ("science/c/Dockerfile",)
    assert tree.builds(ref="HEAD^") == ["compat/x-2.0"]


def test_changed_base_of_selected_layer_is_rebuilt(tree: Grove) -> None:
    """The layer was changed by a commit that was never built: its dependents must not use the old image."""
    tree.run()
    (tree.root / "science/a/Dockerfile").write_text("FROM debian:1\nRUN changed earlier\n")
    tree.git.differs = ("science/c/Dockerfile",)
    assert tree.builds(ref="HEAD^") == ["science/a", "science/b", "science/c", "compat/x-2.0"]


def test_untracked_files_count_on_request(tree: Grove) -> None:
    tree.git.unknown = ("science/d/sciserver-image.json",)
    assert selected(tree, ref="HEAD^") == ([], [])
    assert selected(tree, ref="HEAD^", untracked=True) == (["d"], ["y:1.0"])
    with pytest.raises(WrongUseError, match=r"--untracked cannot be combined with --ref a\.\.b"):
        tree.request(ref="a..b", untracked=True)
    with pytest.raises(WrongUseError, match="--untracked needs --ref"):
        tree.request(untracked=True)


# --include and --ignore -----------------------------------------------------------------------------------------------------


def test_include_selects_layers_by_path(tree: Grove, monkeypatch: pytest.MonkeyPatch) -> None:
    assert selected(tree, include=["science/b"]) == (["b", "c"], ["x:1.0", "x:2.0"])
    assert selected(tree, include=["compat/rstudio/"]) == ([], ["y:1.0"])
    assert selected(tree, include=[str(tree.root / "science/d")]) == (["d"], ["y:1.0"])
    monkeypatch.chdir(tree.root / "science")
    assert selected(tree, include=["d"]) == (["d"], ["y:1.0"])
    assert selected(tree, include=["science/d"]) == (["d"], ["y:1.0"])


def test_include_with_ref_is_rejected(tree: Grove) -> None:
    with pytest.raises(WrongUseError, match="--include cannot be combined with --ref"):
        tree.request(include=["science/a"], ref="HEAD^")


def test_ignored_change_selects_layer_only_as_dependent(tree: Grove) -> None:
    tree.git.differs = ("science/b/Dockerfile", "science/d/Dockerfile")
    assert selected(tree, ref="HEAD^", ignore=["science/b"]) == (["d"], ["y:1.0"])
    tree.git.differs = ("science/a/Dockerfile", "science/b/Dockerfile")
    assert selected(tree, ref="HEAD^", ignore=["science/b"]) == (["a", "b", "c"], ["x:1.0", "x:2.0"])


def test_ignored_layer_is_rebuilt_only_if_its_base_changes(tree: Grove) -> None:
    tree.run()
    (tree.root / "science/b/Dockerfile").write_text("FROM sci/a:1.0\nRUN unfinished\n")
    assert tree.builds(ignore=["science/b"]) == []
    (tree.root / "science/a/Dockerfile").write_text("FROM debian:1\nRUN more\n")
    assert tree.builds(ignore=["science/b"])[:2] == ["science/a", "science/b"]


def test_ignored_compat_layer_rebuilds_no_image(tree: Grove) -> None:
    tree.run()
    (tree.root / "compat/common/note").write_text("changed")
    assert tree.builds(ignore=["compat/common"]) == []


def test_refresh_overrides_ignore(tree: Grove) -> None:
    tree.run()
    tree.git.differs = ()
    assert tree.builds(refresh=True, ignore=["science/b"]) == ALL
