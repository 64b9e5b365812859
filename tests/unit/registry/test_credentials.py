from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from chainbuild.errors import LoginNeededError
from chainbuild.registry.http.auth import Credentials, find_credentials, from_docker_config, run_helper

SECRET = "pa55word-of-tests"
ME = Credentials(user="me", password=SECRET)
AUTH = {"auth": base64.b64encode(f"me:{SECRET}".encode()).decode()}


def find(
    tmp_path: Path, config: Any, host: str, helpers: dict[tuple[str, str], str] | None = None
) -> Credentials | None:
    path = tmp_path / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return find_credentials(path, host, lambda helper, server: (helpers or {}).get((helper, server)))


@pytest.mark.parametrize(
    ("key", "host", "found"),
    [
        ("ghcr.io", "ghcr.io", True),
        ("https://ghcr.io", "ghcr.io", True),
        ("https://ghcr.io/v2/", "ghcr.io", True),
        ("registry.lan:5000", "registry.lan:5000", True),
        ("registry.lan:5001", "registry.lan:5000", False),
        ("ghcr.io.evil.example", "ghcr.io", False),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("docker.io", "docker.io", True),
        ("https://index.docker.io/v1/", "ghcr.io", False),
    ],
)
def test_login_is_for_its_host(tmp_path: Path, key: str, host: str, found: bool) -> None:
    assert find(tmp_path, {"auths": {key: AUTH}}, host) == (ME if found else None)


@pytest.mark.parametrize("config", [{}, {"auths": None}, {"auths": {"ghcr.io": {}}}, {"auths": []}])
def test_missing_login_gives_none(tmp_path: Path, config: Any) -> None:
    assert find(tmp_path, config, "ghcr.io") is None


def test_missing_config_gives_no_login(tmp_path: Path) -> None:
    assert find_credentials(tmp_path / "nothing" / "config.json", "ghcr.io", lambda *_: None) is None


def test_config_follows_docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"ghcr.io": AUTH}}), encoding="utf-8")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert from_docker_config("ghcr.io") == ME


def test_helpers_come_before_stored_logins(tmp_path: Path) -> None:
    answer = json.dumps({"ServerURL": "ghcr.io", "Username": "helped", "Secret": "s"})
    config = {"auths": {"ghcr.io": AUTH}, "credHelpers": {"ghcr.io": "gcloud"}, "credsStore": "desktop"}
    helped = Credentials(user="helped", password="s")
    assert find(tmp_path, config, "ghcr.io", {("gcloud", "ghcr.io"): answer}) == helped
    del config["credHelpers"]
    assert find(tmp_path, config, "ghcr.io", {("desktop", "ghcr.io"): answer}) == helped
    # A store that has nothing for this host leaves it to the file.
    assert find(tmp_path, config, "ghcr.io") == ME


def test_hub_uses_its_old_name(tmp_path: Path) -> None:
    answer = json.dumps({"Username": "helped", "Secret": "s"})
    found = find(tmp_path, {"credsStore": "pass"}, "docker.io", {("pass", "https://index.docker.io/v1/"): answer})
    assert found == Credentials(user="helped", password="s")


def test_identity_tokens_are_distinguished(tmp_path: Path) -> None:
    answer = json.dumps({"Username": "<token>", "Secret": "refresh"})
    wanted = Credentials(identity_token="refresh")
    assert find(tmp_path, {"credsStore": "x"}, "ghcr.io", {("x", "ghcr.io"): answer}) == wanted
    stored = find(tmp_path, {"auths": {"ghcr.io": {"identitytoken": "refresh"}}}, "ghcr.io")
    assert stored == wanted


@pytest.mark.parametrize(
    "config",
    [
        "{" + f'"auths": "{SECRET}"',
        f'["{SECRET}"]',
        {"auths": {"ghcr.io": {"auth": f"!{SECRET}!"}}},
        {"credsStore": "x"},
    ],
)
def test_broken_config_is_reported_without_its_content(tmp_path: Path, config: Any) -> None:
    with pytest.raises(LoginNeededError) as told:
        find(tmp_path, config, "ghcr.io", {("x", "ghcr.io"): f"not JSON {SECRET}"})
    assert SECRET not in f"{told.value}{told.value!r}{told.value.__cause__!r}"


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "x;y", "$(x)"])
def test_helper_name_is_validated(name: str) -> None:
    with pytest.raises(LoginNeededError, match="not a credential helper"):
        run_helper(name, "ghcr.io")


def test_repr_shows_no_secret() -> None:
    assert SECRET not in repr(ME)
    assert "refresh" not in repr(Credentials(identity_token="refresh"))
