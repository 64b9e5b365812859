"""Create images of a few files as layers in memory."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from typing import Any

from chainbuild.references import Platform
from chainbuild.registry.images import RemoteImage
from tests.support.fake_registry import FakeRegistry

Content = bytes | str | None | tuple[int, bytes] | tuple[int, bytes, bytes]
"""The bytes of a file (with its mode, and its `security.capability`), the target of a symbolic link, `=/target` of a hard link,
or None for a folder."""


def layer(files: Mapping[str, Content]) -> bytes:
    """Return a compressed layer. The same files give the same bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, said in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.mode, content, *capability = said if isinstance(said, tuple) else (0o644, said)
            for value in capability:
                member.pax_headers = {"SCHILY.xattr.security.capability": value.decode("utf-8", "surrogateescape")}
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
    """Add an image of these layers to the registry."""
    return fake.add_image(name, platform, layers=[layer(one) for one in layers], **changes)


def dpkg(**versions: str) -> bytes:
    """Return the status file of dpkg for these packages."""
    return "\n".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"
        for name, version in versions.items()
    ).encode()


def status_d(name: str, version: str, *files: str) -> dict[str, Content]:
    """Return the record of a package in distroless and minimized images."""
    return {
        f"/var/lib/dpkg/status.d/{name}": f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n".encode(),
        f"/var/lib/dpkg/status.d/{name}.md5sums": "".join(f"0  {file[1:]}\n" for file in files).encode(),
    }


def distribution(name: str, version: str, home: str = "/usr/lib/python3/dist-packages") -> dict[str, Content]:
    """Return the record of a Python distribution."""
    return {f"{home}/{name}-{version}.dist-info/METADATA": f"Name: {name}\nVersion: {version}\n".encode()}
