"""Publish by SFTP with the system's sftp (OpenSSH): its keys, known hosts and configuration. It never prompts."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chainbuild.errors import LoginNeededError, NotReadyError, RegistryError, UnreachableError
from chainbuild.patterns import regex
from chainbuild.singularity.collection import CHECKSUM, FACTS, Sif, checksum_of
from chainbuild.singularity.names import SUFFIX
from chainbuild.singularity.places.address import Address
from chainbuild.singularity.places.destination import Told

_NO_CONNECTION: Final = 255
_SPECIAL: Final = regex(r'([\\"])')
_CONNECT_SECONDS: Final = 20


def quoted(path: str) -> str:
    r"""Quote a path for sftp's commands: in double quotes, only `"` and `\` are special, and patterns are not expanded."""
    return '"' + _SPECIAL.sub(r"\\\1", path) + '"'


class SftpPlace:
    """A folder on a machine that is reached by SSH. Each operation is one connection."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._program = shutil.which("sftp") or ""
        if not self._program:
            raise NotReadyError("no sftp command found", hint="Run: apt-get install --yes openssh-client")

    def argv(self) -> tuple[str, ...]:
        """Return the command line; the commands are sent to its stdin."""
        address = self._address
        options = ("-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_SECONDS}")
        port = ("-P", str(address.port)) if address.port else ()
        return (
            self._program,
            "-b",
            "-",
            *options,
            *port,
            f"{address.user}@{address.host}" if address.user else address.host,
        )

    def checksums(self, sifs: Sequence[Sif]) -> Mapping[str, str]:
        with tempfile.TemporaryDirectory(prefix="chainbuild-sftp-") as folder:
            # A line that begins with - may fail: the file may be missing.
            lines = [f"-get {quoted(self._path(sif.file + CHECKSUM))} {quoted(f'{folder}/{sif.file}')}" for sif in sifs]
            # A checksum alone does not count.
            existing = set(self._listed(lines))
            results: dict[str, str] = {}
            for sif in sifs:
                path = Path(folder, sif.file)
                checksum = checksum_of(path) if path.is_file() else ""
                if checksum and sif.file in existing:
                    results[sif.file] = checksum
            return results

    def files(self) -> tuple[str, ...] | None:
        return self._listed([])

    def put(self, sif: Sif, path: Path, told: Told) -> None:
        told(0, sif.size)
        with tempfile.TemporaryDirectory(prefix="chainbuild-sftp-") as folder:
            contents = {"": path}
            for suffix, content in ((FACTS, sif.facts), (CHECKSUM, sif.checksum)):
                contents[suffix] = Path(folder, f"file{suffix}")
                contents[suffix].write_bytes(content)
            lines = self._folders()
            lines += [
                f"put {quoted(str(source))} {quoted(self._aside(sif, suffix))}" for suffix, source in contents.items()
            ]
            # Remove the old checksum first: it must not describe the new file.
            lines.append(f"-rm {quoted(self._path(sif.file + CHECKSUM))}")
            moves = [(self._aside(sif, suffix), self._path(sif.file + suffix)) for suffix in contents]
            self._must([*lines, *(f"rename {quoted(aside)} {quoted(target)}" for aside, target in moves)], sif, moves)
        told(sif.size, sif.size)

    def close(self) -> None:
        """Nothing to close."""

    # ---- phases -----------------------------------------------------------------------------------------------------

    def _must(self, lines: Sequence[str], sif: Sif, moves: Sequence[tuple[str, str]]) -> None:
        done = self._run(lines)
        if done.returncode and "rename" in done.stderr:
            # Servers other than OpenSSH may refuse to rename onto an existing file.
            again = [
                line
                for aside, target in moves
                for line in (
                    f"-rm {quoted(target)}",
                    f"rename {quoted(aside)} {quoted(target)}",
                )
            ]
            done = self._run(again)
        if done.returncode:
            self._run([f"-rm {quoted(aside)}" for aside, _ in moves])
            raise RegistryError(
                f"cannot upload {sif.file}: {_last(done.stderr)}",
                where=f"sftp://{self._address.netloc}{self._path('')}",
                hint="Check that the folder exists and is writable, and that there is enough space.",
            )

    def _listed(self, before: Sequence[str]) -> tuple[str, ...]:
        done = self._run([*before, f"-ls -1 {quoted(self._path(''))}"])
        names = (line.strip().rpartition("/")[2] for line in done.stdout.splitlines() if not line.startswith("sftp> "))
        return tuple(sorted(name for name in names if name.endswith(SUFFIX) and not name.startswith(".")))

    def _run(self, lines: Sequence[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(),
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode == _NO_CONNECTION or (done.returncode and "Connection closed" in done.stderr):
            raise self._unreachable(done.stderr)
        return done

    def _unreachable(self, output: str) -> RegistryError:
        who = self._address.host
        if "Permission denied" in output:
            return LoginNeededError(
                f"{who} rejected the login: {_last(output)}",
                hint="Only keys are used, never a password. Run ssh-copy-id, or ssh-add for a key with a passphrase.",
            )
        if "Host key verification failed" in output:
            return LoginNeededError(f"{who} is not a known host", hint=f"Connect once by hand: sftp {who}")
        return UnreachableError(f"sftp to {who}: {_last(output)}", hint="Check the host name and the network.")

    def _path(self, name: str) -> str:
        folder = self._address.path
        if not name:
            return folder
        return f"{folder.rstrip('/')}/{name}"

    def _aside(self, sif: Sif, suffix: str) -> str:
        return self._path(f".{sif.file}{suffix}.{os.getpid()}.part")

    def _folders(self) -> list[str]:
        """Return the commands that create the folder and its parents. Each may fail, since most exist."""
        parts = [part for part in self._address.path.split("/") if part]
        top = "/" if self._address.path.startswith("/") else ""
        return [f"-mkdir {quoted(top + '/'.join(parts[: number + 1]))}" for number in range(len(parts))]


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Warning:")]
    reasons = [line for line in lines if line not in {"Connection closed", "Connection closed."}]
    return (reasons or lines or ["no response"])[-1]
