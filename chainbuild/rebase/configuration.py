"""The configuration of a rebased image: what the new base sets, and what the step's Dockerfile changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from chainbuild.dockerfile import Dockerfile, Stage
from chainbuild.records.labels import LABELS, stamped_names
from chainbuild.references import Digest
from chainbuild.registry.config import ImageConfig
from chainbuild.registry.oci import canonical

_READ_BY_STEPS: Final = ("Env", "User", "WorkingDir", "Shell", "OnBuild")
"""What the instructions of a step may depend on: if the base changes one of these, the step is built."""
_INSTRUCTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Entrypoint": ("ENTRYPOINT",),
    # A new ENTRYPOINT resets the CMD of the base.
    "Cmd": ("CMD", "ENTRYPOINT"),
    "StopSignal": ("STOPSIGNAL",),
    "Healthcheck": ("HEALTHCHECK",),
    "ArgsEscaped": (),
}
_SETS: Final[Mapping[str, str]] = {"Labels": "LABEL", "ExposedPorts": "EXPOSE", "Volumes": "VOLUME"}
"""Fields to which an instruction adds entries."""


class ConfigurationConflictError(Exception):
    """The configuration cannot be determined; `texts` say why."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = texts
        super().__init__("; ".join(texts))


def rebased_config(
    old_base: ImageConfig, new_base: ImageConfig, built: ImageConfig, dockerfile: Dockerfile
) -> ImageConfig:
    """Return the config of the image that was built on `old_base`, as a build on `new_base` would make it.

    It has the layers that the step added. Errors: `ConfigurationConflictError`.
    """
    merge = _Merge(old_base, new_base, built, dockerfile)
    runtime = merge.runtime()
    if merge.texts:
        raise ConfigurationConflictError(tuple(merge.texts))
    own = built.diff_ids[len(old_base.diff_ids) :]
    document: dict[str, Any] = json.loads(built.raw)
    base: dict[str, Any] = json.loads(new_base.raw)
    document["config"] = runtime
    document["rootfs"] = {"type": "layers", "diff_ids": [*map(str, new_base.diff_ids), *map(str, own)]}
    below = len(json.loads(old_base.raw).get("history") or [])
    document["history"] = [*(base.get("history") or []), *(document.get("history") or [])[below:]]
    for name in ("os.version", "os.features"):
        document.pop(name, None)
        if name in base:
            document[name] = base[name]
    return ImageConfig.parse(canonical(document))


def with_layer(config: ImageConfig, diff_id: Digest) -> ImageConfig:
    """Return the config with the layer of merged files on top."""
    document: dict[str, Any] = json.loads(config.raw)
    document["rootfs"]["diff_ids"].append(str(diff_id))
    document.setdefault("history", []).append({"created_by": "chainbuild rebase", "comment": "merged files"})
    return ImageConfig.parse(canonical(document))


class _Merge:
    def __init__(
        self, old_base: ImageConfig, new_base: ImageConfig, built: ImageConfig, dockerfile: Dockerfile
    ) -> None:
        self._old, self._new, self._built = (_runtime(config) for config in (old_base, new_base, built))
        self._keywords = {found.keyword for stage in _stages_of_result(dockerfile) for found in stage.instructions}
        self._stamped = stamped_names(built) | stamped_names(old_base) | stamped_names(new_base)
        self.texts: list[str] = []

    def runtime(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name in sorted({*self._old, *self._new, *self._built}):
            before, after, own = (config.get(name) for config in (self._old, self._new, self._built))
            if name in _SETS:
                value: Any = dict(self._set(name, before or {}, after or {}, own or {}))
            else:
                value = self._field(name, before, after, own)
            if value:
                fields[name] = value
        return fields

    def _field(self, name: str, before: Any, after: Any, own: Any) -> Any:
        if before == after:
            return own
        if name in _READ_BY_STEPS:
            self.texts.append(
                f"{name} of the configuration changed in the base{_changed_variables(name, before, after)}"
            )
        elif own != before:
            if not self._keywords.intersection(_INSTRUCTIONS.get(name, ())):
                self.texts.append(f"{name} of the configuration was changed by the step and in the base")
        elif self._keywords.intersection(_INSTRUCTIONS.get(name, (name.upper(),))):
            # The step may have set the value that the base had.
            self.texts.append(f"{name} of the configuration changed in the base, and the step may set it")
        else:
            return after
        return own

    def _set(
        self, name: str, before: Mapping[str, Any], after: Mapping[str, Any], own: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        for entry in sorted({*before, *after, *own}):
            old, new, mine = before.get(entry), after.get(entry), own.get(entry)
            is_stamped = name == "Labels" and (entry.startswith(LABELS) or entry in self._stamped)
            if is_stamped or mine != old or old == new:
                # What the step sets stays, whatever the base has; no instruction removes an entry.
                chosen = mine
            else:
                if mine is not None and _SETS[name] in self._keywords:
                    self.texts.append(f"{name} {entry} changed in the base, and the step may set it")
                chosen = new
            if chosen is not None:
                yield entry, chosen


def _stages_of_result(dockerfile: Dockerfile) -> Iterator[Stage]:
    """Yield the last stage, and the stages that it is built on."""
    by_name: dict[str, Stage] = {}
    below: dict[int, Stage | None] = {}
    for stage in dockerfile.stages:
        below[stage.index] = by_name.get(stage.base.lower())
        by_name[stage.name or str(stage.index)] = stage
    current = dockerfile.stages[-1] if dockerfile.stages else None
    while current is not None:
        yield current
        current = below[current.index]


def _runtime(config: ImageConfig) -> dict[str, Any]:
    # Runtimes treat null and empty alike; builders write either.
    runtime = json.loads(config.raw).get("config") or {}
    return {name: value for name, value in runtime.items() if value not in (None, "", [], {})}


def _changed_variables(name: str, before: Any, after: Any) -> str:
    if name != "Env":
        return ""
    old, new = (dict(text.partition("=")[::2] for text in values or ()) for values in (before, after))
    changed = sorted(variable for variable in {*old, *new} if old.get(variable) != new.get(variable))
    return f" ({', '.join(changed)})" if changed else " (their order)"
