"""What is doubtful about a step's result although it is fit for its name: warnings of the minimize stage and of the proofs.

They are shown while a run goes on and at its end, and are kept in the step's record: what is reused is as doubtful as it
was. `--strict` makes them errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

KEPT: Final = 100
"""How many warnings a record holds. The report that is attached to a minimized image has all of its stage."""
SHOWN: Final = 5
"""How many warnings of a step are shown; `chainbuild inspect` shows all that the record holds."""
OF_TESTS: Final = "trace"
"""The kind of those that the traced proof gives, which are about tests as they were."""
_LONGEST: Final = 400
_LONGEST_FIX: Final = 4000


class StepWarning(Struct, frozen=True, kw_only=True):
    """One warning: `kind` is a word for programs, `text` a line for people, without what to do (`fix`).

    `path` and `package` say what it is about: a file or folder of an image, and the package that owns it (as in reports of
    the minimize stage, `deb:tini:amd64`). Empty if that is not known.
    """

    text: str
    kind: str = ""
    path: str = ""
    package: str = ""
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.fix})" if self.fix else self.text

    def as_json(self) -> dict[str, str]:
        """Return it as an object; every field is always there."""
        # A line that is cut would be another one.
        whole = self.fix if len(self.fix) <= _LONGEST_FIX else ""
        return {name: text[:_LONGEST] for name, text in asdict(self).items()} | {"fix": whole}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> StepWarning:
        """Read such an object; fields that are missing are empty. Errors: `ValueError` if it is something else."""
        try:
            found = {name: document.get(name, "") for name in ("text", "kind", "path", "package", "fix")}
        except AttributeError as error:
            raise ValueError(f"not a warning: {str(document)[:80]!r}") from error
        if not all(isinstance(text, str) for text in found.values()):
            raise ValueError(f"not a warning: {str(document)[:80]!r}")
        return cls(**found)


class WarningList(Struct, frozen=True, kw_only=True):
    """The warnings of a step: the first ones, and how many there are in all."""

    first: tuple[StepWarning, ...] = ()
    total: int = 0

    @classmethod
    def of(cls, warnings: Iterable[StepWarning]) -> WarningList:
        """Return the warnings, each once, cut to what a record holds."""
        each = tuple(dict.fromkeys(warnings))
        return cls(first=tuple(StepWarning(**one.as_json()) for one in each[:KEPT]), total=len(each))

    def with_kind(self, kind: str, warnings: Iterable[StepWarning]) -> WarningList:
        """Return them with other warnings of a kind, as a proof gives that was made anew."""
        others = tuple(one for one in self.first if one.kind != kind)
        found = WarningList.of((*others, *warnings))
        return WarningList(first=found.first, total=found.total + self.total - len(self.first))

    def __bool__(self) -> bool:
        return self.total > 0

    def as_json(self) -> dict[str, Any]:
        """Return the object that records and events hold."""
        return {"total": self.total, "first": [one.as_json() for one in self.first]}

    @classmethod
    def read(cls, document: object) -> WarningList:
        """Read such an object; None is no warnings. Errors: `ValueError` if it is something else."""
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
    """Return the warnings of a minimize stage's report; earlier forms have lines of text. Errors: `ValueError`."""
    try:
        rows = document.get("warnings", ())
        return tuple(StepWarning(text=row) if isinstance(row, str) else StepWarning.read(row) for row in rows)
    except TypeError as error:
        raise ValueError("the report has no list of warnings") from error
