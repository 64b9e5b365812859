"""Debian and Ubuntu as sources of base images: parse a name and its flags, and read this machine's apt settings."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from chainbuild.distributions import RELEASES, ROLLING, SLIM
from chainbuild.errors import NotReadyError, Problem, WrongUseError
from chainbuild.references import ImageReference, Platform
from chainbuild.registry.oci import canonical

INPUTS_LABEL: Final = "org.chainbuild.bootstrap.inputs"
CERTIFICATES_LABEL: Final = "org.chainbuild.bootstrap.certificates"
"""The label that lists the build machine's CA certificates in an image, separated by commas."""
# Part of the inputs. Raise it when a change below changes the image of the same request.
_RECIPE: Final = 3

_EXTRA_CERTIFICATES: Final = Path("/usr/local/share/ca-certificates")
# Packages of the distribution's own image that `mmdebstrap --variant=minbase` does not select. In bookworm,
# init-system-helpers depends on `usrmerge | usr-is-merged`, and usrmerge would bring perl.
_ALWAYS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {("debian", "bookworm"): ("usr-is-merged",)}
CA_CERTIFICATES: Final = "ca-certificates"
_SUITE: Final = re.compile(r"[a-z][a-z0-9-]*")
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+")

_APT: Final = ('Acquire::Languages "none"',)
# Settings of the machine's apt that its mirror needs inside containers, too.
_INHERITED: Final = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")

Variant = Literal["slim", "full"]


class PackageRequest(Struct, frozen=True, kw_only=True):
    """A checked request: the inputs that decide an image, without the platform."""

    distribution: str
    suite: str
    variant: Variant
    include: tuple[str, ...]
    sources: tuple[str, ...]
    """Lines of sources.list."""
    apt: tuple[str, ...]
    certificates: tuple[tuple[str, bytes], ...]
    """The build machine's CA certificates to add to the image: file name and content."""

    @property
    def mirror_needs_certificates(self) -> bool:
        """True if apt in the image cannot verify its mirror, which uses TLS, because it has no CA certificates."""
        return CA_CERTIFICATES not in self.include and any(" https://" in line for line in self.sources)

    @property
    def command(self) -> str:
        """The command that makes the image, for the image's history."""
        always = _ALWAYS.get((self.distribution, self.suite), ())
        words = [f"chainbuild bootstrap {self.distribution} {self.suite}"]
        words += [f"--package {package}" for package in self.include if package not in always]
        words += ["--machine-certificates"] if self.certificates else []
        return " ".join(words)

    def inputs(self, platform: Platform) -> str:
        """Return the digest of everything that decides the image, except for the state of the mirror."""
        document = {
            "recipe": _RECIPE,
            "platform": platform.oci,
            "suite": [self.distribution, self.suite],
            "variant": self.variant,
            "include": sorted(self.include),
            "sources": list(self.sources),
            "apt": list(self.apt),
            "certificates": {name: hashlib.sha256(data).hexdigest() for name, data in self.certificates},
        }
        return hashlib.sha256(canonical(document)).hexdigest()


# ---- the request ------------------------------------------------------------------------------------------------------


def read_request(
    reference: ImageReference,
    *,
    include: Sequence[str] = (),
    variant: Variant | None = None,
    suite: str | None = None,
    certificates: bool = False,
) -> PackageRequest:
    """Return the request that a name and the flags make on this machine. Errors: `WrongUseError`, `NotReadyError`.

    `certificates` adds the machine's own CA certificates to the image. They have an effect only if the package
    ca-certificates is in it, too.
    """
    problems = [
        Problem(
            message=f"invalid package name: {package!r}", hint="Give package names, for example --package git,curl."
        )
        for package in include
        if not _PACKAGE.fullmatch(package)
    ]
    machine = _os_release()
    try:
        distribution, suite_name, slim = parse_name(reference, suite, machine.get("ID", ""))
    except WrongUseError as error:
        raise WrongUseError([*error.problems, *problems]) from error
    if problems:
        raise WrongUseError(problems)
    _need_tools()
    if machine.get("ID") != distribution:
        raise NotReadyError(
            f"the machine's mirror has no {distribution} packages: this is {machine.get('PRETTY_NAME', 'not Debian')}",
            hint=f"Run bootstrap on a {distribution} machine, or in a {distribution} container.",
        )
    return PackageRequest(
        distribution=distribution,
        suite=suite_name,
        variant=variant or ("slim" if slim else "full"),
        include=tuple(sorted({*_ALWAYS.get((distribution, suite_name), ()), *include})),
        sources=sources_for(suite_name, machine.get("VERSION_CODENAME", ""), _apt_targets(machine)),
        apt=(*_APT, *_inherited_settings()),
        certificates=_certificates() if certificates else (),
    )


def parse_name(reference: ImageReference, suite: str | None, machine: str) -> tuple[str, str, bool]:
    """Return the distribution, the suite, and whether the name means the slim variant. Errors: `WrongUseError`."""
    name = reference.familiar_name
    tag = reference.tag or ""
    slim = tag.endswith(SLIM)
    if suite is None:
        if name not in RELEASES or not tag:
            raise WrongUseError(
                f"{reference}: cannot tell the distribution and the suite from this name",
                hint="Use a name such as debian:bookworm-slim, or give --suite.",
            )
        suite = tag.removesuffix(SLIM)
    distribution = name if name in RELEASES else machine
    suite = RELEASES.get(distribution, {}).get(suite, suite)
    if not _SUITE.fullmatch(suite) or suite == "latest":
        raise WrongUseError(
            f"invalid suite of {distribution}: {suite!r}", hint="Give a suite such as bookworm, trixie or noble."
        )
    # Custom bases rarely have -slim in their name, and need no manuals.
    return distribution, suite, slim or name not in RELEASES


def sources_for(suite: str, own_suite: str, targets: Sequence[tuple[str, str, str]]) -> tuple[str, ...]:
    """Return the lines of sources.list for a suite: the machine's own mirrors with the suite replaced.

    `targets` are `(URI, suite, origin)`. Errors: `NotReadyError` if apt has no mirror of the machine's own suite.
    """
    lines: list[str] = []
    rolling = suite in ROLLING
    for pocket in ("", "-updates", "-security"):
        if pocket and rolling:
            continue
        for uri, release, _ in targets:
            # The name of security suites before bullseye is not supported: those releases are archived.
            if release == own_suite + pocket:
                line = f"deb {uri.rstrip('/')} {suite}{pocket} main"
                if line not in lines:
                    lines.append(line)
    if not lines:
        raise NotReadyError(
            "apt has no mirror of this machine's own release",
            hint="Run apt-get update, and check the output of apt-get indextargets.",
        )
    return tuple(lines)


# ---- the machine --------------------------------------------------------------------------------------------------------


def _os_release() -> dict[str, str]:
    import platform

    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _certificates() -> tuple[tuple[str, bytes], ...]:
    """Return the CA certificates that the administrator added to the machine (update-ca-certificates(8))."""
    paths = sorted(_EXTRA_CERTIFICATES.rglob("*.crt"))
    return tuple((str(path.relative_to(_EXTRA_CERTIFICATES)), path.read_bytes()) for path in paths)


def _need_tools() -> None:
    missing = [tool for tool in ("apt-get", "mmdebstrap", "arch-test") if not shutil.which(tool)]
    if "apt-get" in missing or sys.platform != "linux":
        raise NotReadyError(
            "bootstrap needs a Debian or Ubuntu machine",
            hint="Pull the base image, or run bootstrap in a Debian container.",
        )
    if missing:
        raise NotReadyError(
            f"bootstrap needs {' and '.join(missing)}", hint=f"Run: apt-get install --yes {' '.join(missing)}"
        )


def _apt_targets(machine: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Return the `(URI, suite, origin)` of the distribution's own package sources on this machine."""
    argv = ["apt-get", "indextargets", "--format", "$(REPO_URI)\t$(RELEASE)\t$(ORIGIN)\t$(IDENTIFIER)"]
    text = _output(argv)
    if not text.strip():
        # apt prints nothing without package lists (in a fresh container): download them into a temporary folder.
        with tempfile.TemporaryDirectory(prefix="chainbuild-apt-") as folder:
            place = ["-o", f"Dir::State::lists={folder}", "-o", "Debug::NoLocking=1"]
            _output(["apt-get", *place, "update"])
            text = _output([argv[0], *place, *argv[1:]])
    rows = [line.split("\t") for line in text.splitlines() if line.count("\t") == 3]
    targets = [(uri, release, origin) for uri, release, origin, kind in rows if kind == "Packages"]
    return tuple(dict.fromkeys(row for row in targets if row[2].lower() in {machine.get("ID", ""), ""}))


def _inherited_settings() -> tuple[str, ...]:
    lines = _output(["apt-config", "dump", *_INHERITED]).splitlines()
    return tuple(sorted(line.rstrip(";") for line in lines if line.split(" ")[0] in _INHERITED))


def _output(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    return done.stdout if done.returncode == 0 else ""
