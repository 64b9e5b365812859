"""Credentials for registries, from where `docker login` puts them.

`$DOCKER_CONFIG/config.json` (else `~/.docker/config.json`): `credHelpers` by host, then `credsStore`, then `auths`.
Helpers are asked with the protocol of docker-credential-helpers: `docker-credential-NAME get`, the host on stdin, JSON
on stdout.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chainbuild.errors import LoginNeededError
from chainbuild.references import DOCKER_HUB

# Docker keeps the hub's login under this name since before registries had hosts.
_HUB_KEY: Final = "https://index.docker.io/v1/"
_HELPER_SECONDS: Final = 30
_TOKEN_USER: Final = "<token>"  # noqa: S105 - the helpers' mark that the secret is an identity token


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """A user name and password, or an identity token (OAuth2 refresh token). Its repr shows no secret."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an `Authorization: Basic` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything that must not be shown."""
        basic = self.basic.removeprefix("Basic ") if self.password else ""
        return tuple(secret for secret in (self.password, self.identity_token, basic) if secret)


Lookup = Callable[[str], Credentials | None]
RunHelper = Callable[[str, str], str | None]


def from_docker_config(host: str) -> Credentials | None:
    """The credentials that Docker would use for a registry's host; None where there are none."""
    folder = os.environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    return find_credentials(path, host, run_helper)


def find_credentials(path: Path, host: str, run: RunHelper) -> Credentials | None:
    """Read Docker's config at `path`; `run(helper, server)` asks a helper.

    Errors: `LoginNeededError` where the file is there but cannot be understood. Its content is never in the message.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LoginNeededError(
            f"Docker's config cannot be read ({type(error).__name__})", where=str(path), hint="See its permissions."
        ) from error
    try:
        config = json.loads(text)
    except ValueError:
        # `from None`: the parser's error holds the whole document.
        raise LoginNeededError(
            "Docker's config is not JSON", where=str(path), hint="Mend it, or move it away and log in again."
        ) from None
    if not isinstance(config, dict):
        raise LoginNeededError("Docker's config is not a JSON object", where=str(path))
    keys = _keys(host)
    helpers = _mapping(config, "credHelpers")
    for key in keys:
        if isinstance(helper := helpers.get(key), str) and helper:
            return _ask(helper, key, run)
    store = config.get("credsStore")
    if isinstance(store, str) and store:
        for key in keys:
            if found := _ask(store, key, run):
                return found
    auths = _mapping(config, "auths")
    by_host = {_host_of(key): value for key, value in reversed(auths.items())}
    for key in keys:
        entry = auths.get(key) or by_host.get(_host_of(key))
        if isinstance(entry, dict) and (found := _entry(entry)):
            return found
    return None


def run_helper(helper: str, server: str) -> str | None:
    """Run `docker-credential-HELPER get`; None where it has nothing for the server.

    Errors: `LoginNeededError` where the helper is not there or hangs; what it printed is not repeated.
    """
    import subprocess

    if not all(character.isalnum() or character in "-_." for character in helper):
        raise LoginNeededError(f"{helper!r} is not a credential helper's name", where="Docker's config")
    argv = [f"docker-credential-{helper}", "get"]
    try:
        done = subprocess.run(
            argv, input=server.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False
        )  # fmt: skip
    except FileNotFoundError as error:
        raise LoginNeededError(
            f"Docker's config names the credential helper {argv[0]}, which is not there",
            hint=f"Install {argv[0]}, or take it out of Docker's config and log in again.",
        ) from error
    except subprocess.TimeoutExpired:
        raise LoginNeededError(
            f"{argv[0]} did not answer in {_HELPER_SECONDS} s", hint=f"Try it by hand: echo {server} | {argv[0]} get"
        ) from None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _ask(helper: str, server: str, run: RunHelper) -> Credentials | None:
    answer = run(helper, server)
    if answer is None:
        return None
    try:
        body = json.loads(answer)
    except ValueError:
        raise LoginNeededError(f"docker-credential-{helper} gave something that is not JSON") from None
    if not isinstance(body, dict):
        raise LoginNeededError(f"docker-credential-{helper} gave something that is not an object")
    user, secret = str(body.get("Username") or ""), str(body.get("Secret") or "")
    if not secret:
        return None
    if user == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(user=user, password=secret)


def _entry(entry: Mapping[str, Any]) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if isinstance(auth := entry.get("auth"), str) and auth:
        try:
            user, _, password = base64.b64decode(auth).decode().partition(":")
        except (ValueError, UnicodeDecodeError):
            raise LoginNeededError("an entry of Docker's config is damaged", hint="Log in again.") from None
        # Docker pads with NUL bytes.
        password = password.rstrip("\0")
    if not token and not (user and password):
        return None
    return Credentials(user=user, password=password, identity_token=token)


def _keys(host: str) -> tuple[str, ...]:
    if host in {DOCKER_HUB, "registry-1.docker.io", "index.docker.io"}:
        return (_HUB_KEY, DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
    return (host, f"https://{host}")


def _host_of(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _mapping(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}
