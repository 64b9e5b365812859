"""Where the managed registry's data and compose file come from: the user decides, a tree hardly anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chainbuild.builder.buildx import BuildxDriver
from chainbuild.errors import WrongUseError
from chainbuild.execution.backends import current_backends, use_backends
from chainbuild.execution.session import Settings, differing_compose_file, managed_registry, open_session, registry_data
from chainbuild.local_registry.service import shipped_compose_file
from chainbuild.references import ChainRegistry, Platform
from chainbuild.values import replace
from tests.support.world import Surroundings

COMPOSE = "services: {registry: {image: evil, privileged: true, volumes: ['/:/host']}}\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("CHAINBUILD_REGISTRY_DATA", raising=False)
    monkeypatch.delenv("CHAINBUILD_REGISTRY_COMPOSE", raising=False)
    monkeypatch.delenv("CHAINBUILD_REGISTRY_LINGER", raising=False)


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


@pytest.mark.parametrize(("text", "seconds"), [(None, 0), ("", 0), ("0", 0), ("0s", 0), ("90s", 90), ("1h30m", 5400)])
def test_registry_linger_of_environment_is_a_duration(
    tree: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, seconds: float
) -> None:
    if text is not None:
        monkeypatch.setenv("CHAINBUILD_REGISTRY_LINGER", text)
    assert managed_registry(Settings(root=tree)).linger == seconds


def test_registry_linger_that_is_no_duration_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINBUILD_REGISTRY_LINGER", "soon")
    with pytest.raises(WrongUseError, match=r"--registry-linger .*'soon' is not a duration") as caught:
        managed_registry(Settings(root=tree))
    assert "4h30m" in caught.value.problems[0].hint


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


# Sessions -------------------------------------------------------------------------------------------------------------


def test_build_reports_the_compose_file_of_the_tree_that_is_ignored(tree: Path) -> None:
    (tree / "docker-compose-registry.yml").write_text(COMPOSE, encoding="utf-8")
    outside = Surroundings(tree)
    with open_session(Settings(root=tree), outside.events.append, backends=outside.backends):
        assert outside.messages == [], "only builds start a registry"
    with open_session(Settings(root=tree), outside.events.append, building=True, backends=outside.backends):
        assert outside.service.leases == 1
    (text,) = outside.messages
    assert text.startswith("docker-compose-registry.yml of this tree is ignored")
    assert outside.service.leases == 0


def test_warning_of_registries_is_emitted_once(tree: Path) -> None:
    outside = Surroundings(tree)
    with outside.session() as session:
        for _ in range(2):
            session.registries.notice("skipped something")
    assert outside.warnings == ["skipped something"]


def test_session_of_an_unknown_compose_file_starts_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINBUILD_REGISTRY_COMPOSE", str(tree / "none.yml"))
    outside = Surroundings(tree)
    backends = replace(outside.backends, managed=None)
    with (
        pytest.raises(WrongUseError, match="no such file"),
        open_session(Settings(root=tree), outside.events.append, backends=backends),
    ):
        pass
    assert outside.fake.log == []


def test_backends_apply_within_their_block_only(tree: Path) -> None:
    outside, other = Surroundings(tree), Surroundings(tree)
    with use_backends(outside.backends):
        assert current_backends().local is outside.store
        with use_backends(other.backends), open_session(outside.settings, outside.events.append) as session:
            assert session.local is other.store
        assert current_backends().local is outside.store
    assert current_backends().transport is None


def test_driver_of_the_command_has_the_builders_of_the_settings(tree: Path) -> None:
    settings = Settings(root=tree, registry=ChainRegistry("localhost:5000"), builders={"": "far"}, no_cache=True)
    with open_session(settings, lambda _: None) as session:
        late: Any = session.driver
        assert "_driver" not in vars(late), "a run that builds nothing imports no driver"
        driver = late._driver
        assert isinstance(driver, BuildxDriver)
        assert driver.builder_for(Platform.parse("amd64")) == "far"
        assert session.records.chain == settings.chain
