"""The buildx builders of this machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from msgspec import Struct

from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.references import Platform
from chainbuild.text import last_line

REPRODUCIBLE_DRIVERS: Final = frozenset({"docker-container", "kubernetes", "remote"})
"""Drivers that support `rewrite-timestamp`; the engine's own builder refuses it ("conflicts with unpack")."""
REWRITES_SINCE: Final = (0, 13)
"""The first BuildKit with `rewrite-timestamp`."""


_GOES_WITH: Final = {"linux/amd64": ("linux/amd64/", "linux/386"), "linux/arm64": ("linux/arm64/", "linux/arm/")}
"""How the platforms begin that follow these in the list of a machine."""


class BuilderInfo(Struct, frozen=True, kw_only=True):
    """A buildx builder: its driver, its platforms, and its BuildKit version."""

    name: str
    driver: str
    platforms: tuple[str, ...]
    status: str
    buildkit: tuple[int, int] = (0, 0)
    own_platforms: frozenset[str] = frozenset()
    """The platforms of its machines, whose programs they run without emulation."""

    @property
    def rewrites_times(self) -> bool:
        """Return whether the builder can rewrite file times, so that the same content gives the same layer."""
        return self.driver in REPRODUCIBLE_DRIVERS and self.buildkit >= REWRITES_SINCE

    def machine_for(self, platform: Platform, here: Platform) -> Platform:
        """Return the platform of the machine that builds for a platform. buildx prefers a machine of that platform itself.

        `here` is this machine's platform. It is preferred to other ones, and returned if no machine's is known.
        """
        machines: dict[str, Platform] = {}
        for text in sorted(self.own_platforms):
            with suppress(WrongUseError):
                machine = Platform.parse(text)
                machines[machine.oci] = machine
        wanted = (machines.get(platform.oci), machines.get(here.oci), *machines.values(), here)
        return next(machine for machine in wanted if machine is not None)


def inspect_builder(name: str | None) -> BuilderInfo:
    """Return the builder of that name; for None, the current builder.

    Errors: `NotReadyError` if it does not exist or does not answer.
    """
    argv = ["docker", "buildx", "inspect", "--bootstrap", *([name] if name else [])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)  # the user's docker
    if done.returncode:
        raise NotReadyError(
            f"the builder {name or 'in use'} is unreachable: {_reason(done.stderr)}",
            hint="List the builders with: docker buildx ls.",
        )
    fields = [line.partition(":") for line in done.stdout.splitlines()]
    values = {key.strip(): value.strip() for key, _, value in reversed(fields)}
    platforms = ",".join(value for key, _, value in fields if key.strip() == "Platforms")
    if not platforms and "Error" in values:
        # buildx exits with 0 even if the builder's engine is unreachable.
        raise NotReadyError(
            f"the builder {name or 'in use'} is unreachable: {values['Error']}",
            hint="List the builders with: docker buildx ls.",
        )
    if name and name != "default" and values.get("Driver") == "docker":
        raise NotReadyError(
            f"{name} is a docker context, not a builder",
            hint=f"Create a builder from it: docker buildx create --name {name}-builder {name}.",
        )
    version = re.search(r"v?(\d+)\.(\d+)", values.get("BuildKit version") or values.get("Buildkit") or "")
    return BuilderInfo(
        name=values.get("Name", name or "default"),
        driver=values.get("Driver", ""),
        platforms=tuple(part.strip().rstrip("*") for part in platforms.split(",") if part.strip()),
        status=values.get("Status", ""),
        own_platforms=frozenset(_own_platforms(done.stdout)),
        buildkit=(int(version[1]), int(version[2])) if version else (0, 0),
    )


def _own_platforms(output: str) -> Iterator[str]:
    """Yield the platform of each machine.

    A list begins with the platforms that were set by hand, which have a star and do not occur again. The machine's own one
    comes next, or, if it was set by hand, one that goes with it. If all were set by hand, any may be the machine's own.
    """
    for line in output.splitlines():
        key, _, value = line.partition(":")
        platforms = [part.strip() for part in value.split(",") if part.strip()] if key.strip() == "Platforms" else []
        by_hand = [platform.rstrip("*") for platform in platforms if platform.endswith("*")]
        first = next((platform for platform in platforms if not platform.endswith("*")), "")
        yield from [first] if first else by_hand
        yield from [platform for platform in by_hand if first.startswith(_GOES_WITH.get(platform, platform))]


def _reason(output: str) -> str:
    return last_line(output).removeprefix("ERROR: ").strip()
