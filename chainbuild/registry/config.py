"""An image's config document (OCI image spec, "Image Configuration"): what its containers run, and its diff ids."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from chainbuild import limits
from chainbuild.references import Digest, Platform
from chainbuild.registry.fields import FieldReader
from chainbuild.registry.oci import canonical, digest_of, read_digest


class Healthcheck(Struct, frozen=True, kw_only=True):
    """HEALTHCHECK in Docker's form: `test` starts with NONE, CMD or CMD-SHELL; times in nanoseconds (0: default)."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class _Keep:
    """The default for a field that is not changed (None and () remove the field)."""


_KEEP: Final = _Keep()


class ImageConfig(Struct, frozen=True, kw_only=True):
    """An image config. `entrypoint` and `cmd` are None if it sets none; `raw` also has unknown fields."""

    raw: bytes
    platform: Platform
    diff_ids: tuple[Digest, ...]
    created: str = ""
    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str = ""
    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    shell: tuple[str, ...] | None = None
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()

    @property
    def digest(self) -> Digest:
        """Return the digest of the document's bytes: Docker's image id in the classic store."""
        return digest_of(self.raw)

    def label(self, key: str) -> str:
        """Return the label's value; empty if there is none."""
        return dict(self.labels).get(key, "")

    @property
    def content_identity(self) -> Digest:
        """Return a digest of what the image is and does: platform, diff ids and runtime config; no dates, no history.

        Two builds of the same content have the same identity, whatever their manifests' digests are. Labels count as
        runtime config: a caller whose labels have dates removes them first (`with_changes`).
        """
        document = json.loads(self.raw)
        return digest_of(
            canonical(
                {
                    "platform": self.platform.oci,
                    "diff_ids": [digest.value for digest in self.diff_ids],
                    # Runtimes treat null and empty alike; builders write either.
                    "config": {key: value for key, value in (document.get("config") or {}).items() if value},
                }
            )
        )

    @classmethod
    def parse(cls, raw: bytes, *, where: str = "") -> ImageConfig:
        """Read a config document. Errors: `DamagedContentError` that says what is wrong with it."""
        document = limits.read_object(raw, "the image's config", where)
        reader = FieldReader("the image's config", where)
        runtime = reader.mapping(document, "config")
        rootfs = reader.mapping(document, "rootfs")
        return cls(
            raw=raw,
            platform=Platform.from_oci(
                reader.text(document, "os") or "linux",
                reader.text(document, "architecture"),
                reader.text(document, "variant"),
            ),
            diff_ids=tuple(read_digest(item, where) for item in reader.texts(rootfs, "diff_ids") or ()),
            created=reader.text(document, "created"),
            env=tuple(_assignment(item) for item in reader.texts(runtime, "Env") or ()),
            entrypoint=reader.texts(runtime, "Entrypoint"),
            cmd=reader.texts(runtime, "Cmd"),
            working_dir=reader.text(runtime, "WorkingDir"),
            user=reader.text(runtime, "User"),
            exposed_ports=tuple(sorted(reader.mapping(runtime, "ExposedPorts"))),
            labels=tuple(sorted((key, str(value)) for key, value in reader.mapping(runtime, "Labels").items())),
            volumes=tuple(sorted(reader.mapping(runtime, "Volumes"))),
            stop_signal=reader.text(runtime, "StopSignal"),
            shell=reader.texts(runtime, "Shell"),
            healthcheck=_read_healthcheck(reader, runtime),
            on_build=reader.texts(runtime, "OnBuild") or (),
        )

    @classmethod
    def make(
        cls,
        platform: Platform,
        diff_ids: Iterable[Digest],
        *,
        created: str = "",
        history: Sequence[Mapping[str, Any]] = (),
    ) -> ImageConfig:
        """Return a new config over these layers; the rest is set by `with_changes`. `created` is RFC 3339."""
        document: dict[str, Any] = {
            "os": platform.os,
            "architecture": platform.architecture,
            "rootfs": {"type": "layers", "diff_ids": [digest.value for digest in diff_ids]},
            "config": {},
        }
        # Docker always writes arm64's variant; containerd accepts both.
        variant = platform.variant or ("v8" if platform.architecture == "arm64" else "")
        if variant:
            document["variant"] = variant
        if created:
            document["created"] = created
        if history:
            document["history"] = [dict(entry) for entry in history]
        return cls.parse(canonical(document))

    def with_changes(
        self,
        *,
        env: Iterable[tuple[str, str]] | _Keep = _KEEP,
        entrypoint: Sequence[str] | _Keep | None = _KEEP,
        cmd: Sequence[str] | _Keep | None = _KEEP,
        working_dir: str | _Keep = _KEEP,
        user: str | _Keep = _KEEP,
        exposed_ports: Iterable[str] | _Keep = _KEEP,
        labels: Mapping[str, str] | Iterable[tuple[str, str]] | _Keep = _KEEP,
        volumes: Iterable[str] | _Keep = _KEEP,
        stop_signal: str | _Keep = _KEEP,
        shell: Sequence[str] | _Keep | None = _KEEP,
        healthcheck: Healthcheck | _Keep | None = _KEEP,
        on_build: Sequence[str] | _Keep = _KEEP,
        created: str | _Keep = _KEEP,
    ) -> ImageConfig:
        """Return the same config with these fields replaced; None and empty remove a field. Nothing else changes."""
        document = copy.deepcopy(json.loads(self.raw))
        runtime = document.get("config") or {}
        document["config"] = runtime

        def put(key: str, value: Any) -> None:
            if isinstance(value, _Keep):
                return
            # No runtime distinguishes an empty ENTRYPOINT or CMD from a missing one.
            if value:
                runtime[key] = value
            else:
                runtime.pop(key, None)

        put("Env", _KEEP if isinstance(env, _Keep) else [f"{key}={value}" for key, value in env])
        put("Entrypoint", _listed(entrypoint))
        put("Cmd", _listed(cmd))
        put("WorkingDir", working_dir)
        put("User", user)
        put("ExposedPorts", _keyed(exposed_ports))
        put("Labels", _KEEP if isinstance(labels, _Keep) else dict(labels))
        put("Volumes", _keyed(volumes))
        put("StopSignal", stop_signal)
        put("Shell", _listed(shell))
        put("OnBuild", _listed(on_build))
        put("Healthcheck", _KEEP if isinstance(healthcheck, _Keep) else _write_healthcheck(healthcheck))
        if not isinstance(created, _Keep):
            document["created"] = created
        return ImageConfig.parse(canonical(document))


def _listed(value: Sequence[str] | _Keep | None) -> list[str] | _Keep | None:
    return value if isinstance(value, _Keep) or value is None else list(value)


def _keyed(value: Iterable[str] | _Keep) -> dict[str, Any] | _Keep:
    return value if isinstance(value, _Keep) else {name: {} for name in value}


def _assignment(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _read_healthcheck(reader: FieldReader, runtime: Mapping[str, Any]) -> Healthcheck | None:
    body = reader.mapping(runtime, "Healthcheck")
    test = reader.texts(body, "Test")
    if not test:
        return None
    return Healthcheck(
        test=test,
        interval=reader.number(body, "Interval"),
        timeout=reader.number(body, "Timeout"),
        start_period=reader.number(body, "StartPeriod"),
        start_interval=reader.number(body, "StartInterval"),
        retries=reader.number(body, "Retries"),
    )


def _write_healthcheck(healthcheck: Healthcheck | None) -> dict[str, Any] | None:
    if healthcheck is None:
        return None
    body: dict[str, Any] = {
        "Test": list(healthcheck.test),
        "Interval": healthcheck.interval,
        "Timeout": healthcheck.timeout,
        "StartPeriod": healthcheck.start_period,
        "StartInterval": healthcheck.start_interval,
        "Retries": healthcheck.retries,
    }
    return {key: value for key, value in body.items() if value}
