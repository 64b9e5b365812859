"""A folder of SIF files, each with a checksum file (for sha256sum) and a file that says what it was made from.

A SIF file counts only if it has both. They are written after it, the checksum last.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from chainbuild import limits
from chainbuild.errors import NotReadyError, WrongUseError
from chainbuild.host.folders import write_whole
from chainbuild.patterns import regex
from chainbuild.references import Digest
from chainbuild.singularity.names import SUFFIX, SifName
from chainbuild.values import convert

SCHEMA: Final = "chainbuild.sif/1"
CHECKSUM: Final = ".sha256"
FACTS: Final = ".json"
_LINE: Final = regex(r"([0-9a-f]{64})(?:[ \t][ *]?(.*))?")


class Sif(Struct, frozen=True, kw_only=True):
    """A SIF file. `image` is the image that it was made from, `digest` the digest of that image's manifest."""

    name: SifName
    image: str
    digest: Digest
    platform: str
    size: int
    sha256: str
    tool: str
    """The program that made it, such as `apptainer 1.4.5`."""

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.name.file

    @property
    def checksum(self) -> bytes:
        """The content of the checksum file, for `sha256sum --check`."""
        return f"{self.sha256}  {self.file}\n".encode()

    @property
    def facts(self) -> bytes:
        """The content of the file that says what it was made from."""
        document = {
            "schema": SCHEMA,
            "file": self.file,
            **asdict(self.name),
            **asdict(self),
            "digest": str(self.digest),
        }
        del document["name"]
        return (json.dumps(document, indent=2) + "\n").encode()


def read_checksum(text: str) -> str:
    """Return the sha256 in the first line of a checksum file; empty if it has none."""
    result = _LINE.fullmatch(text.partition("\n")[0].strip().lower())
    return result[1] if result else ""


def checksum_of(path: Path) -> str:
    """Return the sha256 in a checksum file; empty if it has none. Errors: `OSError`."""
    return read_checksum(limits.read_head(path, limits.SIDECAR).decode("utf-8", "replace"))


def parse_facts(raw: bytes) -> Sif | None:
    """Parse the file that says what a SIF was made from; return None if it is invalid."""
    try:
        document: dict[str, Any] = json.loads(raw)
        if document["schema"] != SCHEMA:
            return None
        name = {key: document.pop(key) for key in ("repository", "tag")}
        return convert({**document, "name": name, "digest": Digest(document["digest"])}, Sif)
    except (ValueError, KeyError, TypeError, RecursionError, WrongUseError):
        return None


class Collection:
    """The SIF files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: SifName) -> Path:
        """Return the path of a SIF file, which may not exist."""
        return self.folder / name.file

    def find(self, name: SifName) -> Sif | None:
        """Return a complete SIF file, by the files next to it; None if it is missing or incomplete."""
        return self._read(self.path(name))

    def all(self) -> tuple[Sif, ...]:
        """Return every complete SIF file, sorted by name."""
        return tuple(result for path in sorted(self.folder.glob(f"*{SUFFIX}")) if (result := self._read(path)))

    def put(self, made: Path, sif: Sif) -> None:
        """Move a new file into the folder, from the same disk. Errors: `NotReadyError` if it cannot be written."""
        path = self.path(sif.name)
        try:
            _beside(path, CHECKSUM).unlink(missing_ok=True)
            made.replace(path)
            write_whole(_beside(path, FACTS), sif.facts)
            write_whole(_beside(path, CHECKSUM), sif.checksum)
        except OSError as error:
            raise NotReadyError(
                f"cannot be written: {error.strerror}",
                where=str(path),
                hint="Choose another folder with --folder.",
            ) from error

    def _read(self, path: Path) -> Sif | None:
        try:
            sif = parse_facts(limits.read_head(_beside(path, FACTS), limits.SIDECAR))
            checksum = checksum_of(_beside(path, CHECKSUM))
            size = path.stat().st_size
        except OSError:
            return None
        whole = sif is not None and sif.file == path.name and sif.size == size and sif.sha256 == checksum
        return sif if whole else None


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
