"""Check before a run that this machine can build: engine, buildx, platforms."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from chainbuild.builder.builders import BuilderInfo
from chainbuild.builder.failures import emulation_hint
from chainbuild.errors import ChainbuildError, NotReadyError, WrongUseError
from chainbuild.host.docker import engine_error, no_docker_command, no_engine
from chainbuild.references import Platform
from chainbuild.text import last_line

BUILDX_NEEDED: Final = (0, 13)
"""The first buildx with `--progress=rawjson`."""


class BuilderFinder(Protocol):
    """Finds the builders of this machine; implemented by `buildx.BuildxDriver`."""

    def inspect(self, platform: Platform) -> BuilderInfo:
        """Return the builder for a platform. Errors: `NotReadyError`."""


def check_builders(driver: BuilderFinder, platforms: Iterable[Platform]) -> None:
    """Check the requirements for building for these platforms, and report everything missing at once.

    Errors: `NotReadyError`.
    """
    if not shutil.which("docker"):
        raise no_docker_command()
    required = sorted(platforms)
    with ThreadPoolExecutor() as pool:
        version = pool.submit(buildx_problem)
        looks = [pool.submit(_check_builder, driver, platform) for platform in required]
    missing = list(dict.fromkeys(text for look in (version, *looks) if (text := look.result())))
    if missing:
        raise NotReadyError("\n".join(missing))


def buildx_problem() -> str:
    """Return the problem with buildx and its fix; empty if there is none."""
    done = subprocess.run(["docker", "buildx", "version"], capture_output=True, text=True, check=False)
    match = re.search(r"\bv?(\d+)\.(\d+)", done.stdout)
    if done.returncode or not match:
        return (
            "docker has no buildx plugin\n    Install the plugin: apt-get install docker-buildx (Debian 13),"
            " docker-buildx-plugin (Docker's own packages)."
        )
    if (int(match[1]), int(match[2])) < BUILDX_NEEDED:
        return f"buildx {match[0]} is too old; 0.13 or newer is required\n    See github.com/docker/buildx/releases."
    return ""


def _check_builder(driver: BuilderFinder, platform: Platform) -> str:
    try:
        builder = driver.inspect(platform)
    except ChainbuildError as error:
        engine = engine_problem()
        return engine or str(error)
    if any(means(text, platform) for text in builder.platforms):
        return ""
    return f"the builder {builder.name} cannot run {platform.oci} programs\n    {emulation_hint(platform)}"


def means(text: str, platform: Platform) -> bool:
    """Return whether a builder's platform string denotes that platform; unknown platforms do not match."""
    try:
        return Platform.parse(text).same_as(platform)
    except WrongUseError:
        return False


def is_native(builder: BuilderInfo, platform: Platform) -> bool:
    """Return whether one of a builder's machines runs programs of the platform without emulation."""
    return any(means(text, platform) for text in builder.own_platforms)


def engine_problem() -> str:
    """Return the problem with the engine and its fix; empty if there is none."""
    done = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return ""
    reason = last_line(done.stderr, "docker version failed")
    return str(engine_error(done.stderr, reason) or no_engine(reason))
