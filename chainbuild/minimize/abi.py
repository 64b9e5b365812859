"""Describe the application binary interfaces that the package knows: their loaders, and where these search.

Loader paths and library directories are those of the psABI supplements and of Debian's multiarch specification; cache
flags are those of glibc's `sysdeps/generic/ldconfig.h`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chainbuild.minimize.elf import (
    EM_386,
    EM_AARCH64,
    EM_ARM,
    EM_LOONGARCH,
    EM_PPC64,
    EM_RISCV,
    EM_S390,
    EM_X86_64,
    Elf,
)

_EF_ARM_SOFT, _EF_ARM_HARD = 0x200, 0x400


@dataclass(frozen=True, kw_only=True, slots=True)
class Abi:
    """A kind of machine code and calling convention.

    `loaders` are the paths of glibc's loader, `musl` is musl's name of the architecture, `platform` is the value of
    `$PLATFORM`, `cache_flags` are the flags of its libraries in `ld.so.cache`.
    """

    name: str
    bits: int
    little: bool
    machine: int
    loaders: tuple[str, ...] = ()
    musl: str = ""
    triplet: str = ""
    platform: str = ""
    cache_flags: int = 0

    @property
    def musl_loader(self) -> str:
        """Return the path of musl's loader."""
        return f"/lib/ld-musl-{self.musl}.so.1"


_ABIS = (
    Abi(
        name="amd64",
        bits=64,
        little=True,
        machine=EM_X86_64,
        loaders=("/lib64/ld-linux-x86-64.so.2",),
        musl="x86_64",
        triplet="x86_64-linux-gnu",
        platform="x86_64",
        cache_flags=0x0303,
    ),
    Abi(
        name="x32",
        bits=32,
        little=True,
        machine=EM_X86_64,
        loaders=("/libx32/ld-linux-x32.so.2",),
        musl="x32",
        triplet="x86_64-linux-gnux32",
        platform="x86_64",
        cache_flags=0x0803,
    ),
    Abi(
        name="i386",
        bits=32,
        little=True,
        machine=EM_386,
        loaders=("/lib/ld-linux.so.2",),
        musl="i386",
        triplet="i386-linux-gnu",
        platform="i686",
        cache_flags=0x0003,
    ),
    Abi(
        name="arm64",
        bits=64,
        little=True,
        machine=EM_AARCH64,
        loaders=("/lib/ld-linux-aarch64.so.1",),
        musl="aarch64",
        triplet="aarch64-linux-gnu",
        platform="aarch64",
        cache_flags=0x0A03,
    ),
    Abi(
        name="armhf",
        bits=32,
        little=True,
        machine=EM_ARM,
        loaders=("/lib/ld-linux-armhf.so.3",),
        musl="armhf",
        triplet="arm-linux-gnueabihf",
        platform="v7l",
        cache_flags=0x0903,
    ),
    Abi(
        name="armel",
        bits=32,
        little=True,
        machine=EM_ARM,
        loaders=("/lib/ld-linux.so.3",),
        musl="arm",
        triplet="arm-linux-gnueabi",
        platform="v5l",
        cache_flags=0x0B03,
    ),
    Abi(
        name="riscv64",
        bits=64,
        little=True,
        machine=EM_RISCV,
        loaders=("/lib/ld-linux-riscv64-lp64d.so.1",),
        musl="riscv64",
        triplet="riscv64-linux-gnu",
        cache_flags=0x1003,
    ),
    Abi(
        name="ppc64el",
        bits=64,
        little=True,
        machine=EM_PPC64,
        loaders=("/lib64/ld64.so.2",),
        musl="powerpc64le",
        triplet="powerpc64le-linux-gnu",
        platform="power8",
        cache_flags=0x0503,
    ),
    Abi(
        name="s390x",
        bits=64,
        little=False,
        machine=EM_S390,
        loaders=("/lib/ld64.so.1",),
        musl="s390x",
        triplet="s390x-linux-gnu",
        platform="z900",
        cache_flags=0x0403,
    ),
    Abi(
        name="loong64",
        bits=64,
        little=True,
        machine=EM_LOONGARCH,
        musl="loongarch64",
        loaders=("/lib64/ld-linux-loongarch-lp64d.so.1",),
        triplet="loongarch64-linux-gnu",
        cache_flags=0x1203,
    ),
)

_BY_KEY = {(abi.bits, abi.little, abi.machine): abi for abi in _ABIS}
_BY_NAME = {abi.name: abi for abi in _ABIS}

C_LIBRARY = re.compile(
    r"(?:ld-linux[\w.-]*|ld64|ld|ld-musl-[\w-]+)\.so(?:\.\d+)?"
    r"|lib(?:c|m|mvec|pthread|dl|rt|resolv|util|anl|BrokenLocale|thread_db|c_malloc_debug)(?:\.so\.\d+|-2\.\d+\.so)"
    r"|libnsl\.so\.1|libnss_\w+\.so\.2|libc\.musl-[\w-]+\.so\.1|ld-2\.\d+\.so"
)
"""Names of the files that are part of the dynamic loader's own release and must all come from the same image."""


def abi_of(elf: Elf) -> Abi:
    """Return the interface that `elf` was built for; one without loaders if the package does not know it."""
    if elf.machine == EM_ARM and elf.bits == 32 and elf.little:
        soft = elf.flags & _EF_ARM_SOFT or (elf.interpreter or "").endswith("/ld-linux.so.3")
        return _BY_NAME["armel" if soft else "armhf"]
    candidates = _BY_KEY.get((elf.bits, elf.little, elf.machine))
    if candidates is not None:
        return candidates
    order = "little" if elf.little else "big"
    return Abi(name=f"machine-{elf.machine}-{elf.bits}-{order}", bits=elf.bits, little=elf.little, machine=elf.machine)


def loadable(elf: Elf, abi: Abi) -> bool:
    """Return whether a process of `abi` can load `elf`, by class, byte order and machine.

    On 32-bit ARM a file with an explicit float convention matches only its own kind; a file without one matches both.
    """
    if (elf.bits, elf.little, elf.machine) != (abi.bits, abi.little, abi.machine):
        return False
    if abi.name == "armhf":
        return not elf.flags & _EF_ARM_SOFT
    return abi.name != "armel" or not elf.flags & _EF_ARM_HARD


def is_c_library(name: str) -> bool:
    """Return whether a library name belongs to the C library and its loader (`libcrypt` and `libgcc_s` do not)."""
    return C_LIBRARY.fullmatch(name.rpartition("/")[2]) is not None
