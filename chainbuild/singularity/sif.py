"""Read and set the architecture in the header of a SIF file (SIF specification 1.0: global header and descriptors).

Apptainer derives it from the image's /bin/sh, or uses the machine's own if there is none. The image's config is reliable.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, Final

from chainbuild.errors import ChainbuildError
from chainbuild.references import Platform

# Launch script, magic, version, architecture, id; created, modified; descriptors: free, all, offset, bytes; data.
_HEADER: Final = struct.Struct("<32s10s3s3s16s2q2q2q2q")
_ARCHITECTURE_AT: Final = 32 + 10 + 3
# Type, used, id, group, link; offset, size, padded size, created, modified, user, group; name; data of the type.
_DESCRIPTOR: Final = struct.Struct("<i?3I7q128s384s")
_EXTRA_AT: Final = _DESCRIPTOR.size - 384
_PARTITION: Final = 0x4004
_MAGIC: Final = b"SIF_MAGIC\0"
_MOST_DESCRIPTORS: Final = 10_000

_CODES: Final = {
    "386": b"01\0",
    "amd64": b"02\0",
    "arm": b"03\0",
    "arm64": b"04\0",
    "ppc64le": b"06\0",
    "mips64le": b"10\0",
    "s390x": b"11\0",
    "riscv64": b"12\0",
}
_NAMES: Final = {code: name for name, code in _CODES.items()}


def architecture(path: Path) -> str:
    """Return the architecture (OCI's name) of a SIF file; empty if the code is unknown.

    Errors: `ChainbuildError` if it is not a SIF file.
    """
    with path.open("rb") as file:
        return _NAMES.get(_read(file, path)[3], "")


def set_architecture(path: Path, platform: Platform) -> bool:
    """Set the platform in the header and the partitions of a SIF file; return whether it was different.

    Does nothing for a platform that SIF has no code for. Errors: `ChainbuildError` if it is not a SIF file.
    """
    code = _CODES.get(platform.architecture)
    with path.open("r+b") as file:
        header = _read(file, path)
        if code is None or header[3] == code:
            return False
        _, count, offset, _ = header[7:11]
        for number in range(min(count, _MOST_DESCRIPTORS)):
            place = offset + number * _DESCRIPTOR.size
            file.seek(place)
            raw = file.read(_DESCRIPTOR.size)
            if len(raw) < _DESCRIPTOR.size:
                raise _broken(path)
            kind, used = struct.unpack_from("<i?", raw)
            if used and kind == _PARTITION:
                # The data of a partition: file system type, partition type, architecture.
                file.seek(place + _EXTRA_AT + 8)
                file.write(code)
        file.seek(_ARCHITECTURE_AT)
        file.write(code)
    return True


def _read(file: BinaryIO, path: Path) -> tuple[Any, ...]:
    raw = file.read(_HEADER.size)
    if len(raw) < _HEADER.size or raw[32:42] != _MAGIC:
        raise _broken(path)
    return _HEADER.unpack(raw)


def _broken(path: Path) -> ChainbuildError:
    return ChainbuildError("not a SIF file", where=str(path), hint="Make it again with --refresh.")
