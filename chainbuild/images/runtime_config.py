"""Combine the chain's runtime configuration with the production image's layers.

Values set by the production Dockerfile take precedence over the chain's, and these over the production base image's.
"""

from __future__ import annotations

from typing import TypeVar

from chainbuild.registry.config import ImageConfig

T = TypeVar("T")


def carried_over(*, chain: ImageConfig, production_base: ImageConfig, built: ImageConfig) -> ImageConfig:
    """Return the production image's config with the chain's ENV, ENTRYPOINT, CMD, WORKDIR, USER, SHELL, EXPOSE and labels.

    A field whose value in `built` differs from `production_base` was set by the production Dockerfile and stays. CMD and
    ENTRYPOINT belong together: a Dockerfile that sets an ENTRYPOINT of its own does not get the chain's CMD.
    """
    own_entrypoint = built.entrypoint != production_base.entrypoint or not (chain.entrypoint or chain.cmd)
    own_cmd = built.cmd != production_base.cmd
    return built.with_changes(
        env=_pairs(chain.env, production_base.env, built.env),
        labels=_pairs(chain.labels, production_base.labels, built.labels),
        entrypoint=built.entrypoint if own_entrypoint else chain.entrypoint,
        cmd=built.cmd if own_cmd or own_entrypoint else chain.cmd,
        working_dir=_own_or_chains(chain.working_dir, production_base.working_dir, built.working_dir),
        user=_own_or_chains(chain.user, production_base.user, built.user),
        exposed_ports=sorted({*chain.exposed_ports, *built.exposed_ports}),
        volumes=sorted({*chain.volumes, *built.volumes}),
        stop_signal=_own_or_chains(chain.stop_signal, production_base.stop_signal, built.stop_signal),
        shell=_own_or_chains(chain.shell, production_base.shell, built.shell),
        healthcheck=_own_or_chains(chain.healthcheck, production_base.healthcheck, built.healthcheck),
    )


def _own_or_chains(chain: T, base: T, built: T) -> T:
    """Return the Dockerfile's value, else the chain's, else the production base's."""
    if built != base:
        return built
    return chain or built


def _pairs(
    chain: tuple[tuple[str, str], ...], base: tuple[tuple[str, str], ...], built: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    before = dict(base)
    merged = dict(built)
    for key, value in chain:
        set_by_dockerfile = key in merged and merged[key] != before.get(key)
        if not set_by_dockerfile:
            merged[key] = value
    return tuple(merged.items())
