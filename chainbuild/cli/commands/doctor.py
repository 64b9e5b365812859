"""`chainbuild doctor`: check what the commands need, and say how to fix what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from chainbuild.cli import flags
from chainbuild.cli.output import open_quietly
from chainbuild.cli.settings import settings_from
from chainbuild.ui.styles import Style

_STYLES: Final[dict[str, Style]] = {"ok": "good", "note": "dim", "wrong": "bad"}


def doctor(
    *,
    platform: Annotated[
        str, typer.Option("--platform", help="Platforms whose builders to test (default: this machine's).")
    ] = "",
    base: Annotated[
        str,
        typer.Option(
            "--base", help="Base image of the test build, in which a program is run, for example debian:bookworm-slim."
        ),
    ] = "scratch",
    root: flags.Root = Path(),
    builder: flags.Builders = None,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """Check this machine, and test each builder by building a tiny image with it."""
    from chainbuild.errors import ChainbuildError, ExitCode, WrongUseError
    from chainbuild.operations.doctor import Diagnosis, examine_builders, examine_machine
    from chainbuild.parsing.option_values import ProblemCollector, parse_platforms
    from chainbuild.references import Platform
    from chainbuild.ui import stdout
    from chainbuild.ui.terminal import Span

    collector = ProblemCollector()
    platforms = parse_platforms(platform, collector) if platform else (Platform.of_this_machine(),)
    if collector.problems:
        raise WrongUseError(collector.problems)
    settings = settings_from(root=root, registry=registry, port=registry_port, builders=builder)
    out = stdout()
    findings: list[Diagnosis] = []

    def tell(finding: Diagnosis) -> None:
        findings.append(finding)
        if not json:
            out.write([(Span(f"{finding.state:<6}", _STYLES[finding.state]), Span(finding.told))])
            if finding.mend:
                out.write([f"      {finding.mend}"])

    for finding in examine_machine(settings):
        tell(finding)
    if not any(finding.state == "wrong" for finding in findings):
        try:
            with open_quietly(settings, json=json) as session:
                for finding in examine_builders(session, platforms, base=base):
                    tell(finding)
        except ChainbuildError as error:
            tell(Diagnosis(what="registry", state="wrong", told=error.message, mend=error.hint))
    if json:
        from msgspec.structs import asdict

        out.write_json({"schema": "chainbuild.doctor/1", "findings": [asdict(finding) for finding in findings]})
    return int(ExitCode.NOT_READY if any(finding.state == "wrong" for finding in findings) else ExitCode.DONE)
