"""The id of a step: platform, option and name as a value, and its text form `platform/option/name`."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

MINIMIZE: Final = "minimize"
"""The name of the step that is a chain's minimize stage."""
PRODUCTION: Final = "production"
"""The name of the step that is a chain's production stage."""
_STAGES: Final = frozenset({MINIMIZE, PRODUCTION})


class StepId(Struct, frozen=True, order=True, cache_hash=True):
    """The id of a step, unique in a run.

    `platform` (as the user spells it) and `option` are not empty and contain no `/`. The name of an image type may contain
    `/`; a step of a numbered option is called `NN-descriptor`, and its stages `minimize` and `production`.

    Other work than steps (`verify IMAGE`) and records from elsewhere have any text as an id: `parse` makes a value of it,
    with an empty option or platform if there are too few parts. Two ids are equal if their texts are.
    """

    platform: str
    option: str
    name: str

    @classmethod
    def parse(cls, text: str) -> StepId:
        """Return the id with a text form. Every text is one: it is kept as the name if it cannot be split."""
        first, slash, rest = text.partition("/")
        second, more, last = rest.partition("/")
        if more and second:
            return cls(first, second, last)
        if slash and first and not more:
            return cls(first, "", rest)
        return cls("", "", text)

    def __str__(self) -> str:
        if self.option:
            return f"{self.platform}/{self.option}/{self.name}"
        return f"{self.platform}/{self.name}" if self.platform else self.name

    @property
    def is_stage(self) -> bool:
        """True if it is a minimize or production stage."""
        return self.name in _STAGES

    @property
    def in_option(self) -> str:
        """The id without the platform, `option/name`, which is the same on every platform."""
        return str(self).partition("/")[2]

    @property
    def group(self) -> str:
        """The part before the last `/`, under which screens list the step: `platform/option`."""
        return str(self).rpartition("/")[0]

    @property
    def short_name(self) -> str:
        """The part after the last `/`: the name, or the end of an image type's name."""
        return str(self).rpartition("/")[2]

    def sibling(self, name: str) -> StepId:
        """Return the id of another step of the same option on the same platform."""
        return StepId(self.platform, self.option, name)
