"""Put layers of files on top of an image with registry operations only: no builder, no pull, the same result.

The layer of a `COPY --link` does not depend on the image below: BuildKit builds it on scratch. So if a Dockerfile has only
such lines and configuration, its layers are built once, on scratch, and added to any image. A plain COPY differs: it
follows links and keeps folder modes of the image below.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from chainbuild.dockerfile import Dockerfile, ExpansionError, Instruction, expand
from chainbuild.errors import RegistryError
from chainbuild.references import ImageReference
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.images import RemoteImage, put_image
from chainbuild.registry.oci import canonical
from chainbuild.registry.pool import Registries

FILES: Final = "chainbuild-files"
"""The image input that holds the layers, built on scratch."""
_SHELL: Final = ("/bin/sh", "-c")
_CONFIGURES: Final = frozenset({"ENV", "LABEL", "CMD", "ENTRYPOINT", "EXPOSE", "USER", "STOPSIGNAL", "VOLUME"})


def can_be_joined(dockerfile: Dockerfile) -> bool:
    """Return whether a Dockerfile's single stage has only `COPY --link` to absolute paths, and configuration.

    In doubt it is built: a custom frontend, variables in a COPY, users by name, port ranges, --chmod.
    """
    if len(dockerfile.stages) != 1 or dockerfile.syntax or dockerfile.problems:
        return False
    lines = dockerfile.stages[0].instructions
    # Configuration alone makes no layer, so there is nothing to build on scratch.
    return any(line.keyword == "COPY" for line in lines) and all(_is_composable(line) for line in lines)


def _is_composable(line: Instruction) -> bool:
    if line.keyword == "EXPOSE":
        return all("-" not in word and "$" not in word for word in line.words)
    if line.keyword != "COPY":
        return line.keyword in _CONFIGURES
    link, owner = line.flag("link"), line.flag("chown") or "0"
    return (
        link is not None
        and link.lower() in {"", "true", "1"}
        # BuildKit treats a COPY with both flags as a plain one (seen with BuildKit 0.13 in engine 26.1).
        and line.flag("chmod") is None
        and owner.replace(":", "").isdecimal()
        and line.words[-1].startswith("/")
        and "$" not in line.text
        and not line.heredocs
    )


def join(
    registries: Registries, base: RemoteImage, files: RemoteImage, dockerfile: Dockerfile, destination: ImageReference
) -> RemoteImage:
    """Rompose an image of the base and the layers of `files`, configured by the Dockerfile, and tag it as the destination.

    All three are in one repository. Errors: `RegistryError` if a value cannot be expanded.
    """
    document: dict[str, Any] = json.loads(base.config.raw)
    above: dict[str, Any] = json.loads(files.config.raw)
    rootfs = document.setdefault("rootfs", {"type": "layers"})
    rootfs["diff_ids"] = [str(digest) for digest in (*base.config.diff_ids, *files.config.diff_ids)]
    document["history"] = [*(document.get("history") or []), *(above.get("history") or [])]
    if above.get("created"):
        document["created"] = above["created"]
    config = configured(ImageConfig.parse(canonical(document)), dockerfile)
    return put_image(registries, destination, config, (*base.layers, *files.layers))


def configured(base: ImageConfig, dockerfile: Dockerfile) -> ImageConfig:
    """Return the config after the configuration of the Dockerfile's last stage, as BuildKit would leave it."""
    state = _State.of(base)
    for line in dockerfile.stages[-1].instructions:
        state.take(line, dockerfile.escape)
    return base.with_changes(
        env=tuple(state.env.items()),
        labels=state.labels,
        cmd=state.cmd,
        entrypoint=state.entrypoint,
        user=state.user,
        stop_signal=state.stop_signal,
        exposed_ports=sorted(state.ports),
        volumes=sorted(state.volumes),
    )


class _State(Struct):
    """A config while the lines of a Dockerfile are applied to it."""

    env: dict[str, str]
    labels: dict[str, str]
    cmd: tuple[str, ...] | None
    entrypoint: tuple[str, ...] | None
    user: str
    stop_signal: str
    ports: set[str]
    volumes: set[str]
    shell: tuple[str, ...]
    own_cmd: bool = False

    @classmethod
    def of(cls, config: ImageConfig) -> _State:
        return cls(
            env=dict(config.env),
            labels=dict(config.labels),
            cmd=config.cmd,
            entrypoint=config.entrypoint,
            user=config.user,
            stop_signal=config.stop_signal,
            ports=set(config.exposed_ports),
            volumes=set(config.volumes),
            shell=config.shell or _SHELL,
        )

    def take(self, instruction: Instruction, escape: str) -> None:
        words = _Words(self.env, escape)
        match instruction.keyword:
            case "ENV":
                self.env |= words.pairs(instruction)
            case "LABEL":
                self.labels |= words.pairs(instruction)
            case "CMD":
                self.cmd, self.own_cmd = self._command(instruction), True
            case "ENTRYPOINT":
                self.entrypoint = self._command(instruction)
                # A new ENTRYPOINT resets the CMD.
                self.cmd = self.cmd if self.own_cmd else None
            case "USER":
                self.user = words.expanded(instruction.rest)
            case "STOPSIGNAL":
                self.stop_signal = words.expanded(instruction.rest)
            case "EXPOSE":
                self.ports |= {port if "/" in port else f"{port}/tcp" for port in instruction.words}
            case "VOLUME":
                self.volumes |= set(instruction.words) if instruction.json else words.split(instruction.words)

    def _command(self, instruction: Instruction) -> tuple[str, ...]:
        return instruction.words if instruction.json else (*self.shell, instruction.rest)


class _Words(Struct, frozen=True):
    """Expands words with the variables defined before a line."""

    env: Mapping[str, str]
    escape: str

    def expanded(self, text: str) -> str:
        try:
            return expand(text, dict(self.env), escape=self.escape).text
        except ExpansionError as error:
            raise RegistryError(f"{text!r}: {error}") from error

    def split(self, texts: Iterable[str]) -> set[str]:
        return {self.expanded(text) for text in texts}

    def pairs(self, instruction: Instruction) -> dict[str, str]:
        if instruction.words and "=" not in instruction.words[0]:
            name = instruction.words[0]
            return {self.expanded(name): self.expanded(instruction.rest[len(name) :].lstrip())}
        divided = [word.partition("=") for word in instruction.words]
        return {self.expanded(name): self.expanded(value) for name, _, value in divided}
