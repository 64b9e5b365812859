"""Warnings of a step: doubtful findings of the minimize stage and the proofs that do not make the result unfit.

They are shown during a run and at its end, and stored in the step's record, so that a reused step shows them again.
`--strict` turns them into errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from chainbuild.values import convert

KEPT: Final = 100
"""Maximum number of warnings in a record. The report attached to a minimized image has all of its stage."""
SHOWN: Final = 5
"""Maximum number of warnings shown for a step. `chainbuild inspect` shows all warnings of the record."""
OF_TESTS: Final = "trace"
"""The kind of the warnings of the traced proof, which depend on the tests at that time."""
_LONGEST: Final = 400
_LONGEST_FIX: Final = 4000


class StepWarning(Struct, frozen=True, kw_only=True):
    """One warning: `kind` is a word for programs, `text` a line for people, and `fix` what to do.

    `path` and `package` are the subject: a file or folder of an image, and the package that owns it (as in reports of the
    minimize stage, `deb:tini:amd64`). Empty if unknown.
    """

    text: str
    kind: str = ""
    path: str = ""
    package: str = ""
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.fix})" if self.fix else self.text

    def as_json(self) -> dict[str, str]:
        """Return the warning as an object that always has every field."""
        # A truncated command would be a different command.
        whole = self.fix if len(self.fix) <= _LONGEST_FIX else ""
        return {name: text[:_LONGEST] for name, text in asdict(self).items()} | {"fix": whole}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> StepWarning:
        """Read such an object; missing fields are empty. Errors: `ValueError` if it is not a warning."""
        try:
            return convert({"text": "", **document}, cls)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a warning: {str(document)[:80]!r}") from error


class WarningList(Struct, frozen=True, kw_only=True):
    """The warnings of a step: the first ones, and their total number."""

    first: tuple[StepWarning, ...] = ()
    total: int = 0

    @classmethod
    def of(cls, warnings: Iterable[StepWarning]) -> WarningList:
        """Return the warnings without duplicates, truncated to what a record holds."""
        unique = tuple(dict.fromkeys(warnings))
        return cls(first=tuple(StepWarning(**warning.as_json()) for warning in unique[:KEPT]), total=len(unique))

    def with_kind(self, kind: str, warnings: Iterable[StepWarning]) -> WarningList:
        """Return the list with all warnings of a kind replaced, for a proof that was repeated."""
        others = tuple(warning for warning in self.first if warning.kind != kind)
        merged = WarningList.of((*others, *warnings))
        return WarningList(first=merged.first, total=merged.total + self.total - len(self.first))

    def __bool__(self) -> bool:
        return self.total > 0

    def as_json(self) -> dict[str, Any]:
        """Return the object that records and events hold."""
        return {"total": self.total, "first": [warning.as_json() for warning in self.first]}

    @classmethod
    def read(cls, document: object) -> WarningList:
        """Read such an object; None means no warnings. Errors: `ValueError` if it is not a list of warnings."""
        if document is None:
            return cls()
        try:
            if not isinstance(document, Mapping):
                raise TypeError
            rows, total = document["first"], document["total"]
            if not isinstance(rows, list) or not isinstance(total, int) or isinstance(total, bool):
                raise TypeError
        except (KeyError, TypeError) as error:
            raise ValueError("not warnings") from error
        first = tuple(StepWarning.read(row) for row in rows[:KEPT])
        return cls(first=first, total=max(total, len(first)))


def read_report_warnings(document: Mapping[str, Any]) -> tuple[StepWarning, ...]:
    """Return the warnings of a minimize report, which are plain lines in older reports. Errors: `ValueError`."""
    try:
        rows = document.get("warnings", ())
        return tuple(StepWarning(text=row) if isinstance(row, str) else StepWarning.read(row) for row in rows)
    except TypeError as error:
        raise ValueError("the report has no list of warnings") from error
