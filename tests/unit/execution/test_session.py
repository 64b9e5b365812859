"""Where the managed registry's data and compose file come from: the user decides, a tree hardly anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainbuild.errors import WrongUseError
from chainbuild.execution.session import Settings, differing_compose_file, managed_registry, registry_data
from chainbuild.local_registry.service import shipped_compose_file

COMPOSE = "services: {registry: {image: evil, privileged: true, volumes: ['/:/host']}}\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("CHAINBUILD_REGISTRY_DATA", raising=False)
    monkeypatch.delenv("CHAINBUILD_REGISTRY_COMPOSE", raising=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def test_registry_data_default_is_the_user_folder(tree: Path, tmp_path: Path) -> None:
    (tree / "registry").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    assert registry_data(tree) == registry_data(other) == tmp_path / "data" / "chainbuild" / "registry"
    assert sorted(path.name for path in tree.iterdir()) == ["registry"]


def test_registry_data_of_environment_wins_over_tree(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "chainbuild.yaml").write_text("options: a\nregistry-data: registry\n", encoding="utf-8")
    assert registry_data(tree) == tree / "registry"
    monkeypatch.setenv("CHAINBUILD_REGISTRY_DATA", "/srv/registry")
    assert registry_data(tree) == Path("/srv/registry")


@pytest.mark.parametrize("text", ["registry", ".chainbuild/registry", ".chainbuild/a.b-c"])
def test_registry_data_of_tree_is_inside_the_tree(tree: Path, text: str) -> None:
    (tree / "chainbuild.yaml").write_text(f"options: a\nregistry-data: {text}\n", encoding="utf-8")
    (tree / "below").mkdir()
    assert registry_data(tree) == registry_data(tree / "below") == tree / text


@pytest.mark.parametrize("text", ["/etc", "..", "../x", "a", ".chainbuild/..", ".chainbuild/a/b", "~", "[a]", "5"])
def test_registry_data_of_tree_elsewhere_is_refused(tree: Path, text: str) -> None:
    """A foreign tree must not choose a folder of the user's that is then written to."""
    (tree / "chainbuild.yaml").write_text(f"options: a\nregistry-data: {text}\n", encoding="utf-8")
    with pytest.raises(WrongUseError, match=r"chainbuild.yaml:2: registry-data"):
        registry_data(tree)


@pytest.mark.parametrize("link", ["registry", ".chainbuild"])
def test_registry_data_of_tree_through_a_link_is_refused(tree: Path, tmp_path: Path, link: str) -> None:
    text = "registry" if link == "registry" else ".chainbuild/registry"
    (tree / "chainbuild.yaml").write_text(f"options: a\nregistry-data: {text}\n", encoding="utf-8")
    (tmp_path / "victim").mkdir()
    (tree / link).symlink_to(tmp_path / "victim")
    with pytest.raises(WrongUseError, match="symbolic link"):
        registry_data(tree)


def test_compose_file_of_tree_is_not_used(tree: Path) -> None:
    """Whoever starts a compose file gives it root's rights on the machine."""
    (tree / "docker-compose-registry.yml").write_text(COMPOSE, encoding="utf-8")
    assert managed_registry(Settings(root=tree))._compose._file == shipped_compose_file()
    assert differing_compose_file(tree) == tree / "docker-compose-registry.yml"


def test_compose_file_equal_to_the_shipped_file_is_not_reported(tree: Path) -> None:
    assert differing_compose_file(tree) is None
    (tree / "docker-compose-registry.yml").write_bytes(shipped_compose_file().read_bytes())
    assert differing_compose_file(tree) is None


def test_compose_file_that_the_user_names_is_used(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tree / "docker-compose-registry.yml"
    own.write_text(COMPOSE, encoding="utf-8")
    monkeypatch.setenv("CHAINBUILD_REGISTRY_COMPOSE", str(own))
    assert managed_registry(Settings(root=tree))._compose._file == own
    assert differing_compose_file(tree) is None
    monkeypatch.setenv("CHAINBUILD_REGISTRY_COMPOSE", str(tree / "none.yml"))
    with pytest.raises(WrongUseError, match="no such file"):
        managed_registry(Settings(root=tree))
