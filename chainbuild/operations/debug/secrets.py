"""The values of secrets: from the sources that the run had, else asked for. They are stored in memory only.

A container gets a secret as a file of the same name and mode as a RUN does, from a folder that is not on a disk.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chainbuild.errors import WrongUseError
from chainbuild.host.folders import scratch_folder
from chainbuild.model import Secret
from chainbuild.operations.debug.mounts import RunMount, is_true
from chainbuild.patterns import regex
from chainbuild.text import escaped

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system in memory
_LARGEST: Final = 1 << 20
"""Bytes: what BuildKit accepts."""
_NUMBERS: Final = {10: regex(r"[0-9]{1,10}"), 8: regex(r"[0-7]{1,10}")}
"""Numbers by their base."""
_MOST: Final = (1 << 32) - 2
"""The largest id of a user. The next one means none."""

Ask = Callable[[str], str]
"""Asks the user for the value of the secret with an id, which is safe to show."""


@contextmanager
def secret_folder() -> Iterator[Path]:
    """Provide an empty private folder for the values of secrets; in memory if the machine has such a file system."""
    with scratch_folder(_MEMORY if os.access(_MEMORY, os.W_OK) and sys.platform == "linux" else None) as folder:
        yield folder


def secret_values(
    mounts: Iterable[RunMount], secrets: Iterable[Secret], environ: Mapping[str, str], ask: Ask | None
) -> Mapping[str, bytes]:
    """Return the values of the secrets that mounts need, by id; a value without a source is asked for.

    A secret that is not required and has no source is left out. Errors: `WrongUseError` if there is nobody to ask.
    """
    sources = {secret.id: secret for secret in secrets}
    values: dict[str, bytes] = {}
    for mount in mounts:
        if mount.kind != "secret" or mount.name in values:
            continue
        secret = sources.get(mount.name)
        value = _value(secret, environ) if secret is not None else None
        if value is None and secret is None and not is_true(mount.fields.get("required")):
            continue
        if value is None:
            if ask is None:
                raise WrongUseError(
                    f"secret {mount.name}: its source no longer exists"
                    if secret
                    else f"secret {mount.name}: no source",
                    hint=f"Give it again: --secret id={mount.name},src=FILE (or env=VARIABLE).",
                )
            value = os.fsencode(ask(escaped(mount.name)))
        values[mount.name] = value
    return values


def _value(secret: Secret, environ: Mapping[str, str]) -> bytes | None:
    """Return the value of a secret as buildx reads it; None if its source does not exist."""
    fields = dict(part.partition("=")[::2] for part in secret.spec.split(","))
    source = fields.get("src") or fields.get("source")
    name = fields.get("env") or ("" if source else secret.id)
    if fields.get("type") == "env" and source:
        name, source = source, None
    if source is None and name in environ:
        return os.fsencode(environ[name])
    try:
        with Path(source or name).open("rb") as file:
            return file.read(_LARGEST)
    except OSError:
        return None


def mounted_file(folder: Path, number: int, mount: RunMount, value: bytes) -> Path:
    """Write the value of a secret as the file that is mounted, with the mount's owner and mode as far as permitted."""
    path = folder / f"mount-{number}"
    path.touch(mode=0o600)
    path.write_bytes(value)
    fields = mount.fields
    if os.geteuid() == 0:
        os.chown(path, _number(fields.get("uid"), 10, 0), _number(fields.get("gid"), 10, 0))
    path.chmod(_number(fields.get("mode"), 8, 0o400) & 0o777)
    return path


def _number(text: str | None, base: int, default: int) -> int:
    """Return a number of a mount, or the default if BuildKit would not accept it: nobody has checked the instruction yet."""
    number = int(text, base) if text and _NUMBERS[base].fullmatch(text) else default
    return number if number <= _MOST else default


def with_sources(secrets: Iterable[Secret], environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Return the secrets whose sources still exist: buildx accepts no others, and cached instructions need none."""
    return tuple(secret for secret in secrets if _value(secret, environ) is not None)
