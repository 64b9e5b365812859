"""Verify the provenance of any image: who built it, from what, by which steps, what was proven, and a policy about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from msgspec import Struct

from chainbuild.attestations.policy import Policy
from chainbuild.attestations.policy_check import Examine, violations
from chainbuild.attestations.verification import Attested, Evidence, Refusal, Signer, read_evidence, trusted_signers
from chainbuild.errors import NotFoundInRegistryError, Problem
from chainbuild.records.store import RecordStore
from chainbuild.references import ImageReference
from chainbuild.registry.images import read_index
from chainbuild.registry.pool import Registries


class ProvenanceReport(Struct, frozen=True, kw_only=True):
    """The result for an image. `attested` is the verified provenance, None if no accepted key signed any.

    `errors` are the reasons why it is not accepted; of these, `violations` are those of the policy.
    """

    image: ImageReference
    evidence: Evidence
    attested: Attested | None
    violations: tuple[Problem, ...] = ()
    policy: Policy | None = None

    @property
    def signers(self) -> tuple[Signer, ...]:
        """Return who signed the image or its provenance."""
        return tuple(dict.fromkeys((*self.evidence.signers, *(self.attested.signers if self.attested else ()))))

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """Return the signatures and attestations that do not count."""
        return self.evidence.refused

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return why the image is not accepted; empty if it is."""
        if self.attested is not None:
            return self.violations
        count = len(self.evidence.refused)
        why = f" ({count} refused: see below)" if count else ""
        hint = "Name the key that you expect with --key, or trust it: chainbuild trust add KEY."
        missing = Problem(message=f"no accepted key has signed the provenance of {self.image}{why}", hint=hint)
        return (missing, *self.violations)


def not_examined(security: bool) -> Sequence[str]:
    """Return that nobody has examined the packages: a rule about them then does not hold."""
    return (f"the packages were not examined for {'security updates' if security else 'updates'}",)


def verify_provenance(
    records: RecordStore,
    image: ImageReference,
    *,
    now: float,
    keys: Sequence[Signer] = (),
    policy: Policy | None = None,
    examine: Examine = not_examined,
) -> ProvenanceReport:
    """Verify the provenance of the image of the reference's digest. `now` is in seconds since the epoch.

    It must be signed by one of `keys`; if there are none, by one of the policy's, else by one that the user trusts. Of
    several, the provenance that violates the fewest rules counts. `examine` examines the packages of the image, once, if the
    policy has a rule about them. Errors: those of a registry that does not answer clearly.
    """
    rules = policy.signed_by if policy else ()
    accepted = tuple(keys) or rules or trusted_signers(records.keyring)
    evidence = read_evidence(records.registries, image, _unique((*accepted, *rules)))
    wanted = {signer.key.id for signer in accepted}
    signed = [each for each in evidence.provenance if wanted & {signer.key.id for signer in each.signers}]
    if policy is None or not signed:
        return ProvenanceReport(image=image, evidence=evidence, attested=_newest(signed), policy=policy)
    is_signed = _Bases(records.registries, rules or accepted)
    examined = cache(examine)
    results = [
        (
            each,
            violations(policy, evidence, each, each.account, now=now, is_signed=is_signed, examine=examined),
        )
        for each in signed
        if each.account is not None
    ]
    attested, wrong = min(results, key=lambda result: len(result[1]))
    return ProvenanceReport(image=image, evidence=evidence, attested=attested, violations=wrong, policy=policy)


def _unique(signers: Sequence[Signer]) -> tuple[Signer, ...]:
    by_id: Mapping[str, Signer] = {signer.key.id: signer for signer in signers}
    return tuple(by_id.values())


def _newest(signed: Sequence[Attested]) -> Attested | None:
    return max(signed, key=lambda each: each.account.finished if each.account else 0.0, default=None)


class _Bases:
    """Tells whether base images are signed, each looked up once."""

    def __init__(self, registries: Registries, signers: Sequence[Signer]) -> None:
        self._registries = registries
        self._signers = signers
        self._known: dict[str, bool] = {}

    def __call__(self, image: ImageReference) -> bool:
        if image.pinned not in self._known:
            self._known[image.pinned] = self._is_signed(image)
        return self._known[image.pinned]

    def _is_signed(self, image: ImageReference) -> bool:
        if self._has_signer(image):
            return True
        # Publishers often sign the index over all platforms only.
        if image.tag is None:
            return False
        place = ImageReference(image.registry, image.repository)
        index = read_index(self._registries, place.with_tag(image.tag))
        if index is None or image.digest not in {child.digest for child in index.images}:
            return False
        return self._has_signer(place.with_digest(index.digest))

    def _has_signer(self, image: ImageReference) -> bool:
        try:
            evidence = read_evidence(self._registries, image, self._signers)
        except NotFoundInRegistryError:
            return False
        return bool(evidence.signers or evidence.provenance)
