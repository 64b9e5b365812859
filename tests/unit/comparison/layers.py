"""Images of a few files, made as layers in memory."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from typing import Any

from chainbuild.references import Platform
from chainbuild.registry.images import RemoteImage
from tests.support.fake_registry import FakeRegistry

Content = bytes | str | None | tuple[int, bytes]
"""A file's bytes (and its mode), a symbolic link's target, or None: a folder. A hard link is `=/target`."""


def layer(files: Mapping[str, Content]) -> bytes:
    """A compressed layer. The same files give the same bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, said in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.mode, content = said if isinstance(said, tuple) else (0o644, said)
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
            elif isinstance(content, str):
                member.type = tarfile.LNKTYPE if content.startswith("=") else tarfile.SYMTYPE
                member.linkname = content.removeprefix("=/")
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)


def add(
    fake: FakeRegistry, name: str, *layers: Mapping[str, Content], platform: Platform | str = "amd64", **changes: Any
) -> RemoteImage:
    """An image of these layers under a name."""
    return fake.add_image(name, platform, layers=[layer(one) for one in layers], **changes)


def dpkg(**versions: str) -> bytes:
    """dpkg's status file of these packages."""
    return "\n".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"
        for name, version in versions.items()
    ).encode()


def status_d(name: str, version: str, *files: str) -> dict[str, Content]:
    """The record of a package as distroless images, and those that are minimized, have it."""
    return {
        f"/var/lib/dpkg/status.d/{name}": f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n".encode(),
        f"/var/lib/dpkg/status.d/{name}.md5sums": "".join(f"0  {file[1:]}\n" for file in files).encode(),
    }


def distribution(name: str, version: str, home: str = "/usr/lib/python3/dist-packages") -> dict[str, Content]:
    """The record of a Python distribution."""
    return {f"{home}/{name}-{version}.dist-info/METADATA": f"Name: {name}\nVersion: {version}\n".encode()}
