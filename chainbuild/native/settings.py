"""What `--native` and the project file ask for: native tools or not, for all steps or for single ones."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct, field

from chainbuild.errors import WrongUseError
from chainbuild.model import Step
from chainbuild.patterns import regex

_PERCENT: Final = regex(r"check:([0-9]{1,3})%")


class NativeMode(StrEnum):
    """Whether emulated steps get native tools."""

    AUTO = "auto"
    """Where they give the same bytes."""
    OFF = "off"
    CHECK = "check"
    """As `AUTO`, and every output is compared with that of the image's own tool."""


class NativeChoice(Struct, frozen=True, kw_only=True):
    """A mode, and the share of outputs that is compared, in percent."""

    mode: NativeMode = NativeMode.AUTO
    percent: int = 100

    @classmethod
    def parse(cls, text: str) -> NativeChoice:
        """Parse `auto`, `off`, `check` or `check:N%`. Errors: `WrongUseError`."""
        sampled = _PERCENT.fullmatch(text)
        if sampled and 1 <= int(sampled[1]) <= 100:
            return cls(mode=NativeMode.CHECK, percent=int(sampled[1]))
        try:
            return cls(mode=NativeMode(text))
        except ValueError:
            raise WrongUseError(
                f"{text!r} is not a mode of native tools", hint="Use auto, off, check, or check:5% for a sample."
            ) from None

    def __str__(self) -> str:
        sampled = self.mode is NativeMode.CHECK and self.percent != 100
        return f"{self.mode.value}:{self.percent}%" if sampled else self.mode.value


class NativeSettings(Struct, frozen=True, kw_only=True):
    """The choice for all steps, and those for the steps whose `option/name` matches a pattern; the last match applies."""

    default: NativeChoice = field(default_factory=NativeChoice)
    steps: Mapping[str, NativeChoice] = field(default_factory=dict)

    def of(self, step: Step) -> NativeChoice:
        """Return the choice for a step."""
        matching = [
            choice for pattern, choice in self.steps.items() if fnmatchcase(f"{step.option}/{step.name}", pattern)
        ]
        return matching[-1] if matching else self.default
