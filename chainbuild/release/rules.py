"""What may stand in a release plan: the one source of its reader's checks and of its schema.

python -m chainbuild.release.rules > docs/release_plan.schema.json
"""

from __future__ import annotations

import sys
from typing import Any, Final

from chainbuild.yamlspec.json_schema import as_text, schema_of
from chainbuild.yamlspec.rules import KeyRule, ListRule, MapRule, Rule, TableRule, TextRule

SCHEMA: Final = "chainbuild.release-plan/1"
FILE_NAME: Final = "release_plan.yaml"
NOTHING: Final = "nothing"
"""What a plan says a new name replaces."""

OPEN: Final = "open"
RELEASE: Final = "release"
SKIP: Final = "skip"

_DIGEST: Final = r"sha256:[0-9a-f]{64}"
_LINES: Final[Rule] = ListRule(item=TextRule(what="a line"), empty=True)
_PLATFORM: Final = TextRule(what="a platform", examples=("amd64",))

DIFFERENCE: Final = TableRule(
    what="a difference",
    keys={
        "to": KeyRule(rule=TextRule(what="an image"), about="What it was compared with."),
        "size": KeyRule(rule=TextRule(what="a size"), about="Compressed, unpacked, layers."),
        "packages": KeyRule(rule=_LINES, about="Packages that came, went or have another version."),
        "python": KeyRule(rule=_LINES, about="Python distributions that came, went or have another version."),
        "configuration": KeyRule(rule=_LINES, about="What containers get otherwise."),
        "steps": KeyRule(rule=_LINES, about="The steps that were made from something else, and what that is."),
        "files": KeyRule(rule=TextRule(what="numbers of files"), about="How many files came, went or are other ones."),
    },
)

IMAGE: Final = TableRule(
    what="an image of the plan",
    keys={
        "decision": KeyRule(
            rule=TextRule(what="a decision", choices=(OPEN, RELEASE, SKIP)),
            needed=True,
            about="open until somebody decides; then release or skip.",
        ),
        "to": KeyRule(
            rule=ListRule(item=TextRule(what="an image's name", examples=("ghcr.io/acme/tools:2026.11",)), empty=True),
            about="The full names that it gets.",
        ),
        "note": KeyRule(rule=TextRule(what="a note", blank=True), about="What people should know."),
        "digests": KeyRule(
            rule=MapRule(key=_PLATFORM, value=TextRule(what="a digest", pattern=f"^{_DIGEST}$")),
            needed=True,
            about="What is released, by platform.",
        ),
        "replaces": KeyRule(
            rule=MapRule(
                key=TextRule(what="an image's name"),
                value=TextRule(what="a digest, or nothing", pattern=f"^({NOTHING}|{_DIGEST})$"),
            ),
            about="What each of the names means now.",
        ),
        "differences": KeyRule(rule=MapRule(key=_PLATFORM, value=DIFFERENCE), about="What changes, by platform."),
        "tests": KeyRule(
            rule=MapRule(key=_PLATFORM, value=_LINES), about="What the tests of its steps said, by platform."
        ),
        "errors": KeyRule(rule=_LINES, about="What keeps it from being released."),
        "warnings": KeyRule(
            rule=ListRule(
                item=TableRule(
                    what="a warning",
                    keys={
                        "says": KeyRule(
                            rule=TextRule(what="a warning"), needed=True, about="What somebody should look at."
                        ),
                        "accepted": KeyRule(
                            rule=TextRule(what="a reason", blank=True), about="Why it is fine, written by who decides."
                        ),
                    },
                ),
                empty=True,
            ),
            about="What keeps it from being released until somebody says why it is fine.",
        ),
    },
)

PLAN: Final = TableRule(
    what="a release plan",
    keys={
        "schema": KeyRule(rule=TextRule(what="the schema", choices=(SCHEMA,)), needed=True, about=f"It is {SCHEMA}."),
        "release": KeyRule(
            rule=TextRule(what="the release's name", examples=("2026.11",)), needed=True, about="Any name."
        ),
        "images": KeyRule(
            rule=MapRule(key=TextRule(what="an image's name"), value=IMAGE), needed=True, about="Images by their names."
        ),
    },
)

WRITTEN: Final = ("digests", "replaces", "differences", "tests", "errors", "warnings")
"""The keys of an image that `update` renews, in the order in which a plan has them; all others are people's."""


def schema() -> dict[str, Any]:
    """The JSON schema of a plan (draft 2020-12)."""
    return schema_of(PLAN, FILE_NAME, "What is to be released: written by chainbuild, edited and reviewed by people.")


if __name__ == "__main__":
    sys.stdout.write(as_text(schema()))
