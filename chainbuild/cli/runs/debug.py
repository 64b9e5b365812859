"""Run `chainbuild debug`: find what failed, or the step and the line that the user names, and start a session there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from chainbuild.cli.output import messages
from chainbuild.cli.runs.debug_session import is_terminal, session_request, start
from chainbuild.errors import WrongUseError
from chainbuild.execution.session import Settings, open_session
from chainbuild.requests.options import SessionOptions

if TYPE_CHECKING:
    from chainbuild.execution.failed_builds import FailedBuild, FailedRun
    from chainbuild.model import Secret
    from chainbuild.operations.debug.run import SessionRequest


class DebugOptions(SessionOptions, frozen=True, kw_only=True):
    """The options of `chainbuild debug` as the user gave them; `at` is a line of the step's Dockerfile."""

    step: str | None = None
    command: tuple[str, ...] = ()
    at: int | None = None
    split: bool = False
    diff: Path | None = None
    mounts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


def debug_step(options: DebugOptions) -> int:
    """Start a session at an instruction, and return the exit code of what ran; 0 after a shell."""
    from chainbuild.execution.failed_builds import load_failed_run
    from chainbuild.operations.debug.subject import failed_subject

    _check_use(options)
    secrets = _secrets(options.secrets)
    options = options.of_project()
    run = load_failed_run(options.root)
    failed = _failed_build(options, run)
    if failed is None or run is None:
        return _debug_planned(options, secrets)
    with open_session(_settings(options, run), messages().emit) as session:
        subject = failed_subject(failed, options.at)
        return start(subject, session, _request(options), secrets=secrets, diff=options.diff)


def _request(options: DebugOptions) -> SessionRequest:
    return session_request(options.command, split=options.split, mounts=options.mounts)


def _check_use(options: DebugOptions) -> None:
    """Check the combination of flags. Errors: `WrongUseError`; `NotReadyError` without a docker command."""
    if options.command and options.split:
        raise WrongUseError("--split runs the instruction itself", hint="Omit COMMAND or --split.")
    if options.diff is not None and (options.command or not is_terminal()):
        raise WrongUseError("--diff records what is typed into a shell", hint="Omit COMMAND, and use a terminal.")
    if not (is_terminal() or options.command or options.split):
        raise WrongUseError(
            "debug needs a terminal for a shell",
            hint="Without one, pass a command (chainbuild debug STEP -- COMMAND) or --split.",
        )
    if not shutil.which("docker"):
        from chainbuild.host.docker import no_docker_command

        raise no_docker_command()


def _secrets(texts: tuple[str, ...]) -> tuple[Secret, ...]:
    """Return the secrets of the command line. Errors: `WrongUseError`."""
    from chainbuild.parsing.option_values import ProblemCollector, read_secrets

    collector = ProblemCollector()
    secrets = read_secrets(texts, os.environ, collector)
    if collector.problems:
        raise WrongUseError(collector.problems)
    return secrets


def _settings(options: DebugOptions, run: FailedRun) -> Settings:
    """Return the settings of the run that failed, with those of the command line."""
    from chainbuild.parsing.option_values import ProblemCollector
    from chainbuild.requests.build import session_settings
    from chainbuild.values import replace

    collector = ProblemCollector()
    given = session_settings(options, collector)
    if collector.problems:
        raise WrongUseError(collector.problems)
    settings = run.settings(options.root)
    if options.registry or options.port:
        settings = replace(settings, registry=given.registry, port=given.port)
    return replace(settings, builders=given.builders) if options.builders else settings


def _failed_build(options: DebugOptions, run: FailedRun | None) -> FailedBuild | None:
    """Return the failed build to debug; None if the step did not fail, and a line of its Dockerfile was given.

    Errors: `WrongUseError` if nothing failed, or several steps did.
    """
    from chainbuild.operations.debug.subject import check_one, failed_builds_named

    builds = failed_builds_named(run, options.step)
    check_one(tuple(build.spec.step for build in builds), options.step)
    if builds:
        return None if options.at and _has_changed(builds[0]) else builds[0]
    if options.step is None:
        raise WrongUseError(
            "no instruction failed in the last run of this tree",
            hint="Name a step and a line of its Dockerfile: chainbuild debug STEP --at LINE.",
        )
    if options.at is None:
        hint = f"Name a line of its Dockerfile: chainbuild debug {options.step} --at LINE."
        raise WrongUseError(f"{options.step} did not fail in the last run of this tree", hint=hint)
    return None


def _has_changed(build: FailedBuild) -> bool:
    """Return whether the Dockerfile was edited after the failure: a line then means another instruction."""
    try:
        return build.spec.dockerfile.read_bytes() != build.source
    except OSError:
        return False


def _debug_planned(options: DebugOptions, secrets: tuple[Secret, ...]) -> int:
    from chainbuild.cli.runs.project import unsaid_run
    from chainbuild.operations.debug.subject import planned_subject
    from chainbuild.requests.options import RunOptions

    request = unsaid_run(
        RunOptions(root=options.root, registry=options.registry, port=options.port, builders=options.builders)
    )
    with open_session(request.settings, messages().emit) as session:
        subject = planned_subject(request, session, options.step or "", options.at or 0)
        return start(subject, session, _request(options), secrets=secrets, diff=options.diff)
