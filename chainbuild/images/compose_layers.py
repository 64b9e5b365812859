"""Layers of files put on top of an image by the registry's own operations: no builder, no pull, the same result.

What `COPY --link` makes does not depend on what it is put on: BuildKit makes it on nothing, and puts it there. So where a
Dockerfile has nothing but such lines and configuration, its layers are made once, on nothing, and joined to any image.
A plain COPY is another thing: it follows the links and keeps the folders' modes of the image that it is put on.
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
"""The image input that holds the layers, made on nothing."""
_SHELL: Final = ("/bin/sh", "-c")
_CONFIGURES: Final = frozenset({"ENV", "LABEL", "CMD", "ENTRYPOINT", "EXPOSE", "USER", "STOPSIGNAL", "VOLUME"})


def can_be_joined(dockerfile: Dockerfile) -> bool:
    """Return whether the one stage of a Dockerfile has nothing but `COPY --link` to absolute paths, and configuration.

    In doubt it is built: a frontend of its own, variables in a COPY, users by name, ports as ranges, --chmod.
    """
    if len(dockerfile.stages) != 1 or dockerfile.syntax or dockerfile.problems:
        return False
    lines = dockerfile.stages[0].instructions
    # Nothing but configuration makes no layer: a builder has nothing to make on nothing.
    return any(found.keyword == "COPY" for found in lines) and all(_is_joinable(found) for found in lines)


def _is_joinable(found: Instruction) -> bool:
    if found.keyword == "EXPOSE":
        return all("-" not in word and "$" not in word for word in found.words)
    if found.keyword != "COPY":
        return found.keyword in _CONFIGURES
    link, owner = found.flag("link"), found.flag("chown") or "0"
    return (
        link is not None
        and link.lower() in {"", "true", "1"}
        # BuildKit takes a COPY with both flags for a plain one (seen with BuildKit 0.13 in engine 26.1).
        and found.flag("chmod") is None
        and owner.replace(":", "").isdecimal()
        and found.words[-1].startswith("/")
        and "$" not in found.text
        and not found.heredocs
    )


def join(
    registries: Registries, base: RemoteImage, files: RemoteImage, dockerfile: Dockerfile, destination: ImageReference
) -> RemoteImage:
    """Return the base with the layers of `files` on top, configured as the Dockerfile says; under the destination's tag.

    All three are in one repository. Errors: `RegistryError` if a value cannot be expanded.
    """
    document: dict[str, Any] = json.loads(base.config.raw)
    above: dict[str, Any] = json.loads(files.config.raw)
    rootfs = document.setdefault("rootfs", {"type": "layers"})
    rootfs["diff_ids"] = [str(one) for one in (*base.config.diff_ids, *files.config.diff_ids)]
    document["history"] = [*(document.get("history") or []), *(above.get("history") or [])]
    if above.get("created"):
        document["created"] = above["created"]
    config = configured(ImageConfig.parse(canonical(document)), dockerfile)
    return put_image(registries, destination, config, (*base.layers, *files.layers))


def configured(base: ImageConfig, dockerfile: Dockerfile) -> ImageConfig:
    """Return the config after the configuration of the Dockerfile's last stage, as BuildKit would leave it."""
    state = _State.of(base)
    for found in dockerfile.stages[-1].instructions:
        state.take(found, dockerfile.escape)
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
    """A config while a Dockerfile is gone through."""

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

    def take(self, found: Instruction, escape: str) -> None:
        words = _Words(self.env, escape)
        match found.keyword:
            case "ENV":
                self.env |= words.pairs(found)
            case "LABEL":
                self.labels |= words.pairs(found)
            case "CMD":
                self.cmd, self.own_cmd = self._command(found), True
            case "ENTRYPOINT":
                self.entrypoint = self._command(found)
                # A CMD belongs to the ENTRYPOINT that it was written for.
                self.cmd = self.cmd if self.own_cmd else None
            case "USER":
                self.user = words.expanded(found.rest)
            case "STOPSIGNAL":
                self.stop_signal = words.expanded(found.rest)
            case "EXPOSE":
                self.ports |= {port if "/" in port else f"{port}/tcp" for port in found.words}
            case "VOLUME":
                self.volumes |= set(found.words) if found.json else words.split(found.words)

    def _command(self, found: Instruction) -> tuple[str, ...]:
        return found.words if found.json else (*self.shell, found.rest)


class _Words(Struct, frozen=True):
    """Expands words with the variables from before a line."""

    env: Mapping[str, str]
    escape: str

    def expanded(self, text: str) -> str:
        try:
            return expand(text, dict(self.env), escape=self.escape).text
        except ExpansionError as error:
            raise RegistryError(f"{text!r}: {error}") from error

    def split(self, texts: Iterable[str]) -> set[str]:
        return {self.expanded(text) for text in texts}

    def pairs(self, found: Instruction) -> dict[str, str]:
        if found.words and "=" not in found.words[0]:
            name = found.words[0]
            return {self.expanded(name): self.expanded(found.rest[len(name) :].lstrip())}
        divided = [word.partition("=") for word in found.words]
        return {self.expanded(name): self.expanded(value) for name, _, value in divided}
