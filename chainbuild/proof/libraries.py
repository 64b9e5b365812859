"""Prove an image: every ELF file has its libraries and symbol versions in the image, and its configuration can start.

The analysis of the image runs natively, in a build stage on the builder's own platform, whatever the image's platform;
its report is exported as a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from chainbuild.builder.build_spec import BuildDriver, BuildSpec
from chainbuild.errors import ChainbuildError, NotProvenError
from chainbuild.events import Emit
from chainbuild.host.folders import scratch_folder
from chainbuild.host.package_data import PROGRAM, minimize_program, proof_path
from chainbuild.proof.configuration import Configuration, read_configuration, settings_of
from chainbuild.references import Platform
from chainbuild.registry.config import ImageConfig
from chainbuild.step_id import StepId
from chainbuild.step_warnings import StepWarning
from chainbuild.text import plural
from chainbuild.values import convert, replace

REPORT = "report.json"
BILL = "sbom.spdx.json"
SHOWN_FINDINGS = 20


SCHEMA = "chainbuild.proof/1"


class PythonEnvironment(Struct, frozen=True, kw_only=True):
    """A Python environment of the image and the modules to import in it, as in `minimize/pythons.py`."""

    start: str
    missing: str
    folders: tuple[str, ...]
    modules: tuple[str, ...]


class Report(Struct, frozen=True, kw_only=True):
    """The findings: texts for people, the number of checked files, the unpacked bytes of the image."""

    errors: tuple[str, ...]
    warnings: tuple[StepWarning, ...]
    checked: int
    unpacked: int
    seconds: float
    bill: bytes = b""
    """The bill of materials of the whole image, as SPDX 2.3 JSON; empty if none was created."""
    pythons: tuple[PythonEnvironment, ...] = ()
    configuration: Configuration | None = None
    """The findings for the image's configuration; None if an earlier version created the report."""

    @property
    def all_errors(self) -> tuple[str, ...]:
        """Return the errors of the libraries and of the configuration."""
        faults = self.configuration.faults if self.configuration else ()
        return (*self.errors, *(fault.text for fault in faults))

    @property
    def summary(self) -> str:
        """Return a line for people."""
        if self.errors:
            missing = plural(len(self.errors), "library or symbol version", "libraries or symbol versions")
            verb = "is" if len(self.errors) == 1 else "are"
            return f"{missing} needed by the image's {self.checked} ELF files {verb} missing"
        return f"{self.checked} ELF files have all that they need"

    def as_json(self, image: str, platform: str) -> str:
        """Return the report as a JSON document."""
        document = {
            "schema": SCHEMA,
            "image": image,
            "platform": platform,
            "errors": self.all_errors,
            "configuration": self.configuration.summary if self.configuration else "",
            "warnings": [str(warning) for warning in self.warnings],
            "checked": self.checked,
            "unpacked": self.unpacked,
            "seconds": self.seconds,
        }
        return json.dumps(document, indent=2)


def look(
    builder: BuildDriver,
    emit: Emit,
    *,
    step: StepId,
    platform: Platform,
    image: str,
    config: ImageConfig,
    baseline: str = "scratch",
    contexts: Mapping[str, str] | None = None,
    library_path: str = "",
    python_path: str = "",
    name: str = "image",
) -> Report:
    """Analyse `image`, whose configuration is `config`; problems that `baseline` has too are that image's own.

    `contexts` replace the images that the proof's Dockerfile names, pinned; `name` is the image's name in the bill of
    materials. Errors: those of a build.
    """
    dockerfile = proof_path()
    with scratch_folder() as scratch:
        context, out = scratch / "context", scratch / "out"
        context.mkdir()
        out.mkdir()
        (context / "configuration.json").write_bytes(settings_of(config))
        builder.build(
            BuildSpec(
                step=step,
                dockerfile=dockerfile,
                shown=dockerfile.name,
                context=context,
                platform=platform,
                args=(
                    ("IMAGE", image),
                    ("PRODUCTION_IMAGE", baseline),
                    ("LIBRARY_PATH", library_path),
                    ("PYTHON_PATH", python_path),
                    ("IMAGE_NAME", name),
                ),
                contexts=(*(contexts or {}).items(), (PROGRAM, str(minimize_program()))),
                export=out,
            ),
            emit,
        )
        report = read_report((out / REPORT).read_bytes())
        bill = out / BILL
        return replace(report, bill=bill.read_bytes()) if bill.is_file() else report


def read_report(raw: bytes) -> Report:
    """Read the analysis report (`chainbuild.verify/1`). Errors: `ChainbuildError` if it is malformed (a bug)."""
    try:
        document: dict[str, Any] = json.loads(raw)
        findings = [(str(item["severity"]), item) for item in document["findings"]]
        return Report(
            errors=tuple(str(item["message"]) for severity, item in findings if severity == "error"),
            warnings=tuple(
                StepWarning(kind=str(item.get("kind", "")), text=str(item["message"]), path=str(item.get("path", "")))
                for severity, item in findings
                if severity != "error"
            ),
            checked=int(document["elf"]["checked"]),
            unpacked=int(document["bytes"]),
            seconds=float(document["seconds"]),
            pythons=convert(document.get("pythons", ()), tuple[PythonEnvironment, ...]),
            configuration=read_configuration(document.get("configuration")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ChainbuildError(f"the analysis of the image returned no valid report ({error!r})") from error


def require(report: Report, image: str, platform: str, configuration: tuple[str, ...] = ()) -> None:
    """Raise an error if an image failed its checks, because of its libraries or its configuration.

    `platform` is spelled as in names of args files. Errors: `NotProvenError` with all findings.
    """
    errors = (*report.errors, *configuration)
    if not errors:
        return
    more = len(errors) - SHOWN_FINDINGS
    reasons = [report.summary] if report.errors else []
    hints = []
    if report.errors:
        hints.append(
            "Add the missing files with ADDITIONAL_LIB_LOCATIONS, ADDITIONAL_FILES or PRODUCTION_PACKAGES, or use a PRODUCTION"
            " image that is as new as the BASE."
        )
    if configuration:
        reasons.append(f"a container with its configuration cannot start ({plural(len(configuration), 'reason')})")
        hints.append(f"PROVE_CONFIGURATION=0 in production-{platform}-args turns off this check of the configuration.")
    raise NotProvenError(
        f"{image} failed its checks: {'; '.join(reasons)}",
        hint=" ".join(hints),
        findings=(*errors[:SHOWN_FINDINGS], *((f"and {more} more",) if more > 0 else ())),
    )
