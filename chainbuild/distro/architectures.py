"""Debian's names of architectures, and whether this machine runs their programs: natively, emulated, or not at all."""

from __future__ import annotations

import subprocess
from typing import Final

from chainbuild.errors import NotReadyError
from chainbuild.references import Platform

_DEBIAN_NAMES: Final = {
    ("arm", "v7"): "armhf",
    ("arm", "v6"): "armel",
    ("386", ""): "i386",
    ("ppc64le", ""): "ppc64el",
    ("mips64le", ""): "mips64el",
}


def need_platform(platform: Platform) -> None:
    """Check that programs of the platform run here (with Debian's arch-test). Errors: `NotReadyError` if not."""
    name = debian_architecture(platform)
    if subprocess.run(["arch-test", name], capture_output=True, check=False).returncode != 0:
        raise NotReadyError(
            f"this machine cannot run programs for {platform}: emulation is not set up",
            hint="Run: apt-get install --yes qemu-user-static binfmt-support. If the kernel has no binfmt_misc mount yet, "
            "also run: mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; update-binfmts --enable",
        )


def is_emulated(platform: Platform) -> bool:
    """Return whether the machine's processor cannot run programs of the platform by itself."""
    argv = ["arch-test", "-n", debian_architecture(platform)]
    return subprocess.run(argv, capture_output=True, check=False).returncode != 0


def debian_architecture(platform: Platform) -> str:
    """Return Debian's name for a platform's architecture (dpkg --print-architecture)."""
    return _DEBIAN_NAMES.get((platform.architecture, platform.variant), platform.architecture)
