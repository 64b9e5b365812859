"""Policy files: what must hold for an image, as a YAML file. This module reads them; `policy_check` applies them.

To write the published schema: python -m chainbuild.attestations.policy > docs/policy.schema.json
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from chainbuild import limits
from chainbuild.attestations.base_patterns import ImagePattern
from chainbuild.attestations.verification import Signer
from chainbuild.errors import DamagedContentError, Problem, WrongUseError
from chainbuild.text import parse_duration
from chainbuild.trust.keys import PUBLIC_PREFIX
from chainbuild.trust.verification_keys import KEY_HINT, VerificationKey, parse_verification_key
from chainbuild.yamlspec.json_schema import as_text, schema_of
from chainbuild.yamlspec.nodes import ContentReader, read_nodes, shown_path
from chainbuild.yamlspec.rules import BooleanRule, KeyRule, ListRule, MapRule, TableRule, TextRule

SCHEMA: Final = "chainbuild.policy/1"
SIGNED_BY: Final = "signed-by"
BASE_FROM: Final = "base-from"
TESTS_PASSED: Final = "tests-passed"
NO_UNSIGNED_PARENT: Final = "no-unsigned-parent"
NOT_OLDER_THAN: Final = "not-older-than"
NO_OUTDATED: Final = "no-outdated"
SECURITY: Final = "security"
ALL: Final = "all"
RELEASE: Final = "release"
WARNING: Final = "warning"
ERROR: Final = "error"
_EMPTY: Final = "See chainbuild docs provenance for an example."

POLICY: Final = TableRule(
    what="a policy",
    keys={
        "schema": KeyRule(
            rule=TextRule(what="the schema", choices=(SCHEMA,)), needed=True, about=f"The format, {SCHEMA}."
        ),
        SIGNED_BY: KeyRule(
            rule=MapRule(
                key=TextRule(what="a name for a key", examples=("ci-main",)),
                value=TextRule(what="a public key or a PEM file", examples=("ed25519:…", "keys/cosign.pub")),
            ),
            about="Keys by name: one of them must have signed the image and its provenance.",
        ),
        BASE_FROM: KeyRule(
            rule=ListRule(item=TextRule(what="an image name", examples=("debian:bookworm-*",)), alone=True),
            about="Patterns of the base images that the chain and the production stage may start from.",
        ),
        TESTS_PASSED: KeyRule(
            rule=ListRule(item=TextRule(what="a proof", examples=("test", "libraries")), alone=True),
            about="Proofs and tests that must have passed; no other one may have failed.",
        ),
        NO_UNSIGNED_PARENT: KeyRule(
            rule=BooleanRule(default=False),
            about="Whether all steps, and base images that base-from does not list, must be signed.",
        ),
        NOT_OLDER_THAN: KeyRule(
            rule=TextRule(what="a duration", examples=("30d",)), about="The greatest age of the image."
        ),
        NO_OUTDATED: KeyRule(
            rule=TextRule(what="a kind of updates", choices=(SECURITY, ALL)),
            about="Whether no package may have a security update, or no update at all, in the sources of the image.",
        ),
        RELEASE: KeyRule(
            rule=TextRule(what="a severity", choices=(WARNING, ERROR)),
            about="What a violation is in a release plan: a warning that people may accept (default), or an error.",
        ),
    },
    any_of=(SIGNED_BY, BASE_FROM, TESTS_PASSED, NO_UNSIGNED_PARENT, NOT_OLDER_THAN, NO_OUTDATED),
)


class Policy(Struct, frozen=True, kw_only=True):
    """What must hold. Empty, false or 0 rules require nothing; `not_older_than` is in seconds.

    `lines` are those of the keys in the file, which messages name as `shown`.
    """

    shown: str
    signed_by: tuple[Signer, ...] = ()
    base_from: tuple[ImagePattern, ...] = ()
    tests_passed: tuple[str, ...] = ()
    no_unsigned_parent: bool = False
    not_older_than: float = 0.0
    no_outdated: str = ""
    release: str = WARNING
    lines: Mapping[str, int] = field(default_factory=dict)

    def problem(self, rule: str, message: str, hint: str = "") -> Problem:
        """Return the violation of a rule, with its place in the file."""
        return Problem(path=self.shown, line=self.lines.get(rule, 0), message=f"{rule}: {message}", hint=hint)


def read_policy(path: Path) -> Policy:
    """Read a policy file. Errors: `WrongUseError` with every problem and its line."""
    shown = shown_path(path)
    try:
        raw = limits.read_file(path)
    except OSError as error:
        raise WrongUseError([Problem(path=shown, message=f"cannot be read: {error.strerror}", hint=_EMPTY)]) from error
    except DamagedContentError as error:
        raise WrongUseError([Problem(path=shown, message=error.message)]) from error
    return parse_policy(raw, shown, path.parent)


def parse_policy(raw: bytes, shown: str, folder: Path) -> Policy:
    """Read the bytes of a policy; paths of keys are relative to `folder`. Errors: as `read_policy`."""
    content = read_nodes(raw, shown, POLICY, if_empty=_EMPTY)
    reader = ContentReader(shown, content)
    values: Mapping[str, Any] = content.values
    signers = []
    for name, text in (values.get(SIGNED_BY) or {}).items():
        key = reader.parsed(lambda text: read_verification_key(text, folder), text, SIGNED_BY, name)
        if key is not None:
            signers.append(Signer(key=key, name=name))
    if values.get(SIGNED_BY) == {} and not reader.problems:
        reader.add((SIGNED_BY,), f"{SIGNED_BY} is an empty table", "List a key, or remove the line.")
    patterns = [
        reader.parsed(ImagePattern.parse, text, BASE_FROM, number)
        for number, text in enumerate(values.get(BASE_FROM) or ())
    ]
    age = values.get(NOT_OLDER_THAN)
    seconds = reader.parsed(_age, age, NOT_OLDER_THAN) if age else None
    if reader.problems:
        raise WrongUseError(reader.problems)
    return Policy(
        shown=shown,
        signed_by=tuple(signers),
        base_from=tuple(pattern for pattern in patterns if pattern is not None),
        tests_passed=tuple(values.get(TESTS_PASSED) or ()),
        no_unsigned_parent=bool(values.get(NO_UNSIGNED_PARENT)),
        not_older_than=seconds or 0.0,
        no_outdated=values.get(NO_OUTDATED) or "",
        release=values.get(RELEASE) or WARNING,
        lines={key: content.line(key) for key in values},
    )


def _age(text: str) -> float:
    seconds = parse_duration(text)
    if not 0 < seconds < math.inf:
        raise WrongUseError(f"{text!r} is no limit", hint="Write a duration longer than zero, as in 30d.")
    return seconds


def read_verification_key(text: str, folder: Path = Path()) -> VerificationKey:
    """Read a key as a user writes it: the key itself, or the path of a PEM file, relative to `folder`.

    Errors: `WrongUseError`.
    """
    if text.startswith((PUBLIC_PREFIX, "-----BEGIN ")):
        return parse_verification_key(text)
    try:
        raw = limits.read_file(folder / text, limits.KEY_FILE)
        return parse_verification_key(raw.decode("ascii"))
    except OSError as error:
        why = f"{text}: cannot read the key: {error.strerror}"
    except UnicodeDecodeError:
        why = f"{text} is not a PEM file"
    except (DamagedContentError, WrongUseError) as error:
        why = f"{text}: {error.message.splitlines()[0]}"
    except ValueError:
        why = f"{text!r} is not a path"
    raise WrongUseError(why, hint=KEY_HINT)


def schema() -> dict[str, Any]:
    """Return the JSON schema of a policy (draft 2020-12)."""
    return schema_of(POLICY, "chainbuild policy", "What must hold for an image: see chainbuild verify --provenance.")


if __name__ == "__main__":
    sys.stdout.write(as_text(schema()))
