"""Hold provenance against a policy: every rule that does not hold is a problem with its place in the policy file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from chainbuild.attestations.account import Account, InputImage
from chainbuild.attestations.policy import (
    BASE_FROM,
    NO_OUTDATED,
    NO_UNSIGNED_PARENT,
    NOT_OLDER_THAN,
    SECURITY,
    SIGNED_BY,
    TESTS_PASSED,
    Policy,
)
from chainbuild.attestations.verification import Attested, Evidence
from chainbuild.errors import Problem, RegistryError, WrongUseError
from chainbuild.references import ImageReference
from chainbuild.text import duration, moment, plural

_DAY: Final = 24 * 3600.0
_FUTURE: Final = _DAY
"""How far in the future provenance may be, in seconds: clocks differ."""
IsSigned = Callable[[ImageReference], bool]
"""Returns whether one of the policy's signers has signed the image of a reference with a digest. Errors: `RegistryError`."""
Examine = Callable[[bool], Sequence[str]]
"""Returns what the image has of outdated packages, as texts; if True is given, only security updates count.

Errors: `RegistryError`.
"""


def violations(
    policy: Policy,
    evidence: Evidence,
    attested: Attested,
    account: Account,
    *,
    now: float,
    is_signed: IsSigned,
    examine: Examine,
) -> tuple[Problem, ...]:
    """Return the rules that do not hold for an image with that provenance. `now` is in seconds since the epoch."""
    return tuple(
        problem
        for check in (
            _signatures(policy, evidence, attested),
            _bases(policy, account),
            _tests(policy, account),
            _parents(policy, account, is_signed),
            _age(policy, account, now),
            _packages(policy, examine),
        )
        for problem in check
    )


def _signatures(policy: Policy, evidence: Evidence, attested: Attested) -> Iterator[Problem]:
    if not policy.signed_by:
        return
    names = " or ".join(signer.name for signer in policy.signed_by)
    wanted = {signer.key.id for signer in policy.signed_by}
    for what, signers in (("the image", evidence.signers), ("its provenance", attested.signers)):
        if not wanted & {signer.key.id for signer in signers}:
            others = ", ".join(signer.name for signer in signers)
            yield policy.problem(
                SIGNED_BY, f"{what} is not signed by {names}" + (f", only by {others}" if others else "")
            )


def _bases(policy: Policy, account: Account) -> Iterator[Problem]:
    if not policy.base_from:
        return
    if not account.is_own:
        yield policy.problem(BASE_FROM, f"the provenance of {account.builder} does not tell which image is the base")
    yield from _gaps(policy, BASE_FROM, account)
    for image in account.bases:
        if not _is_listed(policy, image):
            yield policy.problem(BASE_FROM, f"the base image {_name(image)} matches none of its patterns")


def _gaps(policy: Policy, rule: str, account: Account) -> Iterator[Problem]:
    """Yield what the provenance lacks: nobody knows whether a rule about all steps holds for that, too."""
    for gap in account.gaps:
        yield policy.problem(rule, f"the provenance does not have {gap}")


def _is_listed(policy: Policy, image: InputImage) -> bool:
    try:
        reference = ImageReference.parse(image.reference)
    except WrongUseError:
        return False
    return any(pattern.matches(reference, image.sha256) for pattern in policy.base_from)


def _name(image: InputImage) -> str:
    return f"{image.reference or image.name} (sha256:{image.sha256[:12]})"


def _tests(policy: Policy, account: Account) -> Iterator[Problem]:
    if not policy.tests_passed:
        return
    yield from _gaps(policy, TESTS_PASSED, account)
    for step in account.steps:
        for verdict in step.verdicts:
            if not verdict.passed:
                yield policy.problem(TESTS_PASSED, f"{verdict.proof} of {step.step} failed")
    passed = {verdict.proof for verdict in account.verdicts if verdict.passed}
    for proof in policy.tests_passed:
        if proof not in passed:
            known = f"; passed: {', '.join(sorted(passed))}" if passed else "; no proof was run"
            yield policy.problem(TESTS_PASSED, f"{proof} did not pass on any step{known}")


def _parents(policy: Policy, account: Account, is_signed: IsSigned) -> Iterator[Problem]:
    if not policy.no_unsigned_parent:
        return
    if not account.is_own:
        yield policy.problem(
            NO_UNSIGNED_PARENT, f"the provenance of {account.builder} does not tell who signed its steps"
        )
    accepted = {signer.key.id for signer in policy.signed_by}
    yield from _gaps(policy, NO_UNSIGNED_PARENT, account)
    for step in account.steps:
        if not step.signed_by:
            yield policy.problem(NO_UNSIGNED_PARENT, f"the record of {step.step} is not signed")
        elif accepted and step.signed_by not in accepted:
            yield policy.problem(
                NO_UNSIGNED_PARENT, f"the record of {step.step} is signed by another key, {step.signed_by[:12]}"
            )
    for image in account.bases:
        if not _is_listed(policy, image):
            yield from _unsigned_base(policy, image, is_signed)


def _unsigned_base(policy: Policy, image: InputImage, is_signed: IsSigned) -> Iterator[Problem]:
    hint = f"List it below {BASE_FROM} if you accept it."
    try:
        reference = ImageReference.parse(f"{image.reference.partition('@')[0]}@sha256:{image.sha256}")
        if is_signed(reference):
            return
        why = f"the base image {_name(image)} is not signed"
    except WrongUseError:
        why = f"the base image {_name(image)} has no name to look up its signature"
    except RegistryError as error:
        why = f"cannot check the signature of the base image {_name(image)}: {error.message}"
    yield policy.problem(NO_UNSIGNED_PARENT, why, hint)


def _age(policy: Policy, account: Account, now: float) -> Iterator[Problem]:
    if not policy.not_older_than:
        return
    age = now - account.finished
    if account.finished <= 0:
        yield policy.problem(NOT_OLDER_THAN, "the provenance does not tell when the image was built")
    elif age < -_FUTURE:
        yield policy.problem(NOT_OLDER_THAN, "the provenance says that the image was built in the future")
    elif age > policy.not_older_than:
        # Not how old it is: a release plan stores the text, and people accept it.
        limit = duration(policy.not_older_than) if policy.not_older_than < _DAY else _days(policy.not_older_than)
        yield policy.problem(NOT_OLDER_THAN, f"the image was built {moment(account.finished)}, more than {limit} ago")


def _days(seconds: float) -> str:
    return plural(round(seconds / _DAY), "day")


def _packages(policy: Policy, examine: Examine) -> Iterator[Problem]:
    if policy.no_outdated:
        for text in examine(policy.no_outdated == SECURITY):
            yield policy.problem(NO_OUTDATED, text)
