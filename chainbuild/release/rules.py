"""The rules for the content of a release plan: the source of the reader's checks and of the JSON schema.

To write the published schema: python -m chainbuild.release.rules > docs/release_plan.schema.json
"""

from __future__ import annotations

import sys
from typing import Any, Final

from chainbuild.yamlspec.json_schema import as_text, schema_of
from chainbuild.yamlspec.rules import KeyRule, ListRule, MapRule, Rule, TableRule, TextRule

SCHEMA: Final = "chainbuild.release-plan/1"
FILE_NAME: Final = "release_plan.yaml"
NOTHING: Final = "nothing"
"""The value of `replaces` for a name that does not exist yet."""

OPEN: Final = "open"
RELEASE: Final = "release"
SKIP: Final = "skip"

_DIGEST: Final = r"sha256:[0-9a-f]{64}"
_LINES: Final[Rule] = ListRule(item=TextRule(what="a line"), empty=True)
_PLATFORM: Final = TextRule(what="a platform", examples=("amd64",))

DIFFERENCE: Final = TableRule(
    what="a difference",
    keys={
        "to": KeyRule(rule=TextRule(what="an image"), about="The image that it was compared with."),
        "size": KeyRule(rule=TextRule(what="a size"), about="Compressed and unpacked size, and layers."),
        "packages": KeyRule(rule=_LINES, about="Packages that were added, removed or changed their version."),
        "python": KeyRule(rule=_LINES, about="Python distributions that were added, removed or changed their version."),
        "configuration": KeyRule(rule=_LINES, about="Changes of the container configuration."),
        "steps": KeyRule(rule=_LINES, about="The steps whose inputs changed, and which inputs."),
        "files": KeyRule(
            rule=TextRule(what="numbers of files"), about="How many files were added, removed or changed."
        ),
    },
)

IMAGE: Final = TableRule(
    what="an image of the plan",
    keys={
        "decision": KeyRule(
            rule=TextRule(what="a decision", choices=(OPEN, RELEASE, SKIP)),
            needed=True,
            about="open at first; people set release or skip.",
        ),
        "to": KeyRule(
            rule=ListRule(item=TextRule(what="an image name", examples=("ghcr.io/acme/tools:2026.11",)), empty=True),
            about="The full names to publish it as.",
        ),
        "note": KeyRule(rule=TextRule(what="a note", blank=True), about="A note for the readers of the plan."),
        "digests": KeyRule(
            rule=MapRule(key=_PLATFORM, value=TextRule(what="a digest", pattern=f"^{_DIGEST}$")),
            needed=True,
            about="The digests to release, by platform.",
        ),
        "replaces": KeyRule(
            rule=MapRule(
                key=TextRule(what="an image name"),
                value=TextRule(what="a digest, or nothing", pattern=f"^({NOTHING}|{_DIGEST})$"),
            ),
            about="The current digest of each name.",
        ),
        "differences": KeyRule(rule=MapRule(key=_PLATFORM, value=DIFFERENCE), about="The changes by platform."),
        "tests": KeyRule(
            rule=MapRule(key=_PLATFORM, value=_LINES), about="The test results of its steps, by platform."
        ),
        "errors": KeyRule(rule=_LINES, about="Reasons why it cannot be released."),
        "warnings": KeyRule(
            rule=ListRule(
                item=TableRule(
                    what="a warning",
                    keys={
                        "says": KeyRule(rule=TextRule(what="a warning"), needed=True, about="The text of the warning."),
                        "accepted": KeyRule(
                            rule=TextRule(what="a reason", blank=True), about="Why a person accepts the warning."
                        ),
                    },
                ),
                empty=True,
            ),
            about="Warnings that people must accept before it can be released.",
        ),
    },
)

PLAN: Final = TableRule(
    what="a release plan",
    keys={
        "schema": KeyRule(
            rule=TextRule(what="the schema", choices=(SCHEMA,)), needed=True, about=f"The format, {SCHEMA}."
        ),
        "release": KeyRule(
            rule=TextRule(what="the name of the release", examples=("2026.11",)),
            needed=True,
            about="The name of the release.",
        ),
        "policy": KeyRule(
            rule=TextRule(what="a policy file", examples=("policy.yaml",)),
            about="The policy that its images must satisfy, relative to the plan.",
        ),
        "images": KeyRule(
            rule=MapRule(key=TextRule(what="an image name"), value=IMAGE), needed=True, about="The images by name."
        ),
    },
)

WRITTEN: Final = ("digests", "replaces", "differences", "tests", "errors", "warnings")
"""The keys of an image that `update` rewrites, in the order of a plan. All other keys are for people."""


def schema() -> dict[str, Any]:
    """Return the JSON schema of a plan (draft 2020-12)."""
    return schema_of(PLAN, FILE_NAME, "The images to release: written by chainbuild, edited and reviewed by people.")


if __name__ == "__main__":
    sys.stdout.write(as_text(schema()))
