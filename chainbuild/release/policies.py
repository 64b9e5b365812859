"""Hold the images of a release plan against a policy: what violates it is a warning or an error, as the policy says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec import Struct

from chainbuild.attestations.policy import ERROR, Policy, read_policy
from chainbuild.attestations.report import not_examined, verify_provenance
from chainbuild.records.store import RecordStore
from chainbuild.references import Platform
from chainbuild.registry.images import RemoteImage
from chainbuild.release.model import ReleasePlan


class Violations(Struct, frozen=True, kw_only=True):
    """The texts about an image that violates a policy. They say nothing that changes from day to day."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


PolicyCheck = Callable[[RecordStore, Mapping[Platform, RemoteImage]], Violations]
"""Returns what violates the policy of a plan. Errors: `RegistryError`."""


def no_policy(records: RecordStore, images: Mapping[Platform, RemoteImage]) -> Violations:  # noqa: ARG001
    """Return nothing: the plan has no policy."""
    return Violations()


ExamineImage = Callable[[RemoteImage, bool], Sequence[str]]
"""Returns what an image has of outdated packages, as texts; if True is given, only security updates count.

Errors: `RegistryError`.
"""


def examine_nothing(image: RemoteImage, security: bool) -> Sequence[str]:  # noqa: ARG001
    """Return that nobody has examined the packages of the image."""
    return not_examined(security)


def check_with(
    policy: Policy, examine: ExamineImage = examine_nothing, now: Callable[[], float] = time.time
) -> PolicyCheck:
    """Return the check of a policy. `examine` examines packages; `now` returns the time in seconds since the epoch."""

    def check(records: RecordStore, images: Mapping[Platform, RemoteImage]) -> Violations:
        texts: list[str] = []
        for platform, image in images.items():
            report = verify_provenance(
                records, image.reference, now=now(), policy=policy, examine=partial(examine, image)
            )
            if report.attested is None:
                texts.append(f"{platform}: no accepted key has signed its provenance")
            texts += [f"{platform}: {problem.message}" for problem in report.violations]
        return Violations(errors=tuple(texts)) if policy.release == ERROR else Violations(warnings=tuple(texts))

    return check


def policy_check_of(plan: ReleasePlan, examine: ExamineImage) -> PolicyCheck:
    """Return the check of the policy that a plan names, relative to its own folder. Errors: `WrongUseError`."""
    return check_with(read_policy(plan.path.parent / plan.policy), examine) if plan.policy else no_policy
