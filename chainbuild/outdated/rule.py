"""The rule `no-outdated` of a policy: what an image has of packages with updates, in texts that people can accept.

A text changes only if there is another update, or another source that cannot be used: a release plan stores it, and people
accept it. Packages on hold and pinned ones count, too, because the rule is about the image and not about its next build.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from chainbuild.outdated.model import APK, DEB, PYPI, State
from chainbuild.outdated.survey import Row, Survey
from chainbuild.text import escaped

_NAMES: Final = {DEB: "Debian packages", APK: "Alpine packages", PYPI: "Python distributions"}
_COUNTED: Final = (State.OUTDATED, State.HELD, State.PINNED)


def violations_of(survey: Survey, *, security: bool) -> tuple[str, ...]:
    """Return why the examined image violates the rule; empty if it does not. `security`: only security updates count."""
    rows = [row for row in survey.of_state(*_COUNTED) if row.finding.candidate]
    counted = [row for row in rows if row.finding.security or not security]
    unclear = [row for row in rows if row.finding.security is None and security]
    return tuple(
        escaped(text)
        for text in (
            *_by_origin(counted, "security updates" if security else "updates"),
            *_unclear(unclear),
            *(f"updates from {source.name} are unknown ({source.state.value})" for source in survey.unusable),
            *survey.problems,
        )
    )


def _by_origin(rows: list[Row], what: str) -> Iterator[str]:
    for brought_by in dict.fromkeys(row.brought_by for row in rows):
        updates = sorted({_update(row) for row in rows if row.brought_by == brought_by})
        yield f"{what} for packages of {brought_by}: {', '.join(updates)}"


def _unclear(rows: list[Row]) -> Iterator[str]:
    for kind in sorted({row.finding.package.kind for row in rows}):
        updates = sorted({_update(row) for row in rows if row.finding.package.kind == kind})
        yield (
            f"{_NAMES[kind]} have updates, and their sources do not say which are security updates: {', '.join(updates)}"
        )


def _update(row: Row) -> str:
    package, state = row.finding.package, row.finding.state
    why = "" if state is State.OUTDATED else f" ({state.value})"
    return f"{package.name} {package.version} → {row.finding.candidate}{why}"
