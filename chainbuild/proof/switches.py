"""The build arguments of a stage that no instruction reads: settings of the proofs of its image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chainbuild.dockerfile import parse
from chainbuild.dockerfile.facts import all_declarations
from chainbuild.model import Step

_OFF: Final = frozenset({"0", "false", "no", "off"})


def switches(step: Step, raw: bytes | None = None) -> dict[str, str | None]:
    """Return the values of the build arguments that a step's Dockerfile declares. `raw`: its content, if already read."""
    if raw is None:
        raw = step.read_dockerfile()
    declared = all_declarations(parse(raw, str(step.dockerfile)))
    return {argument.name: argument.default for argument in declared} | {arg.name: arg.value for arg in step.args}


def value_of(values: Mapping[str, str | None], switch: str) -> str:
    """Return the value of a switch in lower case; `1` if it has none."""
    return (values.get(switch) or "1").strip().lower()


def is_on(values: Mapping[str, str | None], switch: str) -> bool:
    """Return whether a switch is on: always, unless an arg or the Dockerfile's default turns it off."""
    return value_of(values, switch) not in _OFF
