"""Merge apk's archive of package scripts, which every `apk add` and every update of the base writes.

`scripts.tar` has a member for each script of each installed package, named after the package, its version and its checksum.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping
from typing import IO, Final, cast

from chainbuild import limits
from chainbuild.errors import LimitError
from chainbuild.rebase.entries import MergeConflictError, merged_entries
from chainbuild.registry.tar import Member, TarError, members
from chainbuild.values import replace

_GZIP: Final = b"\x1f\x8b"
_LEVEL: Final = 6
_Scripts = Mapping[str, tuple[Member, bytes]]


def merge_scripts(old: bytes, new: bytes, mine: bytes) -> bytes:
    """Merge three archives by their members; times are left out. Errors: `MergeConflictError`, also for a damaged archive."""
    try:
        before, after, own = (_scripts(data) for data in (old, new, mine))
    except (TarError, LimitError, OSError, EOFError, zlib.error) as error:
        raise MergeConflictError((f"an archive that cannot be read ({error})",)) from error
    entries = merged_entries(_keys(before), _keys(after), _keys(own))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in entries:
            member, content = own.get(name) or after[name]
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid, info.size = member.mode, member.uid, member.gid, len(content)
            archive.addfile(info, io.BytesIO(content))
    data = stream.getvalue()
    return gzip.compress(data, _LEVEL, mtime=0) if mine.startswith(_GZIP) else data


def _keys(scripts: _Scripts) -> Mapping[str, bytes]:
    return {
        name: f"{member.mode} {member.uid} {member.gid} ".encode() + content
        for name, (member, content) in scripts.items()
    }


def _scripts(data: bytes) -> _Scripts:
    stream = cast(IO[bytes], gzip.GzipFile(fileobj=io.BytesIO(data))) if data.startswith(_GZIP) else io.BytesIO(data)
    size = limits.Budget(limits.PACKAGE_FILE, "an archive of scripts")
    scripts: dict[str, tuple[Member, bytes]] = {}
    with stream:
        for member in members(stream, "an archive of scripts"):
            if member.kind != "file":
                raise TarError(f"{member.name} is not a file")
            size.spend(member.size)
            scripts[member.name] = (replace(member, chunks=lambda: iter(())), b"".join(member.chunks()))
    return scripts
