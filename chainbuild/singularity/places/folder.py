"""Publish to a folder on this machine or mounted on it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from chainbuild.errors import NotReadyError
from chainbuild.host.folders import write_whole
from chainbuild.singularity.collection import CHECKSUM, FACTS, Sif, checksum_of
from chainbuild.singularity.names import SUFFIX
from chainbuild.singularity.places.destination import Told, sent_chunks


class FolderPlace:
    """A folder of files. Readers see the old file or the new file, never a part."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def checksums(self, sifs: Sequence[Sif]) -> Mapping[str, str]:
        results: dict[str, str] = {}
        for sif in sifs:
            try:
                checksum = checksum_of(self._folder / f"{sif.file}{CHECKSUM}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._refused(error) from error
            # A checksum alone does not count: the file may have been removed.
            if (self._folder / sif.file).is_file() and checksum:
                results[sif.file] = checksum
        return results

    def files(self) -> tuple[str, ...] | None:
        return tuple(sorted(path.name for path in self._folder.glob(f"*{SUFFIX}")))

    def put(self, sif: Sif, path: Path, told: Told) -> None:
        target = self._folder / sif.file
        aside = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.writelines(sent_chunks(sif, path, told))
                file.flush()
                os.fsync(file.fileno())
            aside.chmod(path.stat().st_mode & 0o777)
            # Remove the old checksum first: it must not describe the new file.
            target.with_name(target.name + CHECKSUM).unlink(missing_ok=True)
            aside.replace(target)
            write_whole(target.with_name(target.name + FACTS), sif.facts)
            write_whole(target.with_name(target.name + CHECKSUM), sif.checksum)
        except OSError as error:
            raise self._refused(error) from error
        finally:
            aside.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing to close."""

    def _refused(self, error: OSError) -> NotReadyError:
        return NotReadyError(
            f"cannot use the folder: {error.strerror or error}",
            where=str(self._folder),
            hint="Check that it is mounted and writable, and has enough space.",
        )
