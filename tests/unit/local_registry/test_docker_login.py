"""Docker's knowledge of the login, with `docker login` played by a function."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from chainbuild.local_registry import login as module
from chainbuild.local_registry.login import Login, docker_config, ensure_docker_login, explain, find_stored
from chainbuild.registry.http.auth import Credentials, find_credentials

ENDPOINT = "localhost:5000"
LOGIN = Login(password="a" * 64, hashed="$2b$04$x")
OTHER = Login(password="b" * 64, hashed="$2b$04$y")


def entry(login: Login) -> dict[str, str]:
    return {"auth": base64.b64encode(f"chainbuild:{login.password}".encode()).decode()}


class Docker:
    """A user's Docker config, and what `docker login` does to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logins: list[tuple[str, str]] = []
        self.trouble = ""
        self.store = False

    def config(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return document

    def write(self, **config: Any) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def login(self, endpoint: str, password: str) -> str:
        self.logins.append((endpoint, password))
        if not self.trouble:
            config = self.config() if (self.folder / "config.json").exists() else {}
            entry = {} if self.store else {"auth": base64.b64encode(f"chainbuild:{password}".encode()).decode()}
            self.write(**{**config, "auths": {**config.get("auths", {}), endpoint: entry}})
        return self.trouble


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    (tmp_path / "docker").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Docker(tmp_path / "docker")


def ensure(docker: Docker, login: Login = LOGIN) -> module.Stored:
    return ensure_docker_login(ENDPOINT, login, docker.login)


def test_docker_login_runs_once(docker: Docker) -> None:
    first, second = ensure(docker), ensure(docker)
    assert docker.logins == [(ENDPOINT, LOGIN.password)]
    assert (first.place, first.new, second.new) == ("docker", True, False)
    assert explain(first, ENDPOINT).startswith("stored the login for localhost:5000")
    assert explain(second, ENDPOINT) == ""
    assert find_stored(ENDPOINT, LOGIN) == str(docker.folder / "config.json")


def test_docker_login_in_credential_store_runs_once(docker: Docker) -> None:
    """Docker then writes only the registry's name into its config; no helper is asked by each run."""
    docker.store = True
    ensure(docker)
    assert ensure(docker).place == "docker"
    assert len(docker.logins) == 1


def test_docker_login_renewed_replaces_its_own(docker: Docker) -> None:
    ensure(docker)
    assert ensure(docker, OTHER).place == "docker"
    assert docker.config()["auths"][ENDPOINT] == entry(OTHER)


def test_docker_login_of_the_user_is_never_replaced(docker: Docker) -> None:
    for theirs in ({"auth": "dXNlcjpwYXNz"}, {}, {"identitytoken": "x"}):
        docker.write(auths={ENDPOINT: theirs, "ghcr.io": {"auth": "eDp5"}}, credsStore="desktop")
        before = docker.config()
        stored = ensure(docker)
        assert (stored.place, docker.logins, docker.config()) == ("copy", [], before)
        assert "a login of your own" in stored.why


@pytest.fixture
def refused(docker: Docker) -> Docker:
    docker.trouble = "error storing credentials: exec: docker-credential-desktop: not found"
    docker.write(
        auths={"ghcr.io": {"auth": "eDp5"}},
        credsStore="desktop",
        credHelpers={"gcr.io": "gcloud"},
        currentContext="far",
    )
    (docker.folder / "contexts").mkdir()
    (docker.folder / "cli-plugins").mkdir()
    return docker


def test_docker_config_copy_has_the_login_and_all_else(refused: Docker) -> None:
    stored = ensure(refused)
    assert stored.place == "copy"
    copy = stored.config.parent
    config = json.loads(stored.config.read_text(encoding="utf-8"))
    assert config == {
        "auths": {"ghcr.io": {"auth": "eDp5"}, ENDPOINT: entry(LOGIN)},
        "credsStore": "desktop",
        # Docker takes this registry's login from the file, whatever holds the others.
        "credHelpers": {"gcr.io": "gcloud", ENDPOINT: ""},
        "currentContext": "far",
    }
    assert {path.name: path.readlink() for path in copy.iterdir() if path.is_symlink()} == {
        name: refused.folder / name for name in ("contexts", "cli-plugins")
    }
    assert stat.S_IMODE(stored.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    assert ENDPOINT not in refused.config()["auths"]
    found = find_credentials(stored.config, ENDPOINT, lambda *_: None)
    assert found == Credentials(user="chainbuild", password=LOGIN.password)


def test_docker_config_copy_follows_the_users_config(refused: Docker) -> None:
    ensure(refused)
    (refused.folder / "contexts").rmdir()
    refused.write(auths={"quay.io": {"auth": "eDp5"}})
    stored = ensure(refused)
    assert set(json.loads(stored.config.read_text(encoding="utf-8"))["auths"]) == {"quay.io", ENDPOINT}
    assert not (stored.config.parent / "contexts").is_symlink()


def test_docker_login_that_failed_is_not_tried_by_each_run(refused: Docker) -> None:
    """A credential helper may take half a minute to fail."""
    first, second = ensure(refused), ensure(refused)
    assert len(refused.logins) == 1
    assert (first.new, second.new) == (True, False)
    assert "docker-credential-desktop: not found" in explain(first, ENDPOINT)
    assert explain(second, ENDPOINT) == ""
    # Another login is another matter.
    ensure(refused, OTHER)
    assert len(refused.logins) == 2


def test_docker_processes_get_the_copy_while_a_lease_is_held(refused: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = ensure(refused)
    with docker_config(stored):
        assert os.environ["DOCKER_CONFIG"] == str(stored.config.parent)
    assert os.environ["DOCKER_CONFIG"] == str(refused.folder)
    monkeypatch.delenv("DOCKER_CONFIG")
    with docker_config(stored):
        assert "DOCKER_CONFIG" in os.environ
    assert "DOCKER_CONFIG" not in os.environ
    with docker_config(None):
        assert "DOCKER_CONFIG" not in os.environ


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": []}', '{"auths": {"localhost:5000": "x"}}'])
def test_docker_config_damaged_is_left_to_docker(docker: Docker, text: str) -> None:
    (docker.folder / "config.json").write_text(text, encoding="utf-8")
    docker.trouble = "config.json: invalid character"
    assert ensure(docker).place == "copy"


def test_docker_config_without_home_is_below_the_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    assert module.config_folder() == Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".docker"


def test_docker_login_gets_the_password_through_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of a process can be read by every user; what it prints may end in a log."""
    import subprocess

    calls: list[tuple[list[str], dict[str, Any]]] = []

    def run(argv: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        calls.append((argv, how))
        return subprocess.CompletedProcess(argv, 1, "", f"Error: cannot store {LOGIN.password}\n")

    monkeypatch.setattr(subprocess, "run", run)
    why = module.run_docker_login(ENDPOINT, LOGIN.password)
    ((argv, how),) = calls
    assert argv == ["docker", "login", "--username", "chainbuild", "--password-stdin", ENDPOINT]
    assert how["input"] == LOGIN.password
    assert LOGIN.password not in str(how.get("env"))
    assert why == "Error: cannot store ***"


@pytest.mark.parametrize("error", [FileNotFoundError(), "timeout"])
def test_docker_login_that_hangs_or_is_missing_is_a_reason(monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    import subprocess

    def run(argv: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(argv, 30) if error == "timeout" else error

    monkeypatch.setattr(subprocess, "run", run)
    assert LOGIN.password not in module.run_docker_login(ENDPOINT, LOGIN.password)
    assert module.run_docker_login(ENDPOINT, LOGIN.password)
