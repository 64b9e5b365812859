"""The buildx builders of this machine, as they are."""

from __future__ import annotations

import re
import subprocess
from typing import Final

from msgspec import Struct

from chainbuild.errors import NotReadyError

REPRODUCIBLE_DRIVERS: Final = frozenset({"docker-container", "kubernetes", "remote"})
"""Drivers that take `rewrite-timestamp`; the engine's own builder refuses it ("conflicts with unpack")."""
REWRITES_SINCE: Final = (0, 13)
"""The first BuildKit with `rewrite-timestamp`."""


class BuilderInfo(Struct, frozen=True, kw_only=True):
    """A buildx builder as it is: its driver, the platforms that it runs, and the buildx that speaks to it."""

    name: str
    driver: str
    platforms: tuple[str, ...]
    status: str
    buildkit: tuple[int, int] = (0, 0)

    @property
    def rewrites_times(self) -> bool:
        """Return whether it can make layers whose files have no times of their own, so that the same content is the same layer."""
        return self.driver in REPRODUCIBLE_DRIVERS and self.buildkit >= REWRITES_SINCE


def inspect_builder(name: str | None) -> BuilderInfo:
    """Return the builder of that name; None: the one that Docker has in use.

    Errors: `NotReadyError` if it does not exist or does not answer.
    """
    argv = ["docker", "buildx", "inspect", "--bootstrap", *([name] if name else [])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)  # the user's docker
    if done.returncode:
        raise NotReadyError(
            f"the builder {name or 'in use'} does not answer: {_last_line(done.stderr)}",
            hint="See what is there with: docker buildx ls.",
        )
    fields = [line.partition(":") for line in done.stdout.splitlines()]
    values = {key.strip(): value.strip() for key, _, value in reversed(fields)}
    platforms = ",".join(value for key, _, value in fields if key.strip() == "Platforms")
    if not platforms and "Error" in values:
        # buildx ends well even where the builder's engine does not answer.
        raise NotReadyError(
            f"the builder {name or 'in use'} does not answer: {values['Error']}",
            hint="See what is there with: docker buildx ls.",
        )
    if name and name != "default" and values.get("Driver") == "docker":
        raise NotReadyError(
            f"{name} is a docker context, not a builder that can be chosen beside others",
            hint=f"Make a builder of it: docker buildx create --name {name}-builder {name}.",
        )
    version = re.search(r"v?(\d+)\.(\d+)", values.get("BuildKit version") or values.get("Buildkit") or "")
    return BuilderInfo(
        name=values.get("Name", name or "default"),
        driver=values.get("Driver", ""),
        platforms=tuple(part.strip().rstrip("*") for part in platforms.split(",") if part.strip()),
        status=values.get("Status", ""),
        buildkit=(int(version[1]), int(version[2])) if version else (0, 0),
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ").strip() if lines else "no answer"
