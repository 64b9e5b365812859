"""The mounts of a RUN: parse them, and say how a container gets each one.

The content of `bind` and `cache` mounts is copied by the builder, which has it; see `image`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, cast

from msgspec import Struct

from chainbuild.builder.build_spec import Pin
from chainbuild.dockerfile import Instruction
from chainbuild.dockerfile.expansion import ExpansionError, expand
from chainbuild.dockerfile.model import ImageWordPosition
from chainbuild.dockerfile.words import mount_fields
from chainbuild.errors import WrongUseError
from chainbuild.patterns import regex

Kind = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
_KINDS: Final = frozenset({"bind", "cache", "tmpfs", "secret", "ssh"})
_SAFE: Final = regex(r"[A-Za-z0-9_./:@+-]*")
SSH_SOCKET: Final = "/run/buildkit/ssh_agent.0"


class RunMount(Struct, frozen=True, kw_only=True):
    """A mount of a RUN. `fields` are those of its flag, expanded; `target` is absolute.

    `name` is the id of a secret or of an ssh agent.
    """

    kind: Kind
    target: str
    fields: Mapping[str, str]
    name: str = ""

    @property
    def is_copied(self) -> bool:
        """True if the builder has its content."""
        return self.kind in {"bind", "cache"}

    @property
    def is_read_only(self) -> bool:
        """True if a RUN cannot write to it."""
        if self.kind == "bind":
            return not (is_true(self.fields.get("rw")) or is_true(self.fields.get("readwrite")))
        return is_true(self.fields.get("ro")) or is_true(self.fields.get("readonly"))

    @property
    def text(self) -> str:
        """How it is shown: the kind and the target."""
        named = f" {self.name}" if self.name else ""
        return f"{self.kind}{named} at {self.target}" if self.target else f"{self.kind}{named}"

    def flag(self, target: str) -> str | None:
        """Return the flag that mounts the same content at another place; None if it cannot be written."""
        fields = {name: value for name, value in self.fields.items() if name not in {"type", "target", "required"}}
        if self.kind == "cache":
            # The id is what names a cache; its default is the target as it is written.
            fields.setdefault("id", posixpath.normpath(self.fields.get("target", "")))
        if not all(_SAFE.fullmatch(value) for value in fields.values()):
            return None
        rest = "".join(f",{name}={value}" if value else f",{name}" for name, value in fields.items())
        return f"--mount=type={self.kind},target={target}{rest}"


def is_true(value: str | None) -> bool:
    """Return whether a boolean field is set; it may have no value."""
    return value is not None and value.lower() not in {"false", "0"}


def run_mounts(
    instruction: Instruction,
    *,
    variables: Mapping[str, str],
    folder: str,
    pins: Sequence[Pin] = (),
    more: Sequence[str] = (),
    escape: str = "\\",
) -> tuple[RunMount, ...]:
    """Return the mounts of an instruction, in order; `more` are flags that its build adds.

    `folder` is the working folder, and `pins` are the images of the Dockerfile. Errors: `WrongUseError` for a mount that a
    builder would reject.
    """
    if instruction.keyword != "RUN":
        return ()
    pinned = {pin.place: pin.reference for pin in pins}
    added = [mount_fields(flag.removeprefix("--mount=")) for flag in more if flag.startswith("--mount=")]
    mounts = [_mount(fields, folder) for fields in added]
    for index, flag in enumerate(instruction.flags):
        if flag.name == "mount" and flag.value:
            fields = dict(_expanded(mount_fields(flag.value), variables, instruction.line, escape))
            if reference := pinned.get(ImageWordPosition(instruction.line, index)):
                fields["from"] = reference
            mounts.append(_mount(fields, folder, instruction.line))
    return tuple(mounts)


def _expanded(
    fields: Mapping[str, str], variables: Mapping[str, str], line: int, escape: str
) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        try:
            yield name, value if name == "from" else expand(value, variables, escape=escape).text
        except ExpansionError as error:
            raise WrongUseError(f"line {line}: {value!r}: {error}", hint="Fix the mount.") from error


def _mount(fields: Mapping[str, str], folder: str, line: int = 0) -> RunMount:
    kind = fields.get("type", "bind").lower()
    if kind not in _KINDS:
        raise WrongUseError(
            f"line {line}: unknown type of mount: {kind!r}", hint=f"Types: {', '.join(sorted(_KINDS))}."
        )
    target, name = fields.get("target", ""), fields.get("id", "")
    if kind == "secret":
        name = fields.get("source") or name or posixpath.basename(target)
        if not target and "env" not in fields:
            target = f"/run/secrets/{posixpath.basename(name)}"
    elif kind == "ssh":
        name = name or "default"
        target = target or SSH_SOCKET
    else:
        name = ""
    if target:
        target = posixpath.normpath(posixpath.join("/", folder, target))
    return RunMount(kind=cast(Kind, kind), target=target, fields=dict(fields), name=name)
