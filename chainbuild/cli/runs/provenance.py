"""Run `chainbuild verify --provenance` and `--rebuild`: read the keys and the policy, verify, and show the result."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chainbuild.attestations.policy import Policy, read_policy, read_verification_key
from chainbuild.attestations.report import ProvenanceReport, verify_provenance
from chainbuild.attestations.verification import Signer
from chainbuild.cli.image_arguments import Place, read_image_arguments
from chainbuild.cli.output import open_quietly
from chainbuild.errors import ExitCode, NotProvenError, Problem, WrongUseError
from chainbuild.operations.named_images import NamedImage, find_published_image
from chainbuild.trust.verification_keys import short_id
from chainbuild.ui import stdout
from chainbuild.ui.provenance import provenance_as_json, show_problems, show_provenance
from chainbuild.values import replace

if TYPE_CHECKING:
    from chainbuild.execution.logs import LogFiles
    from chainbuild.execution.session import Session
    from chainbuild.registry.images import RemoteImage


def read_expectations(keys: Sequence[str], policy: Path | None) -> tuple[tuple[Signer, ...], Policy | None]:
    """Read `--key` and `--policy`. Errors: `WrongUseError` with every problem of both."""
    signers: list[Signer] = []
    problems: list[Problem] = []
    for text in keys:
        try:
            key = read_verification_key(text)
            signers.append(Signer(key=key, name=short_id(key)))
        except WrongUseError as error:
            problems += [replace(problem, message=f"--key: {problem.message}") for problem in error.problems]
    rules: Policy | None = None
    try:
        rules = read_policy(policy) if policy else None
    except WrongUseError as error:
        problems += error.problems
    if problems:
        raise WrongUseError(problems)
    return tuple(signers), rules


def show_verified(
    image: str, platform: str | None, place: Place, *, keys: Sequence[str], policy: Path | None, json: bool
) -> int:
    """Verify the provenance of an image and print it. Return the exit code."""
    signers, rules = read_expectations(keys, policy)
    settings, (named,) = read_image_arguments((image,), platform, place)
    with open_quietly(settings, json=json) as session:
        _, report = _verified(session, named, signers, rules)
    if json:
        stdout().write_json(provenance_as_json(report))
    else:
        show_provenance(report, stdout())
        show_problems(report)
    return int(ExitCode.NOT_PROVEN if report.errors else ExitCode.DONE)


def rebuild_verified(
    image: str, platform: str | None, place: Place, *, keys: Sequence[str], policy: Path | None, json: bool
) -> int:
    """Verify the provenance of an image, build it again, and print what differs. Return the exit code."""
    from chainbuild.cli.runs.frame import Ended, run_in_frame
    from chainbuild.cli.runs.project import unsaid_run
    from chainbuild.execution.options import ExecutionOptions
    from chainbuild.operations.rebuild import RebuildReport, rebuild, registry_for
    from chainbuild.requests.options import RunOptions
    from chainbuild.ui.provenance import rebuild_as_json, show_rebuild

    signers, rules = read_expectations(keys, policy)
    settings, (named,) = read_image_arguments((image,), platform, place)
    reports: list[RebuildReport] = []
    with open_quietly(settings, json=json) as session:
        target, verified = _verified(session, named, signers, rules)
        account = verified.attested.account if verified.attested else None
        if verified.errors or account is None:
            raise NotProvenError(
                f"{target.reference} is not built again, because its provenance is not accepted",
                hint="Run chainbuild verify --provenance to see all of it.",
                findings=tuple(problem.message for problem in verified.errors),
            )
        registry = str(registry_for(session.chain, target))
        request = unsaid_run(RunOptions(root=place.root, registry=registry, builders=place.builders))
        how = ExecutionOptions(load=False, jobs=request.options.jobs, native=request.options.native)

        def work(run: Session, files: LogFiles) -> Ended:
            report = rebuild(run, request.graph, target, account, how, log_folder=files.folder, log_path=files.path_of)
            reports.append(report)
            return Ended(code=ExitCode.DONE if report.same else ExitCode.NOT_PROVEN)

        # Progress goes to stderr; with --json, the only document on stdout is the result.
        code = run_in_frame(settings, work, mode="plain" if json else "auto", verbosity=0, building=True)
    for report in reports:
        if json:
            stdout().write_json(rebuild_as_json(report))
        else:
            show_rebuild(report, stdout())
    return code


def _verified(
    session: Session, named: NamedImage, signers: Sequence[Signer], policy: Policy | None
) -> tuple[RemoteImage, ProvenanceReport]:
    from chainbuild.operations.outdated import examiner

    target = find_published_image(session, named).image
    now = session.backends.clock()
    report = verify_provenance(
        session.records,
        target.reference,
        now=now,
        keys=signers,
        policy=policy,
        examine=partial(examiner(session), target),
    )
    return target, report
