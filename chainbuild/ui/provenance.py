"""Show the provenance of an image: who signed it, what it was built from, its steps, their verdicts, and a policy's."""

from __future__ import annotations

from typing import Any, Final

from chainbuild.attestations.account import Account, StepAccount
from chainbuild.attestations.report import ProvenanceReport
from chainbuild.attestations.verification import Signer
from chainbuild.errors import Problem
from chainbuild.operations.rebuild import RebuildReport
from chainbuild.text import escaped, moment, plural, short_digest
from chainbuild.trust.verification_keys import short_id
from chainbuild.ui.terminal import Line, Span, Terminal

SCHEMA: Final = "chainbuild.provenance/1"
_MOST_REFUSED: Final = 20


def show_provenance(report: ProvenanceReport, out: Terminal) -> None:
    """Print what is verified about an image, then each attestation that does not count."""
    lines: list[Line | str] = [(Span(str(report.image), "bold"),)]
    account = report.attested.account if report.attested else None
    facts = {"signed by": ", ".join(_signer(signer) for signer in report.signers)}
    if account:
        facts |= _facts(account)
    lines += [f"  {name:<11} {escaped(text)}" for name, text in facts.items() if text]
    for step in account.steps if account else ():
        lines += [(), (Span(escaped(step.step), "bold"),), *_step_lines(step)]
    if report.refused:
        lines += [(), "These do not count:"]
        lines += [f"  {escaped(each.what)}: {escaped(each.why)}" for each in report.refused[:_MOST_REFUSED]]
        if (more := len(report.refused) - _MOST_REFUSED) > 0:
            lines.append(f"  and {more} more")
    if report.policy and not report.errors:
        lines += [(), f"{escaped(report.policy.shown)}: every rule holds"]
    out.write(lines)


def _facts(account: Account) -> dict[str, str]:
    version = f" {account.version}" if account.version else ""
    sources = [
        f"{source.uri or source.commit}{' and other changes' if source.dirty else ''}" for source in account.sources
    ]
    bases = [f"{base.reference or base.name} ({short_digest('sha256:' + base.sha256)})" for base in account.bases]
    return {
        "built by": f"chainbuild{version}" if account.is_own else account.builder,
        "built": moment(account.finished) if account.finished else "",
        "source": ", ".join(sources),
        "based on": ", ".join(bases),
    }


def _step_lines(step: StepAccount) -> list[Line | str]:
    parents = [f"{name} {parent}" for name, parent in step.parents.items()]
    parents += [f"{image.reference or image.name} {short_digest('sha256:' + image.sha256)}" for image in step.images]
    proven = [f"{verdict.proof}: {verdict.summary}" for verdict in step.verdicts]
    facts = {
        "image": step.image,
        "Dockerfile": f"{step.dockerfile} ({short_digest('sha256:' + step.dockerfile_sha256)})",
        "args": " ".join(f"{name}={value}" for name, value in step.args.items()),
        "files": plural(len(step.files), "file") if step.files else "",
        "made from": ", ".join(parents),
        "built": moment(step.built_at) if step.built_at else "",
        "record": f"signed by {step.signed_by[:12]}" if step.signed_by else "not signed",
        "proven": "; ".join(proven),
        "warnings": str(step.warnings) if step.warnings else "",
    }
    return [f"  {name:<11} {escaped(text)}" for name, text in facts.items() if text]


def _signer(signer: Signer) -> str:
    return f"{signer.name} ({short_id(signer.key)})"


def provenance_as_json(report: ProvenanceReport) -> dict[str, Any]:
    """Return the report as a JSON document."""
    account = report.attested.account if report.attested else None
    return {
        "schema": SCHEMA,
        "image": str(report.image),
        "accepted": not report.errors,
        "signers": [{"name": signer.name, "id": signer.key.id} for signer in report.signers],
        "provenance": _account_as_json(account) if account else None,
        "policy": report.policy.shown if report.policy else None,
        "errors": [_problem(problem) for problem in report.errors],
        "refused": [{"what": each.what, "why": each.why} for each in report.refused],
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {"path": problem.path, "line": problem.line, "message": problem.message, "hint": problem.hint}


def _account_as_json(account: Account) -> dict[str, Any]:
    return {
        "builder": account.builder,
        "build_type": account.build_type,
        "version": account.version or None,
        "finished": account.finished or None,
        "sources": [{"uri": each.uri, "commit": each.commit, "dirty": each.dirty} for each in account.sources],
        "bases": [{"image": each.reference or None, "digest": f"sha256:{each.sha256}"} for each in account.bases],
        "steps": [_step_as_json(step) for step in account.steps],
    }


def _step_as_json(step: StepAccount) -> dict[str, Any]:
    return {
        "step": step.step,
        "platform": step.platform,
        "key": step.key,
        "image": step.image,
        "dockerfile": {"path": step.dockerfile, "sha256": step.dockerfile_sha256},
        "args": dict(step.args),
        "files": dict(step.files),
        "parents": dict(step.parents),
        "images": [
            {"name": image.name, "image": image.reference or None, "digest": f"sha256:{image.sha256}"}
            for image in step.images
        ],
        "signed_by": step.signed_by or None,
        "built_at": step.built_at or None,
        "verdicts": [{"proof": each.proof, "passed": each.passed, "summary": each.summary} for each in step.verdicts],
        "notes": dict(step.notes),
    }


# Built again ----------------------------------------------------------------------------------------------------------


REBUILD_SCHEMA: Final = "chainbuild.rebuild/1"
_MOST_DIFFERENCES: Final = 10


def show_rebuild(report: RebuildReport, out: Terminal) -> None:
    """Print which steps gave the same content, and what is different in the first one that did not."""
    lines: list[Line | str] = []
    for step in report.steps:
        outcome = "identical" if step.identical else "same, but for the times of files" if step.same else "differs"
        lines.append(f"{escaped(step.step)}: {outcome}")
        differences = (*step.inputs, *step.content)
        lines += [f"  {escaped(text)}" for text in differences[:_MOST_DIFFERENCES]]
        if (more := len(differences) - _MOST_DIFFERENCES) > 0:
            lines.append(f"  and {more} more: list them with --json")
    if report.kept:
        lines.append(f"not built again: {plural(len(report.kept), 'step')} of base images")
    ending = "every step gave the same content" if report.same else "it was not reproduced"
    out.write([*lines, f"{report.image}: {ending}"])


def rebuild_as_json(report: RebuildReport) -> dict[str, Any]:
    """Return the results of a rebuild as a JSON document."""
    return {
        "schema": REBUILD_SCHEMA,
        "image": str(report.image),
        "same": report.same,
        "steps": [
            {
                "step": each.step,
                "same": each.same,
                "identical": each.identical,
                "inputs": list(each.inputs),
                "content": list(each.content),
            }
            for each in report.steps
        ],
        "kept": list(report.kept),
    }
